"""A short fuzz of every reader, the fuzzer's own ability to see a failure, and what it has found."""

import base64
import json
import os

import pytest
import torch
from examples import examples
from samples import confirmation

from scripts.robustness import fuzz_readers
from scripts.robustness.fuzz_readers import READERS, Reader, apart, fuzz
from scripts.robustness.fuzz_samples import CONFIG, checkpoints
from search.cli.values import study_name, validated
from search.data import datasets, fetch
from search.errors import UserError
from search.records.jsonl import read
from search.training.checkpoint import State
from search.training.optimizer import Optimizer
from search.training.recipe import Recipe
from search.training.tensors import write
from wavemix.stack import Stack

SHORT = {"tables": 30, "commands": 60, "audit": 40, "whole-checkpoint": 60, "whole-weights": 60}  # slow ones


@pytest.mark.parametrize("name", READERS)
def test_readers_accept_or_refuse(name):
    found = fuzz(name, examples(min(SHORT.get(name, 100), 100)), seed=7)
    assert found["failures"] == []
    assert found["accepted"] + found["refused"] == found["inputs"]


def test_a_full_run_has_a_hundred_thousand_inputs():
    assert sum(reader.count for reader in READERS.values()) >= 100_000


def samples():
    return [b"x"]


def hang(*_):
    while True:
        pass


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda *_: 1 / 0, "ZeroDivisionError"),
        (hang, "not done after 0.2 s"),
        (lambda *_: os.kill(os.getpid(), 9), "the process ended with status"),
        (lambda *_: bytearray(8 << 30), "MemoryError"),
    ],
    ids=["exception", "hang", "crash", "memory"],
)
def test_failures_are_seen(read, said, monkeypatch):
    monkeypatch.setitem(READERS, "broken", Reader(samples, read, 1))
    monkeypatch.setattr(fuzz_readers, "SECONDS", 0.2)
    (problem,) = apart("broken", 1, 0)["failures"]
    assert problem["input"] == 0 and said in problem["error"]
    assert len(base64.b64decode(problem["data"])) < 2000, "the input is kept"


# ------------------------------------------------------------------------------------------ what it has found


def resume(path):
    stack = Stack(CONFIG, [1, 2])
    state = State(stack, Optimizer(stack, Recipe(epochs=2)), stack.flat.detach().clone(), [[], []])
    state.resume(path, {"a": 1})
    return state.seconds, state.optimizer.count, [len(curve) for curve in state.curves]


def test_checkpoints_that_do_not_fit_are_set_aside_or_refused(tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes(checkpoints()[0])
    assert resume(path) == (1.0, 3, [1, 1])
    tensors = {name: Stack(CONFIG, [1, 2]).flat.detach().clone() for name in ("flat", "first", "second", "average")}
    epoch = {"epoch": 1, "train_loss": 0.5, "accuracy": None, "seconds": 1.0}
    whole = {"count": 3, "seconds": 1.0, "curves": [[epoch], [epoch]]}
    for change in (
        {"count": -1},
        {"seconds": None},
        {"curves": [[epoch], [{}]]},
        {"curves": [[epoch], []]},
    ):
        write(path, tensors, {"identity": '{"a": 1}', "progress": json.dumps(whole | change)})
        assert resume(path) == (0.0, 0, [0, 0]) and not path.exists()
    write(path, tensors, {})
    assert resume(path) == (0.0, 0, [0, 0]) and not path.exists()
    for change, others in (({"curves": [[epoch]]}, {}), ({}, {"flat": torch.zeros(1)})):
        write(path, tensors | others, {"identity": '{"a": 1}', "progress": json.dumps(whole | change)})
        with pytest.raises(UserError, match="of another training"):
            resume(path)


def test_names_that_no_path_can_have(monkeypatch, tmp_path):
    for name in ("\0", "x" * 5000):
        with pytest.raises(UserError, match="--config takes JSON or a JSON, TOML or YAML file"):
            validated(type(CONFIG), name, "--config")
    assert len(study_name("x" * 5000, 0.9, "extended")) < 100
    with pytest.raises(UserError, match="no such folder"):
        datasets.load("~nobody-of-this-name/images", "train")
    monkeypatch.setenv("WAVEMIX_DATA", "~nobody-of-this-name")
    with pytest.raises(UserError, match="~nobody-of-this-name, is no directory"):
        fetch.data_dirs()


def test_a_count_that_no_float_holds_is_refused(tmp_path):
    line = json.loads(confirmation([0.9, 0.95]).model_dump_json())
    (tmp_path / "r.jsonl").write_text(json.dumps(line | {"n": 10**400}) + "\n")
    with pytest.raises(UserError, match="line 1: not a valid record: n: "):
        read(tmp_path / "r.jsonl")


@pytest.mark.parametrize("name", ["../up", "/abs", "", ".hidden", "a b", "x" * 201, "é" * 101, "a\0", "-x"])
def test_study_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(UserError, match="--name is made of letters"):
        study_name("mnist", 0.9, "extended", name)
    assert study_name("mnist", 0.9, "extended", "my.study+1-é_2") == "my.study+1-é_2"
