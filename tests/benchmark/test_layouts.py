"""Every layout of the benchmark table, read from a miniature in the real format."""

from pathlib import Path
from typing import Any

import layouts_on_disk as disk
import numpy as np
import pytest
import torch
import torchvision_operators

from search.benchmark.layouts import LAYOUTS
from search.benchmark.views import pixels
from search.data.split import IGNORED
from search.errors import UserError

torchvision_operators.define()
# layout: who writes it, how many train and test images and classes it then has, labels of the first two to train on
MINIATURES: dict[str, tuple[Any, int, int, int, list[int]]] = {
    "cifar10": (disk.cifar10, 10, 2, 10, [0, 1]),
    "cifar100": (disk.cifar100, 2, 2, 100, [0, 1]),
    "emnist-letters": (disk.emnist, 4, 2, 26, [0, 1]),
    "svhn": (disk.svhn, 4, 2, 10, [0, 1]),
    "stl10": (disk.stl10, 3, 2, 10, [0, 1]),
    "caltech256": (disk.caltech256, 18, 2, 2, [0, 0]),
    "tiny-imagenet": (disk.tiny_imagenet, 2, 2, 2, [0, 1]),
    "imagenet": (disk.imagenet, 2, 2, 2, [0, 1]),
    "imagenet-shards": (disk.shards, 24, 8, 2, [0, 1]),
    "places365": (disk.places365, 2, 1, 2, [0, 1]),
    "inat2021-mini": (disk.inaturalist, 2, 2, 2, [0, 1]),
    "galaxy10": (disk.galaxy10, 18, 2, 10, [0, 1]),
}


PHOTOGRAPHS = {
    "div2k": (3, None, 3),
    "div2k-bsd100": (3, 3, 3),
    "df2k-bsd100": (6, 3, 3),
    "train400-set5": (3, None, 3),
}


def written(name: str, folder: Path, patch: pytest.MonkeyPatch, writer: Any) -> Any:
    writer(folder / LAYOUTS[name].folder, patch)
    return LAYOUTS[name].open(folder)


@pytest.mark.parametrize("name", MINIATURES)
def test_a_classification_layout_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    writer, train, test, classes, labels = MINIATURES[name]
    parts = written(name, tmp_path, monkeypatch, writer)
    assert (len(parts.train), len(parts.test), len(parts.classes)) == (train, test, classes)
    assert [int(parts.train[number][1]) for number in (0, 1)] == labels
    channels = 1 if name.startswith("emnist") else 3
    for part in (parts.train, parts.test):
        image, label = part[len(part) - 1]
        assert pixels(image, channels).shape[0] == channels and 0 <= int(label) < classes


def test_every_layout_has_a_miniature_or_is_read_elsewhere():
    elsewhere = {"mnist", "fashion-mnist", "cifar10-jpeg"}  # tests/data/test_datasets.py
    alike = {name for name in LAYOUTS if name.startswith("emnist-")}
    assert set(LAYOUTS) == elsewhere | alike | set(MINIATURES) | {"camvid", "cityscapes"} | set(PHOTOGRAPHS)


def test_letters_are_turned_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image, _ = written("emnist-letters", tmp_path, monkeypatch, disk.emnist).train[0]
    assert np.argwhere(np.array(image) == 200).tolist() == [[5, 3]]


def test_validation_images_of_tiny_imagenet_have_the_labels_of_their_file(tmp_path, monkeypatch):
    test = written("tiny-imagenet", tmp_path, monkeypatch, disk.tiny_imagenet).test
    assert [test[number][1] for number in (0, 1)] == [1, 0]


def test_the_test_part_that_is_split_off_is_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    disk.galaxy10(tmp_path / "galaxy10", monkeypatch)
    first, again = (LAYOUTS["galaxy10"].open(tmp_path) for _ in range(2))
    values = [[int(part[n][0][0, 0, 0]) for n in range(len(part))] for part in (first.test, again.test, first.train)]
    assert values[0] == values[1] and not set(values[0]) & set(values[2])


def test_cityscapes_has_train_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parts = written("cityscapes", tmp_path, monkeypatch, disk.cityscapes)
    mask = parts.test[0][1]
    assert len(parts.classes) == 19 and mask.shape == (8, 16)
    assert mask[0].tolist() == [13] * 8 + [IGNORED] * 8


def test_camvid_has_its_own_validation_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parts = written("camvid", tmp_path, monkeypatch, disk.camvid)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [2, 2, 2]
    image, mask = parts.train[1]
    assert image.shape == (3, 16, 24) and torch.equal(mask.unique(), torch.tensor([1, IGNORED], dtype=torch.uint8))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_folders_of_photographs_are_read(name: str, tmp_path: Path):
    disk.photographs(tmp_path / "sr")
    parts = LAYOUTS[name].open(tmp_path)
    counts = len(parts.train), parts.validation and len(parts.validation), len(parts.test)
    assert counts == PHOTOGRAPHS[name] and not parts.classes
    deciding = {"div2k": set(), "train400-set5": {"Set5"}}.get(name, {"BSD100"})
    assert set(parts.beside) == {"Set5", "Set14", "BSD100"} - deciding
    assert [parts.train[number][0].shape for number in (0, 1)] == [(1, 61, 70), (3, 61, 70)]


def test_a_folder_without_photographs_is_said(tmp_path: Path):
    disk.photographs(tmp_path / "sr")
    for path in (tmp_path / "sr" / "Set5").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"^put Train400/ .* \(Set5/ has no images\)$"):
        LAYOUTS["train400-set5"].open(tmp_path)


def test_a_mask_of_another_size_is_said_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    disk.cityscapes(tmp_path / "cityscapes", monkeypatch)
    (path,) = (tmp_path / "cityscapes" / "gtFine" / "val").rglob("*_labelIds.png")
    disk.picture(path, 26, (8, 8), "L")
    with pytest.raises(UserError, match=r"labelIds.png is 8 x 8 pixels, its image 16 x 8"):
        LAYOUTS["cityscapes"].open(tmp_path)


def test_what_is_missing_is_said_in_one_line(tmp_path: Path):
    for name, layout in LAYOUTS.items():
        if not layout.folder:  # fetched where it is missing
            continue
        place = tmp_path / name
        with pytest.raises(UserError, match=r"is missing: put .* there \(--data-dir or WAVEMIX_DATA"):
            layout.open(place)
        (place / layout.folder).mkdir(parents=True)
        with pytest.raises(UserError, match=f"^put .* into {place}") as raised:
            layout.open(place)
        assert "\n" not in str(raised.value), name


def test_files_that_were_changed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    disk.cifar10(tmp_path / "cifar10", monkeypatch)
    with (tmp_path / "cifar10" / "cifar-10-batches-py" / "test_batch").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="corrupted"):
        LAYOUTS["cifar10"].open(tmp_path)
