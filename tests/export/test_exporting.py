"""The command, and that nothing is written which has not been checked."""

import json
from pathlib import Path

import exports
import pytest
import torch

from search.errors import UserError
from search.export import check as checking
from search.export import exporting
from search.export.check import Sample, check, sample
from search.inference.stored import Stored, find
from search.records.results import Results
from wavemix import LiteConfig

RESULTS = Path(__file__).resolve().parents[2] / "results"
SMALLEST = "mnist-99-extended-reached"
FILE = RESULTS / "weights" / "mnist-99-published-C8-D10-m1-F8-L1-bilinear-strided-s21.safetensors"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No test images, wherever this machine may have some."""
    monkeypatch.setattr(checking, "_source", lambda stored, data_dir: None)
    monkeypatch.chdir(tmp_path)


def stored(name: str | Path = SMALLEST) -> Stored:
    return find(name, Results(RESULTS))


def test_a_row_becomes_a_c_file(wavemix, tmp_path):
    said = wavemix("export", SMALLEST, "--format", "c", "--results", RESULTS).out
    assert "shared5-lean, 1,186 parameters, seed 1000000" in said and "bytes of static buffers" in said
    assert "checked on 100 random images (the test images of MNIST are not here): greatest difference" in said
    (path,) = tmp_path.iterdir()
    assert path.name == f"{SMALLEST}.c" and f"wrote {path.name}, {path.stat().st_size:,} bytes" in said
    assert "1,186 parameters" in path.read_text().splitlines()[0]


def test_a_file_of_weights_and_a_seed(wavemix, tmp_path):
    for seed in stored(FILE).seeds[1:3]:
        wavemix("export", FILE, "--format", "c", "--seed", seed, "--output", f"{seed}.c")
    texts = {path.read_text() for path in tmp_path.glob("*.c")}
    assert len(texts) == 2, "each seed has weights of its own"


def test_bad_input_is_one_line(wavemix, tmp_path):
    for arguments, said in (
        (["nothing", "--format", "c"], "there is no row, study or file of weights 'nothing'"),
        ([SMALLEST, "--format", "tflite"], "--format is onnx, torch-export, timm, c, not 'tflite'"),
        ([SMALLEST, "--format", "c", "--seed", "7"], "has no seed 7"),
        ([SMALLEST, "--format", "c", "--output", tmp_path], "is there already: remove it, or name another --output"),
        ([SMALLEST, "--format", "c", "--output", FILE / "x.c"], "cannot write"),
    ):
        error = wavemix("export", *arguments, "--results", RESULTS, code=2).err
        assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_gives_other_scores_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "network.c"
    path.write_text("what was there")
    true = exporting.FORMATS["c"].scores
    for wrong in (lambda s: s + 1e-2, lambda s: s * float("nan"), lambda s: s[:, :5]):
        monkeypatch.setattr(exporting.FORMATS["c"], "scores", lambda *given, wrong=wrong: wrong(true(*given)))
        with pytest.raises(UserError, match="does not do what the network does, so it is not written"):
            exporting.export(stored(), "c", path)
        assert [p.name for p in tmp_path.iterdir()] == ["network.c"] and path.read_text() == "what was there"
    monkeypatch.setattr(exporting.FORMATS["c"], "scores", true)
    assert exporting.export(stored(), "c", path).size == path.stat().st_size != len("what was there")


def test_the_tolerance_is_of_the_greatest_score():
    network = exports.ready(LiteConfig(in_channels=1, final_dim=4, depth=1), 8, 8)
    given = Sample(exports.images(network, 5), "images")
    with torch.inference_mode():
        right = network(given.images)
    greatest = max(1.0, float(right.abs().max()))
    assert check(network, given, lambda _: right + 0.8e-5 * greatest).difference > 0
    with pytest.raises(UserError):
        check(network, given, lambda _: right + 1.3e-5 * greatest)


def test_test_images_where_they_are_here(data_dir, monkeypatch):
    monkeypatch.undo()
    given = sample(stored(), data_dir)
    assert given.name == "100 test images of MNIST" and given.images.shape == (100, 1, 28, 28)
    assert 0 == given.images.min() < given.images.max() == 1


def test_weights_of_others_are_refused(tmp_path):
    network = exports.ready(LiteConfig(in_channels=1, final_dim=4, depth=1), 8, 8).network
    with pytest.raises(UserError, match="does not say what images its network takes, so nothing can be exported"):
        exporting.export(Stored(tmp_path / "w.pth", network.config, (0,)), "c")


def test_the_timm_folder_is_timms_form(timm, tmp_path):
    done = exporting.export(stored(), "timm")
    assert done.path.name == f"{SMALLEST}-timm"
    assert {p.name for p in done.path.iterdir()} == {"config.json", "model.safetensors"}
    described = json.loads((done.path / "config.json").read_text())
    assert described["architecture"] == "wavemix_lite" and described["pretrained_cfg"]["input_size"] == [1, 28, 28]
    with pytest.raises(UserError, match="is there already"):
        exporting.export(stored(), "timm")
    tuned = timm.create_model(f"local-dir:{done.path}", pretrained=True, num_classes=3, in_chans=3)
    assert tuned(torch.zeros(2, 3, 28, 28)).shape == (2, 3)
