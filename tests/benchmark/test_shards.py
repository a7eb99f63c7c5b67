"""Examples that are streamed from tar and Parquet files."""

import json
from pathlib import Path

import layouts_on_disk as disk
import pytest
import torch
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


@pytest.fixture(params=["tar", "parquet"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    if request.param == "tar":
        disk.shards(tmp_path / "imagenet-shards")
    else:
        pytest.importorskip("datasets")
        disk.tables(tmp_path / "imagenet-shards")
    return tmp_path / "imagenet-shards"


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    disk.shards(tmp_path / "tars")
    return tmp_path / "tars"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    pytest.importorskip("datasets")
    disk.tables(tmp_path / "tables", columns=("img", "fine_label"))
    return tmp_path / "tables"


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
        ({"train": {"hf://datasets/owner/name/train.tar": 3}}, "is no file beside it and no plain URL"),
        ({"train": {"https://host/train.parquet": 3}}, "shards are tar files or Parquet files, not both"),
    ],
)
def test_bad_lists_are_refused(tars: Path, change: dict, said: str):
    path = tars / "shards.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=said):
        listed(tars)


def test_columns_have_names(tables: Path):
    train, test, _ = listed(tables)
    assert train.columns == ("img", "fine_label") and test[3][1] == 1 and test[3][0].getpixel((0, 0))[0] == 200
    path = tables / "shards.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"label": "coarse_label"}))
    view = View(listed(tables)[1], recipe(), 3, False)
    with pytest.raises(UserError, match="has no column 'coarse_label', only img, fine_label"):
        [whole(batch) for batch in loader(view, in_order(8, 4, Share()), 0)]


def test_files_on_the_hub_are_listed(tables: Path):
    name = "hf://datasets/owner/name/data/train-00000-of-00001.parquet"
    path = tables / "shards.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"train": {name: 1000}}))
    assert listed(tables)[0].sizes == {name: 1000}


def test_damaged_parquet_is_said(tables: Path):
    next(tables.glob("test-*.parquet")).write_bytes(b"PAR1 torn")
    view = View(listed(tables)[1], recipe(), 3, False)
    with pytest.raises(UserError, match="^the shards can't be read: ") as raised:
        [whole(batch) for batch in loader(view, in_order(8, 4, Share()), 0)]
    assert "\n" not in str(raised.value)


def test_workers_divide_the_shards_of_a_process(root: Path):
    train, _, _ = listed(root)
    view, draws = View(train, recipe(auto=None), 3, False, "flips"), Draws(len(train), 12, (0, 0, 0), Share())
    images = torch.cat([whole(batch)[0] for batch in loader(view, draws, 2)])
    assert {int(image[0, 0, 0]) % 100 for image in images} == {0, 1, 2} and len(images) == 24


def test_a_shard_that_is_too_short_is_said(root: Path):
    path = root / "shards.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"test": {name: 9 for name in found["test"]}}))
    view = View(listed(root)[1], recipe(), 3, False)
    with pytest.raises(UserError, match="has fewer than 9 samples"):
        [whole(batch) for batch in loader(view, in_order(9, 3, Share()), 0)]
