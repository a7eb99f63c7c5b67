"""The records of a study in one directory: whose they are, when that is not known any more."""

import re

import pytest
from optuna.trial import TrialState, create_trial
from samples import trial

from search.records.jsonl import read
from search.records.results import Results
from search.study.trial_records import TrialRecords


def ended(number: int, worker: str):
    record = trial(number=number, seeds=[number])
    attributes = {"worker": worker, "record": record.model_dump_json()}
    return create_trial(state=TrialState.COMPLETE, value=0.5, user_attrs=attributes)


def test_a_directory_gets_the_records_of_its_own_workers(tmp_path):
    here, there = TrialRecords(Results(tmp_path / "a"), "toy"), TrialRecords(Results(tmp_path / "b"), "toy")
    assert re.fullmatch("[0-9a-f]{8}", here.id) and here.id != there.id
    assert TrialRecords(Results(tmp_path / "a"), "toy").id == here.id
    trials = [ended(0, f"{here.id}-00ff"), ended(1, f"{there.id}-00ff"), ended(2, f"{here.id}0-00ff")]
    assert [TrialRecords(Results(tmp_path / "a"), "toy").complete(trials) for _ in range(2)] == [1, 0]
    assert [record.number for record in read(here.path)] == [0]


@pytest.mark.parametrize("content", [b"", b"0123", b"\xff\x00", b"0123456789abcdef"])
def test_a_damaged_identity_makes_no_directory_adopt_all_records(tmp_path, content, caplog):
    first = TrialRecords(Results(tmp_path), "toy")
    mark = tmp_path / "studies" / "toy" / "id"
    mark.write_bytes(content)
    again = TrialRecords(Results(tmp_path), "toy")
    assert re.fullmatch("[0-9a-f]{8}", again.id) and again.id != first.id and mark.read_text() == again.id
    assert again.complete([ended(0, f"{first.id}-00ff"), ended(1, "01234567-00ff")]) == 0
    assert mark.with_name("id.damaged").read_bytes() == content
    assert caplog.messages == [f"{mark} is damaged, so this directory gets a new identity; moved to id.damaged"]
