"""Many WaveMix-Lite networks of one shape, trained and evaluated together on one device.

A `Stack` holds K members: every parameter has a leading axis K, and every feature map is
(K, groups, channels, height, width, LANES), where the last axis is LANES images of one group. One member's result
does not depend on its neighbours. It computes the same function as `WaveMixLite`; tests compare them, forward and
gradients. On a CPU with a C++ compiler the residual blocks run as one compiled pass (`chain`) and the rest as compiled
operations; what these do not cover (dropout, wavelets other than Haar, double precision) as plain PyTorch. On a GPU
blocks that are all of level 1 run on maps of half size, those that interpolate as `halved` says, those with transposed
convolutions as `phases` says, and other networks member by member as ordinary modules.
"""

import functools
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .. import kernels
from ..config import LiteConfig
from ..kernels import LANES
from ..lite import WaveMixLite
from ..speeds import kernels_win, measured
from ..views import averaged
from .compiled_blocks import block_parts, chain, fits_chain, offsets, one_branch, single_level
from .half_size_blocks import halved
from .operations import (
    ACTIVATIONS,
    convolution,
    deconvolution,
    doubled,
    down,
    feedforward,
    matrix_wavelet,
    norm_up,
    plain_down,
)
from .phase_blocks import phases


def to_lanes(images: Tensor) -> Tensor:
    """(K, N, I, H, W) with N a multiple of LANES -> (K, N/LANES, I, H, W, LANES)."""
    return images.unflatten(1, (-1, LANES)).permute(0, 1, 3, 4, 5, 2).contiguous()


Precision = Literal["float32", "bfloat16"]


def bfloat16_lacks(config: LiteConfig, device: torch.device | str = "cpu") -> str | None:
    """Why a stack of these networks can't train with products of bfloat16 on this machine, in a few words; or None."""
    if torch.device(device).type != "cpu":
        return "it is of processors; a GPU multiplies in bfloat16 by itself"
    if not kernels.bfloat16():
        return "the processor has no AVX512-BF16, or there is no C++ compiler that knows it"
    if config.task != "classification" or not one_branch(config, training=True):
        return "it is of classifiers whose blocks have one level, Haar's wavelet and no dropout"
    if config.final_dim % 8 or config.ff_outputs % 2:
        return f"the channels of maps come in eights, but there are {config.final_dim} (ff_channel: in twos)"
    return None


def bfloat16_wins(config: LiteConfig, members: int, batch: int, height: int, width: int) -> bool:
    """Whether so many networks train faster with products of bfloat16 on such batches than in float32, which is
    measured where it is not known. Raises ValueError where they can't."""
    narrow, wide = (Stack(config, [0] * members, precision=p) for p in ("bfloat16", "float32"))
    shape = members, batch // LANES, config.in_channels, height, width, LANES
    steps = {
        "bfloat16": partial(narrow._timed, shape, True),
        "float32": partial(wide._timed, shape, wide.in_kernels(shape[1], height, width)),
    }
    times = measured(f"{config.name} {shape} bfloat16", steps)
    return times is not None and times["bfloat16"] < times["float32"]


Statistics = dict[str, tuple[Tensor, Tensor]]  # BatchNorm's name -> mean and biased variance, each (K, channels)


def _stacked(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    means, variances = zip(*pairs)
    return torch.stack(means), torch.stack(variances)


class Stack:
    """K WaveMix-Lite networks of one configuration, initialised as `WaveMixLite` is under each member's seed.

    `flat` (K, P) holds every parameter, in the order of `WaveMixLite.named_parameters()`. With the precision "bfloat16"
    the products of a CPU's kernels are of bfloat16, and so is what they keep for the backward pass; sums, statistics
    and weights are float32 (mixed precision: Micikevicius et al., arXiv 1710.03740, section 3). A GPU multiplies in
    bfloat16 in any case.

    Raises ValueError where there is nothing to stack, and where `bfloat16_lacks` says that there is no bfloat16.
    """

    def __init__(
        self,
        config: LiteConfig,
        seeds: list[int],
        device: torch.device | str = "cpu",
        precision: Precision = "float32",
    ):
        if not seeds:
            raise ValueError("a stack has at least one member: give a seed")
        if config.task != "classification":
            raise ValueError(f"a stack trains classifiers; train a WaveMixLite for {config.task} as a PyTorch module")
        self.config, self.seeds, self.device = config, list(seeds), torch.device(device)
        rows = []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = WaveMixLite(config)
            rows.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
        self.shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        self.keys = list(network.state_dict())
        self.narrow = precision == "bfloat16"
        if self.narrow and (lacking := bfloat16_lacks(config, device)):
            raise ValueError(f"no bfloat16: {lacking}")
        self.threads = torch.get_num_threads()
        self.known: dict[tuple, bool] = {}  # whether kernels are faster than PyTorch, by shape
        self.flat = torch.stack(rows).to(self.device).requires_grad_()
        self.norms = [self._norm_name(depth, 1) for depth in range(config.depth)]
        self.affines = [self._affine_name(depth, 1) for depth in range(config.depth)]
        self.parts = block_parts(config, self.affines)
        self.offsets = offsets(self.parts, self.shapes)

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Parameters by name, (K, *shape), as views of `flat`."""
        parts = flat.split([shape.numel() for shape in self.shapes.values()], 1)
        return {name: part.view(-1, *shape) for part, (name, shape) in zip(parts, self.shapes.items())}

    def state(self, member: int, flat: Tensor, statistics: Statistics) -> dict[str, Tensor]:
        """The state dict of `WaveMixLite(config)` for one member."""
        state = {name: value[member].detach().cpu().clone() for name, value in self.views(flat).items()}
        for name, (mean, variance) in statistics.items():
            state[f"{name}.running_mean"] = mean[member].cpu().clone()
            state[f"{name}.running_var"] = variance[member].cpu().clone()
            state[f"{name}.num_batches_tracked"] = torch.tensor(1)
        return {key: state[key] for key in self.keys}

    def __call__(self, images: Tensor, flat: Tensor | None = None, given: Statistics | None = None):
        """images (K or 1, G, I, H, W, LANES) -> logits (K, G * LANES, classes) and the BatchNorms' statistics.

        Without `given`, BatchNorm and dropout work as in training, and there is one view of each image.
        """
        flat = self.flat if flat is None else flat
        self._check(images, flat)
        if given is None:
            return self._once(images, flat, None)
        return averaged(self.config.views, lambda view: self._once(view, flat, given)[0], images, 3), given

    def _once(self, images: Tensor, flat: Tensor, given: Statistics | None):
        """`__call__` for one view."""
        kernels.threaded(self.threads)
        weights = self.views(flat)
        if single_level(self.config, training=given is None) and not kernels.fit(images):
            return self._half_size(weights, images, given)
        trains = given is None and torch.is_grad_enabled()
        if self.device.type == "cuda" or (
            trains and self.covered and not self.in_kernels(images.shape[1], *images.shape[3:5])
        ):
            return self._modules(weights, images, given)
        return self._operations(weights, flat, images, given)

    def in_kernels(self, groups: int, height: int, width: int) -> bool:
        """Whether a CPU trains on so many groups of such images in kernels alone: where they cover the network and
        PyTorch's own operations are not faster, which is measured where it is not known."""
        shape = len(self.flat), groups, self.config.in_channels, height, width, LANES
        if not self.covered or self.narrow:  # who asks for bfloat16 gets it
            return self.covered
        if shape not in self.known:
            ours, theirs = partial(self._timed, shape, True), partial(self._timed, shape, False)
            self.known[shape] = kernels_win(self.config.final_dim, f"{self.config.name} {shape}", ours, theirs)
        return self.known[shape]

    def _timed(self, shape: tuple[int, ...], ours: bool) -> None:
        """A step without an optimizer on random images of a shape, in kernels or in PyTorch's own operations."""
        flat = self.flat.detach().clone().requires_grad_()
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        weights = self.views(flat)
        route = self._operations(weights, flat, images, None) if ours else self._modules(weights, images, None)
        torch.autograd.grad(route[0].square().mean(), flat)

    @property
    def _narrow_now(self) -> bool:
        """Whether products are of bfloat16 now: in training; what is measured of networks is float32."""
        return self.narrow and torch.is_grad_enabled()

    @property
    def covered(self) -> bool:
        """Whether kernels can do all of a training step but its smallest operations."""
        return kernels.fit(self.flat) and self.config.wavelet == "haar" and not self.config.dropout

    def _operations(self, weights: dict[str, Tensor], flat: Tensor, images: Tensor, given: Statistics | None):
        """The same as `__call__`, in kernels where they fit."""
        measured, norm = self._norm(weights, given)
        x = self._stem(weights, images, norm)
        if fits_chain(self.config, x, training=given is None) and not (given and torch.is_grad_enabled()):
            known = _stacked([given[name] for name in self.norms]) if given else None
            pooled, mean, variance = chain(x, flat, self.config, self.offsets, known, self._narrow_now)
            measured |= {name: (mean[depth], variance[depth]) for depth, name in enumerate(self.norms)}
            return self._head(weights, pooled), measured
        for depth in range(self.config.depth):
            x = self._block(weights, x, depth, norm, training=given is None)
        return self._head(weights, x.mean((3, 4))), measured

    def _half_size(self, weights: dict[str, Tensor], images: Tensor, given: Statistics | None):
        """The same as `__call__`, on maps of half size, for GPUs above all."""
        measured, norm = self._norm(weights, given)
        blocks = halved if self.config.interpolation else phases
        parts = [[weights.get(name) for name in names] for names in self.parts]
        known = [given[name] if given else None for name in self.norms]
        # on a GPU products are of bfloat16, sums of float32; no cache, or a CUDA graph would keep it
        narrow = self.device.type == "cuda" and torch.is_grad_enabled()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=narrow, cache_enabled=False):
            x = self._stem(weights, images, norm)
            pooled, statistics = blocks(x, parts, self.config, known)
        return self._head(weights, pooled), measured | dict(zip(self.norms, statistics))

    def _norm(self, weights: dict[str, Tensor], given: Statistics | None):
        """Where BatchNorms' statistics are collected, and what applies one by its name."""
        measured: Statistics = {}

        def norm(name, affine, z, base, up="none"):
            y, measured[name] = norm_up(
                z, base, weights[f"{affine}.weight"], weights[f"{affine}.bias"], up, given[name] if given else None
            )
            return y

        return measured, norm

    def _check(self, images: Tensor, flat: Tensor) -> None:
        """Raise ValueError for images that the networks don't take: kernels get addresses, no shapes."""
        members, channels = len(flat), self.config.in_channels
        if images.dim() != 6 or images.shape[0] not in (1, members) or images.shape[5] != LANES:
            raise ValueError(
                f"images are (1 or {members}, groups, {channels}, height, width, {LANES}), as `to_lanes` gives, not "
                f"{tuple(images.shape)}"
            )
        if images.shape[2] != channels or images.dtype != flat.dtype:
            raise ValueError(
                f"images have {channels} channels of {flat.dtype}, not {images.shape[2]} of {images.dtype}"
            )
        self.config.check_image_size(*images.shape[3:5])

    @staticmethod
    def _head(weights: dict[str, Tensor], pooled: Tensor) -> Tensor:
        """pooled (K, G, C, LANES) -> logits (K, G * LANES, classes)."""
        pooled = pooled.permute(0, 1, 3, 2).flatten(1, 2)
        return torch.baddbmm(weights["pool.2.bias"][:, None], pooled, weights["pool.2.weight"].transpose(1, 2))

    def _modules(self, weights: dict[str, Tensor], images: Tensor, given: Statistics | None):
        """The same as `__call__`, one member after another as a `WaveMixLite`."""
        network, counts = self._network
        network.train(given is None)
        images = images.permute(0, 1, 5, 2, 3, 4).flatten(1, 2)  # (K or 1, N, I, H, W)
        logits, measured = [], []
        for member in range(len(weights["pool.2.bias"])):
            state = {name: weight[member] for name, weight in weights.items()}
            for name, buffer in network.named_buffers():
                path, _, what = name.rpartition(".")
                part = {"running_mean": 0, "running_var": 1}.get(what)
                state[name] = given[path][part][member] if given and part is not None else buffer.clone()
            x = images[member if len(images) > 1 else 0].contiguous(memory_format=torch.channels_last)
            logits.append(functional_call(network, state, (x,)))
            measured.append(
                {
                    name: (state[f"{name}.running_mean"], state[f"{name}.running_var"] * (1 - 1 / count))
                    for name, count in counts.items()
                }
            )
        return torch.stack(logits), {name: _stacked([statistics[name] for statistics in measured]) for name in counts}

    @functools.cached_property
    def _network(self) -> tuple[WaveMixLite, dict[str, int]]:
        """A network to lend weights to, and how many values a channel each of its BatchNorms saw last."""
        with torch.random.fork_rng(devices=[]):
            network, counts = WaveMixLite(self.config.seen_once).to(self.device), {}
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # running statistics are this batch's, the variance an unbiased one
                module.register_forward_hook(
                    lambda _, inputs, __, name=name: counts.update({name: inputs[0].numel() // inputs[0].shape[1]})
                )
        return network, counts

    def _stem(self, weights, x, norm):
        config = self.config
        (first, second), pad = config.stride, config.pad

        def conv(index, x, stride, padding, depthwise=False):
            return convolution(
                x, weights[f"conv.{index}.weight"], weights.get(f"conv.{index}.bias"), stride, padding, depthwise,
                self._narrow_now,
            )  # fmt: skip

        single, patches = config.initial_conv == "single", config.initial_conv == "patchify"
        stride = first * second if single else 1 if patches else first
        x = conv(0, x, stride, (config.kernel // 2 if single else 1) + pad)
        if config.stem_activation:
            x = ACTIVATIONS[config.activation][1](x)
        if single:
            return x
        if config.initial_conv == "strided":
            return conv(1, x, second, 1)
        if config.initial_conv == "separable":
            return conv(2, conv(1, x, second, 1, depthwise=True), 1, 0)
        x = conv(2, conv(1, x, 1, 1), config.patch_size, 0)
        return norm("conv.4", "conv.4", F.gelu(x), None)

    def _block(self, weights, x, depth, norm, training):
        config, halvings = self.config, self.config.halvings(depth)
        block = f"layers.{config.block(depth)}"
        reduction = weights[f"{block}.reduction.weight"], weights.get(f"{block}.reduction.bias")
        if config.wavelet == "haar":
            bands = down(x, *reduction, halvings)
        else:
            bands = plain_down(
                x,
                *reduction,
                halvings,
                lambda low: matrix_wavelet(config.wavelet, low.shape[3], low.shape[4], low)(low),
            )
        coarse = bands[-1]
        for level in range(config.level, 0, -1):
            branch = "feedforward" if config.level == 1 else f"feedforward{level}"
            path = f"{block}.{branch}"
            u = coarse if level == config.level else torch.cat([bands[level - 1], coarse], 2)
            z = feedforward(
                u,
                weights[f"{path}.0.weight"],
                weights[f"{path}.0.bias"],
                weights[f"{path}.3.weight"],
                weights.get(f"{path}.3.bias"),
                config.activation,
                config.dropout if training else 0.0,
            )
            up = config.upsampling
            if up == "deconv":
                z, up = deconvolution(z, weights[f"{path}.4.weight"], weights.get(f"{path}.4.bias")), "none"
            if config.projected:
                z = convolution(z, weights[f"{path}.4.weight"], weights.get(f"{path}.4.bias"), 1, 0)
            if up == "depthwise":
                last, up = f"{path}.{5 if config.projected else 4}.0", "bilinear"
                z = convolution(z, weights[f"{last}.weight"], weights.get(f"{last}.bias"), 1, 1, depthwise=True)
            for _ in range(halvings - config.level):
                z = doubled(z, up)
            names = self._norm_name(depth, level), self._affine_name(depth, level)
            coarse = norm(*names, z, x if level == 1 else None, up)
        return coarse

    def _norm_name(self, depth: int, level: int) -> str:
        if self.config.norms_apart:
            return f"norms.{depth}.{level - 1}"
        branch = "feedforward" if self.config.level == 1 else f"feedforward{level}"
        return f"layers.{depth}.{branch}.{6 if self.config.projected else 5}"

    def _affine_name(self, depth: int, level: int) -> str:
        """Of the scale and the shift that belong to a BatchNorm: it itself, where each has its own."""
        if self.config.affine == "depth":
            return self._norm_name(depth, level)
        return f"affines.{self.config.affine_at(depth)}.{level - 1}"
