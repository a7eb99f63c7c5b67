import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wavemix import SemSegment, sisr
from wavemix.padding import cropped, padded, take_any_size


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 30), st.integers(0, 30))
def test_the_image_stays_and_the_rest_is_mirrored_or_repeated(height, width, below, right):
    images = torch.randn(2, 3, height, width)
    wide = padded(images, height + below, width + right)
    assert wide.shape == (2, 3, height + below, width + right)
    assert torch.equal(cropped(wide, height, width), images)
    for row in range(height, height + below):
        source = 2 * (height - 1) - row if below < height else height - 1
        assert torch.equal(wide[:, :, row], wide[:, :, source])
    for column in range(width, width + right):
        source = 2 * (width - 1) - column if right < width else width - 1
        assert torch.equal(wide[..., column], wide[..., source])


def test_nothing_to_pad_is_the_same_tensor():
    images = torch.randn(1, 1, 8, 12)
    assert padded(images, 8, 12) is images


def test_a_larger_image_is_refused():
    with pytest.raises(ValueError, match="a 9x8 image can't be padded to 8x8"):
        padded(torch.zeros(1, 1, 9, 8), 8, 8)


@pytest.mark.parametrize(("kind", "classes", "factor"), [(SemSegment, 5, 1), (sisr, 3, 2)])
def test_networks_that_refuse_a_size_take_it(kind, classes: int, factor: int):
    more = {"num_classes": 5} if kind is SemSegment else {}
    network = kind.WaveMix(depth=1, final_dim=8, ff_channel=8, level=1, **more).eval()
    tall, wide = (2 * edge for edge in network.downscale)
    fits, other = torch.rand(1, 3, 4 * tall, 4 * wide), torch.rand(1, 3, 4 * tall - 1, 3 * wide + 1)
    before, names = network(fits), list(network.state_dict())
    with pytest.raises(ValueError):
        network(other)
    take_any_size(network, tall, wide)
    assert torch.equal(network(fits), before) and list(network.state_dict()) == names
    assert network(other).shape == (1, classes, factor * (4 * tall - 1), factor * (3 * wide + 1))
