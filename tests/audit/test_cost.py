import pytest
import torch
import torch.nn.functional as F
from configurations import configurations
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from search.audit.cost import (
    activation_bytes,
    cost,
    count_flops,
    count_flops_torch,
    latency,
    peak_gpu_bytes,
)
from search.audit.modules import modules
from wavemix import WaveMixLite, haar

configs = configurations(
    2,
    in_channels=st.sampled_from([1, 3]),
    final_dim=st.sampled_from([4, 8]),
    ff_channel=st.sampled_from([None, 6]),
    level=st.integers(1, 2),  # 32 pixels through a stem of patches of 4 leave 8, and db2 has 4 taps
    upsampling=st.sampled_from(["nearest", "bilinear", "deconv"]),
    initial_conv=st.sampled_from(["strided", "patchify", "single", "separable"]),
    bias=st.sampled_from(["all", "needed"]),
    activation=st.sampled_from(["gelu", "relu", "silu"]),
    wavelet=st.sampled_from(["haar", "db2"]),
)


@settings(max_examples=examples(12))
@given(configs)
def test_every_operator_of_our_networks_is_counted_and_torch_counts_twice_the_macs(config):
    found = cost(WaveMixLite(config), (config.in_channels, 32, 32), batch=2)
    assert found.unsupported == {}
    assert found.flops_torch == 2 * (found.flops["conv"] + found.flops["linear"])
    assert found.parameters == config.parameters()
    assert found.peak_gpu_bytes is None and found.peak_gpu_batch is None and found.latency_seconds is None


class Haar(nn.Module):
    def forward(self, x):
        return torch.cat(haar(x), 1)


def test_haar_costs_its_additions_and_scalings():
    flops, unsupported = count_flops(Haar(), (2, 8, 8))
    quarter = 2 * 4 * 4  # four bands of this many elements; the row pass works on twice two halves
    assert flops == {"add": 4 * quarter, "sub": 4 * quarter, "mul": 4 * quarter}
    assert unsupported == {}


class Each(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (F.relu, {"relu": 128}),
        (F.gelu, {"gelu": 128}),
        (F.silu, {"silu": 128}),
        (lambda x: x + x, {"add": 128}),
        (lambda x: F.interpolate(x, scale_factor=2), {"upsample_nearest2d": 512}),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), {"upsample_bilinear2d": 2048}),
        (lambda x: x.mean((2, 3)), {"mean": 128}),
        (lambda x: F.adaptive_avg_pool2d(x, 1), {"adaptive_avg_pool2d": 128}),
        (lambda x: torch.cat([x, x], 1)[..., ::2].flatten(1), {}),
    ],
)
def test_conventions(function, expected):
    assert count_flops(Each(function), (2, 8, 8)) == (expected, {})


def test_convolutions_and_batchnorm():
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 3, 4, 2, 1))
    flops, _ = count_flops(network, (2, 8, 8))
    assert flops == {"conv": 9 * 2 * 4 * 64 + 16 * 4 * 3 * 64, "batch_norm": 2 * 4 * 64}
    assert count_flops_torch(network, (2, 8, 8)) == 2 * flops["conv"]


def test_an_operator_without_a_count_is_listed():
    flops, unsupported = count_flops(Each(lambda x: torch.erf(x) + 1), (2, 8, 8))
    assert flops == {"add": 128} and unsupported == {"aten::erf": 1}


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        return F.conv2d(x, weight) + torch.erf(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def test_inside_an_autograd_function():
    flops, unsupported = count_flops(Each(lambda x: Twice.apply(x, torch.ones(2, 2, 1, 1))), (2, 8, 8))
    assert flops == {"conv": 2 * 2 * 64, "add": 128} and unsupported == {"aten::erf": 1}


# ------------------------------------------------------------------------------------------------------- memory


def test_activation_memory_of_known_layers():
    # a convolution keeps its input, a ReLU its output, which is the next convolution's input
    network = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    assert activation_bytes(network, (2, 8, 8), batch=3) == 3 * 64 * 4 * (2 + 4)
    assert activation_bytes(nn.Flatten(), (2, 8, 8)) == 0


def test_activation_memory_without_numbers_is_that_with_numbers():
    class Looks(nn.Module):  # at a number, which a tensor of shapes alone does not have
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x) if float(x.sum()) < 1e30 else x

    for hyperparameters in (
        {},
        {"upsampling": "bilinear", "level": 2},
        {"upsampling": "deconv", "shared": 1, "dropout": 0.5},
    ):
        network = WaveMixLite(final_dim=8, depth=2, **hyperparameters)
        assert activation_bytes(network, (3, 16, 16), 4) == activation_bytes(Looks(network), (3, 16, 16), 4) > 0
        assert count_flops_torch(network, (3, 16, 16)) == count_flops_torch(Looks(network), (3, 16, 16))


def test_it_grows_with_the_batch():
    network = WaveMixLite(final_dim=8, depth=2)
    four, eight = (activation_bytes(network, (3, 16, 16), batch) for batch in (4, 8))
    assert 1.95 < eight / four <= 2  # not twice: BatchNorm's statistics are there once


def test_nothing_changes_in_the_network():
    network = WaveMixLite(final_dim=8, depth=2, dropout=0.5).train()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    cost(network, (3, 16, 16), timed=True)
    modules(network, (3, 16, 16), 2)
    assert network.training and all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in network.modules())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_gpu_memory_holds_what_is_saved_and_nothing_of_the_process():
    network = WaveMixLite(final_dim=8, depth=2)
    torch._C._cuda_clearCublasWorkspaces()  # as in a process that has multiplied no matrices yet
    peak = peak_gpu_bytes(network, (3, 16, 16), 64, "cuda")
    assert peak >= activation_bytes(network, (3, 16, 16), 64)
    assert peak_gpu_bytes(network, (3, 16, 16), 64, "cuda") == peak


def test_no_gpu_no_figure():
    assert peak_gpu_bytes(nn.Flatten(), (1, 4, 4), 1, "cpu") is None


# -------------------------------------------------------------------------------------------- latency


def test_latency_is_a_time():
    assert 0 < latency(nn.Flatten(), (1, 4, 4), repetitions=3) < 1
