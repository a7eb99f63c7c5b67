import warnings

import numpy as np
import processes
import pytest
import pywt
import torch
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad

from wavemix import haar, inverse_haar, kernels
from wavemix.dwt import analysis_matrix, plain_haar, plain_inverse_haar, pyramid, transform2d

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_wavelets import DWTForward

even = st.integers(1, 9).map(lambda n: 2 * n)


@given(st.integers(1, 3), st.integers(1, 4), even, even, st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=examples(60))
def test_haar_equals_pytorch_wavelets_and_inverts(n, c, height, width, dtype):
    x = torch.randn(n, c, height, width, dtype=dtype)
    low, details = haar(x)
    expected, (bands,) = DWTForward(J=1, wave="haar", mode="zero").to(dtype)(x)
    torch.testing.assert_close(low, expected)
    torch.testing.assert_close(details, bands.flatten(1, 2))
    torch.testing.assert_close(inverse_haar(low, details), x)
    # orthonormal: the energy stays
    torch.testing.assert_close(low.square().sum() + details.square().sum(), x.square().sum())


@given(even, even)
@settings(max_examples=examples(30))
def test_haar_equals_pywavelets(height, width):
    x = np.random.default_rng(0).standard_normal((height, width))
    expected = pywt.dwt2(x, "haar", mode="zero")
    low, details = haar(torch.from_numpy(x)[None, None])
    np.testing.assert_allclose(low[0, 0], expected[0], atol=1e-12)
    np.testing.assert_allclose(details[0], np.stack(expected[1]), atol=1e-12)


@given(
    st.sampled_from(["haar", "db2", "db5", "sym4", "bior2.2", "rbio3.1", "coif1"]),
    st.sampled_from(["zero", "periodization"]),
    st.integers(10, 20).map(lambda n: 2 * n),
    st.integers(10, 20).map(lambda n: 2 * n),
)
@settings(max_examples=examples(60))
def test_any_wavelet_equals_pywavelets(wavelet, mode, height, width):
    x = np.random.default_rng(1).standard_normal((2, height, width))
    low, details = transform2d(torch.from_numpy(x)[None], wavelet, mode)
    for channel in range(2):
        expected = pywt.dwt2(x[channel], wavelet, mode=mode)
        np.testing.assert_allclose(low[0, channel], expected[0], atol=1e-10)
        np.testing.assert_allclose(details[0, 3 * channel : 3 * channel + 3], np.stack(expected[1]), atol=1e-10)


@pytest.mark.parametrize("height, width", [(7, 8), (5, 9), (1, 1)])
def test_odd_sizes_with_zero_padding(height, width):
    x = np.random.default_rng(2).standard_normal((height, width))
    expected = pywt.dwt2(x, "haar", mode="zero")
    low, details = transform2d(torch.from_numpy(x)[None, None], "haar", "zero")
    np.testing.assert_allclose(low[0, 0], expected[0], atol=1e-12)
    np.testing.assert_allclose(details[0], np.stack(expected[1]), atol=1e-12)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=examples(30))
def test_pyramid_equals_pytorch_wavelets_and_inverts(levels, channels, rows, columns):
    x = torch.randn(2, channels, rows * 2**levels, columns * 2**levels)
    bands = pyramid(x, levels)
    assert len(bands) == levels
    for level, band in enumerate(bands, 1):
        low, details = DWTForward(J=level, wave="haar", mode="zero")(x)
        torch.testing.assert_close(band, torch.cat([low, details[-1].flatten(1, 2)], 1))
    low = bands[-1][:, :channels]
    for band in reversed(bands):
        low = inverse_haar(low, band[:, channels:])
    torch.testing.assert_close(low, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    x = torch.randn(2, 3, 8, 8)
    low, details = haar(x.to(dtype))
    assert low.dtype == details.dtype == dtype
    torch.testing.assert_close(low.float(), haar(x)[0], atol=0.03, rtol=0.03)


@pytest.mark.parametrize("transform", [haar, lambda x: transform2d(x, "db2"), lambda x: pyramid(x, 1)[0]])
def test_gradients(transform):
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(transform, x)


def test_second_derivatives():
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(haar, x)
    bands = [band.detach().requires_grad_() for band in haar(x)]
    assert torch.autograd.gradcheck(inverse_haar, bands)
    assert torch.autograd.gradgradcheck(inverse_haar, bands)


def test_any_memory_layout():
    x = torch.randn(2, 3, 8, 12)
    for other in (x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert all(map(torch.equal, haar(other), haar(x)))


def test_gradients_after_inference():
    """The cached filters of a wavelet first seen in inference mode still serve training."""
    with torch.inference_mode():
        transform2d(torch.randn(1, 1, 16, 16), "sym5")
    x = torch.randn(1, 1, 16, 16, requires_grad=True)
    transform2d(x, "sym5")[0].sum().backward()
    assert x.grad.abs().sum() > 0


def test_haar_alone_does_not_import_pytorch_wavelets():
    code = (
        "import sys, torch, wavemix; wavemix.WaveMixLite(final_dim=8, depth=1)(torch.zeros(1, 3, 8, 8));"
        "sys.exit(bool({'pytorch_wavelets', 'pkg_resources'} & set(sys.modules)))"
    )
    assert processes.done(code).returncode == 0


def test_bands_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match=r"are \(1, 6, 4, 4\), not \(1, 2, 4, 4\)"):
        inverse_haar(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4))


def test_odd_size_is_refused():
    with pytest.raises(ValueError, match="7x8 is odd"):
        haar(torch.zeros(1, 1, 7, 8))


def test_analysis_matrix_is_the_transform():
    x = torch.randn(1, 1, 16, 12, dtype=torch.float64)
    y = analysis_matrix("db2", 16) @ x[0, 0] @ analysis_matrix("db2", 12).T
    low, details = transform2d(x, "db2")
    torch.testing.assert_close(y[:8, :6], low[0, 0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(y[8:, :6], details[0, 0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@given(planes=st.integers(1, 5), h=st.integers(1, 9), w=st.integers(1, 40), seed=st.integers(0, 9))
@settings(max_examples=examples(30))
def test_compiled_haar_equals_the_plain_one(dtype, planes, h, w, seed):
    if kernels.library() is None:
        pytest.skip("no C++ compiler")
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, planes, 2 * h, 2 * w, generator=generator).to(dtype).requires_grad_()
    tolerance = dict(atol=0.05, rtol=0.05) if dtype == torch.bfloat16 else {}
    results = []
    for forward, inverse in ((haar, inverse_haar), (plain_haar, plain_inverse_haar)):
        low, details = forward(x)
        weights = [torch.linspace(-1, 1, band.numel(), dtype=dtype).view_as(band) for band in (low, details)]
        (gradient,) = torch.autograd.grad((low * weights[0]).sum() + (details * weights[1]).sum(), x)
        results.append((low, details, gradient, inverse(low, details)))
    for ours, plain in zip(*results):
        torch.testing.assert_close(ours, plain, **tolerance)


def test_tensors_that_only_look_like_ones_take_the_plain_form():
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    with FakeTensorMode():
        low, details = haar(torch.empty(1, 2, 8, 8))
        assert low.shape == (1, 2, 4, 4) and inverse_haar(low, details).shape == (1, 2, 8, 8)
    x, other = torch.randn(1, 2, 8, 8), torch.randn(1, 2, 8, 8)
    graph = make_fx(lambda x: haar(x)[0])(x)
    torch.testing.assert_close(graph(other), haar(other)[0])
    with forward_ad.dual_level():
        low = haar(forward_ad.make_dual(x, other))[0]
        torch.testing.assert_close(forward_ad.unpack_dual(low).tangent, haar(other)[0])
    with pytest.raises(RuntimeError, match="meta"):
        inverse_haar(x, torch.empty(1, 6, 8, 8, device="meta"))


def test_a_matrix_made_in_inference_mode_serves_training():
    analysis_matrix.cache_clear()
    with torch.inference_mode():
        analysis_matrix("db3", 8)
    x = torch.randn(8, dtype=torch.float64, requires_grad=True)
    (analysis_matrix("db3", 8) @ x).sum().backward()


def test_compiled_haar_has_second_derivatives():
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: haar(x)[0] ** 2, (x,))


@given(st.integers(1, 2), st.integers(2, 5), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
@settings(max_examples=examples(40))
def test_channels_that_lie_innermost_give_the_same_bands(n, channels, levels, rows, columns, more):
    """Also of some of the channels, whose pixels lie apart; the bands lie as the image does."""
    sizes = n, channels + more, rows * 2**levels, columns * 2**levels
    x = torch.randn(sizes).contiguous(memory_format=torch.channels_last)[:, :channels]
    ours, plain = x.detach().requires_grad_(), x.detach().contiguous().requires_grad_()
    found, expected = pyramid(ours, levels), pyramid(plain, levels)
    weights = [torch.randn(band.shape) for band in expected]
    for bands in (found, expected):
        sum((band * weight).sum() for band, weight in zip(bands, weights)).backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours.grad, plain.grad)
    if kernels.library() is not None and rows * columns > 1:
        assert all(band.is_contiguous(memory_format=torch.channels_last) for band in found)


def test_channels_that_lie_innermost_in_half_precision():
    x = torch.randn(2, 3, 8, 8).bfloat16()
    for found, expected in zip(pyramid(x.contiguous(memory_format=torch.channels_last), 2), pyramid(x, 2)):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found, expected, atol=0.03, rtol=0.03)


def test_channels_that_lie_innermost_have_second_derivatives():
    x = torch.randn(1, 2, 4, 8, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: pyramid(x, 2)[1] ** 2, (x,))
