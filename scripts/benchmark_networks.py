"""Speed and memory of the networks in the table, each beside upstream's published one of the same target.

    python scripts/benchmark_networks.py [--rows ROW ...] [--upstream DIR] [--output FILE]

The peer of a row is the published network of its threshold, built from upstream's wheel 0.2.4 (see
benchmark_training.py) with the strides of upstream's defaults. Measured are training steps and classification of a
batch, ours as a `Stack`, and the latency of a single image, ours as the plain `WaveMixLite`; each contender in a
process of its own, alternating. A row's accuracy is in parameter-efficiency.md. On a GPU ours is plain throughout, and
memory is the allocator's peak.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from benchmark_training import PLAIN, STACK, UPSTREAM, Worker
from compare_upstream import REQUIREMENT, Unavailable, prepare, unpack
from safetensors.torch import save_file
from side_by_side import ROOT, Samples, alternate, arguments, devices, medians, print_table, record, spread

from search.records import Confirmation, read_all
from search.tables import winners
from search.upstream import PUBLISHED, Published
from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite

OURS = "ours"
INFERENCE = 256  # images of a batch that is classified


def published_of(run: Confirmation) -> Published | None:
    """Upstream's row with this confirmation's data set and target."""
    return next((p for p in PUBLISHED if run.dataset.label.startswith(p.label) and p.target == run.target), None)


def given(config: LiteConfig, size: int, batch: int, path: Path) -> dict:
    """Weights and a random batch in a file, as `Worker` wants them; a network's speed does not depend on them."""
    torch.manual_seed(0)
    state = {key: value.contiguous() for key, value in WaveMixLite(config).state_dict().items()}
    images = torch.randn(batch, config.in_channels, size, size)
    save_file({**state, "images": images, "labels": torch.randint(config.num_classes, (batch,))}, path)
    return {"config": json.loads(config.model_dump_json()), "given": str(path)}


def timings(
    networks: dict[str, LiteConfig],
    size: int,
    batch: int,
    what: str,
    options: argparse.Namespace,
    device: str,
    folder: Path,
) -> tuple[Samples, dict[str, dict]]:
    """Seconds of a step of each network, alternating, and the facts each worker stated; `what` as in `work`."""
    workers: dict[str, Worker] = {}
    try:
        for name, config in networks.items():
            task = given(config, size, batch, folder / f"{name}.safetensors")
            task |= {"device": device, "threads": options.threads, "what": what}
            stacked = device == "cpu" and batch > 1
            contender = UPSTREAM if name == UPSTREAM else STACK if stacked else PLAIN
            workers[name] = Worker(contender, task, folder / "package")
        counts = {n: max(1, round(options.seconds / min(w.seconds(1), w.seconds(1)))) for n, w in workers.items()}
        steps = {n: lambda n=n: workers[n].seconds(counts[n]) for n in workers}
        return alternate(steps, options.repetitions), {n: worker.facts for n, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()


def measure(
    row: str, run: Confirmation, peer: Published, options: argparse.Namespace, device: str, folder: Path
) -> None:
    networks, lines = {UPSTREAM: peer.config, OURS: run.config}, []
    for name, what, batch, unit in [
        ("training throughput", "training", options.batch, "images/s"),
        ("inference throughput", "inference", INFERENCE, "images/s"),
        ("latency of one image", "inference", 1, "ms"),
    ]:
        samples, facts = timings(networks, peer.size, batch, what, options, device, folder)
        seconds = medians(samples)
        found = {(name, unit): {n: batch / s if unit == "images/s" else 1000 * s for n, s in seconds.items()}}
        if what == "training":
            found["peak memory of training", "bytes"] = {n: fact["peak_bytes"] for n, fact in facts.items()}
        for (title, kind), values in found.items():
            timed = kind != "bytes"
            details = {
                "row": row, "config": run.config.model_dump(mode="json"), "batch": batch, "peer": peer.model,
                "parameters": run.parameters, "peer_parameters": peer.parameters,
            }  # fmt: skip
            details |= {"spread_seconds": spread(samples)} if timed else {}
            record(
                options.output, device, details, name=f"{title}, {row}", unit=kind, ours=values[OURS],
                peers={f"{peer.model}, upstream 0.2.4": values[UPSTREAM]},
                better="higher" if kind == "images/s" else "lower",
                repetitions=options.repetitions if timed else 1,
            )  # fmt: skip
            shown = [f"{values[n]:,.2f}" if kind == "ms" else f"{values[n]:,.0f}" for n in (OURS, UPSTREAM)]
            lines.append([f"{title}, {kind}", *shown, f"{values[OURS] / values[UPSTREAM]:.2f}x"])
    print_table(
        f"{row}: {run.config.name}, {run.parameters:,} parameters; {device}, {options.threads} threads",
        ["", OURS, f"{peer.model}, {peer.parameters:,} (upstream's)", "ratio"],
        lines,
    )


def main() -> int:
    parser = arguments(__doc__.splitlines()[0], repetitions=5, seconds=1.0)
    parser.add_argument("--rows", nargs="+", help="default: every row that has a tested network and a published peer")
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
        folder = Path(name)
        try:
            source = options.upstream
            if source is None:
                source = folder / "wheel"
                unpack(REQUIREMENT, source)
            prepare(source, folder / "package")
        except Unavailable as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        for device in devices():
            for row, run in rows.items():
                peer = published_of(run)
                if peer is not None and (not options.rows or row in options.rows):
                    measure(row, run, peer, options, device, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
