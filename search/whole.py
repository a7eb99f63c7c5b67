"""Files that are written whole or not at all, and stay so when the power fails."""

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

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
