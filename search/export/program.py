"""torch.export: a program that PyTorch runs without this package."""

import io
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from search.export.ready import Ready
from search.export.silence import quiet

SUFFIX = ".pt2"


def traced(ready: Ready) -> ExportedProgram:
    """The network as a program for any number of images."""
    images = torch.zeros(2, *ready.inputs.shape)  # a single one would be taken for the only number there is
    with torch.no_grad():
        ready(images)  # what is made on first use, a wavelet's filters, would become part of the trace
        sizes = ({0: torch.export.Dim("batch", min=1)},)
        program = torch.export.export(ready, (images,), dynamic_shapes=sizes)
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
    return []


def scores(path: Path, images: Tensor) -> Tensor:
    """What the loaded program makes of images (N, channels, height, width)."""
    with quiet(), torch.no_grad():
        return torch.export.load(io.BytesIO(path.read_bytes())).module()(images)
