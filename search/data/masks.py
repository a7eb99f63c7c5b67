"""Masks: images of labels, what their values mean, and the classes of the layouts that are known by their folders."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from search.data.pixels import MAX_PIXELS
from search.data.split import IGNORED, Colour
from search.errors import UserError

CLASSES_FILE = "classes.csv"
COLUMNS = ("value", "name", "red", "green", "blue")
NOTHING = "ignored"  # the name of a value that is no class


@dataclass(frozen=True)
class Classes:
    """Names and colours of the classes, and the values in masks that mean them; those `ignored` mean none."""

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    values: tuple[int, ...]
    ignored: tuple[int, ...] = (IGNORED,)
    found: bool = False  # whether they are what the training masks hold, not what a file or layout says

    def table(self) -> np.ndarray:
        """(256,) of value -> class, -1 of a value that is neither a class nor ignored."""
        table = np.full(256, -1, np.int16)
        table[list(self.ignored)] = IGNORED
        table[list(self.values)] = np.arange(len(self.values))
        return table


def _listed(rows: str) -> Classes:
    names, colours = [], []
    for row in rows.strip().splitlines():
        name, *colour = row.strip().rsplit(maxsplit=3)
        names.append(name)
        colours.append(tuple(int(part) for part in colour))
    return Classes(tuple(names), tuple(colours), tuple(range(len(names))))


# as in SegNet's split of CamVid (Badrinarayanan et al. 2017): 11 classes, and 11 means none of them
CAMVID = _listed("""
    sky 128 128 128
    building 128 0 0
    pole 192 192 128
    road 128 64 128
    pavement 60 40 222
    tree 128 128 0
    sign 192 128 128
    fence 64 64 128
    car 64 0 128
    pedestrian 64 64 0
    bicyclist 0 128 192
""")
CAMVID = Classes(CAMVID.names, CAMVID.colours, CAMVID.values, (11, IGNORED))
# Cordts et al. 2016: the 19 classes that are scored, by their train ids
CITYSCAPES = _listed("""
    road 128 64 128
    sidewalk 244 35 232
    building 70 70 70
    wall 102 102 156
    fence 190 153 153
    pole 153 153 153
    traffic light 250 170 30
    traffic sign 220 220 0
    vegetation 107 142 35
    terrain 152 251 152
    sky 70 130 180
    person 220 20 60
    rider 255 0 0
    car 0 0 142
    truck 0 0 70
    bus 0 60 100
    train 0 80 100
    motorcycle 0 0 230
    bicycle 119 11 32
""")
_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # of `labelIds`
_OTHERS = tuple(value for value in range(256) if value not in _IDS)
CITYSCAPES_IDS = Classes(CITYSCAPES.names, CITYSCAPES.colours, _IDS, _OTHERS)


def classes_of(root: Path) -> Classes | None:
    """What `classes.csv` in a folder says; None where there is none. Raises UserError where it says nothing clear."""
    path = root / CLASSES_FILE
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"value", "name"} <= rows[0].keys():
            raise ValueError(f"its first line has to be {','.join(COLUMNS)}; the colours may be left out")
        values, names, colours, ignored = [], [], [], [IGNORED]
        for number, row in enumerate(rows):
            value, name = int(row["value"]), (row["name"] or "").strip()
            if not 0 <= value <= 255:
                raise ValueError(f"the value {value} is not between 0 and 255")
            if not name:
                raise ValueError(f"the value {value} has no name; {NOTHING!r} where it is no class")
            if name == NOTHING:
                ignored.append(value)
                continue
            given = [row.get(part) for part in COLUMNS[2:]]
            colour = _colour(number) if None in given or "" in given else tuple(int(part or 0) for part in given)
            if max(colour) > 255 or min(colour) < 0:
                raise ValueError(f"the colour of {name} is not of numbers from 0 to 255")
            values.append(value)
            names.append(name)
            colours.append(colour)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())[:200]}") from error
    if len(set(values)) != len(values) or set(values) & set(ignored[1:]):
        raise UserError(f"{path}: a value stands there twice")
    if len(set(names)) != len(names):
        raise UserError(f"{path}: two classes have one name")
    if len(names) < 2:
        raise UserError(f"{path}: at least two classes are needed")
    return Classes(tuple(names), tuple(colours), tuple(values), tuple(ignored))


def found_in(masks: Sequence[np.ndarray]) -> Classes:
    """The classes 0 to the largest value in these masks, named by their numbers; 255 is none."""
    counts = np.zeros(256, np.int64)
    for mask in masks:
        counts += np.bincount(mask.ravel(), minlength=256)
    most = int(np.flatnonzero(counts[:IGNORED]).max(initial=-1))
    if most < 1:
        raise UserError(f"the masks hold no two classes; {CLASSES_FILE} beside them says what their values mean")
    numbers = range(most + 1)
    return Classes(tuple(map(str, numbers)), tuple(map(_colour, numbers)), tuple(numbers), found=True)


def known_colours(names: Sequence[str]) -> tuple[Colour, ...]:
    """Of classes by their names: those of the layout that has them, else as where none are given."""
    layout = next((known for known in (CAMVID, CITYSCAPES) if known.names == tuple(names)), None)
    return layout.colours if layout else tuple(map(_colour, range(len(names))))


def _colour(number: int) -> Colour:
    """A class's where none is given: each bit of its number turns one bit of a colour on, from the highest down (the
    palette of PASCAL VOC)."""
    colour, number = [0, 0, 0], number + 1
    for place in range(8):
        for channel in range(3):
            colour[channel] |= (number >> channel & 1) << (7 - place)
        number >>= 3
    red, green, blue = colour
    return red, green, blue


def read_mask(content: bytes) -> np.ndarray:
    """The values (H, W), uint8, of a mask's file: a PNG's grey values or palette indices.

    Raises UserError for anything else: colours, more than 8 bits, formats that lose something.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "BMP", "GIF", "TIFF")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,} are refused")
            if image.mode not in ("L", "P", "1"):
                raise UserError(
                    f"a mask has one value of 8 bits a pixel, the number of its class; this one has mode {image.mode}"
                )
            return np.array(image, dtype=np.uint8)
    except UserError:
        raise
    except Exception as error:  # Pillow's plug-ins raise many kinds for damaged files
        reason = str(error).split("<")[0].strip() or type(error).__name__
        raise UserError(f"unreadable mask ({reason}); masks are PNG files of one value a pixel") from error


def labels_of(mask: np.ndarray, classes: Classes, name: str) -> torch.Tensor:
    """A mask's labels (H, W), uint8: indices of classes, IGNORED elsewhere. Raises UserError for another value."""
    found = classes.table()[mask]
    if (found < 0).any():
        value, count = int(mask[found < 0][0]), int((found < 0).sum())
        said = f"are named in {CLASSES_FILE}" if not classes.found else "are in the training masks"
        raise UserError(
            f"{name} holds the label {value} ({count:,} pixels), none of the {len(classes.names)} classes that "
            f"{said}: name it there, as a class or as {NOTHING!r}"
        )
    return torch.from_numpy(found.astype(np.uint8))
