"""Locks between processes, on an open file or folder: held until it is closed, or its process ends, however it does."""

from typing import IO

from .waiting import Word, sleep

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCKS = fcntl is not None  # whether this system has them; where not, `acquire` keeps nobody apart


def acquire(file: IO | int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock `file`, alone or `shared` with others who share it.

    False where another process holds it and this one does not `wait`. OSError where the file system has no locks,
    KeyboardInterrupt where a signal comes meanwhile: a stopped process may keep its lock for ever.
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
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
