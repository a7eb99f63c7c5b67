"""What networks on pixels make of image files: a picture of the classes, or the image enlarged; one PNG an image."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from search import signals
from search.errors import UserError
from search.files import write_atomically
from search.inference.loading import module
from search.inference.prediction import Size, files, read, usable
from search.inference.ready import Enlarger, Ready, Segmenter
from search.inference.stored import Stored
from search.records.environment import Model


class Drawn(Model):
    """A picture that was written."""

    image: str  # what it is of
    picture: str
    height: int
    width: int
    shares: dict[str, float]  # of each class its share of the pixels, the greatest first; none of an enlarged image


def draw(
    stored: Stored,
    images: Sequence[Path],
    folder: Path,
    seed: int | None = None,
    resize: Size | None = None,
    skip: bool = False,
) -> tuple[list[str], Iterator[Drawn]]:
    """Write a picture of each image file, and of those in folders, to `folder` by the network of `seed`.

    Segmentation: NAME-classes.png, a PNG with a palette, its pixels the numbers of the classes and shown in their
    colours. Super-resolution: NAME-2x.png, grey or in colour as the image.

    Args:
        resize: height and width to stretch images to before.
        skip: leave out images that can't be used.
    Returns:
        A line for each image that was left out, and the pictures, one after another as they are written.

    Raises UserError before anything is written, in one line, where images can't be used (without `skip`) or two of
    them would give pictures of one name; while it writes, where it can't.
    """
    network = module(stored, seed)
    paths = files(images)
    left_out: set[Path] = set()

    def readable(path: Path) -> None:
        left_out.add(path)
        read(path, stored, resize)
        left_out.remove(path)

    problems = usable(paths, readable, skip)
    ending = f"{network.scale}x" if isinstance(network, Enlarger) else "classes"
    named = {path: folder / f"{path.stem}-{ending}.png" for path in paths if path not in left_out}
    if own := set(named.values()) & {path.absolute() for path in paths} | set(named.values()) & set(paths):
        raise UserError(f"{min(own)} is one of the images, and would be overwritten: name another --output")
    twice = [name for name, count in Counter(named.values()).items() if count > 1]
    if twice:
        both = " and ".join(str(path) for path in named if named[path] == twice[0])
        raise UserError(f"{both} would both become {twice[0]}: predict them into folders of their own (--output)")

    def drawn() -> Iterator[Drawn]:
        for path, place in named.items():
            signals.check()
            yield _drawn(network, read(path, stored, resize), path, place)

    return problems, drawn()


def _drawn(network: Ready, image: NDArray[np.uint8], path: Path, place: Path) -> Drawn:
    with torch.inference_mode():
        (found,) = network(torch.from_numpy(image.astype(np.float32) / 255)[None])
    shares: dict[str, float] = {}
    if isinstance(network, Segmenter):
        labels = found.argmax(0).numpy().astype(np.uint8)
        counts = Counter(dict(enumerate(np.bincount(labels.ravel(), minlength=len(network.classes)).tolist())))
        shares = {network.classes[number]: count / labels.size for number, count in counts.most_common()}
        picture = Image.fromarray(labels, "P")
        picture.putpalette([part for colour in network.colours for part in colour])
    else:
        values = (found * 255).round().byte().numpy()
        picture = Image.fromarray(values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0)))
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, content.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror or error}") from error
    return Drawn(image=str(path), picture=str(place), height=picture.height, width=picture.width, shares=shares)
