"""One `wavemix search` of a study at a time, on whatever machine: two would confirm the same network twice.

On one machine a lock on a file does it (`TrialRecords.searching`). Between machines the searches draw tickets in the
storage, as in a bakery (Lamport, "A new solution of Dijkstra's concurrent programming problem", 1974): who has the
lower one is first, and is waited for until it shows a sign of life, or none for so long that it is taken for dead.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from search.errors import UserError
from search.signals import Word, sleep
from search.study.heartbeat import Heartbeat, Watch, now
from search.study.storage import Patient

PREFIX = "search "  # of the study's attributes that are tickets, one a results directory
POLL = 0.5  # seconds between two looks at the others' tickets


class Claim:
    """The claim of the results directory `directory` (`TrialRecords.id`) to be where the study is searched."""

    def __init__(self, storage: Patient, study: int, directory: str):
        self.storage, self.study, self.key = storage, study, PREFIX + directory
        self.ticket: int | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises UserError where another search is first and alive."""
        self._show()
        self.ticket = 1 + max((other["ticket"] or 0 for other in self._others().values()), default=0)
        self._show()
        try:
            with Heartbeat(self.storage.once, self._renew):
                with Word("a sign of life of another `wavemix search` of this study"):
                    self._wait()
                yield
        finally:
            with suppress(Exception):  # without patience: another search finds no sign of life later on
                self.storage.once.set_study_user_attr(self.study, self.key, None)

    def taken_over(self, attributes: dict) -> bool:
        """Whether another search has taken this one for dead; `attributes` are the study's."""
        return self.ticket is not None and not attributes.get(self.key)

    def _show(self) -> None:
        self.storage.set_study_user_attr(self.study, self.key, {"ticket": self.ticket, "beat": now()})

    def _renew(self) -> None:
        if self.storage.once.get_study_user_attrs(self.study).get(self.key):  # not where it has been taken for dead
            value = {"ticket": self.ticket, "beat": now()}
            self.storage.once.set_study_user_attr(self.study, self.key, value)

    def _others(self) -> dict[str, dict]:
        attributes = self.storage.get_study_user_attrs(self.study)
        return {k: v for k, v in attributes.items() if k.startswith(PREFIX) and v and k != self.key}

    def _wait(self) -> None:
        """Until none with a lower ticket is left; one that is drawing might get a lower one."""
        watch, waited, first = Watch(), self.storage.waited, {}
        while True:
            before = {
                key: value
                for key, value in self._others().items()
                if value["ticket"] is None or (value["ticket"], key) < (self.ticket, self.key)
            }
            for key, value in before.items():
                if value["ticket"] and first.setdefault(key, value) != value:
                    raise UserError(
                        "another machine's `wavemix search` works on this study already: `wavemix worker` helps it"
                    )
            if self.storage.waited != waited:
                waited = self.storage.waited
                watch.forget()
            dead = watch.stale({key: value["beat"] for key, value in before.items()})
            for key in dead:
                self.storage.set_study_user_attr(self.study, key, None)
            if not before.keys() - dead:
                return
            sleep(POLL)
