"""A network as one C99 file that needs nothing but the mathematical library: for microcontrollers.

BatchNorms are folded into the layer before them (of shared blocks, which have one a depth, into a factor and a
summand). `search.space.buffers` has the memory that it takes.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
import numpy as np
import torch
from torch import Tensor, nn

from search.errors import UserError
from search.inference.ready import Ready
from search.space.buffers import Buffers, without_source
from wavemix.config import LiteConfig
from wavemix.lite import Affine, LiteBlock

LONGEST = 20  # classes that are named in the comment
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """The text of a C file, with the memory that it takes, in bytes."""

    text: str
    flash: int  # constants: what the code itself takes depends on the compiler
    ram: int  # static buffers


def source(ready: Ready, name: str) -> Source:
    """The network as C source, with `name` in its first line. Raises UserError where there is none of it
    (`without_source`)."""
    config, (_, height, width) = ready.lite.config, ready.inputs.shape
    if lacking := without_source(config):
        raise UserError(f"there is no C source of {lacking}: use --format onnx or torch-export")
    arrays, sizes = {**stem(ready), **blocks(ready)}, Buffers(config, height, width)
    if not all(np.isfinite(values).all() for values in arrays.values()):
        raise UserError(f"{name} has weights that are no numbers (NaN or infinite): train it again")
    flash = 4 * sum(values.size for values in arrays.values())
    ram = sizes.bytes
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search.export", "."), undefined=jinja2.StrictUndefined
    )
    environment.filters["numbers"] = numbers
    text = environment.get_template("network.c.jinja").render(
        title=plain(f"{name}: {config.name}, {config.parameters():,} parameters"),
        comment=comment(ready, flash, ram),
        config=config, height=height, width=width, rows=sizes.rows, columns=sizes.columns, stem=config.initial_conv,
        up=config.upsampling, hidden=config.final_dim * config.mult, ff=config.ff_outputs,
        middle=config.ff_outputs if config.projected else 0, first=sizes.first, ring=sizes.ring, lag=sizes.lag,
        arrays=arrays, stages=sizes.stages, fields=fields(config),
    )  # fmt: skip
    return Source(text, flash, ram)


def comment(ready: Ready, flash: int, ram: int) -> str:
    """What a reader of the file has to know, filled to lines."""
    channels, height, width = ready.inputs.shape
    classes = [plain(name) for name in ready.inputs.classes]
    named = ", ".join(f"{i} {name}" for i, name in enumerate(classes)) if len(classes) <= LONGEST else ""
    parts = [
        f"image: {channels} x {height} x {width} numbers (channels, rows, columns) between 0 and 1; the network "
        "normalises them itself.",
        f"scores: {len(classes)} numbers, before the softmax. Returned is the number of the greatest, the class"
        + (f": {named}." if named else "."),
        f"Trained on {plain(ready.inputs.data)}.",
        f"Memory: {flash:,} bytes of constants (flash; the code comes on top) and {ram:,} bytes of static buffers "
        "(RAM). Nothing is allocated, no array is on the stack. All calls share the buffers: one call at a time.",
        "C99, with <math.h>: cc -std=c99 -O3 -c FILE, linked with -lm. Written by wavemix export.",
    ]
    return "\n\n".join(textwrap.fill(part, 110, initial_indent="   ", subsequent_indent="   ") for part in parts)


def plain(text: str) -> str:
    """`text` as a comment of C can hold it."""
    return re.sub(r"[^\w .,:;()%+=&'-]", "?", text, flags=re.ASCII)


def numbers(values: np.ndarray) -> str:
    """float32 numbers as C writes them, nine digits each, which is exact."""
    if values.ndim == 2:
        return ",\n".join(f"{{{numbers(row)}}}" for row in values)
    literals = []
    for value in values.astype(np.float32):
        text = f"{value:.9g}" if abs(value) >= np.finfo(np.float32).tiny else "0"
        literals.append(text + ("f" if "." in text or "e" in text else ".0f"))
    return textwrap.fill(", ".join(literals), 118)


# ------------------------------------------------------------------------------------------------------------- weights


def fields(config: LiteConfig) -> list[str]:
    """The arrays that a level's feed-forward may have, in the order of the C struct."""
    named = ["hidden", "hidden_bias"]
    named += ["middle", "middle_bias"] * config.projected + ["out", "out_bias"]
    named += ["up", "up_bias"] * (config.upsampling in ("deconv", "depthwise"))
    return named + ["scale", "shift"] * config.norms_apart


def affine(norm: nn.BatchNorm2d, own: nn.BatchNorm2d | Affine) -> tuple[Tensor, Tensor]:
    """BatchNorm in evaluation as a factor and a summand a channel, float64; `own` has its scale and its shift."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None  # a network's keep track of them
    factor = own.weight.double() / (variance.double() + norm.eps).sqrt()
    return factor, own.bias.double() - factor * mean.double()


def laid(convolution: nn.Module) -> Tensor:
    """A convolution's weights as [row][column][input][output] in float64; without inputs where it is depthwise."""
    assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    weight = convolution.weight.detach().double()
    if isinstance(convolution, nn.Linear):
        return weight.T
    return weight.permute(2, 3, 0, 1) if isinstance(convolution, nn.ConvTranspose2d) else weight.permute(2, 3, 1, 0)


@torch.no_grad()
def stem(ready: Ready) -> Arrays:
    """The stem's and the head's arrays. The deviation of the images is in the first convolution's weights."""
    config, network = ready.lite.config, ready.lite
    layers = [layer for layer in network.conv if isinstance(layer, nn.Conv2d)]
    found: dict[str, Tensor] = {"mean": ready.mean.flatten()}
    for number, layer in enumerate(layers, 1):
        weights = laid(layer)
        found[f"stem_{number}"] = weights / ready.deviation.double().view(1, 1, -1, 1) if number == 1 else weights
        if layer.bias is not None:
            found[f"stem_{number}_bias"] = layer.bias
    if config.initial_conv == "patchify":
        norm = network.conv[-1]
        assert isinstance(norm, nn.BatchNorm2d)
        found["stem_scale"], found["stem_shift"] = affine(norm, norm)
    head = network.pool[2]
    assert isinstance(head, nn.Linear)
    found |= {"head_weights": laid(head), "head_bias": head.bias}
    return {name: values.flatten().float().numpy() for name, values in found.items()}


@torch.no_grad()
def blocks(ready: Ready) -> Arrays:
    """The blocks' arrays: (blocks, numbers), factors and summands of BatchNorms beside them (depth, numbers)."""
    config, network = ready.lite.config, ready.lite
    rows: dict[str, list[Tensor]] = {}
    for block in network.layers:
        assert isinstance(block, LiteBlock)
        for name, values in block_arrays(config, block):
            rows.setdefault(name, []).append(values)
    for depth, norms in enumerate(network.norms if config.norms_apart else ()):
        assert isinstance(norms, nn.ModuleList)
        owners = norms if config.affine == "depth" else network.affines[config.affine_at(depth)]
        assert isinstance(owners, nn.ModuleList)
        for level, (norm, own) in enumerate(zip(norms, owners, strict=True), 1):
            assert isinstance(norm, nn.BatchNorm2d) and isinstance(own, nn.BatchNorm2d | Affine)
            for name, values in zip(("scale", "shift"), affine(norm, own)):
                rows.setdefault(f"{name}_{level}", []).append(values)
    return {name: torch.stack([v.flatten() for v in values]).float().numpy() for name, values in rows.items()}


def block_arrays(config: LiteConfig, block: LiteBlock) -> Iterator[tuple[str, Tensor]]:
    """Names and values of one block's arrays, with its BatchNorms in the last convolution before them."""
    yield "reduction", laid(block.reduction)
    if block.reduction.bias is not None:
        yield "reduction_bias", block.reduction.bias
    for level in range(1, config.level + 1):
        layers = [layer for layer in getattr(block, block.branch(level)).modules()]
        parts = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        norm = next((layer for layer in layers if isinstance(layer, nn.BatchNorm2d)), None)
        names = [name for name in fields(config) if "_" not in name and name not in ("scale", "shift")]
        for name, layer in zip(names, parts, strict=True):
            weights, bias = laid(layer), None if layer.bias is None else layer.bias.double()
            if norm is not None and layer is parts[-1]:
                factor, summand = affine(norm, norm)
                weights, bias = weights * factor, summand if bias is None else bias * factor + summand
            yield f"{name}_{level}", weights
            if bias is not None:
                yield f"{name}_bias_{level}", bias
