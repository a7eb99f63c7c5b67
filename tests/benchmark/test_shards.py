"""Examples that are streamed from tar files."""

import json
from pathlib import Path

import layouts_on_disk as disk
import pytest
import torchvision_operators
from toy_rows import PHASES, recipe

from search.benchmark.layouts import LAYOUTS
from search.benchmark.processes import Processes
from search.benchmark.rows import Network, Row
from search.benchmark.runs import Order, run
from search.benchmark.setup import Setup, Share
from search.benchmark.shards import listed
from search.benchmark.views import Draws, View, in_order, loader, measured, whole
from search.errors import UserError
from search.records.results import Results
from wavemix.config import LiteConfig

torchvision_operators.define()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    disk.shards(tmp_path / "imagenet-shards")
    return tmp_path / "imagenet-shards"


def test_a_row_is_trained_from_shards(root: Path, tmp_path: Path):
    fields = {"task": "classification", "label": "shards", "layout": "imagenet-shards"}
    plain = recipe(batch=8, auto=None, phases=[PHASES[0] | {"epochs": 2}], mixup=0.0, cutmix=0.0)
    network = Network(lite=LiteConfig(num_classes=2, final_dim=8, depth=1, mult=1))
    row = Row(name="shards", network=network, recipes={"ours": plain}, **fields)
    parts = LAYOUTS["imagenet-shards"].open(tmp_path)
    order, processes = Order(row, "ours"), Processes(Setup(cpu=True))
    record = run(order, parts, processes, Results(tmp_path / "runs"), lambda seen: None, lambda text: None)
    assert (record.data.train_count, record.data.validation_count, record.data.test_count) == (16, 8, 8)
    assert record.score >= 0.5
    with pytest.raises(UserError, match="can't be chosen from shards"):
        run(Order(row, "ours", images=8), parts, processes, Results(tmp_path / "runs"), lambda seen: None)


def test_a_test_sees_every_sample_once(root: Path):
    _, test, _ = listed(root)
    view = View(test, recipe(), 3, False)
    labels = []
    for rank in range(3):
        for batch in loader(view, in_order(len(test), 2, Share(rank, 3)), 0):
            labels += whole(batch)[1].tolist()
    assert sorted(labels) == [-1, 0, 0, 0, 0, 1, 1, 1, 1]  # one fills up a process's share
    mean, _ = measured(view, 0)
    assert mean == pytest.approx([100 / 255] * 3)


def test_processes_read_shards_of_their_own(root: Path):
    train, _, _ = listed(root)
    view, seen = View(train, recipe(auto=None), 3, False, "flips"), []
    for rank in range(3):
        draws = Draws(len(train), 12, (0, 0, 0), Share(rank, 3))
        images = [whole(batch)[0] for batch in loader(view, draws, 0)]
        assert [len(batch) for batch in images] == [4, 4]
        seen.append({int(image[0, 0, 0]) % 100 for batch in images for image in batch})
    assert sorted(map(sorted, seen)) == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": {"pipe:touch /tmp/x": 3}}, "is no file beside it and no plain URL"),
        ({"train": {"http://host/a';touch x": 3}}, "is no file beside it and no plain URL"),
        ({"train": {"../other.tar": 3}}, "is no file beside it and no plain URL"),
        ({"train": {"missing.tar": 3}}, "there is no missing.tar beside it"),
        ({"train": {"train-000000.tar": 0}}, "has no samples"),
        ({"classes": ["one"]}, "shards.json: classes: "),
    ],
)
def test_bad_lists_are_refused(root: Path, change: dict, said: str):
    path = root / "shards.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=said):
        listed(root)


def test_a_shard_that_is_too_short_is_said(root: Path):
    path = root / "shards.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"test": {"test-000000.tar": 9}}))
    view = View(listed(root)[1], recipe(), 3, False)
    with pytest.raises(UserError, match="has fewer than 9 samples"):
        [whole(batch) for batch in loader(view, in_order(9, 3, Share()), 0)]
