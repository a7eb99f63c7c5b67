from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import correlate

from search.metrics import super_resolution as sr
from search.metrics.upstream import full_range_luma, luma_psnr


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Smooth waves and some noise, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0, 0.7, (channels, 3))]
    image = 127 + 90 * np.stack(waves) + rng.normal(0, 6, (channels, height, width))
    return torch.from_numpy(image.clip(0, 255).astype(np.uint8))


def read(path: Path) -> torch.Tensor:
    with Image.open(path) as file:
        values = torch.from_numpy(np.array(file))
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1)


# mean over all images: bicubic down by 2 and up again, as several papers round it to a tenth
@pytest.mark.parametrize(("name", "count", "expected"), [("Set5", 5, 33.68), ("Set14", 14, 30.33)])
def test_bicubic_gives_the_known_figures_on_the_fields_photographs(data_dir, name, count, expected):
    folder = data_dir / "sr" / name
    if not folder.is_dir():
        pytest.skip(f"needs {name}")
    found = []
    for path in sorted(folder.iterdir()):
        true = sr.cropped(read(path), 2)
        height, width = true.shape[-2:]
        again = sr.imresize(sr.imresize(true, height // 2, width // 2), height, width)
        found.append(sr.psnr_and_ssim(again, true, 2)[0])
    assert len(found) == count and sum(found) / count == pytest.approx(expected, abs=0.01)


def test_luma_runs_from_16_to_235():
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1).expand(3, 2, 1)
    assert sr.luma(ends).flatten().tolist() == pytest.approx([16, 235])
    assert sr.luma(ends[:1]).flatten().tolist() == pytest.approx([16, 235])
    red = torch.tensor([255, 0, 0]).view(3, 1, 1)
    assert float(sr.luma(red)) == pytest.approx(16 + 65.481)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        sr.luma(torch.zeros(4, 2, 2))


@given(st.integers(1, 40), st.integers(1, 40))
def test_resizing_keeps_what_is_constant(old, new):
    flat = torch.full((1, old, 2), 77, dtype=torch.uint8)
    assert torch.equal(sr.imresize(flat, new, 3), torch.full((1, new, 3), 77, dtype=torch.uint8))


def test_the_same_size_changes_nothing():
    image = picture(9, 12)
    assert torch.equal(sr.imresize(image, 9, 12), image)


def test_resizing_a_line_by_hand():
    """Two pixels twice as wide, mirrored beyond the border: the kernel's values at 0.25, 0.75, 1.25 and 1.75."""
    line = torch.tensor([[[0.0, 100.0]]])
    near, next_, third, fourth = 0.8671875, 0.2265625, -0.0703125, -0.0234375
    assert near + next_ + third + fourth == 1
    right = 100 * torch.tensor([third + fourth, next_ + fourth, near + third, near + next_], dtype=torch.float64)
    assert sr.imresize(line, 1, 4).flatten().tolist() == pytest.approx(right.tolist())


def test_shrinking_is_antialiased():
    """A line of 0 and 255 in turn becomes grey; without antialiasing it could become black."""
    stripes = torch.tensor([0.0, 255.0]).repeat(16).view(1, 1, 32)
    inside = sr.imresize(stripes, 1, 8)[..., 2:-2]
    assert torch.allclose(inside, torch.tensor(127.5, dtype=torch.float64), atol=1)


@given(st.integers(1, 30))
def test_psnr_of_a_shift(shift):
    true = torch.full((12, 12), 100.0)
    assert sr.psnr(true + shift, true) == pytest.approx(20 * np.log10(255 / shift))
    assert sr.psnr(true, true) == float("inf")


def test_ssim_by_whole_windows():
    """Against a two-dimensional window moved over the image by another library."""
    x, y = (picture(20, 23, 1, seed)[0].double() for seed in (1, 2))
    places = np.arange(-5, 6)
    window = np.exp(-(places[:, None] ** 2 + places**2) / 4.5)
    window /= window.sum()

    def mean(image):
        return correlate(image.numpy(), window)[5:-5, 5:-5]

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 6.5025, 58.5225
    expected = ((2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
    assert sr.ssim(x, y) == pytest.approx(expected) and sr.ssim(x, x) == pytest.approx(1)
    with pytest.raises(ValueError, match="11x11"):
        sr.ssim(torch.zeros(10, 30), torch.zeros(10, 30))


def test_the_border_is_cut_off_and_halves_are_rounded_up():
    true = picture(20, 21)
    spoilt = true.clone()
    spoilt[:, :2], spoilt[:, -2:], spoilt[:, :, :2], spoilt[:, :, -2:] = 0, 0, 0, 0
    assert sr.psnr_and_ssim(spoilt, true, 2) == (float("inf"), pytest.approx(1))
    assert sr.psnr_and_ssim(spoilt, true, 1)[0] < 30
    assert sr.rounded(torch.tensor([-3.0, 0.5, 2.5, 254.4, 999.0])).tolist() == [0, 1, 3, 254, 255]
    with pytest.raises(ValueError, match="can't be cut off"):
        sr.shaved(torch.zeros(4, 9), 2)
    with pytest.raises(ValueError, match="8 bits"):
        sr.psnr_and_ssim(true.double(), true, 2)
    with pytest.raises(ValueError, match="beside one of"):
        sr.psnr_and_ssim(true[:, 1:], true, 2)


def test_upstreams_psnr_of_the_same_images_is_another_number():
    true = picture(30, 40)
    again = sr.imresize(sr.imresize(true, 15, 20), 30, 40)
    theirs = luma_psnr(full_range_luma(again / 255), full_range_luma(true / 255))
    ours, _ = sr.psnr_and_ssim(again, true, 2)
    assert abs(theirs - ours) > 0.3
    # the full range alone makes it lower: Y from 16 to 235 has errors of 219 / 255 the size
    assert sr.psnr(sr.luma(again), sr.luma(true)) - sr.psnr(
        255 * full_range_luma(again / 255), 255 * full_range_luma(true / 255)
    ) == pytest.approx(20 * np.log10(255 / 219), abs=1e-3)


def test_upstreams_data_range_is_the_brightest_value():
    true = torch.tensor([[0.2, 0.5]])
    assert luma_psnr(true + 0.1, true) == pytest.approx(20 * np.log10(0.5 / 0.1))
    assert luma_psnr(true - 0.4, true - 0.3) == pytest.approx(20 * np.log10((0.2 + 0.1) / 0.1))
