"""WaveMixSR, WaveMixSR-V2 and their blocks, beside the same computation written out."""

import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as F

from wavemix import Level1Waveblock, WaveMixSR, WaveMixSRV2
from wavemix.shuffle_blocks import ShuffleBlock


@pytest.mark.parametrize("widened, mult", [(True, 1), (True, 3), (False, 4), (False, 2)])
def test_a_shuffle_block_written_out(widened, mult):
    block = ShuffleBlock(final_dim=8, mult=mult, dropout=0.5, widened=widened).eval()
    block.feedforward[-1].running_mean.normal_()
    w = {name: value.detach() for name, value in block.state_dict().items()}
    layers = [name.removesuffix(".weight") for name in w if name.endswith(".weight")]
    x = torch.randn(2, 8, 6, 10)
    y = F.conv2d(x, w["reduction.weight"], w["reduction.bias"])
    low, details = pywt.dwt2(y.numpy(), "haar")
    y = torch.from_numpy(np.concatenate([low, np.stack(details, 2).reshape(2, 6, 3, 5)], 1))
    y = F.gelu(F.conv2d(y, w["feedforward.0.weight"], w["feedforward.0.bias"]))
    if widened:
        y = F.conv2d(y, w["feedforward.3.weight"], w["feedforward.3.bias"])
    n, c, h, width = y.shape  # channel 4 i + 2 j + k is row j, column k of channel i
    y = y.view(n, c // 4, 2, 2, h, width).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * width)
    y = F.conv2d(y, w[f"{layers[-2]}.weight"], w[f"{layers[-2]}.bias"], padding=1)
    norm = [w[f"{layers[-1]}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    with torch.no_grad():
        torch.testing.assert_close(block(x), F.batch_norm(y, *norm), atol=1e-5, rtol=1e-4)


def test_luma_goes_through_the_network_and_colours_are_enlarged():
    network = WaveMixSR(depth=2, final_dim=8, ff_channel=8).eval()
    images = torch.rand(2, 3, 7, 10)
    with torch.no_grad():
        luma = network.path1[1:](F.interpolate(images[:, :1], scale_factor=2, mode="bicubic"))
        for layer in network.layers:
            luma = luma + layer(luma)
        expected = torch.cat([network.final(luma), F.interpolate(images[:, 1:], scale_factor=2, mode="bicubic")], 1)
        torch.testing.assert_close(network(images), expected)
        assert torch.equal(network(images[:, :1]), network(images)[:, :1])
    assert all(isinstance(layer, Level1Waveblock) for layer in network.layers)


@pytest.mark.parametrize("sr", [2, 4, 8])
def test_the_second_version_enlarges_as_often_as_it_says(sr):
    network = WaveMixSRV2(sr=sr, blocks=1, final_dim=8).eval()
    with torch.no_grad():
        for channels in (1, 3):
            assert network(torch.rand(1, channels, 5, 6)).shape == (1, channels, 5 * sr, 6 * sr)


def test_names_in_the_state_dict_are_upstreams():
    keys = {key.rpartition(".")[0] for key in WaveMixSR(depth=1, final_dim=8, ff_channel=8).state_dict()}
    ends = {"final.0", "final.1", "path1.1", "path1.2"}
    assert keys == ends | {f"layers.0.{part}" for part in ("reduction", *(f"feedforward.{n}" for n in (0, 3, 4, 5)))}
    keys = {key.rpartition(".")[0] for key in WaveMixSRV2(sr=2, blocks=1, final_dim=8).state_dict()}
    block = {f"layers.0.{part}" for part in ("reduction", *(f"feedforward.{n}" for n in (0, 3, 5, 6)))}
    assert keys == {f"SR_blocks.0.{part}" for part in ends | block}


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="Y .1 channel. or YCbCr .3 channels., not 2"):
        WaveMixSR(depth=1, final_dim=8, ff_channel=8)(torch.rand(1, 2, 8, 8))
    with pytest.raises(ValueError, match="sr is 2, 4 or 8, not 3"):
        WaveMixSRV2(sr=3)
    with pytest.raises(ValueError, match="multiple of 4, not 6"):
        WaveMixSRV2(final_dim=6)
