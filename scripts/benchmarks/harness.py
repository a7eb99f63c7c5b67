"""What the benchmark scripts share: alternating repetitions, medians, plain tables, `Benchmark` records."""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from search.errors import UserError
from search.records import jsonl as journal
from search.records.benchmarks import Benchmark
from search.records.environment import device_name, environment

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "results" / "records"
BENCHMARKS = RECORDS / "benchmarks.jsonl"

Samples = dict[str, list[float]]  # contender -> one value a repetition


def positive(text: str) -> int:
    """The type of an option that counts something."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def ended(main: Callable[[], None]) -> int:
    """The exit code of a script: what it couldn't take is said in one line, as `wavemix` does."""
    try:
        main()
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what is recorded stays", file=sys.stderr)
        return 130


def arguments(description: str, repetitions: int, seconds: float) -> argparse.ArgumentParser:
    """The options every benchmark has; each script adds its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, default=BENCHMARKS, help="append records here")
    parser.add_argument("--repetitions", type=int, default=repetitions, help="alternating repetitions; medians count")
    parser.add_argument("--seconds", type=float, default=seconds, help="at least so long each repetition")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: both, where there is a GPU")
    return parser


def devices(options: argparse.Namespace) -> list[str]:
    """The device asked for; else 'cpu', and 'cuda' where there is one. Says so where there is none."""
    wanted = [options.device] if options.device else ["cpu", "cuda"]
    if "cuda" in wanted and not torch.cuda.is_available():
        print("no GPU here: the GPU part is skipped")
        wanted.remove("cuda")
    return wanted


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_each(step: Callable[[], object], count: int, device: str = "cpu") -> float:
    """Mean seconds of `count` calls."""
    wait(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    wait(device)
    return (time.perf_counter() - start) / count


def enough(step: Callable[[], object], seconds: float, device: str = "cpu") -> int:
    """How many calls last `seconds`, after a call that is not counted."""
    step()
    once = min(seconds_each(step, 1, device), seconds_each(step, 1, device))
    return max(1, min(10_000, round(seconds / once)))


def alternate(contenders: dict[str, Callable[[], float]], repetitions: int) -> Samples:
    """`repetitions` rounds of all contenders, every other round backwards, so that a drift favours none."""
    samples: Samples = {name: [] for name in contenders}
    for turn in range(repetitions):
        for name in list(contenders)[:: -1 if turn % 2 else 1]:
            samples[name].append(contenders[name]())
    return samples


def time_alternately(
    steps: dict[str, Callable[[], object]], repetitions: int, seconds: float, device: str = "cpu"
) -> Samples:
    """Seconds of one call of each of `steps`: repetitions of at least `seconds`, alternating."""
    counts = {name: enough(step, seconds, device) for name, step in steps.items()}
    return alternate(
        {name: lambda name=name: seconds_each(steps[name], counts[name], device) for name in steps}, repetitions
    )


def medians(samples: Samples) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items()}


def spread(samples: Samples) -> dict[str, list[float]]:
    """Smallest and largest value of each contender: what a reader needs to doubt a median."""
    return {name: [min(values), max(values)] for name, values in samples.items()}


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """First column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    print(f"\n{title}")
    for row in cells:
        print("  ".join(cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths))))


def record(path: Path, device: str = "cpu", details: dict | None = None, **fields) -> None:
    """Append one `Benchmark`; the load average says whether the machine was doing something else."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    details = {**(details or {}), "device": device, "threads": torch.get_num_threads(), "load_1min": load}
    journal.append(
        path,
        Benchmark(environment=environment(device), machine=device_name(device), details=details, **fields),
    )
