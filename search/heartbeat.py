"""Signs of life: how the workers of a study tell a trial that is being trained from one whose worker has died.

A worker renews the attribute `beat` of its running trial from a thread; whoever looks for work remembers, by its own
monotonic clock, since when a trial's sign has not changed. No two clocks are ever compared, so that none has to be
right. Optuna's own heartbeats are not used: they don't pass its gRPC proxy, a trial that was killed before its first
beat never goes stale, and failing a trial and adding its successor are two steps that a kill can come between.
"""

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

INTERVAL = 10.0  # seconds between two beats
GRACE = 60.0  # seconds without one after which a trial is put back; a slow database may swallow a few


def now() -> str:
    return datetime.now(UTC).isoformat()


class Heartbeat:
    """Renews the sign of life of the trial `trial_id` every INTERVAL seconds while its `with` block runs.

    A beat that fails is left out: the worker goes on, and should the trial be given to another one meanwhile, the
    first of the two to finish it counts.
    """

    def __init__(self, storage, trial_id: int):
        self.storage, self.trial_id = storage, trial_id
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self.thread.start()
        return self

    def __exit__(self, *problem) -> None:
        self.ended.set()
        self.thread.join(timeout=1)  # a database that does not answer must not keep the worker

    def _beat(self) -> None:
        while not self.ended.wait(INTERVAL):
            try:
                self.storage.set_trial_user_attr(self.trial_id, "beat", now())
            except UpdateFinishedTrialError:
                return
            except Exception:  # whatever a driver raises: the next beat tries again
                continue
        self.storage.remove_session()


class Watch:
    """What this process has seen of the others' running trials."""

    def __init__(self):
        self.seen: dict[int, tuple[tuple, float]] = {}

    def forget(self) -> None:
        """Start anew: while the database was away nobody could beat."""
        self.seen = {}

    def stale(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of the `running` trials that have shown no sign of life for more than GRACE seconds."""
        clock, seen = time.monotonic(), {}
        for trial in running:
            sign = (trial.user_attrs.get("worker"), trial.user_attrs.get("beat"), trial.datetime_start)
            before, since = self.seen.get(trial.number, (None, clock))
            seen[trial.number] = (sign, since if before == sign else clock)
        self.seen = seen
        return [trial for trial in running if clock - seen[trial.number][1] > GRACE]
