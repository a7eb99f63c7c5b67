"""Waits that a signal ends, and that say what they are waiting for."""

import logging
import threading
import time

from . import signals

SOON, AGAIN = 5.0, 10.0  # seconds after which a wait says so for the first time, and between two times
log = logging.getLogger(__name__)


def sleep(seconds: float) -> None:
    """Raises KeyboardInterrupt within a fifth of a second after a signal."""
    end = time.monotonic() + seconds
    while True:
        signals.check()
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
