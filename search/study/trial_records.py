"""The records of one study in one results directory: who writes them, and that none is missing or stands twice.

A trial's record is kept with the trial in the storage, in the same step that ends it; the file under the results
directory is written from there. A process that is killed between the two leaves a line to be written by the next one
that works in this directory. Machines with directories of their own write the records of their own trials.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from optuna.trial import FrozenTrial

from search.errors import UserError
from search.files import acquire, set_aside, writable, write_atomically
from search.records.jsonl import append, identity_of, repair
from search.records.models import Trial


class TrialRecords:
    """`path` is the file of the records, `folder` the study's own directory, `id` the same for all who write here.

    Raises UserError where nothing can be written.
    """

    def __init__(self, path: Path, folder: Path):
        self.path, self.folder = path, folder
        writable(self.folder)
        repair(self.path)  # a killed run may have left half a line
        with self.locked():
            self.id = self._identity(self.folder / "id")

    @staticmethod
    def _identity(mark: Path) -> str:
        """What the file `mark` says, a new one where there is none or nothing that one can be: "" would be everybody's
        beginning, and this directory would get every machine's records."""
        found = mark.read_text(errors="replace") if mark.exists() else ""
        if re.fullmatch(r"[0-9a-f]{8}", found):
            return found
        if mark.exists():
            set_aside(mark, "is damaged, so this directory gets a new identity")
        return write_atomically(mark, secrets.token_hex(4).encode()).read_text()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process of this directory at a time; freed with the process, however that ends.

        Where the directory has been deleted, what the block writes is written all the same, and UserError is raised.
        """
        gone = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "ab") as file:
            acquire(file)
            yield
        if gone:
            write_atomically(
                self.folder / "id", self.id.encode()
            )  # so that the next run finds all that were written here
            raise UserError(
                f"{self.folder} has been deleted: what was in memory is in {self.path}; the same command writes the "
                "other records there that the storage still has"
            )

    @contextmanager
    def searching(self) -> Iterator[None]:
        """One `wavemix search` at a time: two would confirm the same network twice. Raises UserError for the second."""
        with open(self.folder / "search", "ab") as file:
            if not acquire(file, wait=False):
                raise UserError(
                    f"`wavemix search` works on the study {self.folder.name} already: `wavemix worker --study "
                    f"{self.folder.name}` helps it, another --name starts another"
                )
            yield

    def complete(self, trials: Sequence[FrozenTrial]) -> int:
        """Write the records of finished trials of this directory that are missing from its file; their number."""
        own = [t for t in trials if t.state.is_finished() and worked(t) == self.id]
        with self.locked():
            written = set()
            if self.path.exists():
                written = {identity_of(line) for line in self.path.read_bytes().splitlines()}
            missing = [text for text in texts(own) if identity_of(text.encode()) not in written]
            for text in missing:
                append(self.path, Trial.model_validate_json(text))
            return len(missing)


def worked(trial: FrozenTrial) -> str:
    """The `id` of the directory whose worker has ended a trial."""
    return str(trial.user_attrs.get("worker", "")).partition("-")[0]


def texts(trials: Iterable[FrozenTrial]) -> Iterator[str]:
    """The records that trials of a study carry, as they are kept."""
    return (t.user_attrs["record"] for t in trials if "record" in t.user_attrs)
