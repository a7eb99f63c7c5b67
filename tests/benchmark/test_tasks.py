"""Losses come to the same however a batch is divided."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search.benchmark.recipe import LOSSES, Loss, Recipe
from search.benchmark.tasks import Segmentation, SuperResolution
from search.data.split import IGNORED
from search.tasks import losses

PHASES = [{"optimizer": "sgd", "lr": 0.1, "epochs": 1}]
NAMES = "a", "b", "c"


def recipe(**fields) -> Recipe:
    return Recipe.model_validate({"batch": 1, "phases": PHASES, **fields})


def scene(seed: int, images: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of a few pixels, many of which have no class; the last image has none with one."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (images, 4, 5), generator=generator).byte()
    labels[torch.rand(labels.shape, generator=generator) < 0.4] = IGNORED
    labels[-1] = IGNORED
    return torch.randn(images, 3, 4, 5, generator=generator), labels


def task(loss: str, weighted: bool, seed: int = 0) -> Segmentation:
    return Segmentation(recipe(loss=loss, class_weights=weighted), NAMES, scene(seed)[1])


@settings(max_examples=20)
@given(st.sampled_from(LOSSES["segmentation"]), st.booleans(), st.integers(1, 3), st.integers(0, 100))
def test_parts_of_a_batch_come_to_the_whole(loss: str, weighted: bool, cut: int, seed: int):
    judge, (logits, labels) = task(loss, weighted), scene(seed)
    summed, weight = judge.loss(logits, labels)
    parts = [judge.loss(logits[part], labels[part]) for part in (slice(0, cut), slice(cut, 4))]
    assert torch.allclose(parts[0][1] + parts[1][1], weight)
    assert torch.allclose((parts[0][0] + parts[1][0]) / weight, summed / weight, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_those_of_searches(weighted: bool):
    logits, labels = scene(1)
    weights = losses.median_frequency(scene(0)[1], 3) if weighted else None
    plain = losses.cross_entropy(logits, labels.long(), weights)
    each = torch.stack([losses.lovasz_softmax(x[None], y[None].long()) for x, y in zip(logits[:3], labels[:3])])
    expected = {
        "cross-entropy": plain,
        "focal": losses.focal(logits, labels.long(), weights),
        "lovasz": (plain + each.mean()) / 2,  # the image without a class counts for nothing
    }
    for loss in LOSSES["segmentation"]:
        summed, weight = task(loss, weighted).loss(logits, labels)
        assert torch.allclose((summed / weight).sum(), expected[loss], atol=1e-6), loss


def test_losses_of_images():
    outputs, targets = torch.rand(2, 1, 6, 6), torch.randint(0, 256, (2, 1, 6, 6)).byte()
    expected = {
        "charbonnier": losses.charbonnier, "l1": losses.l1, "huber": losses.huber,
        "squares": lambda found, true: torch.nn.functional.huber_loss(found, true),
    }  # fmt: skip
    assert set(expected) == set(LOSSES["super-resolution"])
    for loss, of in expected.items():
        summed, weight = SuperResolution(recipe(loss=loss), 2).loss(outputs, targets)
        assert torch.allclose(summed / weight, of(outputs, targets / 255), rtol=1e-5), loss


def test_every_loss_is_a_tasks():
    assert set(get_args(Loss)) == {loss for some in LOSSES.values() for loss in some}
