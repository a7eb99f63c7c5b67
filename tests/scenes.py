"""Small folders for tasks on pixels: discs and crosses on a coloured ground, in CamVid's layout, and waves."""

from pathlib import Path

import numpy as np
from PIL import Image


def scenes(root: Path, counts: tuple[int, int, int] = (8, 3, 3), height: int = 32, width: int = 40) -> Path:
    """Images and masks of `counts` for train, val and test: 0 ground, 2 disc, 3 cross, 1 and 255 nothing clear."""
    rng, y, x = np.random.default_rng(0), *np.mgrid[:height, :width]
    for part, count in zip(("train", "val", "test"), counts):
        for number in range(count):
            image = rng.integers(60, 110, (height, width, 3)).astype(np.uint8)
            mask = np.zeros((height, width), np.uint8)
            cy, cx = rng.integers(8, height - 8), rng.integers(8, width // 2)
            disc = (y - cy) ** 2 + (x - cx) ** 2 < 36
            cross = (abs(y - cy) < 2) ^ (abs(x - width // 2 - cx // 2) < 3)
            for where, label, colour in ((cross, 3, (30, 40, 220)), (disc, 2, (230, 60, 30))):
                image[where], mask[where] = colour, label
            mask[:, -2:] = 1
            mask[-1] = 255
            for folder, pixels in ((part, image), (f"{part}annot", mask)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / folder / f"{number}.png")
    return root


def waves(root: Path) -> Path:
    """Pictures for super-resolution: waves, some of them grey, in odd sizes; train and two test sets, Near and Far."""
    y, x = np.mgrid[:61, :67]
    for folder, count in (("Train12", 12), ("Near", 3), ("Far", 2)):
        (root / folder).mkdir(parents=True)
        for n in range(count):
            angle, pace = 0.7 * n + len(folder), 0.9 + (n % 4) * 0.15
            wave = 127 + 60 * np.sin((x * np.cos(angle) + y * np.sin(angle)) / pace)
            image = np.stack([wave, wave[::-1], wave], 2) if n % 2 else wave
            Image.fromarray(image[: 61 - n % 3, : 67 - n % 2].round().astype(np.uint8)).save(root / folder / f"{n}.png")
    return root
