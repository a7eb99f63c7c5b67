"""WaveMix-Lite: a network of Waveblocks with every hyperparameter of `LiteConfig`."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import LiteConfig
from .dwt import pyramid
from .head_config import DenseHead, SuperResolutionHead
from .heads import DenseScores, Enlarged
from .layout import laid_out_alike
from .padding import cropped, padded
from .views import averaged

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
FIRST_SCALE = 0.3  # of a branch without BatchNorm: of nine with 1 a network does not learn in 200 steps


class Affine(nn.Module):
    """A scale and a shift of each channel, of several BatchNorms or in place of one; (N, C, H, W) to its own shape."""

    def __init__(self, channels: int, scale: float = 1.0):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.full((channels,), scale)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class LiteBlock(nn.Module):
    """Reduction to C/4, wavelet pyramid, one feed-forward a level from coarse to fine; (N, C, H, W) to the same shape.

    With `norms=False` the norms are left out; each depth brings its own, `Affine` included where it is shared. Where
    the depth says so (`LiteConfig.cycle`), a block of one level has it at a coarser one, and no other.
    """

    def __init__(self, config: LiteConfig, norms: bool = True):
        super().__init__()
        self.config, self.normed = config, norms
        every = config.bias == "all"
        c = config.final_dim
        self.reduction = nn.Conv2d(c, c // 4, 1, bias=every)
        for level in range(1, config.level + 1):
            setattr(self, self.branch(level), self._feedforward(level, norms))

    def branch(self, level: int) -> str:
        return "feedforward" if self.config.level == 1 else f"feedforward{level}"

    def _feedforward(self, level: int, norms: bool) -> nn.Sequential:
        config = self.config
        inside, out = config.branch_channels(level)
        hidden, f, every = config.final_dim * config.mult, config.ff_outputs, config.bias == "all"
        layers: list[nn.Module] = [
            nn.Conv2d(inside, hidden, 1),
            ACTIVATIONS[config.activation](),
            nn.Dropout(config.dropout),
        ]
        mode = config.interpolation
        if mode is None:
            layers += [nn.Conv2d(hidden, f, 1), nn.ConvTranspose2d(f, out, 4, stride=2, padding=1, bias=every)]
        else:
            if config.projected:
                layers += [nn.Conv2d(hidden, f, 1, bias=every), nn.Conv2d(f, out, 1, bias=every)]
            else:
                layers += [nn.Conv2d(hidden, out, 1, bias=every)]
            up: nn.Module = nn.Upsample(scale_factor=2, mode=mode)
            if config.upsampling == "depthwise":
                up = nn.Sequential(nn.Conv2d(out, out, 3, padding=1, groups=out, bias=every), up)
            layers += [up]
        return nn.Sequential(*layers, *([_norm(config, out)] if norms else []))

    def forward(
        self, x: Tensor, norms: nn.ModuleList | None = None, affines: nn.ModuleList | None = None, depth: int = 0
    ) -> Tensor:
        halvings = self.config.halvings(depth)
        bands = pyramid(self.reduction(x), halvings, self.config.wavelet)
        coarse = bands[-1]
        for level in range(self.config.level, 0, -1):
            y = coarse if level == self.config.level else torch.cat([bands[level - 1], coarse], 1)
            layers = getattr(self, self.branch(level))
            coarse = layers(y) if halvings == self.config.level else self._coarser(layers, y, halvings)
            if norms is not None:
                coarse = norms[level - 1](coarse)
            if affines is not None:
                coarse = affines[level - 1](coarse)
        return coarse

    def _coarser(self, layers: nn.Sequential, y: Tensor, halvings: int) -> Tensor:
        """A branch whose output is up-sampled as often as its input was halved, before its norm."""
        for layer in layers:
            if isinstance(layer, nn.BatchNorm2d | Affine):
                y = self._doubled(y, halvings - 1)
            y = layer(y)
        return y if self.normed else self._doubled(y, halvings - 1)

    def _doubled(self, y: Tensor, times: int) -> Tensor:
        for _ in range(times):
            y = F.interpolate(y, scale_factor=2.0, mode=self.config.interpolation or "nearest")
        return y


class WaveMixLite(nn.Module):
    """WaveMixLite(config) or WaveMixLite(final_dim=8, depth=10, ...), for the task of the configuration's head.

    Images (N, I, H, W) of floats -> logits (N, classes); segmentation: scores (N, classes, H, W); super-resolution:
    images (N, I, scale H, scale W). The last two take images of any size, which they pad (`padding`), and crop the
    output; a classifier raises ValueError for images whose feature map can't be halved `deepest` times. In evaluation
    mode outputs are means over the configuration's `views`.

    State-dict keys are upstream's where upstream has the layer: `conv.*` the stem, `layers.D.reduction`,
    `layers.D.feedforward[level]`, `pool.2` the classifier; other heads are `expand`. Blocks that are shared are in
    `layers` once, BatchNorms then are `norms.D.(level - 1)`. Where several of those share a scale and a shift, these
    are `affines.N.(level - 1)`, N counting blocks.
    """

    def __init__(self, config: LiteConfig | None = None, **hyperparameters):
        super().__init__()
        if config is not None and hyperparameters:
            raise ValueError("give either a LiteConfig or its hyperparameters, not both")
        self.config = config = config or LiteConfig(**hyperparameters)
        self.conv = _stem(config)
        self.layers = nn.ModuleList(LiteBlock(config, norms=not config.norms_apart) for _ in range(config.distinct))
        outs, own = [config.branch_channels(level)[1] for level in range(1, config.level + 1)], config.affine == "depth"
        if config.norms_apart:
            self.norms = nn.ModuleList(
                nn.ModuleList(_norm(config, out, own) for out in outs) for _ in range(config.depth)
            )
        if not own:
            scale = 1.0 if config.norm == "batch" else FIRST_SCALE
            self.affines = nn.ModuleList(
                nn.ModuleList(Affine(out, scale) for out in outs) for _ in range(config.affines)
            )
        head = config.head
        if isinstance(head, DenseHead):
            self.expand = DenseScores(config, head, ACTIVATIONS[config.activation])
        elif isinstance(head, SuperResolutionHead):
            self.expand = Enlarged(config, head, ACTIVATIONS[config.activation])
        else:
            self.pool = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(config.final_dim, config.num_classes)
            )

    def forward(self, images: Tensor) -> Tensor:
        views = "one" if self.training else self.config.views
        return averaged(views, self.once, images, turned_back=self.config.task != "classification")

    def once(self, images: Tensor) -> Tensor:
        """What it makes of one view."""
        self.config.check_image_size(*images.shape[-2:])
        head, (height, width) = self.config.head, images.shape[-2:]
        given = padded(images, *self.config.input_size(height, width))
        inside, x = self._stem_with_inside(given) if self.config.skips else (None, self.conv(given))
        for depth in range(self.config.depth):
            x = laid_out_alike(x + self.layers[self.config.block(depth)](x, *self._norms(depth), depth))
        if isinstance(head, DenseHead):
            return cropped(self.expand(x, inside), height, width)
        if isinstance(head, SuperResolutionHead):
            return self.expand(x, images)
        return self.pool(x)

    def _norms(self, depth: int) -> tuple[nn.Module | None, nn.Module | None]:
        """The BatchNorms of a depth and what scales and shifts their outputs, by level; None where a block has it."""
        config = self.config
        norms = self.norms[depth] if config.norms_apart else None
        return norms, None if config.affine == "depth" else self.affines[config.affine_at(depth)]

    def _stem_with_inside(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The C/2 channels inside the stem, which a skip takes, and the features."""
        after = (2 if self.config.initial_conv == "patchify" else 1) + self.config.stem_activation
        inside = self.conv[:after](images)
        return inside, self.conv[after:](inside)


def _norm(config: LiteConfig, channels: int, affine: bool = True) -> nn.Module:
    """What ends a branch; without `affine`, what scales and shifts it is elsewhere."""
    if config.norm == "batch":
        return nn.BatchNorm2d(channels, affine=affine)
    return Affine(channels, FIRST_SCALE) if affine else nn.Identity()


def _stem(config: LiteConfig) -> nn.Sequential:
    """Keys of the state dict are upstream's with an activation, too, which has none."""
    layers: list[tuple[str, nn.Module]] = [(str(number), layer) for number, layer in enumerate(_stem_layers(config))]
    if config.stem_activation:
        layers.insert(1, ("activation", ACTIVATIONS[config.activation]()))
    return nn.Sequential(OrderedDict(layers))


def _stem_layers(config: LiteConfig) -> list[nn.Module]:
    i, c, every, pad = config.in_channels, config.final_dim, config.bias == "all", config.pad
    first, second = config.stride
    if config.initial_conv == "strided":
        return [
            nn.Conv2d(i, c // 2, 3, first, 1 + pad, bias=every),
            nn.Conv2d(c // 2, c, 3, second, 1),
        ]
    if config.initial_conv == "single":
        return [nn.Conv2d(i, c, config.kernel, first * second, config.kernel // 2 + pad)]
    if config.initial_conv == "separable":
        return [
            nn.Conv2d(i, c // 2, 3, first, 1 + pad, bias=every),
            nn.Conv2d(c // 2, c // 2, 3, second, 1, groups=c // 2, bias=False),
            nn.Conv2d(c // 2, c, 1),
        ]
    return [
        nn.Conv2d(i, c // 4, 3, 1, 1 + pad),
        nn.Conv2d(c // 4, c // 2, 3, 1, 1),
        nn.Conv2d(c // 2, c, config.patch_size, config.patch_size),
        nn.GELU(),
        nn.BatchNorm2d(c),
    ]
