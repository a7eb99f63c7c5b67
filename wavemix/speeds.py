"""What trains a network fastest, measured once a machine and shape: compiled kernels, in float32 or with products of
bfloat16, or PyTorch's own operations.

The kernels win by factors on small networks. On large ones PyTorch's libraries may be level with them, or ahead where
they know units of a processor that the kernels don't use.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock

from . import kernels

LARGE = 32  # channels; with fewer PyTorch is slower by factors, and measuring would be all it is good for
CLEARLY = (
    0.8  # of the kernels' time: what PyTorch has to need less than, as its threads suffer more from other processes
)
ROUNDS = 3


def kernels_win(channels: int, shape: str, ours: Callable[[], object], theirs: Callable[[], object]) -> bool:
    """Whether a training step by `ours` is to be preferred to one by `theirs`; both are run where it is not known.

    What was measured is kept beside the compiled kernels, see `measured`.
    """
    if channels < LARGE:
        return True
    times = measured(shape, {"kernels": ours, "pytorch": theirs})
    # nothing can be kept, and so each process would have to measure
    return times is None or times["pytorch"] > CLEARLY * times["kernels"]


def measured(shape: str, steps: Mapping[str, Callable[[], object]]) -> dict[str, float] | None:
    """Seconds of processor time of each of `steps`, the least of some runs in turn; None where they can't be kept.

    They are kept beside the compiled kernels, by `shape`, PyTorch's version and the number of threads, and run only
    where they are not there.
    """
    key = f"{kernels.digest()} {torch.__version__} {torch.get_num_threads()} {shape}"
    file = kernels.kernel_dir() / "speeds.json"
    with suppress(OSError), FileLock(f"{file}.lock"):
        known = _read(file)
        if key not in known or not steps.keys() <= known[key].keys():
            taken = [[_seconds(step) for step in steps.values()] for _ in range(1 + ROUNDS)][1:]
            known[key] = dict(zip(steps, map(min, zip(*taken))))
            part = file.with_suffix(".part")
            part.write_text(json.dumps(known, indent=1))
            part.replace(file)
        return known[key]
    return None


def _read(file: Path) -> dict[str, dict[str, float]]:
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # no file, or not ours
        found = json.loads(file.read_text()).items()
        return {key: {name: float(seconds) for name, seconds in times.items()} for key, times in found}
    return {}


def _seconds(step: Callable[[], object]) -> float:
    """Processor time of all threads: what else the machine is busy with now says nothing about later."""
    start = time.process_time()
    step()
    return time.process_time() - start
