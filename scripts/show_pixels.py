"""Pictures of what a network for segmentation or super-resolution makes of test images, beside the truth.

    python -m scripts.show_pixels WEIGHTS DATA --task segmentation --output FOLDER
    python -m scripts.show_pixels WEIGHTS DATA --task super-resolution --scale 2 --test-set Set5 --output FOLDER

Segmentation: image, truth and prediction side by side, ignored pixels black. Super-resolution: a square of the truth,
of bicubic enlargement and of the network's, twice as large; colours are enlarged bicubically, as usual.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from search.data import datasets
from search.data.pictures import Pictures
from search.data.source import Reading, Source
from search.data.split import IGNORED
from search.inference.ready import Ready, ready
from search.metrics.super_resolution import RANGE, cropped, imresize, rounded
from search.records.weights import inputs, networks

EDGE, ZOOM = 96, 2  # of the square that is shown, pixels of the high resolution, and how much larger it is shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data")
    parser.add_argument("--task", choices=("segmentation", "super-resolution"), required=True)
    parser.add_argument("--scale", type=int)
    parser.add_argument("--test-set")
    parser.add_argument("--most", type=int, default=3, help="images shown, evenly spaced")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    reading = Reading(task=options.task, scale=options.scale, test_set=options.test_set)
    data = datasets.load(Source(options.data, reading), "test")
    assert isinstance(data, Pictures)
    network = next(iter(networks(options.weights).values()))
    options.output.mkdir(parents=True, exist_ok=True)
    count = data.deciding
    for number in sorted({i * count // options.most for i in range(min(options.most, count))}):
        if options.task == "segmentation":
            shown = segmented(network, inputs(options.weights), data, number)
        else:
            shown = enlarged(ready(network, inputs(options.weights)), data.images[number], options.scale)
        path = options.output / f"{data.names[number]}.png"
        shown.save(path, optimize=True)
        print(path)


@torch.no_grad()
def segmented(network: torch.nn.Module, given, data: Pictures, number: int) -> Image.Image:
    """Image, truth and prediction, side by side."""
    image, mask = data.images[number], data.masks[number]
    found = network(given.prepared(image[None])).argmax(1)[0]
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(data.colours)] = data.colours
    unknown = mask == IGNORED
    parts = [image.permute(1, 2, 0).numpy(), palette[mask.numpy()], palette[found.where(~unknown, IGNORED).numpy()]]
    return Image.fromarray(np.concatenate(parts, 1))


@torch.no_grad()
def enlarged(network: Ready, image: Tensor, scale: int) -> Image.Image:
    """A square from the middle of the truth, of bicubic enlargement and of the network's."""
    high = cropped(image, scale)
    low = imresize(high, high.shape[-2] // scale, high.shape[-1] // scale)
    bicubic = imresize(low, *high.shape[-2:])
    ours = rounded(network((low / RANGE).float()[None])[0].double() * RANGE)
    top, left = ((size - EDGE) // 2 for size in high.shape[-2:])
    parts = [part[:, top : top + EDGE, left : left + EDGE].expand(3, -1, -1) for part in (high, bicubic, ours)]
    shown = Image.fromarray(torch.cat(parts, 2).permute(1, 2, 0).numpy())
    return shown.resize((shown.width * ZOOM, shown.height * ZOOM), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
