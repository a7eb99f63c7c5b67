"""Exported networks beside PyTorch: processor time of one image, on one thread, and the memory that C source takes.

    python -m scripts.benchmarks.exported [--rows mnist-99-extended-reached] [--output FILE]

Each network of `--rows` is exported to C, built with `cc -O3`, and to ONNX where onnxruntime is installed; peers are
the PyTorch network and onnxruntime. Processor time, not the clock's: other programs on the machine do not count.
Repetitions alternate and medians count. One image is given again and again: what it shows changes nothing.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scripts.benchmarks.harness import BENCHMARKS, ROOT, alternate, ended, medians, print_table, record, spread
from search.export import c_file
from search.export.check import sample
from search.export.exporting import Export, export
from search.inference.loading import module
from search.inference.stored import Stored, find
from search.records.results import Results

FEW = 20  # images a repetition at least


def child_seconds() -> float:
    """Processor time of all programs that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def program_seconds(program: Path, images: torch.Tensor) -> float:
    """Processor time of a program in C."""
    start = child_seconds()
    c_file.run(program, images)
    return child_seconds() - start


def step_seconds(step: Callable[[], object], seconds: float) -> float:
    """Processor time of a call, of as many as take `seconds`."""
    step()
    start, count = time.process_time(), 0
    while count < FEW or time.process_time() - start < seconds:
        step()
        count += 1
    return (time.process_time() - start) / count


def contenders(stored: Stored, folder: Path, seconds: float) -> tuple[dict[str, Callable[[], float]], Export]:
    """Functions that give seconds an image, by contender; and what was exported to C."""
    source = export(stored, "c", folder / "network.c")
    network, images = module(stored), sample(stored).images[:1]
    shape = tuple(images.shape[1:])
    few = program_seconds(c_file.built(source.path, folder / "few", shape, repeat=FEW), images)
    calls = max(FEW, round(FEW * seconds / max(few, 1e-3)))
    many = c_file.built(source.path, folder / "many", shape, repeat=calls)

    @torch.inference_mode()
    def pytorch() -> float:
        return step_seconds(lambda: network(images), seconds)

    timed = {"ours": lambda: program_seconds(many, images) / calls, "PyTorch": pytorch}
    try:
        import onnxruntime
    except ImportError:
        return timed, source
    path = export(stored, "onnx", folder / "network.onnx").path
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    given = {"images": images.numpy()}
    timed["onnxruntime"] = lambda: step_seconds(lambda: session.run(None, given), seconds)
    return timed, source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=["mnist-99-extended-reached"], help="rows of the table")
    parser.add_argument("--output", type=Path, default=BENCHMARKS, help="append records here")
    parser.add_argument("--repetitions", type=int, default=7, help="alternating repetitions; medians count")
    parser.add_argument("--seconds", type=float, default=0.5, help="about so long each repetition")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for row in options.rows:
        stored = find(row, Results(ROOT / "results"))
        with tempfile.TemporaryDirectory() as folder:
            timed, source = contenders(stored, Path(folder), options.seconds)
            samples = alternate(timed, options.repetitions)
        milliseconds = {name: [1000 * value for value in values] for name, values in samples.items()}
        found = medians(milliseconds)
        print_table(row, ["", "ms an image"], [[name, f"{value:.3f}"] for name, value in found.items()])
        print("\n".join(source.told))
        record(
            options.output,
            name=f"export to C, processor time of one image, {row}",
            unit="ms",
            better="lower",
            ours=found.pop("ours"),
            peers=found,
            repetitions=options.repetitions,
            details={
                "parameters": stored.config.parameters(),
                "spread": spread(milliseconds),
                "bytes": source.size,
                "memory": source.told,
            },
        )


if __name__ == "__main__":
    sys.exit(ended(main))
