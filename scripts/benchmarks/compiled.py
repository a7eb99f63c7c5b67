"""Stored networks as `wavemix.load(…, compiled=True)` gives them beside the plain modules, on one thread.

    python -m scripts.benchmarks.compiled [--rows mnist-99-extended ...] [--output FILE]

Latency is of one image, throughput of a batch. What counts is processor time: other programs on the machine do not
count. The clock's is recorded beside it. Repetitions alternate, and medians count.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scripts.benchmarks.harness import (
    BENCHMARKS,
    ROOT,
    alternate,
    ended,
    medians,
    positive,
    print_table,
    record,
    spread,
)
from search.inference.classifier import Classifier
from search.inference.stored import rows
from search.records.results import Results
from wavemix.compiled import with_kernels
from wavemix.lite import WaveMixLite

BATCH = 256


def timed(step: Callable[[], object], seconds: float, clock: list[float]) -> float:
    """Processor time of a call, of as many as take `seconds`; the clock's is appended to `clock`."""
    start, began, count = time.process_time(), time.perf_counter(), 0
    while not count or time.process_time() - start < seconds:
        step()
        count += 1
    clock.append((time.perf_counter() - began) / count)
    return (time.process_time() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", help="rows of the table; default: all")
    parser.add_argument("--output", type=Path, default=BENCHMARKS, help="append records here")
    parser.add_argument("--repetitions", type=positive, default=5, help="alternating repetitions; medians count")
    parser.add_argument("--seconds", type=float, default=0.3, help="about so long each repetition")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for stored in rows(Results(ROOT / "results")):
        if options.rows and stored.name not in options.rows:
            continue
        plain, compiled = Classifier.of(stored), Classifier.of(stored)
        assert isinstance(compiled.network, WaveMixLite) and plain.shape is not None
        compiled.network = with_kernels(compiled.network)
        for what, count, unit in (("latency of one image", 1, "ms"), ("inference throughput", BATCH, "images/s")):
            images, clock = torch.rand(count, *plain.shape), {"ours": [], "plain module": []}
            with torch.inference_mode():
                steps = {"ours": lambda: compiled(images), "plain module": lambda: plain(images)}
                for step in steps.values():
                    step()
                samples = alternate(
                    {name: lambda name=name: timed(steps[name], options.seconds, clock[name]) for name in steps},
                    options.repetitions,
                )
            shown = {n: 1000 * s if count == 1 else count / s for n, s in medians(samples).items()}
            record(
                options.output, name=f"{what}, compiled, {stored.name}", unit=unit, ours=shown["ours"],
                peers={"plain module": shown["plain module"]}, better="lower" if count == 1 else "higher",
                repetitions=options.repetitions, details={
                    "row": stored.name, "parameters": stored.config.parameters(), "config": stored.config.model_dump(mode="json"),
                    "batch": count, "clock": "processor time", "spread_seconds": spread(samples),
                    "wall_seconds": medians(clock), "wall_spread_seconds": spread(clock),
                },
            )  # fmt: skip
            ratio = shown["plain module"] / shown["ours"] if count == 1 else shown["ours"] / shown["plain module"]
            lines.append([f"{stored.name}, {what}, {unit}", *(f"{v:,.3f}" for v in shown.values()), f"{ratio:.1f}x"])
            print("  ".join(lines[-1]), flush=True)
    print_table("compiled beside plain, one thread, processor time", ["", "compiled", "plain", "faster"], lines)


if __name__ == "__main__":
    sys.exit(ended(main))
