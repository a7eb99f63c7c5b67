"""`Compiled` against the module it is made of: the same scores but for rounding, for one image and for many."""

import copy

import pytest
import torch
from examples import examples
from hypothesis import given, settings
from shapes import configurations, fitting_size

from wavemix import LiteConfig, WaveMixLite, kernels
from wavemix.compiled import BATCH, Compiled, with_kernels
from wavemix.kernels import LANES
from wavemix.stack.operations import feedforward

pytestmark = pytest.mark.skipif(kernels.library() is None, reason="needs a C++ compiler")


def trained(config: LiteConfig) -> WaveMixLite:
    """A network in evaluation mode that has seen something: none of its BatchNorms is the identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = WaveMixLite(config).eval()
    for name, value in [*network.named_buffers(), *network.named_parameters()]:
        if "running" in name or value.dim() == 1:
            value.data.add_(torch.rand(value.shape, generator=generator))
    return network


def compare(network: WaveMixLite, *shape: int) -> None:
    images = torch.randn(shape[0], network.config.in_channels, *shape[1:], generator=torch.Generator().manual_seed(2))
    compiled = Compiled(network)
    with torch.no_grad():
        plain, found = network(images), compiled(images)
    assert found.shape == plain.shape and not found.requires_grad
    assert (found - plain).abs().max() <= 1e-5 * plain.abs().max()


@given(configurations(small=True))
@settings(max_examples=examples(30), derandomize=True)
def test_equals_the_module(config):
    size = fitting_size(config)
    network = trained(config)
    for count in (1, LANES + 3):
        compare(network, count, size, size)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "depthwise", "deconv"])
@pytest.mark.parametrize(
    "hyperparameters", [{}, {"shared": 2}, {"affine": "one"}, {"bias": "needed", "activation": "silu"}]
)
@pytest.mark.parametrize("size", [(2, 2), (2, 38), (38, 2), (28, 20)])  # one pixel after the transform, one row, …
def test_equals_the_module_whatever_the_maps_shape(upsampling, hyperparameters, size):
    config = LiteConfig(in_channels=1, final_dim=8, depth=4, upsampling=upsampling, **hyperparameters)
    compare(trained(config), 3, *size)


@pytest.mark.parametrize("upsampling", ["bilinear", "deconv"])
def test_batches_of_any_size(upsampling):
    network = trained(LiteConfig(final_dim=12, depth=2, upsampling=upsampling, stride=2))
    for count in (LANES - 1, LANES, BATCH, BATCH + 1, 2 * BATCH + LANES + 1):
        compare(network, count, 8, 8)
    assert Compiled(network)(torch.zeros(0, 3, 8, 8)).shape == (0, network.config.num_classes)


def test_threads_change_nothing():
    compiled, images = (
        Compiled(trained(LiteConfig(final_dim=8, depth=3, upsampling="bilinear"))),
        torch.rand(9, 3, 8, 8),
    )
    threads, found = torch.get_num_threads(), []
    for count in (1, 3):
        torch.set_num_threads(count)
        found.append(compiled(images))
    torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_what_kernels_do_not_take_goes_through_the_module():
    network = trained(LiteConfig(final_dim=8, depth=2, upsampling="bilinear"))
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(Compiled(network).double()(images), network(images))


def test_its_weights_are_those_of_when_it_was_made():
    network, images = trained(LiteConfig(final_dim=8, depth=2, upsampling="bilinear")), torch.rand(2, 3, 8, 8)
    compiled = Compiled(copy.deepcopy(network))
    copied = copy.deepcopy(compiled)
    assert torch.equal(copied(images), compiled(images))


def test_sizes_that_do_not_fit_and_other_tasks_are_refused():
    compiled = Compiled(trained(LiteConfig(final_dim=8, depth=1, upsampling="bilinear", stride=2)))
    for wrong in (torch.rand(1, 3, 9, 9), torch.rand(LANES, 3, 10, 8)):
        with pytest.raises(ValueError, match="needs a feature map divisible by 2"):
            compiled(wrong)
    dense = WaveMixLite(LiteConfig(final_dim=8, depth=1, head={"task": "segmentation"}))
    with pytest.raises(ValueError, match="classifiers"):
        Compiled(dense)


def test_without_kernels_the_module_itself_is_used_and_one_line_says_so(monkeypatch):
    network = trained(LiteConfig(final_dim=8, depth=1))
    monkeypatch.setattr(kernels, "library", lambda: None)
    with pytest.warns(UserWarning, match="not compiled, the network runs as plain PyTorch: there is no C") as said:
        assert with_kernels(network) is network
    assert len(said) == 1 and "\n" not in str(said[0].message)


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_activations_are_never_subnormal(activation):
    """A processor takes many times as long for such numbers, and trained networks have many that were."""
    x = torch.linspace(-100, 100, 4096 * LANES).view(1, 1, 1, 64, 64, LANES)
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1)
    y = feedforward(x, one, zero, one, zero, activation)
    assert not ((y != 0) & (y.abs() < torch.finfo(torch.float32).tiny)).any()
    plain = torch.nn.functional.gelu(x) if activation == "gelu" else torch.nn.functional.silu(x)
    torch.testing.assert_close(y, plain, atol=1e-6, rtol=1e-6)
