"""Views: outputs are means over an image and its likes, in evaluation alone, and cost no parameter."""

import pytest
import torch
from examples import examples
from hypothesis import given, settings
from shapes import fitting_size, headed

from wavemix import LiteConfig, WaveMixLite
from wavemix.config import COUNTS
from wavemix.views import averaged


def pair(config: LiteConfig) -> tuple[WaveMixLite, WaveMixLite]:
    """A network, and one of the same weights that sees an image once, both in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, once = WaveMixLite(config).eval(), WaveMixLite(config.seen_once).eval()
    once.load_state_dict(network.state_dict())
    return network, once


def grey(count: int, size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def classifier(views: str) -> LiteConfig:
    return LiteConfig(in_channels=1, final_dim=8, depth=2, upsampling="bilinear", views=views)


@torch.no_grad()
def test_a_mirrored_image_is_given_the_same_scores():
    network, once = pair(classifier("mirror"))
    images = grey(3, 16)
    torch.testing.assert_close(network(images), (once(images) + once(images.flip(3))) / 2)
    torch.testing.assert_close(network(images), network(images.flip(3)))
    assert not torch.allclose(once(images), once(images.flip(3)), atol=1e-3)


@torch.no_grad()
def test_four_places_are_a_pixel_apart_and_repeat_the_edge():
    network, once = pair(classifier("shifts"))
    images = grey(3, 16)
    right = torch.cat([images[..., :1], images[..., :-1]], 3)
    down = torch.cat([images[..., :1, :], images[..., :-1, :]], 2)
    both = torch.cat([right[..., :1, :], right[..., :-1, :]], 2)
    expected = sum(once(view) for view in (images, right, down, both)) / 4
    torch.testing.assert_close(network(images), expected)


@pytest.mark.parametrize("views", ["mirror", "shifts", "eight"])
def test_training_sees_one_view(views):
    network, once = (made.train() for made in pair(classifier(views)))
    torch.testing.assert_close(network(grey(4, 16)), once(grey(4, 16)))


@settings(max_examples=examples(15), derandomize=True)
@given(headed())
@torch.no_grad()
def test_outputs_on_pixels_turn_with_the_image(config):
    """Whatever the network, what eight views make of a turned or mirrored image is turned or mirrored, too."""
    network, once = pair(config.model_copy(update={"views": "eight"}))
    size = fitting_size(config)
    images = torch.randn(1, config.in_channels, size, size + 3, generator=torch.Generator().manual_seed(3))
    found = network(images)
    assert found.shape == once(images).shape
    tolerance = {"rtol": 1e-3, "atol": 1e-4 * float(found.abs().max())}
    for turned in (lambda x: x.flip(3), lambda x: x.rot90(1, (2, 3)), lambda x: x.rot90(3, (2, 3)).flip(2)):
        torch.testing.assert_close(network(turned(images)), turned(found), **tolerance)


@pytest.mark.parametrize("views", COUNTS)
def test_as_many_different_views_as_are_counted(views):
    seen = []
    averaged(views, lambda x: seen.append(x) or x, grey(1, 6), turned_back=views != "shifts")
    assert len(seen) == len({tuple(x.flatten().tolist()) for x in seen}) == COUNTS[views]


@pytest.mark.parametrize("views", ["mirror", "eight"])
def test_outputs_are_brought_back_to_how_the_image_lies(views):
    images = torch.rand(2, 3, 4, 7)
    torch.testing.assert_close(averaged(views, lambda x: x * 2, images, turned_back=True), images * 2)


def test_they_are_a_hyperparameter_without_parameters():
    plain, mirrored = classifier("one"), classifier("mirror")
    assert mirrored.parameters() == plain.parameters() and mirrored.name == f"{plain.name}-mirror"
    assert (plain.family, mirrored.family) == ("published", "extended")
    assert "views" not in plain.model_dump() and LiteConfig(**mirrored.model_dump()) == mirrored
    assert mirrored.seen_once == plain and (plain.forwards, mirrored.forwards) == (1, 2)


def test_places_are_for_classifiers():
    with pytest.raises(ValueError, match="views='shifts' is for classification: other tasks have 'mirror' and 'eight'"):
        LiteConfig(views="shifts", head={"task": "segmentation"})
