"""The loop: phases, interruptions, and what must not change a result."""

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_rows import PHASES, parts, recipe, record, row, run, same

from search import signals
from search.benchmark.moments import Moment
from search.benchmark.processes import Processes
from search.benchmark.runs import Order, evaluate
from search.benchmark.runs import run as start
from search.benchmark.setup import Setup
from search.errors import UserError
from search.records.results import Results


def test_phases_end_by_patience_and_the_best_epoch_on_validation_images_is_handed_on(whole: Path):
    found = record(whole)
    first = [epoch for epoch in found.curve if epoch.phase == 1]
    best, waited = None, 0
    for epoch in first[:-1]:  # it went on while the last one was no worse
        waited = 0 if best is None or epoch.score > best else waited + 1
        best = max(best or 0, epoch.score or 0)
        assert waited < PHASES[0]["patience"]
    assert {epoch.phase for epoch in found.curve} == {1, 2} and found.data.validation_count == 16
    assert found.data.train_count == 48 and found.data.test_count == 32


def test_stored_weights_are_those_that_were_tested(whole: Path):
    (path,) = (whole / "weights" / "benchmark").iterdir()
    assert evaluate(row(), path, parts(), Processes(Setup(cpu=True)))["accuracy"] == record(whole).score


def interrupted(folder: Path, moment: tuple[int, int, int], **setup: Any) -> None:
    """A training that a signal ends after the step (phase, epochs, step), and that the same call then goes on with."""

    def watch(seen: Moment) -> None:
        if (seen.phase, seen.epoch, seen.step) == moment:
            signals.received = 2

    processes = Processes(Setup(cpu=True, **setup))
    order = Order(row(), "ours")
    try:
        with pytest.raises(KeyboardInterrupt):
            start(order, parts(), processes, Results(folder), watch, lambda text: None)
    finally:
        signals.received = None
    assert not list(folder.glob("*.jsonl"))
    start(order, parts(), processes, Results(folder), lambda seen: None, lambda text: None)


@pytest.mark.parametrize("moment", [(0, 1, 2), (1, 1, 0)])
def test_an_interrupted_training_comes_to_the_same(whole: Path, tmp_path: Path, moment: tuple[int, int, int]):
    interrupted(tmp_path, moment)
    same(whole, tmp_path, 0)
    assert not list((tmp_path / "studies").iterdir())  # the checkpoint is gone


# another layout sums in another order, and AdamW divides a gradient by its size, however small it is
@pytest.mark.parametrize(
    ("setup", "tolerance"),
    [({"recompute": True}, 1e-5), ({"channels_last": True}, 1e-3), ({"workers": 1}, 1e-5)],
    ids=str,
)
def test_what_only_saves_memory_or_time_changes_nothing(whole: Path, tmp_path: Path, setup: dict, tolerance: float):
    run(tmp_path, setup)
    same(whole, tmp_path, tolerance)


def test_gradients_are_accumulated(tmp_path: Path):
    """Without BatchNorm's statistics in between, which are of a part: a linear network has the same gradient."""
    from search.benchmark.course import Course
    from search.benchmark.tasks import Classification
    from search.benchmark.training import Training

    found = []
    plain = recipe(auto=None, mixup=0.0, cutmix=0.0, average=0.0, phases=[PHASES[1] | {"epochs": 1}])
    for count in (1, 2):
        data, processes = parts(), Processes(Setup(cpu=True, accumulate=count))
        course = Course(plain, Classification(plain, data.classes), data.train, data.test, 4, 1, [0.3], [0.2], 0)
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
        Training(network, course, processes, tmp_path / str(count), {}, lambda seen: None).run()
        found.append(network[1].weight.detach())
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_bf16_trains(tmp_path: Path):
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    found = run(tmp_path, {"precision": "bf16"})
    assert found.setup["precision"] == "bf16" and found.curve[-1].loss < found.curve[0].loss


def test_a_damaged_checkpoint_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    place = tmp_path / "studies" / "benchmark-toy-ours-seed0" / "training.checkpoint"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"torn")
    run(tmp_path, phases=[PHASES[1] | {"epochs": 1}])
    assert place.with_name("training.checkpoint.damaged").exists() and "damaged" in caplog.text


@pytest.mark.parametrize(
    ("setup", "changes", "said"),
    [
        ({"accumulate": 3}, {}, "a batch of 16 images can't be divided into 6 equal parts"),
        ({}, {"batch": 64}, "48 training images are fewer than a batch of 64"),
        ({"precision": "fp16"}, {}, "fp16 needs a GPU"),
        ({"divided": True}, {}, "start several with torchrun"),
        ({}, {"phases": [PHASES[1] | {"lr": 1e30}]}, "the loss is nan"),
        ({}, {"fit": "resized-crop", "size": [7, 7]}, "the network can't take images of 7x7"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, setup: dict, changes: dict, said: str):
    with pytest.raises(UserError, match=said) as raised:
        run(tmp_path, setup, **changes)
    assert "\n" not in str(raised.value) and not list(tmp_path.glob("*.jsonl"))
