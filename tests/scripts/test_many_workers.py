"""What many workers ask of the database: the counts on a small study, the page against its record."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.benchmarks.many_workers import EPOCHS, measure, page, rates

RESULTS = Path(__file__).resolve().parents[2] / "results"


def test_a_worker_is_counted_among_running_trials(tmp_path, server):
    found = measure(server.url, 3, 1, tmp_path, past=3)
    assert found["trial"].statements > found["epoch"].statements > found["beat"].statements > 0
    assert found["beat"].transactions == 1, "a sign of life is one step"
    assert all(part.rows > 0 and part.seconds > 0 for part in found.values())


PARTS = ("trial", "epoch", "beat")


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=3), st.integers(1, 10_000), st.floats(0.1, 1e5))
def test_rates_are_the_sum_over_a_trials_length(counts, workers, seconds):
    asked = {
        part: dict.fromkeys(("statements", "transactions", "rows", "seconds"), n) for part, n in zip(PARTS, counts)
    }
    trial, epoch, beat = counts
    length = EPOCHS * seconds  # one worker's trial: its statements, spread over its length
    expected = workers * (trial + EPOCHS * epoch + beat * length / 10) / length
    assert rates(workers, seconds, asked)["statements"] == pytest.approx(expected)


def test_the_page_says_what_the_record_holds():
    record = json.loads((RESULTS / "records" / "scale.json").read_text())
    assert page(record) == (RESULTS / "pages" / "scale.md").read_text()
