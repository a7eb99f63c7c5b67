"""Signals that end a command: Ctrl-C, SIGTERM (a stopped container), SIGHUP (a closed terminal).

The first one counts, later ones find the command ending already. An exception that a handler raises comes up wherever
the program is: within a weak reference's callback Python drops it, amid a query it leaves a driver in disorder. So work
that can be gone on with is `deferred`: there a signal is only remembered, and the work `check`s for it wherever it can
end cleanly, after each batch and in every wait. Anywhere else KeyboardInterrupt is raised at once.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

ENDING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

SOON, AGAIN = 5.0, 10.0  # seconds after which a wait says so for the first time, and between two times
log = logging.getLogger(__name__)

received: int | None = None  # number of the signal that ends this process
_deferred = 0  # `deferred` blocks that the main thread is in
_told = False  # whether a second signal has been answered


def install() -> None:
    """Handle those signals that this process was not started to ignore (as by nohup)."""
    global received, _told
    received, _told = None, False
    if threading.current_thread() is not threading.main_thread():
        return
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)
    sys.unraisablehook = _unraisable


def finish() -> None:
    """The command has ended: what comes while the interpreter ends, too, is ignored."""
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)


def check() -> None:
    """Raise KeyboardInterrupt where a signal has come."""
    if received:
        raise KeyboardInterrupt


def code() -> int:
    """The exit code of an interrupted command: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + (received or signal.SIGINT)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Signals are only remembered in this block: one is raised by `check`, or at the end of the block at the latest."""
    global _deferred
    check()
    _deferred += 1
    try:
        yield
    finally:
        _deferred -= 1
    check()


@contextlib.contextmanager
def prompt() -> Iterator[None]:
    """Within a `deferred` block, what takes long and never checks, and may be cut off anywhere: reading images, say."""
    global _deferred
    check()
    before, _deferred = _deferred, 0
    try:
        yield
    finally:
        _deferred = before


def _handle(number: int, frame) -> None:
    global received, _told
    if received is not None:
        if not _told:
            _told = True
            _say("it is ending already: kill -9 would lose what was trained since the last checkpoint")
        return
    received = number
    if not _deferred:
        raise KeyboardInterrupt
    _say("ending after this step")


def _say(text: str) -> None:
    """Past Python's buffers, which may be in use at this very moment."""
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(2, f"wavemix: {text}\n".encode())


def _unraisable(problem) -> None:
    """An interruption that Python drops has been remembered: it needs no traceback."""
    if not (received is not None and issubclass(problem.exc_type, KeyboardInterrupt)):
        sys.__unraisablehook__(problem)


def sleep(seconds: float) -> None:
    """Raises KeyboardInterrupt within a fifth of a second after a signal."""
    end = time.monotonic() + seconds
    while True:
        check()
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.2))


class Word:
    """Says what is being waited for while its `with` block takes long, from a thread: the block may hang in a driver.

    `reason` is added to what is said.
    """

    def __init__(self, text: str):
        self.text, self.reason = text, ""
        self.ended = threading.Event()

    def __enter__(self) -> "Word":
        threading.Thread(target=self._tell, args=(time.monotonic(),), daemon=True).start()
        return self

    def __exit__(self, *problem) -> None:
        self.ended.set()

    def _tell(self, start: float) -> None:
        pause = SOON
        while not self.ended.wait(pause):
            reason = f" ({self.reason})" if self.reason else ""
            log.warning("waiting for %s for %.0f s%s", self.text, time.monotonic() - start, reason)
            pause = AGAIN
