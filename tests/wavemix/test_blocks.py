"""Waveblock against a second, plain implementation: upstream's data flow on pytorch_wavelets' transform."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import wavemix
from wavemix import Waveblock

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_wavelets import DWTForward

BLOCKS = [getattr(wavemix, f"Level{level}Waveblock") for level in (1, 2, 3, 4)]


def randomised(block):
    """Statistics and scales away from 0 and 1, where they would hide mistakes."""
    for module in block.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    return block.double().eval()


def reference(state, x, level):
    """One block from its state dict: every level's bands from a multi-level transform, merged coarse to fine."""

    def branch(n, y):
        name = "feedforward" if level == 1 else f"feedforward{n}"
        w = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        y = F.gelu(F.conv2d(y, w["0.weight"], w["0.bias"]))
        y = F.conv2d(y, w["3.weight"], w["3.bias"])
        y = F.conv_transpose2d(y, w["4.weight"], w["4.bias"], stride=2, padding=1)
        return F.batch_norm(y, w["5.running_mean"], w["5.running_var"], w["5.weight"], w["5.bias"])

    x = F.conv2d(x, state["reduction.weight"], state["reduction.bias"])
    merged = None
    for n in range(level, 0, -1):
        low, details = DWTForward(J=n, wave="db1", mode="zero").double()(x)
        bands = [low, details[-1].reshape(low.shape[0], 3 * low.shape[1], *low.shape[2:])]
        merged = branch(n, torch.cat(bands + ([] if merged is None else [merged]), 1))
    return merged


@given(
    level=st.integers(1, 4),
    mult=st.integers(1, 3),
    ff_channel=st.integers(1, 20),
    quarter=st.integers(1, 6),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
)
@settings(max_examples=examples(30))
def test_equals_the_reference(level, mult, ff_channel, quarter, rows, columns):
    torch.manual_seed(0)
    block = randomised(BLOCKS[level - 1](mult=mult, ff_channel=ff_channel, final_dim=4 * quarter))
    x = torch.randn(2, 4 * quarter, rows * 2**level, columns * 2**level, dtype=torch.float64)
    with torch.no_grad():
        # pytorch_wavelets rounds its filters to single precision
        torch.testing.assert_close(block(x), reference(block.state_dict(), x, level), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_named_blocks_are_the_general_one(level):
    named, general = BLOCKS[level - 1](), Waveblock(level=level)
    shapes = {key: value.shape for key, value in general.state_dict().items()}
    assert {key: value.shape for key, value in named.state_dict().items()} == shapes
    # upstream's defaults: mult 2, ff_channel 16, final_dim 16, dropout 0.5
    finest = named.feedforward if level == 1 else named.feedforward1
    assert finest[3].weight.shape == (16, 32, 1, 1) and finest[2].p == 0.5


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_keys_are_upstreams(level):
    block = BLOCKS[level - 1](final_dim=8, ff_channel=8)
    branches = ["feedforward"] if level == 1 else [f"feedforward{n}" for n in range(1, level + 1)]
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    inside = [f"{n}.{part}" for n in (0, 3, 4) for part in ("weight", "bias")] + [f"5.{part}" for part in norm]
    expected = [f"{branch}.{key}" for branch in branches for key in inside]
    assert set(block.state_dict()) == {*expected, "reduction.weight", "reduction.bias"}


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_sizes_that_do_not_fit_are_refused(level):
    block = BLOCKS[level - 1](final_dim=8, ff_channel=8)
    assert block(torch.randn(2, 8, 16, 32)).shape == (2, 8, 16, 32)
    for height, width in ((2**level + 1, 16), (16, 2**level + 2 ** (level - 1))):
        with pytest.raises(ValueError, match=f"divisible by {2**level}, not {height}x{width}"):
            block(torch.randn(1, 8, height, width))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        Waveblock(level=1, final_dim=6)
    with pytest.raises(ValueError, match="at least 1 level"):
        Waveblock(level=0)
    with pytest.raises(TypeError):
        wavemix.Level1Waveblock(2)


def test_gradients_reach_every_parameter():
    block = wavemix.Level4Waveblock(final_dim=8, ff_channel=4)
    block(torch.randn(2, 8, 32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())
    # biases right before a BatchNorm have none but rounding's
    for name, parameter in block.named_parameters():
        if not name.endswith("4.bias"):
            assert parameter.grad.abs().sum() > 0, name
