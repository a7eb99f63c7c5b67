"""The command line's options that several commands have, and groups of them. `search.cli.values` reads their texts."""

import functools
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from search.cli import terminal
from search.cli.terminal import tell
from search.cli.values import source_of
from search.data.source import Source
from search.errors import UserError
from search.runtime import Runtime
from search.training.precision import PRECISIONS
from wavemix.threads import limit

progress = functools.partial(tell, level=0)  # what a person sees unless they asked for the result alone


def at_home(path):
    """A path, or a URL, with the home directory in place of a leading ~, which no shell replaces in --option=~/x."""
    return path if path is None else type(path)(os.path.expanduser(path))


def storage_at_home(url: str | None):  # Typer looks up what a return annotation names
    """A storage's URL, where an SQLite file's path may begin with ~ as other paths do."""
    if url is None or not url.startswith("sqlite"):
        return url
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # whoever opens it says what is wrong
        return url
    # not as text again: a home directory may hold what has a meaning in URLs
    return parsed.set(database=at_home(parsed.database)) if (parsed.database or "").startswith("~") else url


DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="WAVEMIX_DATA", callback=at_home, help="Directory of data files."),
]
DataName = Annotated[
    str, typer.Argument(help="A data set's name (see `wavemix data list`) or a folder of class folders.")
]
Name = Annotated[str, typer.Option("--study", help="Name of the study.")]
Family = Annotated[
    str,
    typer.Option(help="'extended', or 'published': upstream's options, parameter-free up-sampling, unequal strides."),
]
Start = Annotated[
    str | None, typer.Option(help="Configuration tried first, JSON or a path to a file; default: a guess.")
]
Tune = Annotated[
    list[str] | None, typer.Option(help="Search a hyperparameter of the recipe, too: lr=0.02,0.03. Repeatable.")
]
RecipeText = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Recipe as JSON or a path to a JSON/TOML/YAML file; unset fields use plain AdamW. Default: the data's.",
    ),
]
ResultsDir = Annotated[
    Path, typer.Option("--results", callback=at_home, help="Directory of your records, tables and weights.")
]
RUNS = Path("runs")  # by default: a search of yours does not change the published records
Fresh = Annotated[bool, typer.Option("--fresh", help="Start without what the published records have measured.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Checkpoints = Annotated[
    str | None,
    typer.Option("--checkpoints", callback=at_home, help="Directory or fsspec URL of checkpoints, for all machines."),
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        callback=storage_at_home,
        help="Optuna storage URL, or grpc://host:port; default: the study's file under --results.",
    ),
]
Resize = Annotated[
    str | None,
    typer.Option("--resize", help="Height and width that a folder's images are stretched to, antialiased: 32,32."),
]
TestSplit = Annotated[
    float | None,
    typer.Option("--test-split", help="Share of each class that is split off as the test part of a folder: 0.2."),
]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out of a folder what can't be read as an image.")
]
TaskOption = Annotated[
    str, typer.Option("--task", help="What for: classification, segmentation (a folder with masks), super-resolution.")
]
Scale = Annotated[
    int | None, typer.Option("--scale", help="Of super-resolution: 2, 3 or 4 times as large in both directions.")
]
TestSet = Annotated[
    str | None, typer.Option("--test-set", help="Of several test sets of super-resolution the one that decides.")
]
Target = Annotated[
    str,
    typer.Option(
        "--target",
        "--targets",
        help="Score to reach: an accuracy or mean IoU as a fraction, 0.99; a PSNR in dB, 36.66dB. Several: 0.97,0.99.",
    ),
]


def _loudness(level: int):
    """A callback that makes `terminal.tell` print more, or less."""

    def set_loudness(wanted: bool) -> bool:
        if wanted and terminal.loudness == -level:
            raise UserError("--verbose and --quiet contradict each other: give one of them")
        if wanted:
            terminal.loudness = level
        return wanted

    return set_loudness


Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=_loudness(1), help="Print more: every trial, the files written.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_loudness(-1), help="Print the result only.")]


def device_of(text: str) -> str:
    """A device that is here: 'cpu', 'cuda' or 'cuda:N'. Raises UserError for anything else."""
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", text):
        raise UserError(f"--device is cpu, cuda, or one of several GPUs such as cuda:1, not {text!r}")
    if text == "cpu":
        return text
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(text.partition(":")[2] or 0) >= count:
        number = f"{count} GPU" + "s" * (count != 1) if count else "no GPU"
        raise UserError(f"--device {text}: PyTorch finds {number} on this machine")
    return text


Device = Annotated[
    str, typer.Option(callback=device_of, help="What trains: cpu, cuda, or one of several GPUs, cuda:1.")
]


def precision_of(text: str) -> str:
    if text not in PRECISIONS:
        raise UserError(f"--precision is {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, not {text!r}")
    return text


Precision = Annotated[
    str,
    typer.Option(
        callback=precision_of,
        help="float32, bfloat16 (products of processors with AVX512-BF16), or auto: as recorded where a record is "
        "reproduced, else the faster for networks of 10,000 parameters or more.",
    ),
]


def threads_of(count: int | None) -> int | None:
    if count is not None:
        limit(count)
    return count


Threads = Annotated[
    int | None,
    typer.Option(
        min=1, callback=threads_of, help="CPU threads to use at most; default: as many as this process may use at once."
    ),
]
StudyName = Annotated[str | None, typer.Option("--name", help="Name of the study; default: from data, target, family.")]


@dataclass(frozen=True)
class ImageOptions:
    """How the images of DATA are read, and what for."""

    task: TaskOption = "classification"
    scale: Scale = None
    test_set: TestSet = None
    resize: Resize = None
    test_split: TestSplit = None
    skip_unreadable: SkipUnreadable = False

    def source(self, data: str) -> Source:
        """DATA, to be read so. Raises UserError for values that mean nothing."""
        return source_of(data, self.resize, self.test_split, self.skip_unreadable, self.task, self.scale, self.test_set)


@dataclass(frozen=True)
class RunOptions:
    """Where a command that trains runs, where its results go, and how much it says."""

    device: Device = "cpu"
    precision: Precision = "auto"
    threads: Threads = None
    data_dir: DataDir = None
    results: ResultsDir = RUNS
    verbose: Verbose = False
    quiet: Quiet = False

    def runtime(self, say: Callable[[str], None] = progress) -> Runtime:
        return Runtime(self.device, self.data_dir, say, precision=self.precision)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command in whose signature a class such as `RunOptions` stands for its fields, one option each."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}

    def parameters(name: str, default: Any) -> list[inspect.Parameter]:
        kind = inspect.Parameter.KEYWORD_ONLY
        if name not in groups:
            return [inspect.Parameter(name, kind, default=default, annotation=hints[name])]
        each = get_type_hints(groups[name], include_extras=True)
        return [
            inspect.Parameter(f.name, kind, default=f.default, annotation=each[f.name]) for f in fields(groups[name])
        ]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        made = {name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        command(**given, **made)

    signature = inspect.signature(command).parameters.values()
    spread = [one for parameter in signature for one in parameters(parameter.name, parameter.default)]
    called.__signature__ = inspect.Signature(spread)  # pyright: ignore[reportAttributeAccessIssue]  # Typer reads it
    called.__annotations__ = {one.name: one.annotation for one in spread}
    return called
