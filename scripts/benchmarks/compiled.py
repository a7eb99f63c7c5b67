"""Stored networks as `wavemix.load(…, compiled=True)` gives them beside the plain modules, on one thread.

    python -m scripts.benchmarks.compiled [--rows mnist-99-extended ...] [--output FILE]

Latency is of one image, throughput of a batch. What counts is processor time: other programs on the machine do not
count. The clock's is recorded beside it. Repetitions alternate, and medians count.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from scripts.benchmarks.harness import (
    BENCHMARKS,
    ROOT,
    Samples,
    alternate,
    ended,
    medians,
    positive,
    print_table,
    record,
    spread,
)
from search.errors import UserError
from search.inference.loading import module
from search.inference.stored import Stored, rows
from search.records.results import Results
from wavemix.compiled import with_kernels

BATCH = 256


def timed(step: Callable[[], object], seconds: float, clock: list[float]) -> float:
    """Processor time of a call, of as many as take `seconds`; the clock's is appended to `clock`."""
    start, began, count = time.process_time(), time.perf_counter(), 0
    while not count or time.process_time() - start < seconds:
        step()
        count += 1
    clock.append((time.perf_counter() - began) / count)
    return (time.process_time() - start) / count


def measure(stored: Stored, count: int, options: argparse.Namespace) -> list[str]:
    """Record one figure of a network; a line of the table that is printed."""
    plain, compiled = module(stored), module(stored)
    assert plain.shape is not None
    compiled.network = with_kernels(compiled.lite)
    images, latency = torch.rand(count, *plain.shape), count == 1
    steps = {"ours": lambda: compiled(images), "plain module": lambda: plain(images)}
    clock: Samples = {name: [] for name in steps}
    with torch.inference_mode():
        for step in steps.values():
            step()
        contenders = {name: partial(timed, step, options.seconds, clock[name]) for name, step in steps.items()}
        samples = alternate(contenders, options.repetitions)
    shown = {name: 1000 * s if latency else count / s for name, s in medians(samples).items()}
    what, unit = ("latency of one image", "ms") if latency else ("inference throughput", "images/s")
    record(
        options.output, name=f"{what}, compiled, {stored.name}", unit=unit, ours=shown["ours"],
        peers={"plain module": shown["plain module"]}, better="lower" if latency else "higher",
        repetitions=options.repetitions, details={
            "row": stored.name, "parameters": stored.config.parameters(), "batch": count,
            "config": stored.config.model_dump(mode="json"), "clock": "processor time",
            "spread_seconds": spread(samples), "wall_seconds": medians(clock), "wall_spread_seconds": spread(clock),
        },
    )  # fmt: skip
    ratio = shown["plain module"] / shown["ours"]
    line = [f"{stored.name}, {what}, {unit}", *(f"{value:,.3f}" for value in shown.values())]
    return [*line, f"{ratio if latency else 1 / ratio:.1f}x"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", help="rows of the table; default: all")
    parser.add_argument("--output", type=Path, default=BENCHMARKS, help="append records here")
    parser.add_argument("--repetitions", type=positive, default=5, help="alternating repetitions; medians count")
    parser.add_argument("--seconds", type=float, default=0.3, help="about so long each repetition")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = [stored for stored in rows(Results(ROOT / "results")) if stored.config.task == "classification"]
    if unknown := set(options.rows or ()) - {stored.name for stored in known}:
        raise UserError(f"there is no row {', '.join(sorted(unknown))}, only {', '.join(s.name for s in known)}")
    chosen = [stored for stored in known if not options.rows or stored.name in options.rows]
    lines = [measure(stored, count, options) for stored in chosen for count in (1, BATCH)]
    print_table("compiled beside plain, one thread, processor time", ["", "compiled", "plain", "faster"], lines)


if __name__ == "__main__":
    sys.exit(ended(main))
