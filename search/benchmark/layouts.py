"""The data of the benchmark table, as they lie on a disk: which files make which part, opened by well-kept libraries.

Nothing is decoded before it is asked for, but for what fits memory many times over (MNIST and its kin, CIFAR, SVHN,
STL-10, CamVid). A test part is what the field tests on; where a data set has none, a tenth of it is split off by a seed
that is the same for everybody. Torchvision is imported when a layout is opened: it takes seconds.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from search.benchmark.examples import Changed, Examples, Parts, Stored, divided
from search.benchmark.photographs import folders
from search.benchmark.shards import listed
from search.data.datasets import load_classes
from search.data.masks import CITYSCAPES, CITYSCAPES_IDS
from search.data.picture_folders import load as load_pictures
from search.data.pictures import Pictures
from search.data.source import Part, Reading, Source, TaskName
from search.data.split import Split, split_validation
from search.errors import UserError
from search.extras import needed

TEST_SHARE, TEST_SEED = 0.1, 20_220_528  # of data without a test part


@dataclass(frozen=True)
class Layout:
    """What lies where: `folder` below the directory of data, `put` says what has to be in it, `read` opens it."""

    task: TaskName
    folder: str
    put: str
    read: Callable[[Path], Parts]

    def open(self, data_dir: Path | None) -> Parts:
        """Raises UserError, one line that says what to put where, if something is missing or damaged."""
        root = (data_dir or Path()) / self.folder
        if not root.is_dir():
            put = self.put.rstrip(",")
            raise UserError(f"{root} is missing: put {put} there (--data-dir or WAVEMIX_DATA names another directory)")
        try:
            return self.read(root)
        except (UserError, RuntimeError, OSError, ValueError, LookupError) as error:
            raise UserError(f"put {self.put} into {root} ({' '.join(str(error).split())[:300]})") from error


def _without_test(examples: Examples, classes: Sequence[str]) -> Parts:
    train, test = divided(examples, TEST_SHARE, TEST_SEED)
    return Parts(train, test, tuple(classes), split=f"{TEST_SHARE:g} of all images, by the seed {TEST_SEED}")


# ------------------------------------------------------------------------------------------- the project's own readers


def _own(name: str) -> Callable[[Path], Parts]:
    """A data set that `wavemix data fetch` knows, with its digests."""

    def read(root: Path) -> Parts:
        train, test = (load_classes(Source(name), part, root) for part in ("train", "test"))
        return Parts(_stored(train), _stored(test), train.classes)

    return read


def _stored(split: Split) -> Stored:
    return Stored(split.images, split.labels)


def _camvid(root: Path) -> Parts:
    source = Source(str(root), Reading(task="segmentation"))

    def part(name: Part) -> Pictures:
        return load_pictures(root, name, source, "CamVid")

    train, test = part("train"), part("test")
    if not train.validation:
        raise UserError("there is no val/ beside valannot/")
    rest, validation = split_validation(train, train.validation, 0)
    kept = [Stored(pictures.images, pictures.masks) for pictures in (rest, test, validation)]
    return Parts(kept[0], kept[1], train.classes, kept[2])


# ------------------------------------------------------------------------------------------------------ torchvision's


def _torchvision(name: str, train: dict[str, Any], test: dict[str, Any]) -> Callable[[Path], Parts]:
    """A data set of torchvision's that is read in two parts."""

    def read(root: Path) -> Parts:
        from torchvision import datasets

        parts = [getattr(datasets, name)(str(root), **given) for given in (train, test)]
        return Parts(parts[0], parts[1], tuple(getattr(parts[0], "classes", map(str, range(10)))))

    return read


def _emnist(split: str) -> Callable[[Path], Parts]:
    """Its images are stored transposed; the letters' labels begin with 1 (Cohen et al. 2017)."""

    def read(root: Path) -> Parts:
        from PIL import Image
        from torchvision import datasets

        first = 1 if split == "letters" else 0
        parts = [
            Changed(
                datasets.EMNIST(str(root), split, train=train),
                _Turned(Image.Transpose.TRANSPOSE),
                _Counted(first),
            )
            for train in (True, False)
        ]
        return Parts(parts[0], parts[1], tuple(datasets.EMNIST.classes_split_dict[split])[first:])

    return read


@dataclass(frozen=True)
class _Turned:
    how: Any

    def __call__(self, image: Any) -> Any:
        return image.transpose(self.how)


@dataclass(frozen=True)
class _Counted:
    first: int

    def __call__(self, label: int) -> int:
        return int(label) - self.first


def _class_folders(train: str, test: str) -> Callable[[Path], Parts]:
    def read(root: Path) -> Parts:
        from torchvision.datasets import ImageFolder

        parts = [ImageFolder(str(root / part)) for part in (train, test)]
        if parts[0].classes != parts[1].classes:
            raise UserError(f"{train}/ and {test}/ have other classes")
        return Parts(parts[0], parts[1], tuple(parts[0].classes))

    return read


def _caltech256(root: Path) -> Parts:
    from torchvision.datasets import Caltech256

    examples = Caltech256(str(root))
    return _without_test(examples, examples.categories)


def _inaturalist(root: Path) -> Parts:
    from torchvision.datasets import INaturalist

    train, test = (INaturalist(str(root), version=version) for version in ("2021_train_mini", "2021_valid"))
    if train.all_categories != test.all_categories:
        raise UserError("2021_train_mini/ and 2021_valid/ have other classes")
    return Parts(train, test, tuple(train.all_categories))


def _cityscapes(root: Path) -> Parts:
    """Its validation part is tested: the test part's masks are not public."""
    from torchvision.datasets import Cityscapes

    parts = [Cityscapes(str(root), split, mode="fine", target_type="semantic") for split in ("train", "val")]
    if not all(map(len, parts)):
        raise UserError("no images in train/ or val/")
    for part in parts:
        _masks_fit(part.images, [target[0] for target in part.targets])
    train, test = (Changed(part, target=_train_ids) for part in parts)
    return Parts(train, test, CITYSCAPES.names)


def _masks_fit(images: Sequence[str], masks: Sequence[str]) -> None:
    """Raises UserError for a mask of another size than its image's, by the files' first bytes alone."""
    from PIL import Image

    for image, mask in zip(images, masks):
        with Image.open(image) as one, Image.open(mask) as other:
            if one.size != other.size:
                sizes = [f"{width} x {height}" for width, height in (other.size, one.size)]
                raise UserError(f"{Path(mask).name} is {sizes[0]} pixels, its image {sizes[1]}")


def _train_ids(mask: Any) -> torch.Tensor:
    return torch.from_numpy(CITYSCAPES_IDS.table()[np.array(mask)].astype(np.uint8))


# ------------------------------------------------------------------------------------------------------------- others


class Galaxy10:
    """Galaxy10 DECaLS (astroNN's Galaxy10_DECals.h5): `images` (N, 256, 256, 3), uint8, and `ans` (N,), read one by
    one from the file, which each process opens for itself."""

    CLASSES = (
        "Disturbed", "Merging", "Round Smooth", "In-between Round Smooth", "Cigar Shaped Smooth", "Barred Spiral",
        "Unbarred Tight Spiral", "Unbarred Loose Spiral", "Edge-on without Bulge", "Edge-on with Bulge",
    )  # fmt: skip

    def __init__(self, path: Path):
        needed("benchmark", "h5py")
        import h5py

        self.path, self._opened = str(path), (0, None)
        with h5py.File(path, "r") as file:
            self.labels = [int(label) for label in file["ans"][:]]  # pyright: ignore
            if file["images"].shape[0] != len(self.labels):  # pyright: ignore
                raise ValueError(f"{path} has other numbers of images and labels")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        import h5py

        process, file = self._opened
        if process != os.getpid() or file is None:
            file = h5py.File(self.path, "r")
            self._opened = os.getpid(), file
        return torch.from_numpy(file["images"][number]).permute(2, 0, 1), self.labels[number]  # pyright: ignore

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": (0, None)}


def _galaxy10(root: Path) -> Parts:
    return _without_test(Galaxy10(root / "Galaxy10_DECals.h5"), Galaxy10.CLASSES)


class Files:
    """Image files with a class each."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int]):
        self.paths, self.labels = [str(path) for path in paths], list(labels)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        from torchvision.datasets.folder import pil_loader

        return pil_loader(self.paths[number]), self.labels[number]


def _tiny_imagenet(root: Path) -> Parts:
    """Its validation part is tested: the test part's labels are not public."""
    from torchvision.datasets import ImageFolder

    train = ImageFolder(str(root / "train"))
    lines = [line.split("\t") for line in (root / "val" / "val_annotations.txt").read_text("utf-8").splitlines()]
    numbers = {name: number for number, name in enumerate(train.classes)}
    paths, labels = [root / "val" / "images" / line[0] for line in lines], [numbers[line[1]] for line in lines]
    return Parts(train, Files(paths, labels), tuple(train.classes))


def _photographs(train: Sequence[str], validation: str | None, test: str) -> Callable[[Path], Parts]:
    return lambda root: folders(root, train, validation, test)


def _shards(root: Path) -> Parts:
    train, test, classes = listed(root)
    needed(*(("parquet", "datasets") if train.columns else ("benchmark", "webdataset")))
    return Parts(train, test, classes)


LAYOUTS: dict[str, Layout] = {
    "mnist": Layout("classification", "", "MNIST's four files (`wavemix data fetch mnist`)", _own("mnist")),
    "fashion-mnist": Layout(
        "classification", "", "Fashion-MNIST's four files (`wavemix data fetch fashion-mnist`)", _own("fashion-mnist")
    ),
    "cifar10-jpeg": Layout(
        "classification", "", "cifar10-jpeg.tar.xz, or cifar10-jpeg/ with train/CLASS/ and test/CLASS/",
        _own("cifar10-jpeg"),
    ),
    "cifar10": Layout(
        "classification", "cifar10", "cifar-10-python.tar.gz, unpacked to cifar-10-batches-py/,",
        _torchvision("CIFAR10", {"train": True}, {"train": False}),
    ),
    "cifar100": Layout(
        "classification", "cifar100", "cifar-100-python.tar.gz, unpacked to cifar-100-python/,",
        _torchvision("CIFAR100", {"train": True}, {"train": False}),
    ),
    **{
        f"emnist-{split}": Layout(
            "classification", "emnist",
            f"EMNIST's gzip.zip, unpacked to EMNIST/raw/emnist-{split}-*-ubyte without .gz,", _emnist(split),
        )
        for split in ("balanced", "byclass", "bymerge", "digits", "letters")
    },
    "svhn": Layout(
        "classification", "svhn", "train_32x32.mat and test_32x32.mat",
        _torchvision("SVHN", {"split": "train"}, {"split": "test"}),
    ),
    "stl10": Layout(
        "classification", "stl10", "stl10_binary.tar.gz, unpacked to stl10_binary/,",
        _torchvision("STL10", {"split": "train"}, {"split": "test"}),
    ),
    "caltech256": Layout(
        "classification", "caltech256", "256_ObjectCategories.tar, unpacked to caltech256/256_ObjectCategories/,",
        _caltech256,
    ),
    "tiny-imagenet": Layout(
        "classification", "tiny-imagenet-200", "tiny-imagenet-200.zip's train/ and val/ (val/val_annotations.txt)",
        _tiny_imagenet,
    ),
    "imagenet": Layout(
        "classification", "imagenet", "train/CLASS/*.JPEG and val/CLASS/*.JPEG, CLASS such as n01440764,",
        _class_folders("train", "val"),
    ),
    "imagenet-shards": Layout(
        "classification", "imagenet-shards",
        "shards.json (see search/benchmark/shards.py) and its tar or Parquet files", _shards,
    ),
    "places365": Layout(
        "classification", "places365",
        "categories_places365.txt, places365_train_standard.txt, places365_val.txt, data_256_standard/ and val_256/",
        _torchvision("Places365", {"split": "train-standard", "small": True}, {"split": "val", "small": True}),
    ),
    "inat2021-mini": Layout(
        "classification", "inat2021", "2021_train_mini/ and 2021_valid/, as unpacked,", _inaturalist
    ),
    "galaxy10": Layout("classification", "galaxy10", "Galaxy10_DECals.h5", _galaxy10),
    "camvid": Layout(
        "segmentation", "camvid", "SegNet's train/, val/, test/ beside trainannot/, valannot/, testannot/", _camvid
    ),
    "cityscapes": Layout(
        "segmentation", "cityscapes", "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, unpacked,", _cityscapes
    ),
    "div2k": Layout(
        "super-resolution", "sr", "DIV2K_train_HR/ and DIV2K_valid_HR/, as unpacked,",
        _photographs(["DIV2K_train_HR"], None, "DIV2K_valid_HR"),
    ),
    "div2k-bsd100": Layout(
        "super-resolution", "sr", "DIV2K_train_HR/ and DIV2K_valid_HR/, as unpacked, and BSD100/ with its 100 images",
        _photographs(["DIV2K_train_HR"], "DIV2K_valid_HR", "BSD100"),
    ),
    "df2k-bsd100": Layout(
        "super-resolution", "sr",
        "DIV2K_train_HR/, DIV2K_valid_HR/ and Flickr2K/Flickr2K_HR/, as unpacked, and BSD100/ with its 100 images",
        _photographs(["DIV2K_train_HR", "Flickr2K/Flickr2K_HR"], "DIV2K_valid_HR", "BSD100"),
    ),
    "train400-set5": Layout(
        "super-resolution", "sr", "Train400/ with 400 grey photographs of BSD500, and Set5/",
        _photographs(["Train400"], None, "Set5"),
    ),
}  # fmt: skip
