"""The files of weights under results/: what stands in their headers is what they were trained with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from search.data import datasets
from search.records.jsonl import read
from search.records.results import Results
from search.records.weights import Inputs, inputs, networks
from search.training.evaluate import evaluate

RESULTS = Path(__file__).resolve().parents[2] / "results"
FILES = sorted((RESULTS / "weights").glob("*.safetensors"))


def test_every_file_says_what_is_needed_to_use_it():
    assert FILES
    for path in FILES:
        with safe_open(path, "pt") as file:
            header = file.metadata()
        assert header.keys() >= {"config", "inputs", "recipe", "digest", "seeds", "records", "sha256"}, path.name
        config, given = json.loads(header["config"]), json.loads(header["inputs"])
        assert len(given["mean"]) == len(given["deviation"]) == given["shape"][0] == config["in_channels"]
        assert len(given["classes"]) == (0 if "scale" in config.get("head", {}) else config["num_classes"])


@pytest.mark.parametrize(
    ("name", "normalised_by"),
    [
        ("mnist-99-extended-2000-C8-D10-m1-F8-L1-bilinear-separable-s21-lean", 10_000),  # the first ones
        ("mnist-99-published-C8-D10-m1-F8-L1-bilinear-strided-s21", 60_000),
    ],
)
def test_a_network_has_its_recorded_accuracy_with_what_the_file_says(name, normalised_by, data_dir):
    path = RESULTS / "weights" / f"{name}.safetensors"
    (run,) = [r for r in read(Results(RESULTS).journal(name.split("-C8")[0])) if r.kind == "confirmation"]
    whole, test = datasets.load("mnist", "train", data_dir), datasets.load("mnist", "test", data_dir)
    part = replace(whole, images=whole.images[:normalised_by], labels=whole.labels[:normalised_by])
    given, measured = inputs(path).model_dump(), Inputs.of(part).model_dump()
    for measure in ("mean", "deviation"):  # sums depend on the number of threads by a rounding
        assert given.pop(measure) == pytest.approx(measured.pop(measure), rel=1e-5)
    assert given == measured
    state = networks(path)[run.seeds[0]].state_dict()
    (found,) = evaluate(run.config, [state], part, test)
    assert found == pytest.approx(run.accuracies[0], abs=1.5 / len(test)), "processors round otherwise, by an image"
