"""Several processes that train together."""

import time
from pathlib import Path
from typing import Any

import pytest
from toy_rows import PHASES, run, same, together

OFTEN = {"save_every": 0.0}


def killed(folder: Path, rank: int, moment: str, **asked: Any) -> str:
    """Start two processes and kill one after the step "phase epochs step"; what the other one says in the end."""
    pair = together(folder, 2, pause=0.2, **asked)
    seen, late = folder / "seen", time.monotonic() + 120
    while not (seen.exists() and seen.read_text() >= moment):
        said = [process.communicate()[1] for process in pair if process.returncode is not None]
        assert not said and time.monotonic() < late, said
        time.sleep(0.02)
    pair[rank].kill()
    _, errors = pair[1 - rank].communicate(60)
    assert pair[1 - rank].returncode == 1 and pair[rank].communicate(10) and not list(folder.glob("*.jsonl"))
    return errors


def gone_on(folder: Path, **asked: Any) -> None:
    for process in together(folder, 2, **asked):
        _, errors = process.communicate(120)
        assert process.returncode == 0, errors


def test_a_process_is_killed_and_others_go_on_to_what_one_alone_comes_to(whole: Path, tmp_path: Path):
    """Two processes of DistributedDataParallel, one killed amid an epoch; two of FSDP take up the checkpoint."""
    assert "another process of this training has gone" in killed(tmp_path, 1, "0 1 2", setup=OFTEN)
    gone_on(tmp_path, setup=OFTEN | {"divided": True})
    same(whole, tmp_path, 1e-5)


@pytest.mark.parametrize("optimizer", ["muon", "lion"])
def test_divided_weights_are_stepped_as_whole_ones(tmp_path: Path, optimizer: str):
    """Two processes of FSDP, the first killed amid the second epoch and both started again, beside one alone."""
    one, two = tmp_path / "one", tmp_path / "two"
    phase = {"optimizer": optimizer, "lr": 0.01, "decay": 0.01, "beta2": 0.99, "epochs": 3}
    changes = {"phases": [phase, PHASES[1]], "auto": None}
    one.mkdir()
    run(one, **changes)
    asked = {"setup": OFTEN | {"divided": True}, "recipe": changes}
    killed(two, 0, "0 1 1", **asked)
    gone_on(two, **asked)
    same(one, two, 1e-4)
