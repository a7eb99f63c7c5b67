"""Records of scouts: in this directory's file, and in the study's storage for the other workers."""

import hashlib
import json
from pathlib import Path

from search.records.jsonl import append
from search.records.models import Scout
from search.study.storage import Patient

MARK = "scout "  # what the study's attributes begin with that are records of scouts


class ScoutRecords:
    """Those of one study: `path` is the file of its records, `study_id` the storage's number of it."""

    def __init__(self, path: Path, storage: Patient, study_id: int):
        self.path, self.storage, self.study_id = path, storage, study_id
        self._known: set[str] = set()

    def keep(self, record: Scout) -> None:
        """Write one down, here and for others."""
        append(self.path, record)
        self._known.add(_mark(record))
        self.storage.set_study_system_attr(self.study_id, _mark(record), record.model_dump_json())

    def new(self) -> list[Scout]:
        """What other workers have written down since the last time."""
        stored = self.storage.get_study_system_attrs(self.study_id)
        found = [key for key in stored if key.startswith(MARK) and key not in self._known]
        self._known.update(found)
        return [Scout.model_validate_json(stored[key]) for key in found]


def _mark(record: Scout) -> str:
    text = json.dumps([record.config.model_dump(mode="json"), record.recipe, record.dataset.digest], sort_keys=True)
    return MARK + hashlib.sha256(text.encode()).hexdigest()[:16]
