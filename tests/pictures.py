"""Files of images, and folders of them."""

import io
from pathlib import Path

from PIL import Image


def _image(value: int, size: tuple[int, int] = (6, 4), mode: str = "RGB", fmt: str = "PNG") -> bytes:
    color = value if mode in ("L", "1") else (value, 2 * value, 3 * value, 255)[: len(mode)]
    stream = io.BytesIO()
    Image.new(mode, size, color).save(stream, fmt)
    return stream.getvalue()


def _tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root
