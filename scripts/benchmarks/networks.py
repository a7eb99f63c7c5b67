"""Speed and memory of the networks in the table, each beside upstream's published one of the same target.

    python -m scripts.benchmarks.networks [--rows ROW ...] [--upstream DIR] [--output FILE]

The peer of a row is the published network of its threshold, built from upstream's wheel 0.2.4 (see
training.py) with the row's own strides, so that both have maps of one size. Measured are training steps and
classification of a batch, ours as a `Stack`, and the latency of a single image, ours as the plain `WaveMixLite` and on
a CPU also compiled (`wavemix.load(..., compiled=True)`); `--only` measures one of these. Each
contender in a process of its own, alternating. A row's accuracy is in parameter-efficiency.md. On a GPU memory is the
allocator's peak, and a training step of ours is a captured graph, as in a search.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from scripts.benchmarks.compare_upstream import Unavailable, obtain
from scripts.benchmarks.contender import COMPILED, PLAIN, STACK, UPSTREAM
from scripts.benchmarks.harness import ROOT, arguments, devices, medians, print_table, record, spread
from scripts.benchmarks.training import time_workers, working, write_given
from search.records.jsonl import read_all
from search.records.models import Confirmation, base_label, label
from search.report.efficiency import winners
from search.upstream import PUBLISHED, Published

OURS = "ours"
INFERENCE = 256  # images of a batch that is classified


def published_of(run: Confirmation) -> Published | None:
    """Upstream's row with this confirmation's data set and target."""
    return next((p for p in PUBLISHED if base_label(label(run.dataset)) == p.label and p.target == run.target), None)


def measure(
    row: str, run: Confirmation, peer: Published, options: argparse.Namespace, device: str, package: Path
) -> None:
    theirs = peer.config.model_copy(update={"stride": run.config.stride})
    lines = []
    for name, what, batch, unit in [
        ("training throughput", "training", options.batch, "images/s"),
        ("inference throughput", "inference", INFERENCE, "images/s"),
        ("latency of one image", "inference", 1, "ms"),
    ]:
        if options.only and not name.startswith(options.only):
            continue
        tasks, kinds = {}, {UPSTREAM: UPSTREAM, OURS: STACK if batch > 1 else PLAIN}
        if batch == 1 and device == "cpu":
            kinds[f"{OURS}, compiled"] = COMPILED
        for contender, kind in kinds.items():
            config = theirs if contender == UPSTREAM else run.config
            tasks[contender] = {
                "contender": kind, "what": what,
                "config": config.model_dump(mode="json"), "device": device, "threads": options.threads,
                "given": write_given(config, peer.size, batch, package.parent / f"{contender}.safetensors"),
            }  # fmt: skip
        with working(tasks, package) as workers:
            samples = time_workers(workers, options)
        seconds = medians(samples)
        found = {(name, unit): {n: batch / s if unit == "images/s" else 1000 * s for n, s in seconds.items()}}
        if what == "training":
            found["peak memory of training", "bytes"] = {n: worker.facts["peak_bytes"] for n, worker in workers.items()}
        for (title, kind), values in found.items():
            timed = kind != "bytes"
            details = {
                "row": row, "config": run.config.model_dump(mode="json"), "batch": batch, "peer": peer.model,
                "parameters": run.parameters, "peer_parameters": peer.parameters, "peer_stride": list(theirs.stride),
            }  # fmt: skip
            details |= {"spread_seconds": spread(samples)} if timed else {}
            record(
                options.output, device, details, name=f"{title}, {row}", unit=kind, ours=values[OURS],
                peers={f"{peer.model}, upstream 0.2.4" if n == UPSTREAM else n: values[n] for n in values if n != OURS},
                better="higher" if kind == "images/s" else "lower",
                repetitions=options.repetitions if timed else 1,
            )  # fmt: skip
            shown = [f"{values[n]:,.2f}" if kind == "ms" else f"{values[n]:,.0f}" for n in (OURS, UPSTREAM)]
            lines.append([f"{title}, {kind}", *shown, f"{values[OURS] / values[UPSTREAM]:.2f}x"])
            if (own := values.get(f"{OURS}, compiled")) is not None:
                lines.append([f"{title}, compiled, {kind}", f"{own:,.2f}", shown[1], f"{own / values[UPSTREAM]:.2f}x"])
    print_table(
        f"{row}: {run.config.name}, {run.parameters:,} parameters; {device}, {options.threads} threads",
        ["", OURS, f"{peer.model}, {peer.parameters:,} (upstream's)", "ratio"],
        lines,
    )


def main() -> int:
    parser = arguments(__doc__.splitlines()[0], repetitions=5, seconds=1.0)
    parser.add_argument("--rows", nargs="+", help="default: every row that has a tested network and a published peer")
    parser.add_argument("--only", choices=["training", "inference", "latency"], help="default: all three")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="holds the records")
    parser.add_argument("--upstream", type=Path, help="directory with the unpacked wheel; default: download it")
    parser.add_argument("--batch", type=int, default=128, help="of a training step, a multiple of 16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.batch % 16:
        parser.error("--batch must be a multiple of 16")
    rows = {row: run for row, run in winners(read_all(options.results)).items() if run.mean is not None}
    if unknown := set(options.rows or ()) - rows.keys():
        print(f"error: there is no row {', '.join(sorted(unknown))}, only {', '.join(rows)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        try:
            package = obtain(options.upstream, Path(name))
        except Unavailable as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        for device in devices(options):
            for row, run in rows.items():
                peer = published_of(run)
                if peer is not None and (not options.rows or row in options.rows):
                    measure(row, run, peer, options, device, package)
    return 0


if __name__ == "__main__":
    sys.exit(main())
