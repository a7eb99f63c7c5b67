"""Miniatures of the data sets of the benchmark table, in their real formats.

Each writer gets the folder that the layout reads and `patch`, pytest's monkeypatch: torchvision compares digests with
those of the real files, so it is told those of the miniature's. Images are of one value each, by which they are known.
"""

import hashlib
import io
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Patch = Any


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def picture(path: Path, value: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, value, value)).save(path)


def _pickled(path: Path, content: dict) -> list[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return [path.name, md5(path)]


def _cifar(name: str, folder: str, batches: dict[str, list[str]], key: str, names: str, classes: int) -> Callable:
    def write(root: Path, patch: Patch) -> None:
        from torchvision import datasets

        kind, value = getattr(datasets, name), 0
        for part, files in batches.items():
            listed = []
            for file in files:
                data = np.stack([np.full(3072, value + n, np.uint8) for n in range(2)])
                listed.append(
                    _pickled(root / folder / file, {"data": data, key: [value % classes, (value + 1) % classes]})
                )
                value += 2
            patch.setattr(kind, f"{part}_list", listed)
        meta = dict(kind.meta)
        meta["md5"] = _pickled(root / folder / meta["filename"], {names: [f"class {n}" for n in range(classes)]})[1]
        patch.setattr(kind, "meta", meta)

    return write


cifar10 = _cifar(
    "CIFAR10", "cifar-10-batches-py",
    {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}, "labels", "label_names", 10,
)  # fmt: skip
cifar100 = _cifar(
    "CIFAR100", "cifar-100-python", {"train": ["train"], "test": ["test"]}, "fine_labels", "fine_label_names", 100
)


def emnist(root: Path, patch: Patch) -> None:
    folder = root / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 4), ("test", 2)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 3, 5] = 200  # stored transposed: it is at row 5, column 3 of the image
        labels = np.arange(1, count + 1, dtype=np.uint8)
        head = struct.pack(">HBB3I", 0, 8, 3, count, 28, 28)
        (folder / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">HBBI", 0, 8, 1, count)
        (folder / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def svhn(root: Path, patch: Patch) -> None:
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    root.mkdir(parents=True)
    listed = dict(SVHN.split_list)
    for part, count in (("train", 4), ("test", 2)):
        path = root / f"{part}_32x32.mat"
        images = np.stack([np.full((32, 32, 3), n, np.uint8) for n in range(count)], -1)
        savemat(path, {"X": images, "y": np.array([[10], [1], [2], [3]][:count], np.uint8)})  # 10 means the digit 0
        listed[part] = [listed[part][0], path.name, md5(path)]
    patch.setattr(SVHN, "split_list", listed)


def stl10(root: Path, patch: Patch) -> None:
    from torchvision.datasets import STL10

    folder = root / STL10.base_folder
    folder.mkdir(parents=True)
    for part, count in (("train", 3), ("test", 2)):
        images = np.stack([np.full((3, 96, 96), n, np.uint8) for n in range(count)])
        (folder / f"{part}_X.bin").write_bytes(images.tobytes())
        (folder / f"{part}_y.bin").write_bytes(bytes(range(1, count + 1)))
    (folder / "class_names.txt").write_text("\n".join(f"class {n}" for n in range(10)) + "\n")
    lists = {"train_list": ["train_X.bin", "train_y.bin"], "test_list": ["test_X.bin", "test_y.bin"]}
    for name, files in lists.items():
        patch.setattr(STL10, name, [[file, md5(folder / file)] for file in files])


def caltech256(root: Path, patch: Patch) -> None:
    for number, name in enumerate(("001.ak47", "002.american-flag"), 1):
        for image in range(1, 11):
            place = root / "caltech256" / "256_ObjectCategories" / name / f"{number:03d}_{image:04d}.jpg"
            picture(place, 10 * image, mode="L" if image == 1 else "RGB")


def tiny_imagenet(root: Path, patch: Patch) -> None:
    for number, name in enumerate(("n01443537", "n01629819")):
        picture(root / "train" / name / "images" / f"{name}_0.JPEG", 10 * number)
        picture(root / "val" / "images" / f"val_{number}.JPEG", 100 + number)
    # not in the classes' order
    lines = "val_0.JPEG\tn01629819\t0\t0\t8\t8\nval_1.JPEG\tn01443537\t0\t0\t8\t8\n"
    (root / "val" / "val_annotations.txt").write_text(lines)


def imagenet(root: Path, patch: Patch) -> None:
    for part in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            picture(root / part / name / f"{part}.JPEG", 10)


def shards(root: Path, patch: Patch | None = None, train: int = 3, each: int = 8) -> None:
    """Shards of pictures of 8x8 pixels, bright ones of the second of two classes."""
    import webdataset

    root.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"classes": ["dark", "bright"], "train": {}, "test": {}}
    for part, count in (("train", train), ("test", 1)):
        for shard in range(count):
            name = f"{part}-{shard:06d}.tar"
            with (root / name).open("wb") as file, webdataset.TarWriter(file) as tar:
                for number in range(each):
                    picture = io.BytesIO()
                    value = 200 * (number % 2) + shard
                    Image.new("RGB", (8, 8), (value, value, value)).save(picture, "PNG")
                    tar.write({"__key__": f"{number:04d}", "png": picture.getvalue(), "cls": str(number % 2)})
            found[part][name] = each
    (root / "shards.json").write_text(json.dumps(found))


def tables(root: Path, train: int = 3, each: int = 8, columns: tuple[str, str] = ("image", "label")) -> None:
    """The pictures of `shards` in Parquet files, as the library of the Hugging Face Hub writes them."""
    import datasets

    root.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"classes": ["dark", "bright"], "train": {}, "test": {}}
    if columns != ("image", "label"):
        found |= {"image": columns[0], "label": columns[1]}
    for part, count in (("train", train), ("test", 1)):
        for shard in range(count):
            values = [200 * (number % 2) + shard for number in range(each)]
            images = [Image.new("RGB", (8, 8), (value, value, value)) for value in values]
            labels = [number % 2 for number in range(each)]
            features = datasets.Features({columns[0]: datasets.Image(), columns[1]: datasets.ClassLabel(2)})
            rows = datasets.Dataset.from_dict({columns[0]: images, columns[1]: labels}, features)
            name = f"{part}-{shard:05d}-of-{count:05d}.parquet"
            rows.to_parquet(root / name)
            found[part][name] = each
    (root / "shards.json").write_text(json.dumps(found))


def places365(root: Path, patch: Patch) -> None:
    from torchvision.datasets import Places365

    root.mkdir(parents=True, exist_ok=True)
    files = {
        "categories_places365.txt": "/a/airfield 0\n/b/bakery/shop 1\n",
        "places365_train_standard.txt": "/a/airfield/1.jpg 0\n/b/bakery/shop/2.jpg 1\n",
        "places365_val.txt": "3.jpg 1\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    for place in ("data_256_standard/a/airfield/1.jpg", "data_256_standard/b/bakery/shop/2.jpg", "val_256/3.jpg"):
        picture(root / place, 10)
    names = list(files)
    patch.setattr(Places365, "_CATEGORIES_META", (names[0], md5(root / names[0])))
    lists = {"train-standard": (names[1], md5(root / names[1])), "val": (names[2], md5(root / names[2]))}
    patch.setattr(Places365, "_FILE_LIST_META", lists)


def inaturalist(root: Path, patch: Patch) -> None:
    for part in ("2021_train_mini", "2021_valid"):
        for number, name in enumerate(("Animalia_A_B_C_D_E_one", "Plantae_A_B_C_D_E_two")):
            picture(root / part / f"{number:05d}_{name}" / f"{part}.jpg", 10 * number)


def galaxy10(root: Path, patch: Patch) -> None:
    import h5py

    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "Galaxy10_DECals.h5", "w") as file:
        file["images"] = np.stack([np.full((256, 256, 3), n, np.uint8) for n in range(20)])
        file["ans"] = np.arange(20, dtype=np.uint8) % 10


def cityscapes(root: Path, patch: Patch) -> None:
    for part, city in (("train", "aachen"), ("val", "munster")):
        name = f"{city}_000000_000019"
        picture(root / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png", 10, (16, 8))
        # the id 26, a car, is class 13; 3, out of the region of interest, is none
        mask = Image.fromarray(np.tile(np.array([[26] * 8 + [3] * 8], np.uint8), (8, 1)))
        path = root / "gtFine" / part / city / f"{name}_gtFine_labelIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path)


def camvid(root: Path, patch: Patch | None = None, count: int = 2, size: tuple[int, int] = (24, 16)) -> None:
    for part in ("train", "val", "test"):
        for number in range(count):
            name = f"0001TP_{part}{number}.png"
            picture(root / part / name, 100 * number, size)
            mask = np.full(size[::-1], number % 11, np.uint8)
            mask[0] = 11
            (root / f"{part}annot").mkdir(exist_ok=True)
            Image.fromarray(mask).save(root / f"{part}annot" / name)


def photographs(root: Path, count: int = 3, size: tuple[int, int] = (70, 61)) -> None:
    """DIV2K's and Flickr2K's folders as unpacked, Train400, and test sets; one grey photograph in each."""
    names = ("DIV2K_train_HR", "DIV2K_valid_HR", "Flickr2K/Flickr2K_HR", "Train400", "Set5", "Set14", "BSD100")
    for folder, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(count):
            noise = np.random.default_rng([folder, number]).integers(0, 256, (*size[::-1], 3), np.uint8)
            image = Image.fromarray(noise if number else noise[:, :, 0])
            image.resize(size, Image.Resampling.BICUBIC, (0, 0, size[0] // 4, size[1] // 4)).save(
                root / name / f"{number:04d}.png"
            )
