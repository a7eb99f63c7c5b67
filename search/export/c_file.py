"""C source, checked as the C compiler of this machine builds it."""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from search.errors import UserError
from search.export.c_source import source
from search.inference.ready import Ready

SUFFIX = ".c"
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O3")
DRIVER = Path(__file__).with_name("driver.c")


def write(ready: Ready, name: str, path: Path) -> list[str]:
    """Write the network to `path`, and say what memory it takes."""
    compiler()
    made = source(ready, name)
    path.write_text(made.text)
    return [f"flash: {made.flash:,} bytes of constants, the code on top", f"RAM: {made.ram:,} bytes of static buffers"]


def scores(path: Path, images: Tensor) -> Tensor:
    """What the compiled network makes of images (N, channels, height, width)."""
    with tempfile.TemporaryDirectory() as folder:
        return run(built(path, Path(folder) / "network", tuple(images.shape[1:])), images)


def compiler() -> list[str]:
    """CC, or cc. Raises UserError where there is none."""
    command = shlex.split(os.environ.get("CC", "cc"))
    if not command or shutil.which(command[0]) is None:
        raise UserError("C source is checked with a C compiler, and there is none: install cc, or name one in CC")
    return command


def built(path: Path, output: Path, shape: tuple[int, ...], flags: tuple[str, ...] = FLAGS, repeat: int = 1) -> Path:
    """The program of a C file that `run` feeds, which answers each image `repeat` times. Raises UserError."""
    numbers = torch.Size(shape).numel()
    defined = f"-DIMAGE_NUMBERS={numbers}", f"-DREPETITIONS={repeat}"
    command = [*compiler(), *flags, *defined, "-include", path, "-o", output, DRIVER, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{compiler()[0]} can't build the C source: {' '.join(done.stderr.split())[:300]}")
    return output


def run(program: Path, images: Tensor) -> Tensor:
    """The scores of images (N, channels, height, width). Raises UserError where the program breaks."""
    done = subprocess.run([program], input=images.contiguous().numpy().tobytes(), capture_output=True)
    if done.returncode:
        raise UserError(f"the C source breaks: {done.stderr.decode(errors='replace')[:300]}")
    return torch.frombuffer(bytearray(done.stdout), dtype=torch.float32).view(len(images), -1)
