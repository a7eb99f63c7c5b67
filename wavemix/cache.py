"""Where files are kept between runs, and whose they are."""

import functools
import os
import stat
import tempfile
from pathlib import Path

USER = os.getuid() if hasattr(os, "getuid") else 0


def cache_dir() -> Path:
    """The directory for what is made once and kept: `WAVEMIX_CACHE`, by default `wavemix` in `XDG_CACHE_HOME`, which is
    by default `~/.cache`.

    Without a home directory it is one for temporary files, this user's alone.
    """
    base = os.environ.get("XDG_CACHE_HOME") or ""
    default = os.path.join(base if os.path.isabs(base) else "~/.cache", "wavemix")  # relative ones are to be ignored
    named = os.path.expanduser(os.environ.get("WAVEMIX_CACHE") or default)
    return temporary() if named.startswith("~") else Path(named)


def temporary() -> Path:
    """This user's directory among those for temporary files; where it is somebody else's, one of this process."""
    return private(Path(tempfile.gettempdir()) / f"wavemix-{USER}") or Path(_scratch().name)


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="wavemix-")


def private(folder: Path) -> Path | None:
    """`folder`, made where it is missing, if it is open to nobody else, who can't put another in its place; or None."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        open_to_all = (parent.stat().st_mode & 0o1002 == 0o002 for parent in folder.resolve().parents)
        return folder if own(folder, 0o077) and not any(open_to_all) else None
    except OSError:
        return None


def own(path: Path, others: int = 0o022) -> bool:
    """Whether `path` is no link, this user's, and nobody else has one of the rights `others`."""
    state = path.lstat()
    return os.name != "posix" or not stat.S_ISLNK(state.st_mode) and state.st_uid == USER and not state.st_mode & others
