"""How much a network has to compute, in closed form: multiply-accumulates, and what its training takes."""

from wavemix.config import LiteConfig
from wavemix.head_config import DenseHead, SuperResolutionHead


def multiply_accumulates(config: LiteConfig, height: int, width: int) -> int:
    """Multiply-accumulates of one forward pass of a trained network with the Haar wavelet, whose transform only adds.

    Of convolutions and matrix products alone, as torch's and fvcore's counters have them; of all views of the image.
    """
    return config.forwards * _of_one_view(config, height, width)


def _of_one_view(config: LiteConfig, height: int, width: int) -> int:
    h, w = config.feature_size(height, width)
    i, c, area = config.in_channels, config.final_dim, h * w
    height, width = (size + 2 * config.pad for size in config.input_size(height, width))
    first = ((height - 1) // config.stride[0] + 1) * ((width - 1) // config.stride[0] + 1) * 9 * i * (c // 2)
    stems = {
        "strided": first + 9 * (c // 2) * c * area,
        "separable": first + (9 + c) * (c // 2) * area,
        "single": config.kernel**2 * i * c * area,
        "patchify": height * width * 9 * (c // 4) * (i + c // 2) + config.patch_size**2 * (c // 2) * c * area,
    }
    blocks = config.depth * c * (c // 4) * area
    for level in range(1, config.level + 1):
        inside, out = config.branch_channels(level)
        hidden, f = config.mult * c, config.ff_outputs
        macs = inside * hidden
        if config.upsampling == "deconv":
            macs += hidden * f + 16 * f * out
        else:
            macs += hidden * f + f * out if config.projected else hidden * out
            macs += 9 * out * (config.upsampling == "depthwise")
        blocks += sum(count * (macs * area // 4 ** (passed + level)) for count, passed in _turns(config))
    return stems[config.initial_conv] + blocks + _head(config, area)


def _turns(config: LiteConfig) -> list[tuple[int, int]]:
    """Of each turn in the levels (`LiteConfig.cycle`): how many blocks have it, and how many levels they pass over."""
    return [
        (len(range(turn, config.depth, config.cycle)), config.halvings(turn) - config.level)
        for turn in range(config.cycle)
    ]


def _head(config: LiteConfig, area: int) -> int:
    head, c = config.head, config.final_dim
    if isinstance(head, DenseHead):
        return head.multiply_accumulates(c, config.num_classes, config.head_factors, area)
    if isinstance(head, SuperResolutionHead):
        return head.multiply_accumulates(c, config.in_channels, head.scale * config.downscale, area)
    return head.multiply_accumulates(c, config.num_classes)


def operations(config: LiteConfig) -> int:
    """About how many operations a forward pass starts: a block has 8 a level, 2 for one it passes over, and 4 more."""
    return config.depth * (8 * config.level + 4) + 2 * sum(count * passed for count, passed in _turns(config))


# what an image takes apart from its network (being drawn, moved, its share of the optimizer's step), and what the start
# of an operation takes, in multiply-accumulates
IMAGE, START = 110_000, 1_900


def training_work(config: LiteConfig, height: int, width: int) -> float:
    """Relative cost of training on one image: multiply-accumulates, and what IMAGE and START say.

    Fitted to 27 networks of 8 to 16 channels and one to three levels on images of 28x28 pixels, 34,000 to 3.5 million
    multiply-accumulates (one thread with AVX-512, batches of 64; `python -m scripts.experiments.work`): it is off by a
    fifth. Without the two numbers the smallest would count as ten times as quick as they are.
    """
    return _of_one_view(config, height, width) + IMAGE + START * operations(config)
