"""Exported networks beside PyTorch: milliseconds an image, one at a time, and the memory that C source takes.

    python -m scripts.benchmarks.exported [--rows mnist-99-extended-reached] [--output FILE]

Each network of `--rows` is exported to C, built with `cc -O3`, and to ONNX where onnxruntime is installed; peers are the
plain PyTorch network and onnxruntime, all of them on one thread. Repetitions alternate and medians count. One image is
given again and again: what it shows changes nothing.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from scripts.benchmarks.harness import (
    BENCHMARKS,
    ROOT,
    Samples,
    alternate,
    ended,
    enough,
    medians,
    print_table,
    record,
    seconds_each,
    spread,
)

from search.export import c_file
from search.export.check import sample
from search.export.exporting import export
from search.export.ready import Ready
from search.inference.stored import Stored, find
from search.records.models import present
from search.records.results import Results

CALLS = 50  # of the program in C, at least


def contenders(stored: Stored, folder: Path, seconds: float):
    """Functions that give seconds an image, by contender; and the sizes of the C file."""
    import time

    source = export(stored, "c", folder / "network.c")
    network, images = Ready(stored.network(), present(stored.inputs)), sample(stored).images[:1]
    once = c_file.built(source.path, folder / "once", tuple(images.shape[1:]))

    def started(program: Path) -> float:
        start = time.perf_counter()
        c_file.run(program, images)
        return time.perf_counter() - start

    few = c_file.built(source.path, folder / "few", tuple(images.shape[1:]), repeat=CALLS)
    each = max(1e-6, (started(few) - started(once)) / CALLS)
    calls = max(CALLS, round(seconds / each))
    many = c_file.built(source.path, folder / "many", tuple(images.shape[1:]), repeat=calls)

    def pytorch() -> float:
        with torch.inference_mode():
            step = lambda: network(images)  # noqa: E731
            return seconds_each(step, enough(step, seconds))

    timed = {"ours": lambda: (started(many) - started(once)) / (calls - 1), "PyTorch": pytorch}
    try:
        import onnxruntime
    except ImportError:
        return timed, source
    path = export(stored, "onnx", folder / "network.onnx").path
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    given = {"images": images.numpy()}
    timed["onnxruntime"] = lambda: seconds_each(
        lambda: session.run(None, given), enough(lambda: session.run(None, given), seconds)
    )
    return timed, source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", default=["mnist-99-extended-reached"], help="rows of the table")
    parser.add_argument("--output", type=Path, default=BENCHMARKS, help="append records here")
    parser.add_argument("--repetitions", type=int, default=7, help="alternating repetitions; medians count")
    parser.add_argument("--seconds", type=float, default=0.5, help="at least so long each repetition")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for row in options.rows:
        stored = find(row, Results(ROOT / "results"))
        with tempfile.TemporaryDirectory() as folder:
            timed, source = contenders(stored, Path(folder), options.seconds)
            samples: Samples = alternate(timed, options.repetitions)
        milliseconds = {name: [1000 * value for value in values] for name, values in samples.items()}
        found = medians(milliseconds)
        print_table(row, ["", "ms an image"], [[name, f"{value:.3f}"] for name, value in found.items()])
        print("\n".join(source.told))
        record(
            options.output,
            name=f"export to C, latency of one image, {row}",
            unit="ms",
            better="lower",
            ours=found.pop("ours"),
            peers=found,
            repetitions=options.repetitions,
            details={"spread": spread(milliseconds), "bytes": source.size, "memory": source.told},
        )


if __name__ == "__main__":
    sys.exit(ended(main))
