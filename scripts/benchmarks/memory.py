"""Memory and throughput of training WaveMix beside torchvision's classifiers, at equal parameters or accuracy.

    python -m scripts.benchmarks.memory [--results DIR] [--batch 2] [--size 224] [--device cpu] [--repetitions 3]

The paper (Jeevan et al., arXiv 2205.14375) claims less GPU memory at equal parameters. Each peer stands beside the
WaveMix of 16 blocks, three levels and patches of 4x4, the form of upstream's ImageNet network, whose width gives the
nearest number of parameters; and beside upstream's own (width 192) the peer of the nearest published accuracy. ViT-S is
torchvision's VisionTransformer of 12 layers, 6 heads and 384 channels with patches of 16x16.

Measured are bytes saved for the backward pass, counted and the same on every machine; the peak of a training step
(forward, backward, AdamW; weights, moments and images included), on a CPU by the allocations that PyTorch makes, on a
GPU by its allocator; and images a second, medians of alternating repetitions. Appends to records/benchmarks.jsonl and
writes pages/memory.md in --results from all such records.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scripts.benchmarks.harness import ROOT, alternate, devices, ended, positive, print_table, record, spread
from search.audit.cost import activation_bytes
from search.audit.speed import Way, speed
from search.extras import needed
from search.files import write_atomically
from search.records.benchmarks import Benchmark
from search.records.jsonl import read
from wavemix import registry

OURS = "wavemix_192_16_l3_p4"
NAME = "training memory beside"  # of every record
# top-1 on ImageNet-1k: torchvision's documentation of its IMAGENET1K_V1 weights, and upstream's README
PEERS = {
    "mobilenet_v3_large": 74.042, "efficientnet_b0": 77.692, "resnet18": 69.758, "vit_s_16": None, "resnet50": 76.130,
    "convnext_tiny": 82.520,
}  # fmt: skip
ACCURACY, NEAREST = 75.32, "resnet50"
WHAT = {"saved": "saved for backward, an image", "peak": "peak of a training step", "speed": "training throughput"}
UNITS = {"saved": "bytes", "peak": "bytes", "speed": "images/s"}


def peer_of(name: str) -> nn.Module:
    from torchvision import models

    if name == "vit_s_16":
        return models.VisionTransformer(224, 16, num_layers=12, num_heads=6, hidden_dim=384, mlp_dim=1536)
    return getattr(models, name)()


def ours_of(width: int) -> dict[str, Any]:
    return {"num_classes": 1000, "final_dim": width, "ff_channel": width}


def nearest(parameters: int) -> int:
    """The width of the WaveMix with the nearest number of parameters."""
    widths = range(16, 513, 4)
    return min(widths, key=lambda width: abs(registry.count(OURS, **ours_of(width)) - parameters))


def size_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def compare(peer: str, width: int, why: str, options: argparse.Namespace, device: str) -> None:
    """Measure a pair, and append its records."""
    networks = {"ours": registry.create(OURS, **ours_of(width)), peer: peer_of(peer)}
    shape = (3, options.size, options.size)
    way = Way(device=device, batch=options.batch, training=True)
    peaks: dict[str, float] = {}

    def step(name: str) -> Callable[[], float]:
        def run() -> float:
            found = speed(networks[name], shape, way, repetitions=1, warm_up=1)
            if found.median_seconds is None:
                raise RuntimeError(f"{name} can't be trained here: {found.reason}")
            peaks[name] = float(found.peak_gpu_bytes or found.peak_cpu_bytes or 0)
            return options.batch / found.median_seconds

        return run

    samples = alternate({name: step(name) for name in networks}, options.repetitions)
    saved = {
        name: activation_bytes(network, shape, options.batch) / options.batch for name, network in networks.items()
    }
    values = {"saved": saved, "peak": peaks, "speed": {name: statistics.median(s) for name, s in samples.items()}}
    details = {
        "why": why, "width": width, "parameters": size_of(networks["ours"]), "peer_parameters": size_of(networks[peer]),
        "batch": options.batch, "size": options.size, "peer_top1": PEERS[peer], "spread": spread(samples),
        "top1": ACCURACY if width == 192 else None,
    }  # fmt: skip
    for kind, found in values.items():
        fields = {"name": f"{NAME} {peer}, {why}: {WHAT[kind]}", "unit": UNITS[kind], "ours": found["ours"]}
        better = "higher" if kind == "speed" else "lower"
        counted = 1 if kind != "speed" else options.repetitions
        record(
            options.results / "records" / "benchmarks.jsonl", device, details | {"kind": kind}, **fields,
            peers={peer: found[peer]}, better=better, repetitions=counted,
        )  # fmt: skip
    rows = [[WHAT[kind], f"{found['ours']:.4g}", f"{found[peer]:.4g}"] for kind, found in values.items()]
    print_table(f"{peer}, {why}", ["", f"WaveMix {width}/16", peer], rows)


def page(records: list[Benchmark]) -> str:
    """The page, from the latest record of each pair, kind and machine."""
    latest = {(r.name, r.machine): r for r in records}
    pairs: dict[tuple[str, str], dict[str, Benchmark]] = {}
    for (_, machine), found in latest.items():
        (peer,) = found.peers
        pairs.setdefault((f"{peer}, {found.details['why']}", machine), {})[str(found.details["kind"])] = found
    lines = [
        "# Memory of training beside other classifiers",
        "",
        "`python -m scripts.benchmarks.memory`: WaveMix with 16 blocks, three levels and patches of 4x4, of a width "
        "that gives the peer's number of parameters, or upstream's own (192, 75.32 % on ImageNet-1k as published) "
        "beside the peer of the nearest published accuracy (ResNet-50, 76.13 %). Saved: bytes that autograd keeps for "
        "the backward pass, of one image. Peak: of a training step with AdamW, weights and moments included. Ratio: "
        "ours by the peer's; below 1 WaveMix needs less.",
        "",
        "| beside | parameters | peer's | saved, MB | peer's | ratio | peak, MB | peer's | ratio | images/s | peer's |",
        "| --- | " + " | ".join(["---:"] * 10) + " |",
    ]
    said = set()
    for (title, machine), kinds in pairs.items():
        saved, peak, fast = kinds["saved"], kinds["peak"], kinds["speed"]
        cells = [title, f"{saved.details['parameters']:,}", f"{saved.details['peer_parameters']:,}"]
        for found in (saved, peak):
            (value,), (ratio,) = found.peers.values(), found.ratios.values()
            cells += [f"{found.ours / 1e6:.1f}", f"{value / 1e6:.1f}", f"{ratio:.2f}"]
        cells += [f"{fast.ours:.2f}", f"{next(iter(fast.peers.values())):.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
        details = fast.details
        said.add(
            f"{machine}, {details['threads']} thread{'s' * (details['threads'] != 1)}, {details['batch']} images of "
            f"{details['size']}x{details['size']} a step, {fast.repetitions} alternating repetitions, "
            f"{fast.created:%Y-%m-%d}"
        )
    loads = [float(str(kinds["speed"].details["load_1min"])) for kinds in pairs.values()]
    lines += ["", f"Measured on {'; '.join(sorted(said))}; the one-minute load was {min(loads):g} to {max(loads):g}."]
    lines += ["What is saved does not depend on the machine; images a second do, on what else it did as well."]
    less = sum(next(iter(kinds["saved"].ratios.values())) < 1 for kinds in pairs.values())
    lines += [
        "",
        f"WaveMix of this form saves less than its peer in {less} of {len(pairs)} pairs. Other forms were not tried.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--batch", type=positive, default=2)
    parser.add_argument("--size", type=positive, default=224)
    parser.add_argument("--repetitions", type=positive, default=3)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"])
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="only these; repeatable")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page of what is recorded")
    options = parser.parse_args()
    journal = options.results / "records" / "benchmarks.jsonl"
    if not options.page:
        needed("benchmark", "torchvision")
        torch.set_num_threads(options.threads)
        for device in devices(options):
            for peer in options.peer or PEERS:
                compare(peer, nearest(size_of(peer_of(peer))), "equal parameters", options, device)
            if NEAREST in (options.peer or PEERS):
                compare(NEAREST, 192, "equal accuracy", options, device)
    found = [r for r in read(journal) if isinstance(r, Benchmark) and r.name.startswith(NAME)]
    write_atomically(options.results / "pages" / "memory.md", page(found).encode())


if __name__ == "__main__":
    sys.exit(ended(main))
