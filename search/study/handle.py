"""A study that `wavemix search` has started, seen from outside: how it goes, and stopping it."""

from contextlib import closing
from pathlib import Path

from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL

from search.data.source import Reading
from search.errors import UserError
from search.records.results import Results
from search.study.heartbeat import now
from search.study.outage import Lost, shown
from search.study.seals import checked, digest
from search.study.setting import checked_name
from search.study.storage import Patient, connect


class StudyHandle:
    """A study in the storage at `url`, as one sees it who has none of its data: it is only read.

    One that does not answer is waited for where `wait` says so. Raises UserError where there is none of this name, or
    one that this program has not made.
    """

    def __init__(self, url: str | URL, name: str, wait: bool = False):
        checked_name(name)
        self.storage: Patient = connect(url, create=False, write=False, wait=wait)
        self.url, self.name = url, name
        try:
            self.id = self.storage.get_study_id_from_name(name)
            attributes = self.storage.get_study_user_attrs(self.id)
        except Lost as error:
            if not isinstance(error.__cause__, KeyError):
                raise
            raise UserError(f"the storage {shown(url)} holds no study {name}: `wavemix search` starts one") from None
        self.stopped: str | None = attributes.get("stop")
        self.identity, self.source, self.code = (attributes.get(key) for key in ("identity", "source", "code"))
        self.reading = Reading.model_validate(attributes.get("reading") or {})
        if not (self.identity and self.source and self.code):
            raise UserError(
                f"the study {name} in {shown(url)} does not say what a worker needs: give its `wavemix search` command "
                "again first"
            )

        if attributes.get("seal") not in (None, digest(self.identity)):
            raise Lost(f"the study {name} in {shown(url)} is damaged: what it says of itself is not what was written")

    def stop(self) -> None:
        """Ask its workers to put their trials back after the epoch they are in, and to end."""
        with closing(connect(self.url, create=False)) as storage:
            storage.set_study_user_attr(self.id, "stop", now())

    def trials(self) -> list[FrozenTrial]:
        return checked(self.storage.get_all_trials(self.id, deepcopy=False))


def find(name: str, storage: str | URL | None, results: Path, wait: bool = False) -> StudyHandle:
    """The study of this name in the storage, or in the file that it has under `results` where none is named."""
    if storage is None:
        files = sorted(path.stem for path in (results / "studies").glob("*.db"))
        if name not in files:
            known = f"name one of {', '.join(files)}" if files else "search first, or give --storage or --results"
            raise UserError(f"no study {name} in {results}: {known}")
    return StudyHandle(storage or Results(results).database(name), name, wait)
