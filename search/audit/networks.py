"""Where a network comes from: a factory of somebody's, a checkpoint, or a row of upstream's."""

import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from search.audit.cost import one_line
from search.errors import UserError
from search.upstream import PUBLISHED, SAVED, build
from wavemix import LiteConfig, WaveMixLite
from wavemix.checkpoint import Checkpoint, nested, read_checkpoint


@dataclass(frozen=True)
class Subject:
    """A network to look at, and the images it is for (channels, height, width)."""

    name: str
    network: nn.Module
    input_shape: tuple[int, int, int]


def of_factory(target: str, input_shape: tuple[int, int, int] | None) -> Subject:
    return Subject(target, made(target), input_shape or (3, 224, 224))


def of_checkpoint(path: Path, input_shape: tuple[int, int, int] | None) -> Subject:
    """The WaveMix classifier whose weights the file holds. Raises UserError for any other, and without a shape."""
    config, _ = classifier_of(path)
    if config is None:
        raise UserError(f"{path} has not the keys of a WaveMix classifier: give the network by --factory")
    if input_shape is None:
        raise UserError("a checkpoint does not say how large its images are: give --input channels,height,width")
    check_images(path, config, input_shape)
    return Subject(Path(path).name, WaveMixLite(config), input_shape)


def of_row(name: str, input_shape: tuple[int, int, int] | None) -> Subject:
    """A network that upstream states, by the name that `wavemix audit --saved-models` prints."""
    for row in PUBLISHED:
        if name == f"{row.task}: {row.model}":
            return Subject(name, WaveMixLite(row.config), input_shape or (row.config.in_channels, row.size, row.size))
    for saved in SAVED:
        if name == saved.row:
            return Subject(name, build(saved), input_shape or (3, saved.size, saved.size))
    raise UserError(f"there is no row {name!r}; `wavemix audit --saved-models` shows their names")


def made(target: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """What `target` ("module:callable") returns for the keyword `arguments`; its module may lie in the current folder.

    Raises UserError where it cannot be imported or called, or returns no network.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise UserError(f"{target!r} is not of the form module:callable, such as mynets:small")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        network = getattr(importlib.import_module(module_name), name)(**arguments or {})
    except Exception as error:  # whatever somebody else's code raises
        raise UserError(f"{target} failed: {one_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{target} returns {type(network).__name__}, not a torch.nn.Module")
    return network


# --------------------------------------------------------------------------------------------------- checkpoints


def stored(path: Path) -> tuple[Checkpoint, dict[str, Tensor]]:
    """A checkpoint, and the tensors of one network in it. Raises UserError where the file is none."""
    try:
        read = read_checkpoint(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    state = read.state
    seeds = sorted({int(key.partition("/")[0]) for key in state if re.match(r"\d+/", key)})
    if seeds:  # our own files hold the same network once per seed: one of them is taken
        state = {key.partition("/")[2]: state[key] for key in state if key.startswith(f"{seeds[0]}/")}
    return read, state


def classifier_of(path: Path) -> tuple[LiteConfig | None, dict[str, Tensor]]:
    """The configuration of the WaveMix classifier in a checkpoint, None where there is none, and its tensors."""
    read, state = stored(path)
    config = stored_config(read)
    return (config, state) if config else classifier(state)


def check_images(path: Path, config: LiteConfig, input_shape: Sequence[int]) -> None:
    """Raises UserError where the network takes no such images."""
    try:
        if input_shape[0] != config.in_channels:
            raise ValueError(f"its images have {config.in_channels} channels, not {input_shape[0]}")
        config.check_image_size(*input_shape[1:])
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def stored_config(read: Checkpoint) -> LiteConfig | None:
    """The configuration that our own .safetensors files carry in their header."""
    try:
        return LiteConfig.model_validate_json(read.metadata["config"])
    except (KeyError, ValidationError):
        return None


def classifier(state: dict[str, Tensor]) -> tuple[LiteConfig | None, dict[str, Tensor]]:
    """The configuration of a WaveMix classifier, and its tensors by its own names where it was a part of a module."""
    for inner in nested(state):
        if config := infer(inner):
            return config, inner
    return None, state


def infer(state: dict[str, Tensor]) -> LiteConfig | None:
    """The configuration of a WaveMix classifier's state dict, or None where the keys are not one's.

    What leaves no trace in the weights is set to its default: strides, dropout, activation, wavelet, and nearest for
    either interpolation.
    """
    layers, norms = (
        {int(m[1]) for key in state if (m := re.match(rf"{of}\.(\d+)\.", key))} for of in ("layers", "norms")
    )
    if any(numbers != set(range(len(numbers))) for numbers in (layers, norms)):
        return None
    block = "layers.0."
    branch = block + ("feedforward." if f"{block}feedforward.0.weight" in state else "feedforward1.")
    try:
        c = state[block + "reduction.weight"].shape[1]
        level = max(n for n in range(1, 5) if n == 1 or f"{block}feedforward{n}.0.weight" in state)
        up = state.get(branch + "4.weight")
        kind = "depthwise" if {f"{branch}4.0.weight", f"{branch}5.0.weight"} & state.keys() else "nearest"
        f = c
        if up is not None and up.dim() == 4:
            f, kind = (up.shape[0], "deconv") if up.shape[-1] == 4 else (up.shape[1], kind)
        if "conv.4.running_mean" in state:
            stem = {"initial_conv": "patchify", "patch_size": state["conv.2.weight"].shape[-1]}
        elif "conv.2.weight" in state:
            stem = {"initial_conv": "separable"}
        elif "conv.1.weight" not in state:
            stem = {"initial_conv": "single", "kernel": state["conv.0.weight"].shape[-1]}
        else:
            stem = {"initial_conv": "strided"}
        return LiteConfig(
            in_channels=state["conv.0.weight"].shape[1],
            num_classes=state["pool.2.weight"].shape[0],
            final_dim=c,
            depth=len(norms or layers),
            mult=state[branch + "0.weight"].shape[0] // c,
            ff_channel=f,
            level=level,
            upsampling=kind,
            shared=len(layers) if norms else 0,
            bias="all" if block + "reduction.bias" in state else "needed",
            **stem,
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        return None
