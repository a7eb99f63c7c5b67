"""`wavemix evaluate`: the plain module against the record, which the training's kernels made."""

import json
import shutil

import numpy as np
import pytest
import torch

from search.data.source import Source
from search.inference.evaluation import evaluate
from search.inference.stored import find
from search.records.jsonl import append
from search.records.results import PUBLISHED, Results
from search.runtime import Runtime
from wavemix import LiteConfig, WaveMixLite, load

QUIET = Runtime(say=lambda line: None)
CONFIG = LiteConfig(in_channels=1, num_classes=4, final_dim=8, depth=2, upsampling="bilinear")
ROW = "bars-folder-30-published"


def test_what_the_kernels_measured_comes_out_again(results):
    stored = find(ROW, Results(results))
    found = evaluate(stored, QUIET)
    assert found.agrees is True and [one.seed for one in found.seeds] == [5, 6]
    assert found.scores == pytest.approx(stored.record.accuracies, abs=1.5 / 96)
    assert found.mean == pytest.approx(stored.record.mean, abs=0.02)
    assert found.confusion.sum() == 2 * 96 and found.test_digest == stored.record.dataset.test_digest
    assert found.seeds[0].top5 is None, "among four classes it is always 1"
    assert [one.seed for one in evaluate(stored, QUIET, seeds=1).seeds] == [5]


def test_a_record_that_differs_from_the_weights_is_told_by_the_exit_code(results, tmp_path, wavemix, monkeypatch):
    monkeypatch.setattr("search.records.results.PUBLISHED", tmp_path / "none")
    shutil.copytree(results / "weights", tmp_path / "weights")
    record = find(ROW, Results(results)).record
    worse = [accuracy - 2 / 96 for accuracy in record.accuracies]
    fields = record.model_dump(exclude={"accuracies", "mean", "interval", "min", "max", "n", "reached", "cost"})
    append(tmp_path / "mine.jsonl", type(record).of(worse, **fields))
    said = wavemix("evaluate", ROW, "--results", tmp_path, code=1)
    assert "NOT as recorded" in said.out and said.err == f"not as recorded: {ROW}\n" and "+2" in said.out
    said = wavemix("evaluate", "--all", "--results", results)
    assert said.out.startswith(f"{ROW}: as recorded") and said.err == ""
    (facts,) = json.loads(wavemix("evaluate", "mine", "--results", results, "--json").out)
    assert facts["agrees"] and facts["row"] == ROW and np.sum(facts["seeds"][0]["confusion"]) == 96


def test_other_images_are_tested_and_compared_with_nothing(results, folder, tmp_path, wavemix):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    next(other.glob("test/a/*.png")).unlink()
    said = wavemix("evaluate", ROW, "--data", other, "--results", results)
    assert "has other test images than the record: nothing to compare with" in said.err
    assert f"{ROW}: not on record" in said.out and "95 test images" in said.out
    (other / "test" / "a").rename(other / "test" / "z")
    (other / "train" / "a").rename(other / "train" / "z")
    said = wavemix("evaluate", ROW, "--data", other, "--results", results, code=2)
    assert "has a class 'b' where" in said.err


def test_weights_of_others_are_tested_with_their_configuration(folder, tmp_path, wavemix):
    config = CONFIG.model_copy(update={"upsampling": "deconv"})
    torch.save(WaveMixLite(config).state_dict(), tmp_path / "theirs.pth")
    known = {"in_channels": 1, "num_classes": 4, "final_dim": 8, "depth": 2}
    arguments = ["evaluate", tmp_path / "theirs.pth", "--config", json.dumps(known), "--results", tmp_path]
    assert "does not say where its data are: name them with --data" in wavemix(*arguments, code=2).err
    said = wavemix(*arguments, "--data", folder, "--picture", tmp_path / "matrix.png")
    assert "theirs: not on record" in said.out and (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    assert "as they are; --mean and --std" in said.out
    known["num_classes"] = 5
    said = wavemix("evaluate", tmp_path / "theirs.pth", "--config", json.dumps(known), "--data", folder, code=2)
    assert "has 4 classes, theirs tells 5 apart" in said.err


def test_weights_of_others_take_images_normalised_as_said(folder, tmp_path, wavemix):
    config = CONFIG.model_copy(update={"upsampling": "deconv"})
    torch.manual_seed(0)
    torch.save(WaveMixLite(config).state_dict(), tmp_path / "theirs.pth")
    ours, theirs = (
        load(tmp_path / "theirs.pth", config=config, mean=[mean], std=[std]) for mean, std in ((0, 1), (0.4, 0.2))
    )
    images = torch.rand(3, 1, 16, 16)
    assert torch.equal(theirs(images), ours((images - 0.4) / 0.2)) and not torch.equal(theirs(images), ours(images))
    named = ["evaluate", tmp_path / "theirs.pth", "--config", config.model_dump_json(), "--data", folder, "--json"]
    plain, said = (json.loads(wavemix(*named, *more).out)[0] for more in ([], ["--mean", "0.4", "--std", "0.2"]))
    assert (plain["normalised"], said["normalised"]) == (False, True)
    assert plain["seeds"][0]["calibration_error"] != said["seeds"][0]["calibration_error"]
    for more, message in (
        (["--mean", "0.4"], "--mean and --std are one normalisation"),
        (["--mean", "0.4", "--std", "x"], "--std is a number, or one a channel"),
        (["--mean", "0.4", "--std", "0"], "a positive standard deviation"),
        (["--mean", "0.4,0.5", "--std", "1"], "for each of 1"),
    ):
        assert message in wavemix(*named, *more, code=2).err
    said = wavemix("evaluate", "mnist-99-extended", "--mean", "0", "--std", "1", code=2).err
    assert "mnist-99-extended is no file" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what to test"),
        ([ROW, "--all"], "name what to test"),
        (["--all", "--picture", "x.png"], "--picture is of one network"),
        ([ROW, "--picture", "x.gif"], "a picture is a .png or .svg file"),
        ([ROW, "--resize", "8,8"], "say how --data is read: name it"),
        (["--all", "--data", "mnist"], "no row of the table is of mnist"),
        (["nothing"], "there is no row, study or file of weights 'nothing'; rows: bars"),
    ],
)
def test_bad_input_is_one_line(results, wavemix, arguments, message, monkeypatch):
    monkeypatch.setattr("search.records.results.PUBLISHED", results / "none")
    said = wavemix("evaluate", *arguments, "--results", results, code=2).err
    assert said.startswith("wavemix: ") and message in said and said.count("\n") == 1


def test_a_published_row_has_its_recorded_accuracy(data_dir):
    stored = find("mnist-99-extended", Results("runs-of-nobody", PUBLISHED))
    found = evaluate(stored, Runtime(data_dir=data_dir), Source("mnist"), seeds=1)
    assert found.agrees is True and found.seeds[0].calibration_error < 0.01 and found.seeds[0].top5 > 0.999
