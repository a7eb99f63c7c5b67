"""How work runs on this machine, whatever the work is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Runtime:
    """`device` is "cpu" or a GPU ("cuda", "cuda:1"); `precision` "auto", "float32" or "bfloat16" (see
    `search.training.precision`); `data_dir` where data sets are looked for first.

    `say` takes lines of progress. `obey` is called after every epoch and ends the work for now by raising an exception.
    """

    device: str = "cpu"
    data_dir: Path | None = None
    say: Callable[[str], None] = print
    obey: Callable[[], None] = lambda: None
    precision: str = "auto"
