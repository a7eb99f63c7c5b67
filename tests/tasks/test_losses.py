"""Losses against what their formulas say, written out pixel by pixel."""

import math
from itertools import permutations

import pytest
import torch
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from search.data.split import IGNORED
from search.tasks.losses import (
    DELTA,
    EPSILON,
    charbonnier,
    cross_entropy,
    focal,
    huber,
    l1,
    lovasz_softmax,
    median_frequency,
)
from wavemix import kernels


@st.composite
def cases(draw, classes: int = 3, pixels: int = 6):
    """Logits (1, K, 1, P) and labels (1, 1, P), some of them ignored."""
    values = st.floats(-4, 4, width=32)
    logits = draw(st.lists(st.lists(values, min_size=pixels, max_size=pixels), min_size=classes, max_size=classes))
    labels = draw(st.lists(st.sampled_from([*range(classes), IGNORED]), min_size=pixels, max_size=pixels))
    return torch.tensor(logits, dtype=torch.float64)[None, :, None], torch.tensor(labels)[None, None]


def chances(logits: torch.Tensor, pixel: int) -> list[float]:
    exponentials = [math.exp(value) for value in logits[0, :, 0, pixel].tolist()]
    return [value / sum(exponentials) for value in exponentials]


@given(cases(), st.sampled_from([None, (0.5, 2.0, 1.0)]), st.sampled_from([0.0, 2.0, 3.5]))
@settings(max_examples=examples(60))
def test_focal_and_cross_entropy(case, weights, gamma):
    logits, labels = case
    shares = weights or (1.0, 1.0, 1.0)
    total = mass = 0.0
    for pixel, label in enumerate(labels[0, 0].tolist()):
        if label != IGNORED:
            p = chances(logits, pixel)[label]
            total += shares[label] * (1 - p) ** gamma * -math.log(p)
            mass += shares[label]
    expected = total / mass if mass else 0.0
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    assert float(focal(logits, labels, tensor, gamma)) == pytest.approx(expected, abs=1e-9)
    if gamma == 0:
        assert float(cross_entropy(logits, labels, tensor)) == pytest.approx(expected, abs=1e-9)


def jaccard_loss(wrong: set[int], true: set[int]) -> float:
    """1 - |true and found| / |true or found| of a class that is got wrong at the pixels `wrong`."""
    found = true ^ wrong
    return 1 - len(true & found) / len(true | found) if true | found else 0.0


@given(cases(classes=2, pixels=4))
@settings(max_examples=examples(40))
def test_lovasz_is_the_largest_linear_bound(case):
    """The extension of a submodular function is the maximum over orders of its steps (Lovasz 1983; Bach 2013, 3.2)."""
    logits, labels = case
    kept = [p for p in range(4) if labels[0, 0, p] != IGNORED]
    of_class = []
    for number in sorted({int(labels[0, 0, p]) for p in kept}):
        true = {p for p in kept if labels[0, 0, p] == number}
        error = {p: abs((p in true) - chances(logits, p)[number]) for p in kept}
        bounds = []
        for order in permutations(kept):
            steps = [
                jaccard_loss(set(order[: i + 1]), true) - jaccard_loss(set(order[:i]), true) for i in range(len(order))
            ]
            bounds.append(sum(step * error[p] for step, p in zip(steps, order)))
        of_class.append(max(bounds))
    expected = sum(of_class) / len(of_class) if of_class else 0.0
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(expected, abs=1e-9)


def test_lovasz_of_sure_predictions_is_the_mean_jaccard_loss():
    labels = torch.tensor([[[0, 0, 1, 1, 1, IGNORED]]])
    found = torch.tensor([0, 1, 1, 1, 0, 0])
    logits = torch.full((1, 2, 1, 6), -60.0, dtype=torch.float64)
    logits[0, found, 0, torch.arange(6)] = 60.0
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(((1 - 1 / 3) + (1 - 2 / 4)) / 2)


@pytest.mark.skipif(kernels.library() is None, reason="no C++ compiler")
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 12), st.integers(1, 40), st.booleans())
@settings(max_examples=examples(40))
def test_the_kernel_of_lovasz_is_the_plain_loss(seed, images, classes, pixels, sure):
    generator = torch.Generator().manual_seed(seed)
    scale = 40.0 if sure else 2.0  # probabilities of exactly 0 and 1, or none
    logits = scale * torch.randn(images, classes, pixels, 1, generator=generator)
    labels = torch.randint(0, classes + 1, (images, pixels, 1), generator=generator)
    labels[labels == classes] = IGNORED
    fast, plain = logits.clone().requires_grad_(), logits.double().requires_grad_()
    found, expected = lovasz_softmax(fast, labels), lovasz_softmax(plain, labels)
    assert "Lovasz" in str(found.grad_fn) and "Lovasz" not in str(expected.grad_fn)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    (3 * found).backward()
    (3 * expected).backward()
    if not sure:  # where errors are equal any order of them gives a gradient
        assert torch.allclose(fast.grad.double(), plain.grad, atol=1e-6)


def test_lovasz_of_what_is_no_number_is_none():
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 0, 0, 0] = math.nan
    assert math.isnan(lovasz_softmax(logits, torch.zeros(1, 2, 2, dtype=torch.long)))


@pytest.mark.parametrize("loss", [cross_entropy, focal, lovasz_softmax])
def test_nothing_but_ignored_pixels_trains_nothing(loss):
    logits = torch.randn(2, 3, 2, 2, requires_grad=True)
    value = loss(logits, torch.full((2, 2, 2), IGNORED))
    value.backward()
    assert float(value.detach()) == 0 and logits.grad is not None and not logits.grad.any()


def test_median_frequency():
    masks = [torch.tensor([[0, 0, 0, 1]], dtype=torch.uint8), torch.tensor([[0, 0, 2, IGNORED]], dtype=torch.uint8)]
    # class 0: 5 of 7 pixels, class 1: 1 of the 4 of its image, class 2: 1 of 3, class 3 has none
    frequency = [5 / 7, 1 / 4, 1 / 3]
    expected = [(1 / 3) / f for f in frequency] + [0.0]
    assert median_frequency(masks, 4).tolist() == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_losses_of_pixels(pairs):
    found, true = torch.tensor(pairs, dtype=torch.float64).T
    gaps = [abs(a - b) for a, b in pairs]

    def mean(values):
        return pytest.approx(sum(values) / len(pairs), abs=1e-12)

    assert float(l1(found, true)) == mean(gaps)
    assert float(charbonnier(found, true)) == mean([math.sqrt(gap**2 + EPSILON**2) for gap in gaps])
    assert float(huber(found, true)) == mean([
        gap**2 / (2 * DELTA) if gap < DELTA else gap - DELTA / 2 for gap in gaps
    ])  # fmt: skip
