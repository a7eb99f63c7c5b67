"""`wavemix benchmark`, from data on a disk to the table."""

import json
from pathlib import Path

import layouts_on_disk as disk
import pytest
import torchvision_operators

from search.benchmark.rows import rows
from search.extras import torch_here
from search.records.results import Results

torchvision_operators.define()
ROW = """
task = "segmentation"
label = "CamVid"
layout = "camvid"
[network.lite]
num_classes = 11
final_dim = 8
depth = 1
upsampling = "bilinear"
stride = 2
head = { task = "segmentation" }
[recipes.ours]
like = "ours-segmentation"
batch = 2
size = [16, 16]
[recipes.lovasz]
like = "ours-segmentation"
batch = 2
size = [16, 16]
loss = "lovasz"
[recipes.upstream]
like = "upstream-segmentation"
"""
ENLARGING = """
task = "super-resolution"
label = "Set5, 2x"
layout = "train400-set5"
[network.lite]
in_channels = 1
final_dim = 8
depth = 1
head = { task = "super-resolution", scale = 2 }
[recipes.ours]
like = "ours-super-resolution"
batch = 1
size = [8, 8]
validation = 0.4
[[recipes.ours.phases]]
optimizer = "adamw"
lr = 0.001
epochs = 3
patience = 1
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a miniature of CamVid, and a small row for it."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    disk.camvid(tmp_path / "camvid")
    (tmp_path / "small.toml").write_text(ROW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVEMIX_DATA", str(tmp_path))
    return tmp_path


def test_a_row_is_run_recorded_tabled_and_evaluated(wavemix, place: Path):
    words = ["small.toml", "--epochs", 2, "--seeds", 2, "--cpu", "--log", "tensorboard"]
    pytest.importorskip("tensorboard")
    told = wavemix("benchmark", "run", *words).out
    assert "epoch 2 of 2: loss" in told and "2 images to train on" in told
    first, second = Results(place / "runs").read()
    assert (first.seed, second.seed) == (0, 1) and first.row == "small" and first.epochs == 2
    assert first.data.test_count == 2 and not first.data.limited and len(first.beside) >= 1
    assert list((place / "runs" / "logs").rglob("events.*"))
    again = wavemix("benchmark", "run", *words).out
    assert "small-ours-2-epochs-seed0 is on record already" in again and len(Results(place / "runs").read()) == 2
    table = json.loads(wavemix("benchmark", "table", "--json").out)
    (mine,) = [line for line in table if line["Source"] == "wavemix benchmark run small"]
    mean = 50 * (first.score + second.score)
    assert mine["Here"].startswith(f"{mean:.2f} % (") and "2 seeds, 2 epochs, recipe ours, " in mine["Here"]
    weights = next((place / "runs" / "weights" / "benchmark").glob("*seed1.safetensors"))
    scores = json.loads(wavemix("benchmark", "evaluate", "small.toml", "--weights", weights, "--cpu", "--json").out)
    assert scores["mIoU"] == second.score


def test_a_row_is_trained_by_another_loss(wavemix, place: Path):
    wavemix("benchmark", "run", "small.toml", "--recipe", "lovasz", "--epochs", 1, "--cpu")
    (record,) = Results(place / "runs").read()
    assert record.recipe["loss"] == "lovasz" and record.recipe_name == "lovasz"


def test_a_row_of_super_resolution_is_run_tabled_and_evaluated(wavemix, place: Path):
    disk.photographs(place / "sr")
    (place / "large.toml").write_text(ENLARGING)
    told = wavemix("benchmark", "run", "large.toml", "--epochs", 2, "--cpu").out
    (record,) = Results(place / "runs").read()
    shown = f"{record.score:.2f} dB"
    assert f"Set5, 2x: PSNR {shown}, SSIM {record.beside['SSIM']:.4f} of 3 test images" in told
    assert f"validation PSNR {record.curve[0].score:.2f} dB" in told
    table = json.loads(wavemix("benchmark", "table", "--json").out)
    (mine,) = [line for line in table if line["Source"] == "wavemix benchmark run large"]
    assert mine["Here"].startswith(f"{shown} (") and mine["Metric"] == "PSNR" and mine["Task"] == "Super-resolution"
    (weights,) = (place / "runs" / "weights" / "benchmark").iterdir()
    scores = wavemix("benchmark", "evaluate", "large.toml", "--weights", weights, "--cpu").out
    assert scores.startswith(f"PSNR {shown}\n") and "SSIM BSD100 0." in scores


def test_rows_are_listed(wavemix):
    assert {row["row"] for row in json.loads(wavemix("benchmark", "list", "--json").out)} == set(rows())
    told = wavemix("benchmark", "list").out
    assert "95.37 %" in told and "33.08 dB" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "cityscapes-2"], "there is no row 'cityscapes-2'"),
        (["run", "stl10"], "stl10 is missing: put stl10_binary.tar.gz"),
        (["run", "small.toml", "--recipe", "theirs"], "small has no recipe 'theirs', only ours, lovasz, upstream"),
        (["run", "small.toml", "--recipe", "upstream"], "starts from weights: name their file by --start"),
        (["run", "small.toml", "--start", "none.pth"], "--start: there is no file none.pth"),
        (["run", "small.toml", "--precision", "fp8"], "--precision is fp32, bf16, fp16, not 'fp8'"),
        (["run", "small.toml", "--log", "paper"], "--log is tensorboard, wandb, mlflow, not 'paper'"),
        (["run", "small.toml", "--save-every", "soon"], "--save-every is a time such as"),
        (["run", "small.toml", "--images", "5", "--cpu"], "--images 5: there are 2 to train on"),
        (["evaluate", "small.toml", "--weights", "none.pth"], "--weights: there is no file none.pth"),
    ],
)
def test_bad_input_is_one_line(wavemix, place: Path, words: list[str], said: str):
    told = wavemix("benchmark", *words, code=2).err
    assert said in told and told.count("\n") == 1
    assert not list((place / "runs").rglob("*.jsonl"))


def test_curves_are_logged_to_mlflow(wavemix, place: Path, monkeypatch: pytest.MonkeyPatch):
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow-skinny is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    wavemix("benchmark", "run", "small.toml", "--epochs", 2, "--cpu", "--log", "mlflow")
    (record,) = Results(place / "runs").read()
    client = tracking.MlflowClient(f"sqlite:///{place}/runs/logs/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("wavemix").experiment_id])
    logged = client.get_metric_history(run.info.run_id, "benchmark-small-ours-2-epochs-seed0/loss")
    assert [(metric.step, metric.value) for metric in logged] == [(n + 1, e.loss) for n, e in enumerate(record.curve)]
    assert run.info.status == "FINISHED" and not (place / "mlflow.db").exists()


def test_curves_are_logged_to_wandb_without_an_account(wavemix, place: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    wavemix("benchmark", "run", "small.toml", "--epochs", 2, "--cpu", "--log", "wandb")
    (record,) = Results(place / "runs").read()
    (log,) = (place / "runs" / "logs").rglob("run-*.wandb")
    content = log.read_bytes()
    assert b"benchmark-small-ours-2-epochs-seed0/loss" in content
    assert all(f"{epoch.loss:.6g}"[:6].encode() in content for epoch in record.curve)


def test_a_tracker_that_cannot_be_opened_is_one_line(wavemix, place: Path):
    (place / "runs").mkdir()
    (place / "runs" / "logs").write_text("a file where a folder should be")
    told = wavemix("benchmark", "run", "small.toml", "--cpu", "--log", "tensorboard", code=2).err
    assert told.startswith("wavemix: --log tensorboard: FileExistsError") and told.count("\n") == 1


def test_a_tracker_that_is_not_installed_is_named(wavemix, place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = wavemix("benchmark", "run", "small.toml", "--cpu", "--log", "mlflow", code=2).err
    assert told == f"wavemix: --log mlflow needs the package mlflow: pip install '.[mlflow]' torch=={torch_here()}\n"
