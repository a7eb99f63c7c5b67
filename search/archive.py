"""Read tar and zip archives member by member, in memory: nothing is written to a path an archive names."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from search.errors import UserError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
MAX_TOTAL = 8 << 30  # decompressed bytes of one archive
MAX_MEMBERS = 2_000_000
MAX_HEADER = 64 << 10  # tarfile parses extended headers in quadratic time: real ones are below 4 KiB


def read_members(
    path: Path, wanted: Callable[[str], bool], max_member: int = 64 << 20
) -> Iterator[tuple[str, bytes | None]]:
    """Go once through an archive.

    Args:
        wanted: of a member's name, whether its content is to be read.
        max_member: the most bytes a wanted member may have.
    Yields:
        The name (relative, "/" between its parts) of every regular file and its content, None unless wanted.
    Raises:
        UserError: damaged; a name which leads out of the archive; a link or device; above the limits.
    """
    try:
        with path.open("rb") as stream:
            magic = stream.read(6)
            stream.seek(0)
            members = _zip_members if magic[:2] == b"PK" else _tar_members
            for count, (name, size, read) in enumerate(members(stream, magic)):
                if count >= MAX_MEMBERS:
                    raise UserError(f"more than {MAX_MEMBERS:,} members, refused")
                name = _safe_name(name)
                if size is None:
                    raise UserError(f"{name!r} is a link or a device, refused")
                if not wanted(name):
                    yield name, None
                    continue
                if size > max_member:
                    raise UserError(f"{name!r} has {size:,} bytes, more than {max_member:,} are refused")
                content = read()
                if len(content) != size:
                    raise UserError(f"{name!r} is truncated")
                yield name, content
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # tarfile, zipfile and the decompressors raise many kinds for damaged input
        raise UserError(f"{path}: damaged archive ({type(error).__name__}: {error}); get it again") from error


# A member: its name, its size (None: a link or device), and a function which reads it.
_Member = tuple[str, int | None, Callable[[], bytes]]


def _zip_members(stream: BinaryIO, _: bytes) -> Iterator[_Member]:
    with zipfile.ZipFile(stream) as archive:
        total = 0
        for info in archive.infolist():
            total += info.file_size
            if total > MAX_TOTAL:
                raise UserError(f"unzips to more than {MAX_TOTAL:,} bytes, refused")
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise UserError(f"{info.filename!r} is encrypted; unpack the archive and name the folder")
            kind = stat.S_IFMT(info.external_attr >> 16)
            size = info.file_size if kind in (0, stat.S_IFREG) else None
            yield info.filename, size, lambda info=info: archive.read(info)


def _tar_members(stream: BinaryIO, magic: bytes) -> Iterator[_Member]:
    if magic[:2] == b"\x1f\x8b":
        plain: BinaryIO = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
    elif magic == b"\xfd7zXZ\0":
        plain = lzma.LZMAFile(stream)  # type: ignore[assignment]
    elif magic[:3] == b"BZh":
        plain = bz2.BZ2File(stream)  # type: ignore[assignment]
    else:
        plain = stream
    forward = _Forward(plain)
    archive = tarfile.open(fileobj=forward, mode="r:")  # type: ignore[arg-type]
    while (member := archive.next()) is not None:
        archive.members = []  # it keeps all headers otherwise
        if member.isdir():
            continue
        regular = member.isreg() and not member.issparse() and member.size >= 0

        def read(member: tarfile.TarInfo = member) -> bytes:
            forward.seek(member.offset_data)
            return forward.take(member.size)

        yield member.name, member.size if regular else None, read


class _Forward(io.RawIOBase):
    """A decompressed stream which only goes forward, and not beyond `MAX_TOTAL`.

    tarfile skips content by seeking; what it skips is decompressed, and counted, as well. Headers with
    negative sizes, which send tarfile backwards for ever, end in an error here.
    """

    def __init__(self, plain: BinaryIO) -> None:
        self.plain, self.position = plain, 0

    def tell(self) -> int:
        return self.position

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position < self.position:
            raise UserError("damaged archive (an offset leads backwards); get it again")
        while self.position < position and self.take(min(position - self.position, 1 << 20)):
            pass
        return self.position

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise UserError(f"damaged archive (a header of {size:,} bytes); get it again")
        return self.take(size)

    def take(self, size: int) -> bytes:
        if self.position + size > MAX_TOTAL:
            raise UserError(f"unpacks to more than {MAX_TOTAL:,} bytes, refused")
        content = self.plain.read(size)
        self.position += len(content)
        return content


def _safe_name(name: str) -> str:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or ":" in name.split("/")[0]:
        raise UserError(f"the name {name[:80]!r} leads out of the archive, refused")
    return str(pure)
