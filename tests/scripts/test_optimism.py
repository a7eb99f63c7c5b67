import json
import sys

import pytest
from samples import data, trial

from scripts.experiments import optimism
from scripts.experiments.optimism import claims, curves, page
from search.errors import UserError
from search.records.jsonl import append
from wavemix import LiteConfig


def judged(*accuracies, target=0.9, **changes):
    """A completed trial whose seeds had these accuracies after each epoch."""
    drawn = [[{"epoch": n, "accuracy": a} for n, a in enumerate(seed, 1)] for seed in accuracies]
    fields = {"seeds": list(range(len(drawn))), "state": "complete", "reason": None, "target": target}
    last = [seed[-1] for seed in accuracies]
    return trial(**fields, curves=drawn, accuracies=last, dataset=data(validation_count=100), **changes)


def test_the_gain_of_choosing_the_best_epoch():
    rising, falling = curves([judged([0.5, 0.6, 0.7], [0.8, 0.9, 0.85, 0.8])])
    assert rising.gain == 0 and falling.gain == pytest.approx(10)
    assert falling.half.accuracies == (0.8, 0.9) and falling.half.gain == 0


def test_only_whole_curves_of_completed_trials_count():
    gaps = judged([0.5, None, 0.7])
    assert curves([gaps, judged([0.5]), judged([0.5, 0.6]).model_copy(update={"state": "pruned"})]) == []
    with pytest.raises(UserError, match="no curve"):
        page([gaps], [], [])


def test_only_accuracies_count():
    dense = LiteConfig(in_channels=1, final_dim=8, depth=2, head={"task": "segmentation"})
    assert curves([judged([0.5, 0.6], config=dense)]) == [] != curves([judged([0.5, 0.6])])


def test_what_the_best_epochs_would_have_claimed():
    records = [judged([0.95, 0.85]), judged([0.8, 0.91]), judged([0.95, 0.8], [0.9, 0.8]), judged([0.5, 0.6])]
    assert claims(records) == (4, 1, 3)


def test_the_page_is_compared_with_the_records(tmp_path, ended):
    def run(*options, code=0):
        return ended(lambda: sys.exit(optimism.ended(optimism.main)), "--results", tmp_path, *options, code=code)

    append(tmp_path / "records/s.jsonl", judged([0.5] * 6 + [0.8] + [0.7] * 6))
    row = {"data": "MNIST", "weights": "w", "seed": 1, "images": 10_000, "accuracy": 0.9, "mean_of_batches": 0.91}
    (tmp_path / optimism.MEANS).write_text(json.dumps([row]))
    assert "differs" in run("--check", code=1).out
    run()
    text = (tmp_path / optimism.PAGE).read_text()
    assert "| MNIST | 1 | 100 % | 10.00 | 10.00 | 10.00 | 10.00 | 4.58 |" in text
    assert "| MNIST | 1 | +1.000 | +1.000 | +1.000 |" in text and "no evidence" in text
    run("--check")
    append(tmp_path / "records/s.jsonl", judged([0.8] * 13))
    assert "differs" in run("--check", code=1).out
