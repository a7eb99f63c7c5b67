import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as F
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import configurations, fitting_size

from wavemix import Level1Waveblock, Level2Waveblock, Level3Waveblock, Level4Waveblock, LiteConfig, WaveMixLite
from wavemix.lite import LiteBlock

BLOCKS = {1: Level1Waveblock, 2: Level2Waveblock, 3: Level3Waveblock, 4: Level4Waveblock}


@given(configurations(small=True))
@settings(max_examples=examples(60))
def test_images_to_logits_and_a_gradient_for_every_parameter(config):
    torch.manual_seed(0)
    network, size = WaveMixLite(config), fitting_size(config)
    images = torch.randn(2, config.in_channels, size, size)
    seen = []
    network.conv.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[-2:])))
    logits = network(images)
    assert logits.shape == (2, config.num_classes) and logits.isfinite().all()
    assert seen == [config.feature_size(size, size)]
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("ff_channel", [8, 5])
def test_a_block_with_deconvolution_is_upstreams(level, ff_channel):
    config = LiteConfig(final_dim=8, ff_channel=ff_channel, level=level, mult=3, upsampling="deconv")
    upstream, block = BLOCKS[level](mult=3, ff_channel=ff_channel, final_dim=8, dropout=0.0), LiteBlock(config)
    block.load_state_dict(upstream.state_dict())
    x = torch.randn(2, 8, 16, 32)
    assert torch.equal(block(x), upstream(x))
    assert torch.equal(block.eval()(x), upstream.eval()(x))


def test_keys_are_upstreams_where_upstream_has_the_layer():
    network = WaveMixLite(final_dim=8, depth=2)
    keys = set(network.state_dict())
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    block = [f"{layer}.{part}" for layer in ("reduction", "feedforward.0", "feedforward.3") for part in norm[:2]]
    block += [f"feedforward.5.{part}" for part in norm]
    expected = {f"layers.{depth}.{key}" for depth in (0, 1) for key in block}
    assert keys == expected | {f"{layer}.{part}" for layer in ("conv.0", "conv.1", "pool.2") for part in norm[:2]}


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior2.2"])
def test_level_1_is_the_published_formula(upsampling, activation, wavelet):
    """Reduction, wavelet, 1x1, activation, 1x1, up-sampling, BatchNorm, residual: written out from the state dict."""
    hyperparameters = dict(upsampling=upsampling, activation=activation, wavelet=wavelet)
    # two blocks: the first one's up-sampling alone would not show after average pooling
    network = WaveMixLite(final_dim=8, depth=2, in_channels=1, stride=(2, 1), **hyperparameters).double().eval()
    w = network.state_dict()
    images = torch.randn(3, 1, 24, 32, dtype=torch.float64)
    x = F.conv2d(images, w["conv.0.weight"], w["conv.0.bias"], stride=2, padding=1)
    x = F.conv2d(x, w["conv.1.weight"], w["conv.1.bias"], padding=1)
    for depth in range(2):
        block = {key.removeprefix(f"layers.{depth}."): value for key, value in w.items()}
        block["feedforward.5.running_mean"].normal_()
        block["feedforward.5.running_var"].uniform_(0.5, 2)
        y = F.conv2d(x, block["reduction.weight"], block["reduction.bias"])
        low, details = pywt.dwt2(y.numpy(), wavelet, mode="periodization")
        details = np.stack(details, 2).reshape(3, 6, 6, 8)  # LH, HL, HH of one channel, then of the other
        y = torch.from_numpy(np.concatenate([low, details], 1))
        y = F.conv2d(y, block["feedforward.0.weight"], block["feedforward.0.bias"])
        y = F.conv2d(getattr(F, activation)(y), block["feedforward.3.weight"], block["feedforward.3.bias"])
        y = F.interpolate(y, scale_factor=2, mode=upsampling)
        norm = [block[f"feedforward.5.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        x = x + F.batch_norm(y, *norm)
    logits = F.linear(x.mean((2, 3)), w["pool.2.weight"], w["pool.2.bias"])
    with torch.no_grad():
        torch.testing.assert_close(network(images), logits)


@pytest.mark.parametrize(("shared", "affine"), [(0, "one"), (2, "block"), (2, "one")])
def test_shared_scales_and_shifts_equal_copies_of_them(shared, affine):
    config = LiteConfig(final_dim=8, depth=5, level=2, in_channels=1, shared=shared, affine=affine)
    network, own = WaveMixLite(config), WaveMixLite(config.model_copy(update={"affine": "depth"}))
    for parameter in network.affines.parameters():
        torch.nn.init.normal_(parameter)
    copied = {key: network.state_dict().get(key) for key in own.state_dict()}
    for key in [key for key, value in copied.items() if value is None]:
        *layers, kind = key.split(".")
        depth = int(layers[1])
        level = int(layers[2]) if layers[0] == "norms" else int(layers[2].removeprefix("feedforward")) - 1
        if kind in ("weight", "bias"):
            copied[key] = network.state_dict()[f"affines.{config.affine_at(depth)}.{level}.{kind}"]
        else:
            copied[key] = network.state_dict()[f"norms.{depth}.{level}.{kind}"]
    own.load_state_dict(copied)
    images = torch.randn(4, 1, 16, 16)
    torch.testing.assert_close(network(images), own(images))
    torch.testing.assert_close(network.eval()(images), own.eval()(images))


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_shared_blocks_equal_copies_of_them_in_turn(distinct):
    config = LiteConfig(final_dim=8, depth=5, level=2, in_channels=1, shared=distinct)
    shared = WaveMixLite(config)
    unrolled = WaveMixLite(config.model_copy(update={"shared": 0}))
    state, copied = shared.state_dict(), {}
    for key in unrolled.state_dict():
        parts = key.split(".")
        if parts[0] != "layers":
            copied[key] = state[key]
        elif parts[2].startswith("feedforward") and parts[3] == "5":
            copied[key] = state[f"norms.{parts[1]}.{int(parts[2][-1]) - 1}.{parts[4]}"]
        else:
            copied[key] = state[".".join(["layers", str(int(parts[1]) % distinct), *parts[2:]])]
    unrolled.load_state_dict(copied)
    images = torch.randn(4, 1, 16, 16)
    torch.testing.assert_close(shared(images), unrolled(images))
    torch.testing.assert_close(shared.eval()(images), unrolled.eval()(images))


@given(configurations(small=True))
@settings(max_examples=examples(30))
def test_another_layer_absorbs_the_biases_that_are_dropped(config):
    """Whatever the dropped biases are, the remaining ones can be set to give the same function."""
    config = config.model_copy(update={"bias": "all", "dropout": 0.0})
    full = WaveMixLite(config).double()
    lean = WaveMixLite(config.model_copy(update={"bias": "needed"}))
    dropped = full.state_dict().keys() - lean.state_dict().keys()
    assert all(key.endswith(".bias") for key in dropped) and not lean.state_dict().keys() - full.state_dict().keys()
    size = fitting_size(config)
    images = torch.randn(4, config.in_channels, size, size, dtype=torch.float64)
    before = full(images)
    with torch.no_grad():
        for key in dropped:
            block, _, layer = key.removesuffix(".bias").rpartition(".")
            if layer == "reduction":  # a constant is 2**level times itself in the low bands, nothing in the others
                shift, module = torch.randn(config.final_dim // 4, dtype=torch.float64), full.get_submodule(block)
                uses = [depth for depth in range(config.depth) if full.layers[config.block(depth)] is module]
                turns = {config.halvings(depth) - config.level for depth in uses}
                if len(turns) > 1:  # a shared block on several levels would need a bias for each
                    continue
                module.reduction.bias += shift
                for level in range(1, config.level + 1):
                    expand = getattr(module, module.branch(level))[0]
                    expand.bias -= 2 ** (level + max(turns)) * expand.weight[:, : len(shift), 0, 0] @ shift
            elif "feedforward" in key and (config.upsampling != "depthwise" or layer == "0"):
                full.get_parameter(key).add_(0.7)  # BatchNorm takes the mean away
            else:  # of two convolutions the second one's bias does, or BatchNorm, but for the padded border
                assert key == "conv.0.bias" or config.upsampling == "depthwise"
    torch.testing.assert_close(full(images), before, atol=1e-5, rtol=1e-5)


def test_dropout_acts_in_training_only():
    network = WaveMixLite(final_dim=8, depth=1, in_channels=1, dropout=0.5)
    images = torch.randn(2, 1, 8, 8)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a 27x28 image gives 27x28 after the stem"):
        WaveMixLite(final_dim=8, depth=1, in_channels=1)(torch.zeros(1, 1, 27, 28))
    with pytest.raises(ValueError, match="0x0 after the stem"):
        WaveMixLite(final_dim=8, depth=1, initial_conv="patchify", patch_size=8)(torch.zeros(1, 3, 6, 6))


def test_config_or_hyperparameters():
    assert WaveMixLite(final_dim=8, depth=2).config == LiteConfig(final_dim=8, depth=2)
    with pytest.raises(ValueError, match="either a LiteConfig or its hyperparameters"):
        WaveMixLite(LiteConfig(), depth=2)
    with pytest.raises(ValueError, match="final_dim"):
        WaveMixLite(final_dim=6)


def test_same_seed_same_network():
    networks = []
    for _ in range(2):
        torch.manual_seed(5)
        networks.append(WaveMixLite(final_dim=8, depth=2, upsampling="deconv").state_dict())
    assert all(torch.equal(a, b) for a, b in zip(networks[0].values(), networks[1].values()))


@given(st.sampled_from([torch.bfloat16, torch.float64]))
@settings(max_examples=examples(2))
def test_other_precisions(dtype):
    torch.manual_seed(0)
    network = WaveMixLite(final_dim=8, depth=2, level=2, wavelet="db2", in_channels=1).eval()
    images = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected = network(images)
        logits = network.to(dtype)(images.to(dtype))
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.float(), expected, atol=0.05, rtol=0.05)
