"""A tiny row of the benchmark table, and a program that runs it as one of several processes.

python -c "from toy_rows import main; main()" '{"folder": …, "setup": {…}, "recipe": {…}}'
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision_operators
from bars import bars
from processes import Process

from search.benchmark.examples import Parts, Stored
from search.benchmark.recipe import Recipe
from search.benchmark.rows import Network, Row
from search.records.benchmarks import RowRun
from search.records.results import Results
from wavemix.config import LiteConfig

torchvision_operators.define()
PROGRAM = "from toy_rows import main; main()"
PHASES = [
    {"optimizer": "adamw", "lr": 0.02, "decay": 0.01, "epochs": 3, "patience": 1},
    {"optimizer": "sgd", "lr": 0.02, "epochs": 2, "patience": 2, "augment": "flips"},
]


def recipe(**changes: Any) -> Recipe:
    """Two phases, each of its own optimizer, with all that is random about images."""
    fields = {"batch": 16, "phases": PHASES, "flip": True, "auto": "trivial", "mixup": 0.4, "cutmix": 0.4}
    return Recipe.model_validate(fields | {"average": 0.8, "label_smoothing": 0.1, "validation": 0.25} | changes)


def row(**changes: Any) -> Row:
    config = LiteConfig(in_channels=1, num_classes=4, final_dim=8, depth=1, mult=1, bias="needed")
    return Row(
        name="toy",
        task="classification",
        label="bars",
        layout="mnist",
        network=Network(lite=config),
        recipes={"ours": recipe(**changes)},
    )


def parts(count: int = 64) -> Parts:
    train, test = bars(count, 0), bars(32, 1)
    return Parts(Stored(train.images, train.labels), Stored(test.images, test.labels), train.classes)


def run(
    folder: Path, setup: dict[str, Any] | None = None, pause: float = 0.0, images: int = 64, **changes: Any
) -> RowRun:
    """Run the row in this process, be it one of several."""
    from search.benchmark.processes import Processes
    from search.benchmark.runs import Order
    from search.benchmark.runs import run as start
    from search.benchmark.setup import Setup

    processes = Processes(Setup(cpu=True, **setup or {}))

    def watch(moment: Any) -> None:
        time.sleep(pause)
        if processes.first:
            (folder / "seen").write_text(f"{moment.phase} {moment.epoch} {moment.step}")

    return start(Order(row(**changes), "ours"), parts(images), processes, Results(folder), watch, lambda text: None)


def main() -> None:
    from search import signals

    torch.set_num_threads(1)
    signals.install()
    asked = json.loads(sys.argv[1])
    try:
        run(Path(asked["folder"]), asked.get("setup"), asked.get("pause", 0.0), **asked.get("recipe", {}))
    except KeyboardInterrupt:
        sys.exit(signals.code())


def together(folder: Path, count: int, **asked: Any) -> list[Process]:
    """`count` processes that train the row together."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    if count == 1:
        common = {"OMP_NUM_THREADS": "1"}
    text = json.dumps({"folder": str(folder), **asked})
    ranks = [
        {"RANK": str(n), "LOCAL_RANK": str(n), "LOCAL_WORLD_SIZE": str(count)} if count > 1 else {}
        for n in range(count)
    ]
    return [Process(PROGRAM, text, **common, **rank) for rank in ranks]


def record(folder: Path) -> RowRun:
    (found,) = Results(folder).read()
    assert isinstance(found, RowRun)
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from search.training.tensors import read

    (path,) = (folder / "weights" / "benchmark").glob("*.safetensors")
    return read(path)[1]


def same(one: Path, other: Path, tolerance: float) -> None:
    """Whether two trainings came to the same curve, score and weights."""
    a, b = record(one), record(other)
    assert [(e.phase, e.epoch, e.score) for e in a.curve] == [(e.phase, e.epoch, e.score) for e in b.curve]
    assert [e.loss for e in a.curve] == pytest.approx([e.loss for e in b.curve], abs=max(tolerance, 1e-6))
    assert a.score == b.score
    first, second = weights(one), weights(other)
    for name, tensor in first.items():
        assert torch.allclose(tensor.float(), second[name].float(), rtol=0, atol=tolerance), name
