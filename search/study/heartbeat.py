"""Signs of life: how the workers of a study tell a trial that is being trained from one whose worker has died.

A worker renews the attribute `beat` of its running trial from a thread; whoever looks for work remembers, by its own
monotonic clock, since when a trial's sign has not changed. No two clocks are ever compared, so that none has to be
right. Optuna's own heartbeats are not used: they don't pass its gRPC proxy, a trial that was killed before its first
beat never goes stale, and failing a trial and adding its successor are two steps that a kill can come between.
"""

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

INTERVAL = 10.0  # seconds between two beats
GRACE = 60.0  # seconds without one after which a trial is put back; a slow database may swallow a few


def now() -> str:
    return datetime.now(UTC).isoformat()


class Heartbeat:
    """Calls `beat`, which renews a sign of life, every INTERVAL seconds while its `with` block runs.

    A beat that fails is left out: the worker goes on, and should its trial be given to another one meanwhile, the
    first of the two to finish it counts. No more follow once a trial has been finished.
    """

    def __init__(self, storage, beat: Callable[[], None]):
        self.storage, self.beat = storage, beat
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self.thread.start()
        return self

    def __exit__(self, *problem) -> None:
        self.ended.set()
        self.thread.join(timeout=1)  # a database that does not answer must not keep the worker

    def _run(self) -> None:
        while not self.ended.wait(INTERVAL):
            try:
                self.beat()
            except UpdateFinishedTrialError:
                return
            except Exception:  # whatever a driver raises: the next beat tries again
                continue
        self.storage.remove_session()


def sign(trial: FrozenTrial) -> tuple:
    """What changes while a trial's worker lives."""
    return trial.user_attrs.get("worker"), trial.user_attrs.get("beat"), trial.datetime_start


class Watch:
    """What this process has seen of others' signs of life, by whose they are."""

    def __init__(self):
        self.seen: dict[Hashable, tuple[object, float]] = {}

    def forget(self) -> None:
        """Start anew: while the database was away nobody could beat."""
        self.seen = {}

    def stale(self, signs: Mapping[Hashable, object]) -> set:
        """Whose signs have not changed for more than GRACE seconds."""
        clock, seen = time.monotonic(), {}
        for whose, shown in signs.items():
            before, since = self.seen.get(whose, (None, clock))
            seen[whose] = (shown, since if before == shown else clock)
        self.seen = seen
        return {whose for whose, (_, since) in seen.items() if clock - since > GRACE}
