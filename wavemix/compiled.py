"""A trained classifier for use alone: one module whose blocks run through the compiled kernels, for one image or many.

Where up-sampling interpolates, all blocks of an image are one call of kernels/images.cpp, whose vectors hold pixels of
one image. Of other networks the kernels of training do as many images as make full groups, as a `Stack` of one member;
the module itself does the rest.
"""

import warnings

import torch
from torch import Tensor, nn

from . import kernels
from .config import LiteConfig
from .kernels import LANES, pointer
from .lite import WaveMixLite
from .stack import Stack, Statistics, to_lanes
from .stack.compiled_blocks import single_level
from .stack.operations import ACTIVATIONS, EPS, UPSAMPLINGS
from .views import averaged

BATCH = 4 * LANES  # images at once: the maps of more do not fit into a processor's cache


def with_kernels(network: WaveMixLite) -> nn.Module:
    """A trained classifier as `Compiled`; where there are no kernels itself, with a warning of one line."""
    if kernels.library() is None:
        reason = "there is no C++ compiler that works here, or WAVEMIX_KERNELS=off"
        warnings.warn(f"not compiled, the network runs as plain PyTorch: {reason}", stacklevel=4)  # of `wavemix.load`
        return network
    return Compiled(network)


def one_call(config: LiteConfig) -> bool:
    """Whether all blocks of an image are one call of the kernels, where there are any."""
    return single_level(config, training=False) and config.interpolation is not None


class Compiled(nn.Module):
    """Normalised images (N, I, H, W) -> scores (N, K), those of `network` but for rounding; for evaluation alone.

    The weights are copied when it is made: later changes of `network` have no effect. Scores have no gradient. Images
    that are no float32 on the CPU, and what the kernels don't know, take `network` itself.

    Raises ValueError for networks of other tasks than classification, RuntimeError without kernels.
    """

    def __init__(self, network: WaveMixLite):
        super().__init__()
        kernels.loaded()
        if network.config.task != "classification":
            raise ValueError(f"compiled networks are classifiers, not for {network.config.task}")
        self.network, self.config = network.eval(), network.config
        with torch.random.fork_rng(devices=[]):
            self.stack = Stack(network.config, [0])
        state = {name: value.detach().float().cpu() for name, value in network.state_dict().items()}
        self.flat = torch.cat([state[name].flatten() for name in self.stack.shapes])[None]
        self.statistics: Statistics = {
            name.removesuffix(".running_mean"): (mean[None], state[f"{name.removesuffix('mean')}var"][None])
            for name, mean in state.items()
            if name.endswith(".running_mean")
        }
        self.folded = _folded(self.config, self.stack, state) if one_call(self.config) else None

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "cpu" or images.dtype != torch.float32 or not len(images):
            return self.network(images)
        self.config.check_image_size(*images.shape[-2:])
        if self.folded is not None:
            return averaged(self.config.views, self._folded_scores, images)
        full = len(images) // LANES * LANES
        scores = [self._groups(part) for part in images[:full].split(BATCH) if full]
        return torch.cat([*scores, self.network(images[full:])] if full < len(images) else scores)

    def _folded_scores(self, images: Tensor) -> Tensor:
        folded = self.folded
        assert folded is not None  # else this is not called
        return torch.cat([self._one_by_one(part, folded) for part in images.split(BATCH)])

    def _one_by_one(self, images: Tensor, folded: Tensor) -> Tensor:
        config, x = self.config, self.network.conv(images).contiguous()
        count, channels, height, width = x.shape
        pooled = x.new_empty(count, channels)
        library = kernels.threaded()
        assert library is not None  # since there was one when this was made
        library.image_blocks(
            *map(pointer, (x, pooled, folded)), count, channels, config.mult * channels, height, width, config.depth,
            UPSAMPLINGS[str(config.interpolation)], ACTIVATIONS[config.activation][0],
            int(config.upsampling == "depthwise"),
        )  # fmt: skip
        return self.network.pool[2](pooled)

    def _groups(self, images: Tensor) -> Tensor:
        self.stack.threads = torch.get_num_threads()
        return self.stack(to_lanes(images[None]), self.flat, self.statistics)[0][0]


# a block's parameters in the order of `Stack.parts`; those of the taps are a depthwise convolution's
PARTS = (
    "reduction", "reduction bias", "first", "first bias", "second", "second bias", "taps", "taps bias",
    "scale", "shift",
)  # fmt: skip


def _folded(config: LiteConfig, stack: Stack, state: dict[str, Tensor]) -> Tensor:
    """The blocks' weights as `image_blocks` takes them, one after another.

    BatchNorm's scale and shift become part of the layer before it, since up-sampling between them keeps both. The
    reduction's bias becomes part of the next layer's: all of it is in the coarse band, twice.
    """
    coarse, found = config.final_dim // 4, []
    # inputs band by band; upstream has the three fine bands channel by channel
    order = torch.cat([torch.arange(coarse), coarse + torch.arange(3 * coarse).view(coarse, 3).T.flatten()])
    for names, norm in zip(stack.parts, stack.norms):
        part = {kind: state[name].double() for kind, name in zip(PARTS, names, strict=True) if name in state}
        reduction, first, second = (part[kind].flatten(1) for kind in ("reduction", "first", "second"))
        scale = part["scale"] / (state[f"{norm}.running_var"].double() + EPS).sqrt()
        shift = part["shift"] - state[f"{norm}.running_mean"].double() * scale
        none, first_bias = torch.zeros_like(shift), part["first bias"]
        if "reduction bias" in part:
            first_bias = first_bias + 2 * first[:, :coarse] @ part["reduction bias"]
        second_bias = part.get("second bias", none)
        if "taps" in part:
            taps, taps_bias = part["taps"].flatten(1), part.get("taps bias", none)
            last = [second, second_bias, taps * scale[:, None], taps_bias * scale + shift]
        else:
            last = [second * scale[:, None], second_bias * scale + shift]
        found += [reduction, first[:, order], first_bias, *last]
    return torch.cat([part.flatten() for part in found]).float()
