"""Random configurations of networks, and images that fit them."""

from hypothesis import strategies as st

from wavemix import LiteConfig


@st.composite
def configurations(draw, small=False):
    """Any configuration of both families."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    dim = pick(4, 8, 12) if small else pick(4, 8, 12, 16, 20, 32)
    level, upsampling = draw(st.integers(1, 4)), pick("nearest", "bilinear", "deconv", "depthwise")
    depth = draw(st.integers(1, 2 if small else 5))
    turns = level == 1 and upsampling != "deconv"
    return LiteConfig(
        in_channels=pick(1, 2, 3),
        num_classes=pick(2, 10, 47),
        final_dim=dim,
        depth=depth,
        mult=draw(st.integers(1, 3)),
        ff_channel=pick(None, dim, 5, 6),
        level=level,
        cycle=draw(st.integers(1, min(depth, 4))) if turns else 1,
        upsampling=upsampling,
        initial_conv=pick("strided", "patchify", "pachify", "single", "separable"),
        stride=pick(1, (2, 1), (1, 2), 2),
        kernel=pick(3, 5, 7),
        patch_size=pick(1, 2, 4),
        pad=pick(0, 0, 2),
        dropout=pick(0.0, 0.3),
        shared=draw(st.integers(0, depth)),
        affine=pick("depth", "block", "one"),
        bias=pick("all", "needed"),
        activation=pick("gelu", "relu", "silu"),
        stem_activation=pick(False, True),
        wavelet=pick("haar", "haar", "db2", "bior2.2"),
        views=pick("one", "one", "mirror", "shifts"),
    )


ENLARGING = {"kernel": (1, 3), "bicubic": (True, False), "activation": (False, True)}


@st.composite
def headed(draw, small=True):
    """Any configuration of a network for segmentation or super-resolution."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    dense = {"task": "segmentation", "kind": pick("interpolated", "transposed"), "width": pick(None, 3, 8)}
    enlarging = {"task": "super-resolution", "scale": pick(2, 3, 4), "kind": pick("shuffle", "transposed")}
    head = pick(
        dense | {"skip": pick(True, False)}, enlarging | {name: pick(*values) for name, values in ENLARGING.items()}
    )
    hyperparameters = draw(configurations(small)).model_dump() | {
        "pad": 0,
        "norm": pick("batch", "scale"),
        "views": pick("one", "one", "mirror", "eight"),
        "head": head,
    }
    try:
        return LiteConfig(**hyperparameters)
    except ValueError as error:  # a head that this stem does not serve
        assert "stem" in str(error)
        return LiteConfig(**hyperparameters | {"initial_conv": "strided", "stride": (2, 2)})


def fitting_size(config):
    """The smallest edge of a square image that the network takes."""
    for size in range(4, 400):
        try:
            config.check_image_size(size, size)
            return size
        except ValueError:
            continue
    raise AssertionError(f"no size up to 400 fits {config}")
