"""Locks between processes, on an open file or folder: held until it is closed, or its process ends, however it does."""

from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCKS = fcntl is not None  # whether this system has them; where not, `acquire` keeps nobody apart


def acquire(file: IO | int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock `file`, alone or `shared` with others who share it.

    False where another process holds it and this one does not `wait`. OSError where the file system has no locks.
    """
    if not LOCKS:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
