import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search.metrics.segmentation import class_iou, confusion, mean_iou, pixel_accuracy
from search.metrics.upstream import bitwise_score, mean_of_batches

LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@given(LABELS)
def test_each_class_is_its_intersection_over_its_union(pairs):
    """By sets of pixels, which share no code with the matrix."""
    predicted, true = (torch.tensor(values) for values in zip(*pairs))
    found = class_iou(confusion(predicted, true, 5))
    for label in range(5):
        one = {place for place, (p, _) in enumerate(pairs) if p == label}
        two = {place for place, (_, t) in enumerate(pairs) if t == label}
        expected = len(one & two) / len(one | two) if one | two else math.nan
        assert float(found[label]) == pytest.approx(expected, nan_ok=True)


@given(LABELS, st.integers(1, 39))
def test_batches_add_up_to_the_data_set(pairs, cut):
    predicted, true = (torch.tensor(values) for values in zip(*pairs))
    parts = [confusion(predicted[part], true[part], 5) for part in (slice(cut), slice(cut, None))]
    assert torch.equal(sum(parts), confusion(predicted, true, 5))


@given(LABELS, st.integers(0, 4))
def test_ignored_pixels_count_nowhere(pairs, ignored):
    predicted, true = (torch.tensor(values) for values in zip(*pairs))
    kept = true != ignored
    matrix = confusion(predicted, true, 5, ignored)
    assert torch.equal(matrix, confusion(predicted[kept], true[kept], 5)) and matrix.sum() == kept.sum()


def test_a_matrix_by_hand():
    true = torch.tensor([[[0, 0, 1, 1, 255, 3]]])
    predicted = torch.tensor([[[0, 1, 1, 1, 2, 0]]])
    matrix = confusion(predicted, true, 4, ignored=255)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    iou = class_iou(matrix)
    assert iou[:2].tolist() == [1 / 3, 2 / 3] and iou[3] == 0 and iou[2].isnan()
    assert mean_iou(matrix) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)  # class 2 never occurs
    assert pixel_accuracy(matrix) == 3 / 5
    assert math.isnan(mean_iou(torch.zeros(2, 2, dtype=torch.int64)))


def test_what_is_no_label_is_refused():
    with pytest.raises(ValueError, match="a label is none of the 2 classes 0 to 1"):
        confusion(torch.tensor([0]), torch.tensor([2]), 2)
    with pytest.raises(ValueError, match="a prediction is none"):
        confusion(torch.tensor([-1]), torch.tensor([1]), 2)
    with pytest.raises(ValueError, match="shape"):
        confusion(torch.zeros(2), torch.zeros(3), 2)


def test_a_street_of_trucks_for_cars_scores_nine_tenths_and_is_nothing():
    """One prediction, two metrics: upstream's takes class numbers for bits."""
    cars, trucks = torch.full((1, 8, 8), 14), torch.full((1, 8, 8), 15)
    assert float(bitwise_score(trucks, cars)) == pytest.approx(0.9)
    assert mean_iou(confusion(trucks, cars, 20)) == 0
    assert float(bitwise_score(cars, cars)) == 1 == mean_iou(confusion(cars, cars, 20))
    roads = torch.ones_like(cars)  # 1 & 14 is 0: as wrong, and nothing by either
    assert float(bitwise_score(roads, cars)) == 0 == mean_iou(confusion(roads, cars, 20))


def test_upstreams_score_depends_on_the_numbers_the_classes_have():
    """A right answer in three of four pixels: worth more the greater the class's number."""
    true = torch.tensor([[[1, 1], [1, 16]]])
    wrong_small, wrong_great = true.clone(), true.clone()
    wrong_small[0, 0, 0], wrong_great[0, 1, 1] = 0, 0
    assert float(bitwise_score(wrong_small, true)) == pytest.approx(0.9)  # 18 / 19
    assert float(bitwise_score(wrong_great, true)) == 0  # 3 / 19
    accuracy = [pixel_accuracy(confusion(p, true, 20)) for p in (wrong_small, wrong_great)]
    assert accuracy == [0.75, 0.75]


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=50), st.integers(1, 60))
def test_equal_batches_change_nothing_and_a_smaller_last_one_weighs_more(values, batch):
    found, rest = mean_of_batches(torch.tensor(values), batch), len(values) % batch
    plain = sum(values) / len(values)
    if not rest or len(values) < batch:
        assert found == pytest.approx(plain)
    else:
        whole, last = values[:-rest], values[-rest:]
        count = len(values) // batch
        assert found == pytest.approx((sum(whole) / batch + sum(last) / rest) / (count + 1))


def test_one_wrong_image_in_a_last_batch_of_one_halves_the_accuracy():
    right = torch.tensor([1.0] * 9 + [0.0])
    assert mean_of_batches(right, 9) == 0.5
    assert float(right.mean()) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="needs values"):
        mean_of_batches(torch.zeros(0), 9)
