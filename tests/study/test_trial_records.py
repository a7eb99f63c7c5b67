"""The records of a study in one directory: whose they are, when that is not known any more."""

import re
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial
from samples import trial

from search.records.jsonl import read
from search.study.trial_records import TrialRecords


def records(results: Path) -> TrialRecords:
    return TrialRecords(results / "toy.jsonl", results / "studies" / "toy")


def ended(number: int, worker: str):
    record = trial(number=number, seeds=[number])
    attributes = {"worker": worker, "record": record.model_dump_json()}
    return create_trial(state=TrialState.COMPLETE, value=0.5, user_attrs=attributes)


def test_a_directory_gets_the_records_of_its_own_workers(tmp_path):
    here, there = records(tmp_path / "a"), records(tmp_path / "b")
    assert re.fullmatch("[0-9a-f]{8}", here.id) and here.id != there.id
    assert records(tmp_path / "a").id == here.id
    trials = [ended(0, f"{here.id}-00ff"), ended(1, f"{there.id}-00ff"), ended(2, f"{here.id}0-00ff")]
    assert [records(tmp_path / "a").complete(trials) for _ in range(2)] == [1, 0]
    assert [record.number for record in read(here.path)] == [0]


@pytest.mark.parametrize("content", [b"", b"0123", b"\xff\x00", b"0123456789abcdef"])
def test_a_damaged_identity_makes_no_directory_adopt_all_records(tmp_path, content, caplog):
    first = records(tmp_path)
    mark = tmp_path / "studies" / "toy" / "id"
    mark.write_bytes(content)
    again = records(tmp_path)
    assert re.fullmatch("[0-9a-f]{8}", again.id) and again.id != first.id and mark.read_text() == again.id
    assert again.complete([ended(0, f"{first.id}-00ff"), ended(1, "01234567-00ff")]) == 0
    assert mark.with_name("id.damaged").read_bytes() == content
    assert caplog.messages == [f"{mark} is damaged, so this directory gets a new identity; moved to id.damaged"]
