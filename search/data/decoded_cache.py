"""Decoded images kept on disk, so that a large archive or folder is decoded once.

One safetensors file a part, named after the source's path and a digest of its content: a cache never answers for other
files than it was made from, whatever their times of change.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from search.data.source import Part
from search.data.split import digest_of
from search.errors import UserError
from wavemix.cache import cache_dir

FORMAT = "3"  # part of every name; another number when decoding changes
FEWEST = 1000  # images; fewer are decoded as quickly as they are read


class Arrays(NamedTuple):
    """A part of a data set: uint8 images (N, C, H, W), int64 labels (N,), the names of the classes.

    The last `validation` images are a validation part of its own; `skipped` files could not be read; `told` are lines
    about what was read and what was left out.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    validation: int = 0
    skipped: int = 0
    told: tuple[str, ...] = ()


def stamp_of(path: Path) -> str:
    """The SHA-256 of a file. Raises UserError where it can't be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def cached(source: Path, part: Part, variation: str, stamp: str, build: Callable[[], Mapping[Part, Arrays]]) -> Arrays:
    """A part out of what `build` returns, from the cache if it was built before from the same content of `source`.

    Args:
        variation: tells several data sets in one source apart.
        stamp: a digest of the content.
    A cache that is damaged or cannot be written only costs the time to build again.
    """
    identity = f"{FORMAT}\0{source.resolve()}\0{variation}".encode("utf-8", "surrogateescape")
    plain = re.sub("[^A-Za-z0-9._-]", "_", source.name)[:60]
    stem = f"{plain}-{hashlib.sha256(identity).hexdigest()[:16]}"
    folder = cache_dir() / "decoded"
    if (kept := _read(folder / f"{stem}-{part}-{stamp[:32]}.safetensors")) is not None:
        return kept
    built = build()
    if sum(len(arrays.images) for arrays in built.values()) >= FEWEST:
        with contextlib.suppress(OSError):  # a full or read-only disk: go on without
            for name, arrays in built.items():
                path = folder / f"{stem}-{name}-{stamp[:32]}.safetensors"
                _write(path, arrays)
                for old in folder.glob(f"{stem}-{name}-*.safetensors"):  # of the source's former states
                    if old != path:
                        old.unlink(missing_ok=True)
    return built[part]


def _read(path: Path) -> Arrays | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
        if meta["digest"] != _checksum(images, labels, meta["about"]):
            return None
        classes, validation, skipped, told = json.loads(meta["about"])
        return Arrays(images, labels, tuple(classes), validation, skipped, tuple(told))
    except Exception:  # damaged in whatever way: it will be built again
        return None


def _checksum(images: torch.Tensor, labels: torch.Tensor, about: str) -> str:
    return hashlib.sha256(f"{digest_of(images, labels)}{about}".encode()).hexdigest()


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images, labels, *rest = arrays
    about = json.dumps(rest)
    meta = {"about": about, "digest": _checksum(images, labels, about)}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".decoded-")
    os.close(handle)
    try:
        save_file({"images": images.contiguous(), "labels": labels.contiguous()}, temporary, metadata=meta)
        os.replace(temporary, path)
    except Exception as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise OSError(f"{path}: not written ({error})") from error
