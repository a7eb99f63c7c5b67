import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from wavemix import LiteConfig, WaveMixLite


@st.composite
def configurations(draw, small=False):
    """Any configuration of both families."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    dim = pick(4, 8, 12) if small else pick(4, 8, 12, 16, 20, 32)
    return LiteConfig(
        in_channels=pick(1, 2, 3),
        num_classes=pick(2, 10, 47),
        final_dim=dim,
        depth=draw(st.integers(1, 2 if small else 5)),
        mult=draw(st.integers(1, 3)),
        ff_channel=pick(None, dim, 5, 6),
        level=draw(st.integers(1, 4)),
        upsampling=pick("nearest", "bilinear", "deconv"),
        initial_conv=pick("strided", "patchify", "pachify", "single", "separable"),
        stride=pick(1, (2, 1), (1, 2), 2),
        kernel=pick(3, 5, 7),
        patch_size=pick(1, 2, 4),
        pad=pick(0, 0, 2),
        dropout=pick(0.0, 0.3),
        shared=draw(st.booleans()),
        bias=pick("all", "needed"),
        activation=pick("gelu", "relu", "silu"),
        wavelet=pick("haar", "haar", "db2", "bior2.2"),
    )


@given(configurations())
@settings(max_examples=300, deadline=None)
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
    ("knobs", "parameters"),
    [
        (dict(in_channels=1, final_dim=8, depth=10), 3566),
        (dict(in_channels=1, final_dim=8, depth=5, upsampling="deconv"), 7156),
        (dict(final_dim=32, depth=7), 37058),
        (dict(final_dim=64, depth=6, upsampling="deconv"), 520106),
    ],
)
def test_published_counts(knobs, parameters):
    assert LiteConfig(**knobs).parameters() == parameters


@pytest.mark.parametrize(
    "knobs",
    [
        {"final_dim": 6},
        {"depth": 0},
        {"level": 5},
        {"upsampling": "cubic"},
        {"stride": (0, 1)},
        {"wavelet": "morl"},
        {"widht": 3},
        {"dropout": 1.0},
    ],
)
def test_bad_knobs_are_refused(knobs):
    with pytest.raises(ValidationError):
        LiteConfig(**knobs)


def test_image_size_that_does_not_fit():
    with pytest.raises(ValueError, match="28x28 image gives 14x14 after the stem .level 1 would fit."):
        LiteConfig(level=2, stride=(2, 1)).check_image_size(28, 28)
    LiteConfig(level=3, stride=(2, 1), pad=2).check_image_size(28, 28)


def test_family():
    assert LiteConfig(upsampling="deconv", ff_channel=16).family == "published"
    assert LiteConfig(pad=2, level=3, stride=2).family == "published"
    for knobs in (dict(shared=True), dict(bias="needed"), dict(ff_channel=16), dict(initial_conv="single")):
        assert LiteConfig(**knobs).family == "extended"


def test_names_tell_configurations_apart():
    assert LiteConfig(final_dim=8, depth=3).name != LiteConfig(final_dim=8, depth=3, shared=True).name
