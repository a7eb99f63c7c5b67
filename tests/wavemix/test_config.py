import re

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from shapes import configurations

from wavemix import LiteConfig, WaveMixLite


@given(configurations())
@settings(max_examples=examples(100))
def test_closed_form_equals_count(config):
    network = WaveMixLite(config)
    counted = sum(parameter.numel() for parameter in network.parameters())
    assert config.parameters() == counted
    head = sum(p.numel() for p in network.pool.parameters())
    stem = sum(p.numel() for p in network.conv.parameters())
    assert config.parameter_breakdown() == {"stem": stem, "blocks": counted - stem - head, "head": head}


@given(configurations())
def test_json_round_trip(config):
    assert LiteConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("hyperparameters", "parameters"),
    [
        (dict(in_channels=1, final_dim=8, depth=10), 3566),
        (dict(in_channels=1, final_dim=8, depth=5, upsampling="deconv"), 7156),
        (dict(final_dim=32, depth=7), 37058),
        (dict(final_dim=64, depth=6, upsampling="deconv"), 520106),
    ],
)
def test_published_counts(hyperparameters, parameters):
    assert LiteConfig(**hyperparameters).parameters() == parameters


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"final_dim": 6},
        {"depth": 0},
        {"level": 5},
        {"upsampling": "cubic"},
        {"stride": (0, 1)},
        {"wavelet": "morl"},
        {"widht": 3},
        {"dropout": 1.0},
        {"cycle": 2, "depth": 1},
        {"cycle": 2, "level": 2},
        {"cycle": 2, "upsampling": "deconv"},
    ],
)
def test_bad_hyperparameters_are_refused(hyperparameters):
    with pytest.raises(ValidationError):
        LiteConfig(**hyperparameters)


def test_blocks_that_take_turns_cost_nothing_and_need_maps_that_can_be_halved():
    plain, turns = (LiteConfig(final_dim=8, depth=5, cycle=cycle) for cycle in (1, 3))
    assert turns.parameters() == plain.parameters() and turns.name == plain.name + "-cycle3"
    assert [turns.halvings(depth) for depth in range(5)] == [1, 2, 3, 1, 2] and turns.deepest == 3
    assert "cycle" not in plain.model_dump() and (plain.family, turns.family) == ("published", "extended")
    turns.check_image_size(32, 32)
    with pytest.raises(ValueError, match=r"cycle 3 needs a feature map divisible by 8; .* \(cycle 2 would fit\)"):
        turns.check_image_size(28, 28)


def test_image_size_that_does_not_fit_says_what_would():
    with pytest.raises(ValueError, match="28x28 image gives 14x14 after the stem .level 1 or stride 1,1 would fit."):
        LiteConfig(level=2, stride=(2, 1)).check_image_size(28, 28)
    with pytest.raises(ValueError, match="29x28 image gives 29x28 after the stem .pad or crop the image"):
        LiteConfig(initial_conv="patchify", patch_size=1).check_image_size(29, 28)
    LiteConfig(level=3, stride=(2, 1), pad=2).check_image_size(28, 28)
    with pytest.raises(ValueError, match="sym8 has 16 taps, level 2 transforms a map of 14 pixels"):
        LiteConfig(level=2, wavelet="sym8").check_image_size(28, 28)


@given(configurations(), st.integers(1, 70), st.integers(1, 70))
@settings(max_examples=examples(100))
def test_what_is_said_to_fit_fits(config, height, width):
    config = config.model_copy(update={"wavelet": "haar"})
    try:
        config.check_image_size(height, width)
    except ValueError as error:
        hint = str(error).partition(" after the stem (")[2]
        for kind, text in re.findall(r"(level|stride) ([\d,]+)", hint):
            value = int(text) if kind == "level" else tuple(map(int, text.split(",")))
            config.model_copy(update={kind: value}).check_image_size(height, width)


def test_records_from_before_say_whether_one_block_is_shared():
    shared, own = (LiteConfig.model_validate_json(f'{{"depth": 2, "shared": {value}}}') for value in ("true", "false"))
    assert (shared, own) == (LiteConfig(depth=2, shared=1), LiteConfig(depth=2))
    assert shared.model_dump()["shared"] is not True, "written as a number from now on"


def test_no_more_shared_blocks_than_depths():
    with pytest.raises(ValueError, match="depth"):
        LiteConfig(depth=2, shared=3)


def test_family():
    assert LiteConfig(upsampling="deconv", ff_channel=16).family == "published"
    assert LiteConfig(pad=2, level=3, stride=2).family == "published"
    more = {"shared": 1, "affine": "one", "bias": "needed", "ff_channel": 16, "initial_conv": "single"}
    for hyperparameters in ({name: value} for name, value in more.items()):
        assert LiteConfig(**hyperparameters).family == "extended"


@given(configurations(), configurations())
def test_names_tell_configurations_apart(one, other):
    """Equal names: equal in everything the network is made of (hyperparameters that its stem does not use apart)."""

    def used(config):
        unused = {"in_channels", "num_classes"}  # the data's, not the network's
        unused |= {"stride", "kernel"} if config.initial_conv == "patchify" else {"patch_size"}
        unused |= {"kernel"} if config.initial_conv != "single" else set()
        return config.model_dump(exclude=unused)

    assert (one.name == other.name) == (used(one) == used(other))


def test_upstreams_spellings_and_short_forms():
    assert LiteConfig(initial_conv="pachify") == LiteConfig(initial_conv="patchify")
    assert LiteConfig(stride=2).stride == (2, 2)
    assert LiteConfig(final_dim=12).ff_channel == 12
    assert LiteConfig(final_dim=12, ff_channel=None).ff_channel == 12
    assert LiteConfig.model_validate_json('{"final_dim": 12, "stride": [2, 1]}').stride == (2, 1)
    assert LiteConfig(wavelet="db1") == LiteConfig()


def test_configurations_are_frozen_and_hashable():
    with pytest.raises(ValidationError):
        LiteConfig().depth = 3
    assert len({LiteConfig(depth=3), LiteConfig(depth=3), LiteConfig(depth=4)}) == 2
