"""Files that are written whole or not at all and stay so when the power fails, locks, and names that files can have."""

import hashlib
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from search.errors import UserError
from search.signals import Word, sleep

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LONGEST = 200  # bytes of UTF-8: a file's name has 255 at most, and endings such as .safetensors are added to it
LOCKS = fcntl is not None  # whether this system has them; where not, `acquire` keeps nobody apart
log = logging.getLogger(__name__)


def write_atomically(path: Path, content: bytes) -> Path:
    """Write `content` to `path`, beside it first: a reader, or one who comes after a crash, finds the old or the new.

    Both have reached the disk when it returns. Not by `tempfile`, whose files other users can't read. Raises OSError;
    then `path` is as it was.
    """
    temporary = temporary_name(path)
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
    return path


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other process has, on whatever machine: process ids are the same in containers."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def temporaries(path: Path) -> list[Path]:
    """What killed processes that wrote `path` may have left."""
    start = f".{path.name}."
    return [p for p in path.parent.iterdir() if p.name.startswith(start) and p.suffix == ".tmp"]


def sync(folder: Path) -> None:
    """Wait until the names in `folder` have reached the disk, where the system can say so."""
    with suppress(OSError):  # Windows opens no folder, some network file systems sync none
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def set_aside(path: Path, reason: str) -> None:
    """Rename a damaged file to PATH.damaged and say so in one line, with the reason and what comes of it."""
    aside = path.with_name(f"{path.name}.damaged")
    with suppress(FileNotFoundError):  # another process has done so
        os.replace(path, aside)
        log.warning("%s %s; moved to %s", path, reason, aside.name)


def acquire(file: IO | int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock `file`, alone or `shared` with others who share it.

    False where another process holds it and this one does not `wait`. OSError where the file system has no locks,
    KeyboardInterrupt where a signal comes meanwhile: a stopped process may keep its lock for ever.

    By hand, although filelock is used elsewhere. Its file locks are exclusive; its shared ones, which older releases
    lack, are kept in SQLite or marker files beside the file instead of being the system's. And its waits say
    nothing, and go on after a signal that is only remembered (`search.signals.deferred`).
    """
    if not LOCKS or _tried(file, shared):
        return True
    if wait:
        pause = 0.001
        with Word(f"another process, which has locked {getattr(file, 'name', 'a file')},"):
            while not _tried(file, shared):
                sleep(pause)
                pause = min(2 * pause, 0.1)
    return wait


def _tried(file: IO | int, shared: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def can_name(name: str) -> bool:
    """Whether a study can be called so: it names files and a directory."""
    return bool(re.fullmatch(r"\w[\w.+-]*", name)) and len(name.encode()) <= LONGEST


def shortened(name: str) -> str:
    """`name`, or its beginning and a digest of all of it where it is longer than a name may be."""
    encoded = name.encode()
    if len(encoded) <= LONGEST:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return f"{encoded[: LONGEST - 1 - len(digest)].decode(errors='ignore')}-{digest}"


def check_text(arguments: Iterable[str]) -> None:
    """Raises UserError for one that is not UTF-8, as a path may be: no record, name or terminal could hold it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(argument).decode(errors="backslashreplace")
            raise UserError(f"{shown} is not UTF-8: rename it, or reach it by another path") from None


def writable(folder: Path) -> None:
    """Create `folder` and try it. Raises UserError where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another --results") from error
