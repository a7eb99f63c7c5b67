"""What our counter, fvcore, torch's flop counter, thop, calflops and torchinfo say of the same ten networks.

    python -m scripts.benchmarks.counters [--output FILE]

Each counts one forward pass in evaluation mode. The records hold multiply-accumulates as each tool understands them
(torch's FLOPs are two for each, so half of them); what each prints as FLOPs stands in the details. A tool that is not
installed, or fails on a network, is left out, and its reason is in the details. Networks come from torchvision and
from the rows that upstream publishes. thop, calflops and torchinfo are no dependencies of this project:
`pip install --no-deps thop calflops torchinfo`.
"""

import argparse
import copy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from scripts.benchmarks.harness import BENCHMARKS, ended, print_table, record
from search.audit.cost import cost, one_line
from search.audit.networks import Subject, of_factory, of_row

TORCHVISION = (
    "resnet18", "resnet50", "mobilenet_v2", "densenet121", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t",
)  # fmt: skip
ROWS = ("99 % in MNIST: WaveMix Lite-8/10", "90 % in CIFAR-10: WaveMix Lite-64/6")
HUB = {  # parts of calflops for networks by their name at Hugging Face, and what they need, which is not needed here
    "transformers": ("AutoModel", "AutoTokenizer"),
    "calflops.flops_counter_hf": ("calculate_flops_hf",),
    "calflops.estimate": ("create_empty_model",),
}
Counts = dict[str, float]  # "MACs", and where the tool gives them "FLOPs" and "parameters"


def fvcore(network: nn.Module, images: Tensor) -> Counts:
    from fvcore.nn import FlopCountAnalysis, parameter_count

    analysis = FlopCountAnalysis(network, images)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return {"MACs": analysis.total(), "parameters": parameter_count(network)[""]}


def torch_counter(network: nn.Module, images: Tensor) -> Counts:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network(images)
    return {"MACs": counter.get_total_flops() / 2, "FLOPs": counter.get_total_flops()}


def thop(network: nn.Module, images: Tensor) -> Counts:
    from thop import profile

    macs, parameters = profile(network, (images,), verbose=False)
    return {"MACs": macs, "parameters": parameters}


def calflops(network: nn.Module, images: Tensor) -> Counts:
    for module, names in HUB.items():
        if module not in sys.modules:
            sys.modules[module] = ModuleType(module)
            vars(sys.modules[module]).update(dict.fromkeys(names))
    from calflops import calculate_flops

    options = {"print_results": False, "print_detailed": False, "output_as_string": False}
    flops, macs, parameters = calculate_flops(network, input_shape=tuple(images.shape), **options)
    return {"MACs": macs, "FLOPs": flops, "parameters": parameters}


def torchinfo(network: nn.Module, images: Tensor) -> Counts:
    from torchinfo import summary

    found = summary(network, input_data=images, verbose=0)
    return {"MACs": found.total_mult_adds, "parameters": found.total_params}


TOOLS: dict[str, Callable[[nn.Module, Tensor], Counts]] = {
    "fvcore": fvcore,
    "torch": torch_counter,
    "thop": thop,
    "calflops": calflops,
    "torchinfo": torchinfo,
}


def subjects() -> list[Subject]:
    return [of_factory(f"torchvision.models:{name}", None) for name in TORCHVISION] + [of_row(r, None) for r in ROWS]


def compare(subject: Subject, output: Path) -> list[str]:
    """Count one network by all of them and record it; returns the row of the table."""
    ours = cost(subject.network, subject.input_shape, batch=2, device="cpu")
    found: dict[str, Counts] = {}
    failed: dict[str, str] = {}
    for name, count in TOOLS.items():
        try:
            with torch.no_grad():
                network = copy.deepcopy(subject.network).eval()
                found[name] = count(network, torch.randn(1, *subject.input_shape))
        except Exception as error:  # whatever a tool raises on somebody's network
            failed[name] = one_line(error)
    name = subject.name.rpartition(":")[2].strip() if subject.name.startswith("torchvision") else subject.name
    counts = {"here": {"MACs": ours.macs, "FLOPs": ours.flops_total, "parameters": ours.parameters}, **found}
    details = {"parameters": ours.parameters, "input": list(subject.input_shape), "counts": counts, "failed": failed}
    record(
        output, "cpu", details, name=f"MACs of one image, {name}", unit="GMAC", ours=(ours.macs or 0) / 1e9,
        peers={tool: counts["MACs"] / 1e9 for tool, counts in found.items()}, better="lower", repetitions=1,
    )  # fmt: skip
    cells = [name, f"{(ours.macs or 0) / 1e9:.4f}", f"{(ours.flops_total or 0) / 1e9:.4f}"]
    return cells + [f"{found[tool]['MACs'] / 1e9:.4f}" if tool in found else failed[tool][:40] for tool in TOOLS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=BENCHMARKS, help="append records here")
    options = parser.parse_args()
    rows = []
    for subject in subjects():
        rows.append(compare(subject, options.output))
        print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    header = ["network", "GMAC here", "GFLOP here", *(f"GMAC, {tool}" for tool in TOOLS)]
    print_table("One image forward, in 10^9", header, rows)


if __name__ == "__main__":
    sys.exit(ended(main))
