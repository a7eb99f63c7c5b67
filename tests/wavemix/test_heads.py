"""Networks for segmentation and super-resolution: counts, sizes, and what their heads compute."""

import pytest
import torch
import torch.nn.functional as F
from examples import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from shapes import configurations, headed

from wavemix import LiteConfig, SemSegment, WaveMixLite
from wavemix.heads import bicubic
from wavemix.stack import Stack

SEGMENTATION, ENLARGING = {"task": "segmentation"}, {"task": "super-resolution"}


def counted(module):
    return sum(parameter.numel() for parameter in module.parameters())


@given(headed(small=False))
@settings(max_examples=examples(100))
def test_closed_form_equals_count(config):
    network = WaveMixLite(config)
    parts = config.parameter_breakdown()
    assert (config.parameters(), parts["head"]) == (counted(network), counted(network.expand))


@given(headed(), st.integers(16, 70), st.integers(16, 70))
@settings(max_examples=examples(30))
def test_any_size_gives_an_output_of_the_images_size(config, height, width):
    network = WaveMixLite(config).eval()
    with torch.no_grad():
        output = network(torch.randn(1, config.in_channels, height, width))
    if config.task == "segmentation":
        assert output.shape == (1, config.num_classes, height, width)
    else:
        assert output.shape == (1, config.in_channels, config.head.scale * height, config.head.scale * width)
    assert output.isfinite().all()


@given(headed(), st.integers(16, 70), st.integers(16, 70))
def test_the_size_an_image_is_padded_to_is_the_least_that_fits(config, height, width):
    """A classifier with the same stem and blocks takes it, and one step less in height or width it does not."""
    classifier = LiteConfig(**config.model_dump(exclude={"head", "norm"}))
    tall, wide = config.input_size(height, width)
    classifier.check_image_size(tall, wide)
    assert config.feature_size(height, width) == classifier.feature_size(tall, wide)
    assert config.input_size(tall, wide) == (tall, wide), "padding changes nothing where none is needed"
    step = config.downscale * 2**config.level
    assert tall % step == wide % step == 0
    for less in {(tall - step, wide), (tall, wide - step)}:
        if less[0] >= height and less[1] >= width:
            with pytest.raises(ValueError):
                classifier.check_image_size(*less)


@given(headed())
@settings(max_examples=examples(25))
def test_every_parameter_has_a_gradient(config):
    network = WaveMixLite(config)
    network(torch.randn(2, config.in_channels, 20, 23)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@given(headed(), st.booleans())
def test_json_round_trip(config, shortest):
    written = config.model_dump_json(exclude_defaults=shortest)
    assert LiteConfig.model_validate_json(written) == config and hash(LiteConfig.model_validate_json(written))


@given(configurations())
def test_a_classifier_is_written_as_before_there_were_heads(config):
    assert "head" not in config.model_dump() and "head" not in config.model_dump(mode="json", exclude_defaults=True)
    assert ("stem_activation" in config.model_dump()) == config.stem_activation and "norm" not in config.model_dump()
    assert config == LiteConfig(**config.model_dump(), head={"task": "classification"})
    assert not set(config.name.split("-")) & {"seg", "x2"} and not config.name.endswith("-")


@given(headed(), headed())
def test_names_tell_heads_apart(one, other):
    def used(head):
        hyperparameters = head.model_dump()
        if head.task == "segmentation" and head.kind == "interpolated" and not head.skip:
            hyperparameters.pop("width")
        if head.task == "super-resolution" and head.kind == "transposed":
            hyperparameters.pop("kernel")
        return hyperparameters

    assume(one.head != other.head)
    assert (one.head.name == other.head.name) == (used(one.head) == used(other.head))
    assert one.seen_once.name.endswith(one.head.name)


@pytest.mark.parametrize(
    "hyperparameters, reason",
    [
        ({"pad": 2, "head": SEGMENTATION}, "pad=2 is for classification"),
        ({"initial_conv": "single", "head": SEGMENTATION | {"skip": True}}, "a stem of several convolutions"),
        ({"head": SEGMENTATION | {"kind": "transposed"}}, "divide them by 2, 4, 8, ..., not 1"),
        ({"stride": (3, 1), "head": SEGMENTATION | {"kind": "transposed"}}, "divide them by 2, 4, 8, ..., not 3"),
        ({"head": SEGMENTATION | {"width": 0}}, "width"),
        ({"head": ENLARGING | {"scale": 5}}, "scale"),
        ({"head": ENLARGING | {"skip": True}}, "skip"),
        ({"head": {"task": "detection"}}, "classification"),
        ({"head": {}}, "task"),
    ],
)
def test_heads_that_cannot_be_are_refused(hyperparameters, reason):
    with pytest.raises(ValidationError, match=reason):
        LiteConfig(**hyperparameters)


@pytest.mark.parametrize("level", [1, 2])
def test_a_transposed_head_is_upstreams(level):
    """Equal to `SemSegment.WaveMix` given its weights, which it is counted as, too."""
    hyperparameters = dict(num_classes=5, depth=2, final_dim=16, ff_channel=8, level=level, stride=2)
    config = LiteConfig(**hyperparameters, upsampling="deconv", head=SEGMENTATION | {"kind": "transposed"})
    theirs, ours = SemSegment.WaveMix(**hyperparameters), WaveMixLite(config)
    state = {key.replace("expand.", "expand.fine."): value for key, value in theirs.state_dict().items()}
    ours.load_state_dict(state)
    images = torch.randn(2, 3, 32, 48)
    torch.testing.assert_close(ours(images), theirs(images))
    assert config.parameters() == counted(theirs) and config.family == "published"


def test_an_interpolated_head_scores_the_features():
    network = WaveMixLite(final_dim=8, depth=1, num_classes=3, stride=2, head=SEGMENTATION).eval()
    features = []
    network.layers[0].register_forward_hook(lambda module, inputs, output: features.append(inputs[0] + output))
    with torch.no_grad():
        scores = network(torch.randn(1, 3, 16, 24))
        layer = network.expand.fine[0]
        expected = F.interpolate(F.conv2d(features[0], layer.weight, layer.bias), scale_factor=4, mode="bilinear")
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize(
    "stem", [{"stride": (2, 2)}, {"initial_conv": "patchify"}, {"initial_conv": "separable", "stride": (2, 2)}]
)
@pytest.mark.parametrize("kind", ["interpolated", "transposed"])
def test_a_skip_brings_the_stems_inner_map_to_the_scores(stem, kind):
    """With the features' way cut, one pixel of the image still changes scores, near it alone."""
    network = WaveMixLite(final_dim=8, depth=1, **stem, head=SEGMENTATION | {"kind": kind, "skip": True}).eval()
    images = torch.randn(1, 3, 32, 32)
    changed = images.clone()
    changed[..., 16, 16] += 1
    with torch.no_grad():
        for parameter in network.expand.coarse.parameters():
            parameter.zero_()
        rows, columns = torch.where((network(changed) - network(images)).abs().sum((0, 1)) > 1e-6)
    assert 16 in rows and 16 in columns and (rows - 16).abs().max() <= 6 and (columns - 16).abs().max() <= 6


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kind", ["shuffle", "transposed"])
def test_a_head_without_weights_leaves_the_bicubic_image(scale, kind):
    network = WaveMixLite(in_channels=1, final_dim=8, depth=1, head=ENLARGING | {"scale": scale, "kind": kind}).eval()
    images = torch.rand(1, 1, 17, 23)
    with torch.no_grad():
        for parameter in network.expand.parameters():
            parameter.zero_()
        assert torch.equal(network(images), bicubic(images, scale))


def test_bicubic_enlarging_is_cubic_convolution():
    """At a quarter of a pixel, by hand."""
    line = torch.randn(1, 1, 1, 9, dtype=torch.float64).expand(1, 1, 9, 9)

    def kernel(t, a=-0.75):
        t = abs(t)
        return (a + 2) * t**3 - (a + 3) * t**2 + 1 if t <= 1 else a * (t**3 - 5 * t**2 + 8 * t - 4)

    expected = sum(kernel(x - 3.75) * line[0, 0, 0, x] for x in (2, 3, 4, 5))  # output pixel 8 lies at 8.5 / 2 - 1/2
    torch.testing.assert_close(bicubic(line, 2)[0, 0, 8, 8], expected)


def test_a_stack_says_that_it_is_for_classifiers():
    with pytest.raises(ValueError, match="a stack trains classifiers"):
        Stack(LiteConfig(final_dim=8, depth=1, head=SEGMENTATION), [0])


def test_classifiers_have_batch_norm():
    with pytest.raises(ValidationError, match="classifiers have BatchNorm"):
        LiteConfig(norm="scale")


@given(headed())
@settings(max_examples=examples(20))
def test_without_batch_norm_a_network_has_as_many_parameters_and_takes_no_statistics(config):
    bare = config.model_copy(update={"norm": "scale", "initial_conv": "strided", "dropout": 0.0, "views": "one"})
    normed = bare.model_copy(update={"norm": "batch"})
    network, images = WaveMixLite(bare), torch.randn(2, config.in_channels, 20, 23)
    assert bare.parameters() == normed.parameters() == counted(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    with torch.no_grad():
        torch.testing.assert_close(network(images), network.eval()(images))


@pytest.mark.parametrize("stem, layers", [("strided", 2), ("separable", 3), ("single", 1), ("patchify", 5)])
def test_an_active_stem_is_the_plain_one_with_an_activation_after_its_first_convolution(stem, layers):
    config = LiteConfig(initial_conv=stem, final_dim=8, depth=1, activation="relu", stem_activation=True)
    plain = WaveMixLite(config.model_copy(update={"stem_activation": False})).eval()
    active = WaveMixLite(config).eval()
    active.load_state_dict(plain.state_dict())  # the keys are the same
    images = torch.randn(2, 3, 16, 16)
    assert len(plain.conv) == layers and len(active.conv) == layers + 1
    with torch.no_grad():
        torch.testing.assert_close(active.conv(images), plain.conv[1:](F.relu(plain.conv[0](images))))
