"""Upstream's networks by name: `create("wavemix_192_16_l3_p4", num_classes=10)`, `list_models("*sr*")`.

A name has the channels, the blocks, the levels (l3), and what the stem does: patches of 4x4 (p4) or two convolutions of
stride 1 (s1). Those for super-resolution end with the scale (x2). Weights are random; published ones load with
`wavemix.load_checkpoint`.
"""

import difflib
import fnmatch
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from . import SemSegment, cityscapes, classification, counts, sisr, v3, wavemixsr


@dataclass(frozen=True)
class Model:
    """A network's class, its closed form, and the arguments that its name stands for."""

    network: type[nn.Module]
    closed_form: Callable[..., int]
    hyperparameters: dict[str, Any] = field(hash=False)

    def arguments(self, **changes) -> dict[str, Any]:
        """All arguments of the constructor. Raises TypeError for one that it does not have."""
        bound = inspect.signature(self.network).bind(**self.hyperparameters | changes)
        bound.apply_defaults()
        return bound.arguments


def _body(final_dim: int, depth: int, level: int, **more) -> dict[str, Any]:
    return {"final_dim": final_dim, "ff_channel": final_dim, "depth": depth, "level": level, **more}


def _patches(final_dim: int, depth: int, level: int, edge: int) -> dict[str, Any]:
    return _body(final_dim, depth, level, initial_conv="patchify", patch_size=edge)


def _strides(final_dim: int, depth: int, level: int, stride: int) -> dict[str, Any]:
    return _body(final_dim, depth, level, initial_conv="strided", stride=stride)


# sizes that upstream states, in its README or beside weights
_CLASSIFIERS = {
    "wavemix_192_16_l3_p4": _patches(192, 16, 3, 4),
    "wavemix_192_16_l1_p4": _patches(192, 16, 1, 4),
    "wavemix_256_16_l3_p4": _patches(256, 16, 3, 4),
    "wavemix_256_12_l2_p8": _patches(256, 12, 2, 8),
    "wavemix_256_16_l4_s2": _strides(256, 16, 4, 2),
    "wavemix_144_7_l1_s1": _strides(144, 7, 1, 1),
    "wavemix_256_8_l1_s1": _strides(256, 8, 1, 1),
    "wavemix_256_10_l1_s1": _strides(256, 10, 1, 1),
    "wavemix_256_12_l1_s1": _strides(256, 12, 1, 1),
    "wavemix_320_8_l1_s1": _strides(320, 8, 1, 1),
}
MODELS = {
    **{
        name: Model(classification.WaveMix, counts.classifier, hyperparameters)
        for name, hyperparameters in _CLASSIFIERS.items()
    },
    "wavemix_v3_144_16_p4": Model(v3.WaveMix, counts.v3, {"final_dim": 144, "depth": 16, "patch_size": 4}),
    "wavemix_cityscapes_192_16_l3_p4": Model(cityscapes.WaveMix, counts.cityscapes, _patches(192, 16, 3, 4)),
    "wavemix_segmentation_256_16_l4_s2": Model(
        SemSegment.WaveMix, counts.segmentation, _body(256, 16, 4, stride=2, dropout=0.5)
    ),
    "wavemix_sisr_144_4_l1_x2": Model(sisr.WaveMix, counts.doubling, _body(144, 4, 1, dropout=0.5)),
    "wavemixsr_144_4_x2": Model(
        wavemixsr.WaveMixSR, counts.wavemixsr, {"final_dim": 144, "ff_channel": 144, "depth": 4, "mult": 1}
    ),
    **{
        f"wavemixsr_v2_144_2_x{sr}": Model(
            wavemixsr.WaveMixSRV2, counts.wavemixsr_v2, {"final_dim": 144, "blocks": 2, "mult": 1, "sr": sr}
        )
        for sr in (2, 4, 8)
    },
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that fit a pattern of the shell, sorted."""
    return sorted(fnmatch.filter(MODELS, pattern))


def create(name: str, **hyperparameters) -> nn.Module:
    """The network of a name, with random weights; `hyperparameters` are arguments of its constructor, as `num_classes`.

    Raises ValueError for an unknown name, TypeError for an argument that the network does not have.
    """
    model = _model(name)
    return model.network(**model.arguments(**hyperparameters))


def count(name: str, **hyperparameters) -> int:
    """Parameters of `create(name, **hyperparameters)` in closed form. Raises the same errors."""
    model = _model(name)
    return model.closed_form(**model.arguments(**hyperparameters))


def _model(name: str) -> Model:
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "wavemix.list_models() has all names"
        raise ValueError(f"there is no network {name!r}: {hint}")
    return MODELS[name]
