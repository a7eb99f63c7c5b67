"""Training with products of bfloat16: gradients near those of double precision, the same bits whatever the threads."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from wavemix import LiteConfig, WaveMixLite, kernels
from wavemix.kernels import LANES
from wavemix.stack import Stack, bfloat16_lacks, bfloat16_wins, to_lanes
from wavemix.stack.operations import convolution

needs_units = pytest.mark.skipif(not kernels.bfloat16(), reason="needs a processor with AVX512-BF16, and a compiler")
pytestmark = needs_units
# a factor is rounded by 2**-9 at most, of its own size; some ten in a row, at random, make up to 2 % of a gradient
BOUND = 0.05


def gradient(config: LiteConfig, images: torch.Tensor, precision="bfloat16", seeds=(3,)) -> torch.Tensor:
    """(K, P) of images (K or 1, N, I, H, W), their labels in turn."""
    stack = Stack(config, list(seeds), precision=precision)
    logits, _ = stack(to_lanes(images))
    target = torch.arange(images.shape[1]) % config.num_classes
    F.cross_entropy(logits.flatten(0, 1), target.repeat(len(seeds)), reduction="sum").backward()
    return stack.flat.grad


def exact(config: LiteConfig, images: torch.Tensor) -> torch.Tensor:
    """The same of one member, by a module in double precision."""
    torch.manual_seed(3)
    network = WaveMixLite(config).double().train()
    target = torch.arange(images.shape[1]) % config.num_classes
    F.cross_entropy(network(images[0].double()), target, reduction="sum").backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


def random_images(config: LiteConfig, height: int, width: int, count: int = 2 * LANES) -> torch.Tensor:
    return torch.randn(1, count, config.in_channels, height, width, generator=torch.Generator().manual_seed(0))


CONFIGS = st.builds(
    LiteConfig,
    in_channels=st.sampled_from([1, 2, 3]),
    final_dim=st.sampled_from([8, 16, 24, 40]),
    depth=st.integers(1, 3),
    mult=st.integers(1, 3),
    upsampling=st.sampled_from(["nearest", "bilinear", "depthwise", "deconv"]),
    activation=st.sampled_from(["gelu", "silu"]),
    bias=st.sampled_from(["all", "needed"]),
    stride=st.sampled_from([1, 2, (2, 1)]),
)


@given(CONFIGS, st.integers(2, 9), st.integers(2, 9))
@settings(max_examples=20, derandomize=True)
def test_gradients_are_near_those_of_double_precision(config, height, width):
    images = random_images(config, 8 * height, 8 * width, LANES)
    wanted = exact(config, images)
    error = (gradient(config, images)[0].double() - wanted).norm() / wanted.norm()
    assert error < BOUND, error


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "depthwise"])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (24, 40)])
def test_gradients_of_blocks_that_take_turns(upsampling, height, width):
    config = LiteConfig(in_channels=1, final_dim=8, depth=4, mult=1, upsampling=upsampling, cycle=3, stride=1)
    images = random_images(config, height, width)
    wanted = exact(config, images)
    error = (gradient(config, images)[0].double() - wanted).norm() / wanted.norm()
    assert error < BOUND, error


def test_it_is_another_precision():
    config = LiteConfig(in_channels=1, final_dim=16, depth=2, upsampling="deconv")
    images = random_images(config, 12, 12)
    narrow, wide = gradient(config, images), gradient(config, images, "float32")
    assert not torch.equal(narrow, wide)
    assert torch.nn.functional.cosine_similarity(narrow, wide) > 0.999


@pytest.mark.parametrize(("upsampling", "cycle"), [("bilinear", 1), ("deconv", 1), ("depthwise", 1), ("depthwise", 2)])
def test_the_same_bits_whatever_the_threads_and_neighbours(upsampling, cycle):
    config = LiteConfig(in_channels=1, final_dim=16, depth=2, upsampling=upsampling, ff_channel=16, cycle=cycle)
    images, found = random_images(config, 16, 12, 4 * LANES), []
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 1):
            torch.set_num_threads(count)
            found.append(gradient(config, images))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found)
    assert torch.equal(gradient(config, images, seeds=(2, 3))[1], found[0][0])


@given(st.data())
@settings(max_examples=30, derandomize=True)
def test_products_of_small_integers_are_exact(data):
    """Integers up to 4 are bfloat16, and their products' sums are below 2**24: not a bit may be lost, at any shape."""
    draw = data.draw
    inside, outside = 2 * draw(st.integers(1, 5)), 2 * draw(st.integers(1, 9))
    k, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    padding, height, width = draw(st.integers(0, k)), draw(st.integers(k, 11)), draw(st.integers(k, 11))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def integers(*shape):
        return torch.randint(-4, 5, shape, generator=generator).float()

    x, weight, bias = (
        integers(1, 1, inside, height, width, LANES),
        integers(1, outside, inside, k, k),
        integers(1, outside),
    )
    results = []
    for narrow in (True, False):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
        y = convolution(*leaves, stride, padding, narrow=narrow)
        given = torch.randint(-4, 5, y.shape, generator=torch.Generator().manual_seed(1)).float()
        results.append([y.detach(), *torch.autograd.grad(y, leaves, given)])
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("upsampling", ["bilinear", "deconv"])
def test_what_is_measured_of_networks_is_float32(upsampling):
    config = LiteConfig(in_channels=1, final_dim=16, depth=2, upsampling=upsampling)
    images = to_lanes(random_images(config, 8, 8))
    narrow, wide = Stack(config, [0], precision="bfloat16"), Stack(config, [0])
    with torch.no_grad():
        _, statistics = wide(images)
        for ours, theirs in (
            (narrow(images), wide(images)),
            (narrow(images, given=statistics), wide(images, given=statistics)),
        ):
            assert torch.equal(ours[0], theirs[0])


@pytest.mark.parametrize("upsampling", ["bilinear", "deconv", "depthwise"])
def test_it_keeps_less_for_the_backward_pass(upsampling):
    config = LiteConfig(in_channels=1, final_dim=16, depth=6, upsampling=upsampling)
    images, kept = to_lanes(random_images(config, 16, 16)), {}
    for precision in ("bfloat16", "float32"):
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits, _ = Stack(config, [0], precision=precision)(images)
        kept[precision] = sum(sizes.values())
        del logits
    assert kept["bfloat16"] < 0.75 * kept["float32"]


@pytest.mark.parametrize(
    "hyperparameters", [{"final_dim": 12}, {"ff_channel": 9, "upsampling": "deconv"}, {"level": 2}, {"dropout": 0.1}]
)
def test_what_it_lacks_is_said(hyperparameters):
    config = LiteConfig(**{"in_channels": 1, "final_dim": 16, "depth": 1, **hyperparameters})
    lacking = bfloat16_lacks(config)
    assert lacking is not None
    with pytest.raises(ValueError, match="no bfloat16: ") as error:
        Stack(config, [0], precision="bfloat16")
    assert lacking in str(error.value)
    assert bfloat16_lacks(LiteConfig(), "cuda")


def test_the_faster_one_is_known_after_one_measurement(monkeypatch):
    asked = []

    def measured(shape, steps):
        asked.append(shape)
        for step in steps.values():
            step()
        return {"bfloat16": 1.0, "float32": 2.0}

    monkeypatch.setattr("wavemix.stack.measured", measured)
    config = LiteConfig(in_channels=1, final_dim=8, depth=1, num_classes=3)
    assert bfloat16_wins(config, 2, 2 * LANES, 8, 8)
    monkeypatch.setattr("wavemix.stack.measured", lambda *_: None)  # nothing can be kept
    assert not bfloat16_wins(config, 2, 2 * LANES, 8, 8) and len(asked) == 1
