"""torch.export: a program that PyTorch runs without this package."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from search.export.silence import quiet
from search.inference.ready import Ready

SUFFIX = ".pt2"


def traced(ready: Ready) -> ExportedProgram:
    """The network as a program for any number of images; of any size that needs no padding, where it takes several."""
    sizes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    channels, height, width = ready.inputs.shape
    if ready.shape is None:
        config = ready.lite.config
        step, least = config.size_step, config.input_size(1, 1)[0]
        # two that the trace does not take for one number, nor for the only one there is
        channels, height, width = max(ready.channels), least + step, least + 2 * step
        for axis, name in ((2, "rows"), (3, "columns")):
            sizes[axis] = step * torch.export.Dim(name, min=least // step)
    images = torch.zeros(2, channels, height, width)  # a single one would be taken for the only number there is
    with torch.no_grad():
        ready(images)  # what is made on first use, a wavelet's filters, would become part of the trace
        program = torch.export.export(ready, (images,), dynamic_shapes=(sizes,))
    for node in program.graph.nodes:
        for traces in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
            node.meta.pop(traces, None)  # they name files of this machine
    return program


def write(ready: Ready, name: str, path: Path) -> list[str]:
    """Write the network to `path`."""
    content = io.BytesIO()
    with quiet():
        torch.export.save(traced(ready), content)
    path.write_bytes(content.getvalue())
    return sizes_told(ready)


def sizes_told(ready: Ready) -> list[str]:
    """What images the program takes, where that is more than one size."""
    if ready.shape is not None:
        return []
    step, channels = ready.lite.config.size_step, "RGB" if max(ready.channels) == 3 else "grey"
    return [f"takes {channels} images whose height and width are multiples of {step}: pad others"]


def scores(path: Path, images: Tensor) -> Tensor:
    """What the loaded program makes of images (N, channels, height, width)."""
    with quiet(), torch.no_grad():
        return torch.export.load(io.BytesIO(path.read_bytes())).module()(images)
