import warnings

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wavemix import haar, inverse_haar
from wavemix.dwt import analysis_matrix, transform2d

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_wavelets import DWTForward

even = st.integers(1, 9).map(lambda n: 2 * n)


@given(st.integers(1, 3), st.integers(1, 4), even, even, st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=60, deadline=None)
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
@settings(max_examples=30, deadline=None)
def test_haar_equals_pywavelets(height, width):
    x = np.random.default_rng(0).standard_normal((height, width))
    expected = pywt.dwt2(x, "haar", mode="zero")
    low, details = haar(torch.from_numpy(x)[None, None])
    np.testing.assert_allclose(low[0, 0], expected[0], atol=1e-12)
    np.testing.assert_allclose(details[0], np.stack(expected[1]), atol=1e-12)


@pytest.mark.parametrize("wavelet", ["db2", "sym4", "bior2.2", "coif1"])
@pytest.mark.parametrize("mode", ["zero", "periodization"])
def test_other_wavelets_equal_pywavelets(wavelet, mode):
    x = np.random.default_rng(1).standard_normal((32, 24))
    expected = pywt.dwt2(x, wavelet, mode=mode)
    low, details = transform2d(torch.from_numpy(x)[None, None], wavelet, mode)
    np.testing.assert_allclose(low[0, 0], expected[0], atol=1e-6)
    np.testing.assert_allclose(details[0], np.stack(expected[1]), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    x = torch.randn(2, 3, 8, 8)
    low, details = haar(x.to(dtype))
    assert low.dtype == details.dtype == dtype
    torch.testing.assert_close(low.float(), haar(x)[0], atol=0.03, rtol=0.03)


def test_gradients():
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(haar, x)
    assert torch.autograd.gradgradcheck(haar, x)


def test_odd_size_is_refused():
    with pytest.raises(ValueError, match="7x8 is odd"):
        haar(torch.zeros(1, 1, 7, 8))


def test_analysis_matrix_is_the_transform():
    x = torch.randn(1, 1, 16, 12, dtype=torch.float64)
    y = analysis_matrix("db2", 16) @ x[0, 0] @ analysis_matrix("db2", 12).T
    low, details = transform2d(x, "db2")
    torch.testing.assert_close(y[:8, :6], low[0, 0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(y[8:, :6], details[0, 0], atol=1e-6, rtol=1e-6)
