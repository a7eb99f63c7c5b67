"""Pictures read from folders: layouts, masks, and one clear line for whatever is wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import scenes

from search.data import datasets
from search.data.masks import CAMVID, CITYSCAPES
from search.data.source import Reading, Source
from search.data.split import IGNORED
from search.errors import UserError

SEGMENTATION = Reading(task="segmentation")


def enlarging(scale: int = 2, **options) -> Reading:
    return Reading(task="super-resolution", scale=scale, **options)


def put(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def read(root: Path, reading: Reading, part="train"):
    return datasets.load(Source(str(root), reading), part)


@pytest.mark.parametrize(
    "layout",
    [
        ("{part}/{n}.png", "{part}annot/{n}.png"),
        ("{part}/{n}.png", "{part}_masks/{n}.png"),
        ("images/{part}/{n}.png", "masks/{part}/{n}.png"),
        ("{part}/images/{n}.png", "{part}/labels/{n}.png"),
    ],
)
def test_layouts_of_masks(tmp_path, layout):
    rng = np.random.default_rng(0)
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        for n in range(count):
            image, mask = (place.format(part=part, n=n) for place in layout)
            put(tmp_path / image, rng.integers(0, 256, (12, 16, 3), np.uint8))
            labels = np.full((12, 16), n, np.uint8)
            labels[0] = IGNORED
            put(tmp_path / mask, labels)
    train, test = read(tmp_path, SEGMENTATION), read(tmp_path, SEGMENTATION, "test")
    assert (len(train), train.validation, len(test)) == (5, 2, 1) and train.classes == ("0", "1", "2")
    assert train.shape == (3, 12, 16) and train.masks[1].unique().tolist() == [1, IGNORED]
    assert train.digest == read(tmp_path, SEGMENTATION).digest != test.digest


def test_camvid_is_known_by_its_folders_and_names(tmp_path):
    for part in ("train", "test"):
        for n in (1, 2):
            put(tmp_path / part / f"0001TP_{n:06}.png", np.zeros((8, 8, 3), np.uint8))
            put(tmp_path / f"{part}annot" / f"0001TP_{n:06}.png", np.full((8, 8), 10 + n % 2, np.uint8))
    train = read(tmp_path, SEGMENTATION)
    assert train.classes == CAMVID.names and len(train.colours) == 11
    assert [int(mask[0, 0]) for mask in train.masks] == [IGNORED, 10]


def test_cityscapes_ids(tmp_path):
    for part in ("train", "val"):
        for n in range(2):
            stem = f"city_{n:06}_000019"
            put(tmp_path / "leftImg8bit" / part / "city" / f"{stem}_leftImg8bit.png", np.zeros((8, 8, 3), np.uint8))
            put(tmp_path / "gtFine" / part / "city" / f"{stem}_gtFine_labelIds.png", np.full((8, 8), 26 - n, np.uint8))
    train = read(tmp_path, SEGMENTATION)
    assert train.classes == CITYSCAPES.names and train.validation == 0
    assert [train.classes[int(mask[0, 0])] for mask in train.masks] == ["car", "rider"]
    assert len(read(tmp_path, SEGMENTATION, "test")) == 2


def test_classes_file(tmp_path):
    scenes(tmp_path)
    rows = "value,name,red,green,blue\n0,ground,0,0,0\n1,ignored,,,\n2,disc,255,0,0\n3,cross,0,0,255\n"
    (tmp_path / "classes.csv").write_text(rows)
    train = read(tmp_path, SEGMENTATION)
    assert train.classes == ("ground", "disc", "cross") and train.colours[1] == (255, 0, 0)
    assert set(torch.cat([m.flatten() for m in train.masks]).tolist()) <= {0, 1, 2, IGNORED}


def _smaller(root):
    put(root / "trainannot" / "0.png", np.zeros((5, 5), np.uint8))


def _more_classes(root):
    put(root / "testannot" / "0.png", np.full((32, 40), 9, np.uint8))


def _coloured(root):
    put(root / "trainannot" / "0.png", np.zeros((32, 40, 3), np.uint8))


def _without(root):
    (root / "trainannot" / "0.png").unlink()


def _one_image(root):
    for folder in ("train", "trainannot"):
        for path in sorted((root / folder).iterdir())[1:]:
            path.unlink()
    for folder in ("val", "valannot"):
        shutil.rmtree(root / folder)


def _damaged(root):
    (root / "trainannot" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nno")


def _class_twice(root):
    (root / "classes.csv").write_text("value,name\n0,sky\n0,tree\n")


@pytest.mark.parametrize(
    "damage, said",
    [
        (_smaller, "train/0.png is 40 x 32 pixels, its mask 5 x 5"),
        (_more_classes, "testannot/0.png holds the label 9"),
        (_coloured, "a mask has one value of 8 bits a pixel"),
        (_without, "train/0.png has no mask in trainannot"),
        (_one_image, "one training image is not enough"),
        (_damaged, "unreadable mask"),
        (_class_twice, "a value stands there twice"),
    ],
)
def test_one_line_for_what_is_wrong(tmp_path, damage, said):
    scenes(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError) as error:
        datasets.check_test(read(tmp_path, SEGMENTATION))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_pictures_to_enlarge(tmp_path):
    """Grey and colour are mixed, sizes are odd, test sets stand beside each other."""
    rng = np.random.default_rng(0)
    for place, shape in (
        ("Train2/a.png", (40, 41)),
        ("Train2/b.png", (33, 37, 3)),
        ("Set5/a.png", (35, 35, 3)),
        ("Other/c.png", (39, 44)),
    ):
        put(tmp_path / place, rng.integers(0, 256, shape, np.uint8))
    with pytest.raises(UserError, match="--test-set says which one decides"):
        read(tmp_path, enlarging())
    with pytest.raises(UserError, match="no test set 'Set6'"):
        read(tmp_path, enlarging(test_set="Set6"))
    train, test = (read(tmp_path, enlarging(3, test_set="Set5"), part) for part in ("train", "test"))
    assert train.label == "Set5 3x" and [image.shape[0] for image in train.images] == [3, 3]
    assert (test.sets, test.deciding) == (("Set5", "Other"), 1)


def test_what_does_not_go_with_a_task(tmp_path):
    scenes(tmp_path)
    for reading, said in (
        (Reading(task="super-resolution"), "--scale 2, 3 or 4"),
        (Reading(task="segmentation", scale=2), "--scale 2, 3 or 4"),
        (Reading(task="segmentation", resize=(8, 8)), "are for classification"),
        (Reading(task="segmentation", test_set="x"), "--test-set is for"),
        (Reading(task="segmentation", test_split=0.5), "leave --test-split out"),
    ):
        with pytest.raises(UserError, match=said):
            read(tmp_path, reading)
    with pytest.raises(UserError, match="no such folder"):
        read(tmp_path / "nowhere", SEGMENTATION)
    with pytest.raises(UserError, match="mnist is for classification"):
        datasets.load(Source("mnist", SEGMENTATION), "train")
