import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wavemix.padding import cropped, padded


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
