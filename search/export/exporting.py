"""Exports: a stored network in another form, checked before its file is put in its place."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from search.errors import UserError
from search.export import c_file, onnx_file, program, timm_folder
from search.export.check import Check, check, sample
from search.files import shortened, sync, temporary_name
from search.inference.loading import module
from search.inference.stored import Stored

# each has `write` and `scores`, and the SUFFIX of what it writes
FORMATS: dict[str, ModuleType] = {"onnx": onnx_file, "torch-export": program, "timm": timm_folder, "c": c_file}

CLASSIFIERS_ALONE = (timm_folder, c_file)
REASON = "use --format onnx or torch-export"


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: the file, or the folder.
        seed: of the network.
        size: in bytes, of all files.
        told: lines about it, by its format.
        check: its scores beside the network's.
    """

    path: Path
    seed: int
    size: int
    told: list[str]
    check: Check


def export(
    stored: Stored, format: str, output: Path | None = None, seed: int | None = None, data_dir: Path | None = None
) -> Export:
    """Write a stored network in a format to `output`, by default NAME.SUFFIX in the current directory.

    Args:
        stored: the networks.
        format: one of `FORMATS`.
        output: the file, which is replaced, or the folder, which must not exist.
        seed: which of the networks; by default the first.
        data_dir: where test images are looked for, on which the export is checked.

    Raises UserError where that can't be done, or what was made gives other scores; then nothing is written.
    """
    if format not in FORMATS:
        raise UserError(f"--format is {', '.join(FORMATS)}, not {format!r}")
    kind = FORMATS[format]
    if stored.config.task != "classification" and kind in CLASSIFIERS_ALONE:
        raise UserError(f"--format {format} is for classifiers, {stored.name} is for {stored.config.task}: {REASON}")
    path = output or Path(f"{shortened(stored.name)}{kind.SUFFIX}")
    if path.is_dir() or path.exists() and kind is timm_folder:
        raise UserError(f"{path} is there already: remove it, or name another --output")
    if stored.inputs is None:
        raise UserError(f"{stored.path} does not say what images its network takes, so nothing can be exported")
    network, images = module(stored, seed), sample(stored, data_dir)
    place = temporary_name(path)
    try:
        place.mkdir(parents=True)
        made = place / path.name
        told = kind.write(network, stored.name, made)
        done = check(network, images, lambda given: kind.scores(made, given))
        size = _settled(made)
        os.replace(made, path)
        sync(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Export(path, stored.seeds[0] if seed is None else seed, size, told, done)


def _settled(path: Path) -> int:
    """Wait until a file, or all in a folder, has reached the disk; its size."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    for file in files:
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
    sync(path)
    return sum(file.stat().st_size for file in files)
