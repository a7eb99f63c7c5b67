"""Decoded images kept on disk, so that a large archive or folder is decoded once.

One safetensors file a part, named after the source's path and a stamp of its state (sizes and times of
change): a changed source has another name and is decoded anew.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from search.errors import UserError
from search.fetch import Part, cache_dir

FORMAT = "1"  # part of every name; another number when decoding changes
FEWEST = 1000  # images; fewer are decoded as quickly as they are read

Arrays = tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]  # images, labels, classes


def digest_of(images: torch.Tensor, labels: torch.Tensor) -> str:
    """SHA-256, hexadecimal, over the bytes of images and labels."""
    sha = hashlib.sha256()
    for tensor in (images, labels):
        sha.update(memoryview(tensor.detach().cpu().contiguous().numpy()).cast("B"))
    return sha.hexdigest()


def stamp_of(paths: Iterable[Path]) -> str:
    """What tells one state of the files from another: paths, sizes and times of change.

    Raises:
        UserError: a file that cannot be found any more.
    """
    sha = hashlib.sha256()
    for path in paths:
        try:
            state = path.stat()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        sha.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


def cached(source: Path, part: Part, variation: str, stamp: str, build: Callable[[], Arrays]) -> Arrays:
    """What `build` returns, from the cache if it was built before from the same state of `source`.

    Args:
        variation: tells several data sets in one source apart.
        stamp: from `stamp_of`.
    A cache that is damaged or cannot be written only costs the time to build again.
    """
    identity = f"{FORMAT}\0{source.resolve()}\0{variation}".encode("utf-8", "surrogateescape")
    plain = re.sub("[^A-Za-z0-9._-]", "_", source.name)[:60]
    stem = f"{plain}-{hashlib.sha256(identity).hexdigest()[:16]}-{part}"
    path = cache_dir() / "decoded" / f"{stem}-{stamp[:16]}.safetensors"
    if (kept := _read(path)) is not None:
        return kept
    images, labels, classes = build()
    if len(images) >= FEWEST:
        with contextlib.suppress(OSError):  # a full or read-only disk: go on without
            _write(path, images, labels, classes)
            for old in path.parent.glob(f"{stem}-*.safetensors"):  # of the source's former states
                if old != path:
                    old.unlink(missing_ok=True)
    return images, labels, classes


def _read(path: Path) -> Arrays | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
        if digest_of(images, labels) != meta["digest"]:
            return None
        return images, labels, tuple(json.loads(meta["classes"]))
    except Exception:  # damaged in whatever way: it will be built again
        return None


def _write(path: Path, images: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {"digest": digest_of(images, labels), "classes": json.dumps(classes)}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".decoded-")
    os.close(handle)
    try:
        save_file({"images": images.contiguous(), "labels": labels.contiguous()}, temporary, metadata=meta)
        os.replace(temporary, path)
    except Exception as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise OSError(f"{path}: not written ({error})") from error
