"""Read tar and zip archives member by member, to their very end: nothing is written to a path an archive names."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from search.errors import UserError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
MAX_TOTAL = 8 << 30  # decompressed bytes of one archive
MAX_RATIO = 200  # decompressed bytes for one of the archive, from FREE on
FREE = 256 << 20
MAX_MEMBERS = 2_000_000
MAX_HEADER = 64 << 10  # tarfile parses extended headers in quadratic time: real ones are below 4 KiB


def limit_of(size: int, most: int) -> int:
    """Bytes that files of `size` bytes may become: `most`, less where they are so few that it would be a bomb."""
    return min(most, max(FREE, MAX_RATIO * size))


def read_members(
    path: Path, wanted: Callable[[str], bool], max_member: int = 64 << 20
) -> Iterator[tuple[str, bytes | None]]:
    """Go once through an archive, to the marks and checksums that it ends with.

    Args:
        wanted: of a member's name, whether its content is to be read.
        max_member: the most bytes a wanted member may have.
    Yields:
        The name (relative, "/" between its parts, and after a folder's) of every file and folder, and the content,
        None unless wanted.
    Raises:
        UserError: no archive, a damaged one; a name which leads out of it or stands in it twice; a link or device;
            above the limits.
    """
    names: set[str] = set()
    try:
        with path.open("rb") as stream:
            for name, size, read in _members(stream):
                if len(names) >= MAX_MEMBERS:
                    raise UserError(f"more than {MAX_MEMBERS:,} members, refused")
                folder = name.endswith("/")
                name = _safe_name(name)
                if folder:
                    if name != ".":
                        yield f"{name}/", None
                    continue
                if name in names:
                    raise UserError(f"{name!r} stands in it twice; pack it anew")
                names.add(name)
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
        reason = error.strerror or f"{error}; get it again"
        raise UserError(f"{path}: cannot be read ({reason})") from error
    except Exception as error:  # tarfile, zipfile and the decompressors raise many kinds for damaged input
        raise UserError(f"{path}: damaged archive ({type(error).__name__}: {error}); get it again") from error


# A member: its name (a folder's ends with "/"), its size (None: a link or device), and a function which reads it.
_Member = tuple[str, int | None, Callable[[], bytes]]
_Plain = BinaryIO | io.BufferedIOBase  # what a tar is read from: its file, or what decompresses that


def _members(stream: BinaryIO) -> Iterator[_Member]:
    head = stream.read(512)
    stream.seek(0)
    if head[:2] == b"PK":
        return _zip_members(stream)
    if head[:2] == b"\x1f\x8b":
        return _tar_members(gzip.GzipFile(fileobj=stream), stream)
    if head[:6] == b"\xfd7zXZ\0":
        return _tar_members(lzma.LZMAFile(stream), stream)
    if head[:3] == b"BZh":
        return _tar_members(bz2.BZ2File(stream), stream)
    if head[257:262] == b"ustar" or head and not head.strip(b"\0") or _old_tar(head):
        return _tar_members(stream, stream)
    raise UserError(
        "is no archive that is read here (tar, also with gzip, xz or bzip2, and zip): turn it into a folder of class "
        "folders of images, and name that"
    )


def _old_tar(head: bytes) -> bool:
    """Whether these 512 bytes are a tar header of before there was a mark for one."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _zip_members(stream: BinaryIO) -> Iterator[_Member]:
    with zipfile.ZipFile(stream) as archive:
        total, most = 0, limit_of(os.fstat(stream.fileno()).st_size, MAX_TOTAL)
        for info in archive.infolist():
            total += info.file_size
            if total > most:
                raise UserError(f"unzips to more than {most:,} bytes, refused")
            if info.flag_bits & 1:
                raise UserError(f"{info.filename!r} is encrypted; unpack the archive and name the folder")
            with archive.open(info):  # its name stands there again: a damaged one differs
                kind = stat.S_IFMT(info.external_attr >> 16)
            size = info.file_size if kind in (0, stat.S_IFREG) or info.is_dir() else None
            # Windows' own names have backslashes, which zip does not know
            yield info.filename.replace("\\", "/"), size, lambda info=info: archive.read(info)


class _Header(tarfile.TarInfo):
    """A tar header; one that is damaged is an error, which tarfile takes for the archive's end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue]  # not in the stub
            raise
        except tarfile.HeaderError as error:
            start = "no tar in it, or a damaged one" if archive.offset == 0 else "damaged archive"
            raise UserError(f"{start} ({error} at byte {archive.offset:,}); get it again") from error


def _tar_members(plain: _Plain, stream: BinaryIO) -> Iterator[_Member]:
    forward = _Forward(plain, limit_of(os.fstat(stream.fileno()).st_size, MAX_TOTAL))
    archive = tarfile.open(fileobj=forward, mode="r:", tarinfo=_Header)
    while (member := archive.next()) is not None:
        # it keeps all headers otherwise; the list is not in the stub
        archive.members = []  # pyright: ignore[reportAttributeAccessIssue]
        regular = (member.isreg() or member.isdir()) and not member.issparse() and member.size >= 0

        def read(member: tarfile.TarInfo = member) -> bytes:
            forward.seek(member.offset_data)
            return forward.take(member.size)

        yield member.name + "/" * member.isdir(), member.size if regular else None, read
    # two blocks of zeros end a tar; more of them fill it up, and the compression's checksum comes after all
    rest = 0
    while more := forward.take(1 << 20):
        if more.strip(b"\0"):
            raise UserError("damaged archive (something follows its end); get it again")
        rest += len(more)
    if rest < 512:
        raise UserError("damaged archive (its end is missing); get it again")


class _Forward(io.RawIOBase):
    """A decompressed stream which only goes forward, and not beyond `most` bytes.

    tarfile skips content by seeking; what it skips is decompressed, and counted, as well. Headers with
    negative sizes, which send tarfile backwards for ever, end in an error here.
    """

    def __init__(self, plain: _Plain, most: int) -> None:
        self.plain, self.position, self.most = plain, 0, most

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
        content = self.plain.read(size)
        self.position += len(content)
        if self.position > self.most:
            raise UserError(f"unpacks to more than {self.most:,} bytes, refused")
        return content


def _safe_name(name: str) -> str:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name or ":" in name.split("/")[0]:
        raise UserError(f"the name {name[:80]!r} leads out of the archive, refused")
    return str(pure)
