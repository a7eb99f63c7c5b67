"""The search end to end on a small folder of images, with real trainings, a real storage and the real command."""

import json
import shlex
import signal
import subprocess
import sys
import time

import jobs
import optuna
import processes
import pytest
import torch
from bars import RECIPE, SMALL, engine
from processes import COMMAND

from search.data import datasets
from search.errors import UserError
from search.records.jsonl import read
from search.records.models import Confirmation, Trial
from search.report import html_page, tables
from search.report.efficiency import smallest
from search.space.costs import Costs
from search.tasks.score import ACCURACY
from search.training.recipe import Recipe
from wavemix import LiteConfig, load_checkpoint


def test_search_finds_and_records(folder, tmp_path):
    events = []
    search = engine(folder, tmp_path, listen=events.append, target=0.6)
    search.run(trials=4)
    records = read(tmp_path / "bars.jsonl")
    assert 1 <= len(records) <= 4 and all(isinstance(r, Trial) for r in records)
    if len(records) < 4:  # it stops early only when it says that nothing smaller is left
        assert any(e.kind == "note" and "no untried configuration" in e.text for e in events)
    assert {r.state for r in records} <= {"complete", "pruned", "refused"}
    for record in records:
        assert record.dataset.train_count == 256 and record.dataset.validation_count == 64
        assert record.parameters == record.config.parameters() < 1500
    feasible = search.found.feasible()
    assert feasible, "60 % of four easy classes is within reach"
    assert feasible[0].value >= 0.6 + ACCURACY.margin(0.6, 64)
    # every trial after the first feasible one had fewer parameters than the incumbent of its time
    incumbent = 1500
    for trial in search.study.get_trials():
        if trial.state.is_finished() and trial.user_attrs.get("parameters"):
            assert trial.user_attrs["parameters"] < incumbent
            if trial.user_attrs.get("feasible"):
                incumbent = trial.user_attrs["parameters"]
    assert search.found.incumbent == incumbent
    assert [e.kind for e in events].count("trial") == sum(len(r.accuracies) for r in records), "one for each seed"


def test_candidates_at_or_above_the_incumbent_are_refused_without_training(folder, tmp_path, monkeypatch):
    search = engine(folder, tmp_path)
    config = search.setting.space.configurations(0, 1500)[0]
    search.setting.space.bound = config.parameters()
    search.study.enqueue_trial(search.setting.space.hyperparameters_of(config))
    monkeypatch.setattr("search.tasks.classification.train", lambda *a, **k: pytest.fail("it was trained"))
    search._one()
    (record,) = read(tmp_path / "bars.jsonl")
    assert record.state == "refused" and record.wall_seconds == 0 and record.accuracies == []


def test_hopeless_curves_are_pruned(folder, tmp_path):
    recipe = RECIPE.model_copy(update={"epochs": 20, "lr": 1e-5, "optimizer": "adamw"})
    search = engine(folder, tmp_path, target=0.99, recipe=recipe)
    search.run(trials=4)
    *first, last = read(tmp_path / "bars.jsonl")
    assert len(first) == 3, "before three whole curves nothing is hopeless"
    assert all(record.state == "complete" and len(record.curves[0]) == 20 for record in first)
    assert last.state == "pruned" and len(last.curves[0]) < 20


def test_nan_fails_the_trial_and_the_search_goes_on(folder, tmp_path):
    search = engine(folder, tmp_path, recipe=RECIPE.model_copy(update={"lr": 1e30, "optimizer": "adamw"}))
    search.run(trials=2)
    records = read(tmp_path / "bars.jsonl")
    assert [r.state for r in records] == ["failed", "failed"] and records[0].reason.startswith("nan: the loss of seed")


@pytest.mark.parametrize(("done", "left"), [(2, [3, 1, 2, 3]), (4, [2, 3])])
def test_interrupted_trial_goes_on_from_its_checkpoint(folder, tmp_path, monkeypatch, done, left):
    """In its first seed's training or in the other one's: what has been trained is not trained again."""
    monkeypatch.setattr("search.training.course.CHECKPOINT_SECONDS", 0.0)
    seen = []

    def stop(event):
        seen.extend([event] * (event.kind == "epoch"))
        if len(seen) == done:
            raise KeyboardInterrupt

    first = engine(folder, tmp_path, listen=stop, target=0.5)
    with pytest.raises(KeyboardInterrupt):
        first.run(trials=1)
    epochs = []
    first.close()
    second = engine(folder, tmp_path, listen=lambda e: epochs.append(e) if e.kind == "epoch" else None, target=0.5)
    second.run(trials=1)
    assert [e.epoch for e in epochs] == left
    (record,) = read(tmp_path / "bars.jsonl")
    assert record.state == "complete" and [len(curve) for curve in record.curves] == [3, 3]
    assert not list(tmp_path.glob("studies/bars/*.checkpoint"))


def test_killed_run_leaves_no_trial_behind(folder, tmp_path):
    search = engine(folder, tmp_path)
    choices = {
        name: optuna.distributions.CategoricalDistribution(v)
        for name, v in search.setting.space.hyperparameters.items()
    }
    trial = search.study.ask(choices)
    search.close()
    (waiting,) = engine(folder, tmp_path).study.get_trials()
    assert waiting.state.name == "WAITING" and waiting.params == trial.params


def test_storage_of_another_study_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("search.study.storage.PATIENCE", 0.2)  # with a server that does not answer
    engine(folder, tmp_path)
    with pytest.raises(UserError, match="another study named bars .its target differs"):
        engine(folder, tmp_path, target=0.8)
    with pytest.raises(UserError, match="cannot be opened"):
        engine(folder, tmp_path, storage="sqlite:////proc/none/x.db", name="other")
    with pytest.raises(UserError) as caught:
        engine(folder, tmp_path, storage="postgresql+psycopg://me:secret@127.0.0.1:1/none", name="other")
    assert "secret" not in str(caught.value)


def test_space_that_holds_nothing_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="raise --max-parameters"):
        engine(folder, tmp_path, ceiling=20)


def test_confirmation_is_the_only_reader_of_the_test_part(folder, tmp_path, monkeypatch):
    parts = []
    load = datasets.load
    monkeypatch.setattr("search.data.datasets.load", lambda name, part, *a: parts.append(part) or load(name, part, *a))
    search = engine(folder, tmp_path)
    search.run(trials=2)
    assert parts == ["train"]
    config = LiteConfig(in_channels=1, num_classes=4, final_dim=8, depth=1, upsampling="bilinear")
    data = load(str(folder), "train")
    record = jobs.confirm(config, RECIPE, data, 0.3, [1, 2, 3], study="bars", family="published", results=tmp_path)
    assert parts == ["train", "test"]
    assert record.n == 3 and record.dataset.train_count == 320 and record.dataset.test_count == 96


def test_confirmed_weights_reload_to_the_recorded_accuracy(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    from wavemix import WaveMixLite

    config = LiteConfig(in_channels=1, num_classes=4, final_dim=8, depth=1, upsampling="bilinear")
    data, test = datasets.load(str(folder), "train"), datasets.load(str(folder), "test")
    record = jobs.confirm(config, RECIPE, data, 0.99, [1, 2], study="bars", family="published", results=tmp_path)
    assert not record.reached or record.mean >= 0.99
    (path,) = (tmp_path / "weights").glob("*.safetensors")
    one = {k.removeprefix("2/"): v for k, v in load_file(path).items() if k.startswith("2/")}
    save_file(one, tmp_path / "one.safetensors")
    network = load_checkpoint(WaveMixLite(config), tmp_path / "one.safetensors").eval()
    sample = data.images[:10000].float() / 255
    mean, deviation = sample.mean((0, 2, 3)), sample.std((0, 2, 3)).clamp_min(1e-3)
    x = (test.images.float() / 255 - mean[:, None, None]) / deviation[:, None, None]
    accuracy = (network(x).argmax(1) == test.labels).float().mean().item()
    assert accuracy == pytest.approx(record.accuracies[1], abs=1e-6)


# --- the command -------------------------------------------------------------------------------------------------


def test_main_job(folder, tmp_path, wavemix):
    done = processes.done(COMMAND, "search", folder, "--target", 0.5, "--trials", 3, *SMALL, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "confirmed" in done.stdout and "one-sided" in done.stdout
    assert "wavemix train" in done.stdout and "Traceback" not in done.stderr
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "bars-50-extended.jsonl").read_text().splitlines()]
    assert 1 <= kinds.count("trial") <= 3 and "confirmation" in kinds
    assert tables.check(tmp_path) == []
    # the printed command reproduces the winner
    command = next(line for line in done.stdout.splitlines() if "wavemix train" in line)
    record = smallest([r for r in read(tmp_path / "bars-50-extended.jsonl") if isinstance(r, Confirmation)])
    wavemix(*shlex.split(command.partition("wavemix")[2]), "--results", tmp_path / "again", "--target", 0.5)
    repeated = read(tmp_path / "again" / "train.jsonl")[0]
    assert repeated.config == record.config and tables.check(tmp_path / "again") == []
    assert repeated.accuracies == pytest.approx(record.accuracies, abs=0.02)
    # more seeds, sequentially, and the row again from its record
    more = wavemix("confirm", folder, "--target", 0.5, "--seeds", 5, "--results", tmp_path)
    assert "one-sided" in more.out
    last = [r for r in read(tmp_path / "bars-50-extended.jsonl") if isinstance(r, Confirmation)][-1]
    assert last.looks == [3, 5] and last.attempt > 1 and len(last.seeds) in (3, 5)
    row = wavemix("reproduce", "bars-folder-50-extended", "--results", tmp_path)
    assert "target 50 % reached again" in row.out
    assert tables.check(tmp_path) == []
    # as users start it
    command = [sys.executable, "-m", "search", "reproduce", "no-such-row", "--results", tmp_path]
    unknown = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert unknown.returncode == 2 and "bars-folder-50-extended" in unknown.stderr
    assert unknown.stderr.count("\n") == 1, "and no traceback"


def test_three_targets_at_once(folder, tmp_path, wavemix):
    targets, options = ("--targets", "0.7,0.4,0.55"), (*SMALL, tmp_path, "--seeds", 3)
    found = json.loads(wavemix("search", folder, *targets, "--trials", 3, *options, "--json").out)
    assert found["study"] == "bars-40-55-70-extended"
    assert [one["target"] for one in found["front"]] == [0.4, 0.55, 0.7]
    records = read(tmp_path / "bars-40-55-70-extended.jsonl")
    tests = [r for r in records if isinstance(r, Confirmation)]
    assert {r.target for r in tests} == {0.4, 0.55, 0.7} and all(r.attempt == 1 for r in tests if r == tests[0])
    assert all(r.targets == [0.4, 0.55, 0.7] for r in records if isinstance(r, Trial))
    # the same seeds of the same network are trained once, whatever target they are tested for
    reused = [r for r in tests for earlier in tests[: tests.index(r)] if r.network == earlier.network]
    assert all(r.reused for r in reused)
    assert tables.check(tmp_path) == []
    assert [section.target for section in html_page._thresholds(records)] == [0.4, 0.55, 0.7]
    again = wavemix("confirm", folder, *targets, "--seeds", 3, "--results", tmp_path).out
    assert all(f"bars at {target} %, extended family: " in again for target in (40, 55, 70))
    assert "adjusted  verdict" in again, "the front, a row a target"
    status = json.loads(wavemix("status", "--study", "bars-40-55-70-extended", "--results", tmp_path, "--json").out)
    assert status["target"] == [0.4, 0.55, 0.7] and len(status["front"]) == 3


def test_the_fastest_network_within_limits(folder, tmp_path, wavemix):
    limits = ("--max-macs", "1M", "--max-activation-bytes", "16KiB", "--max-latency", "1s")
    options = (*SMALL, tmp_path, "--seeds", 3, "--minimize", "latency", *limits)
    found = json.loads(wavemix("search", folder, "--target", 0.4, "--trials", 2, *options, "--json").out)
    assert found["study"] == "bars-40-extended-latency" and found["minimised"]["name"] == "latency"
    records = read(tmp_path / "bars-40-extended-latency.jsonl")
    costs = Costs((1, 8, 8), "macs", {"activation-bytes": 16384})
    for record in records:
        assert record.minimised.name == "latency" and 0 < record.objective < 1
        assert costs.of(record.config) < 1e6 and not costs.exceeded(record.config)
    assert found["minimised"]["value"] in [r.objective for r in records if isinstance(r, Trial)]
    assert "Minimised" in (tmp_path / "tables" / "trials.md").read_text() and tables.check(tmp_path) == []
    said = wavemix(
        "confirm", folder, "--target", 0.4, "--name", found["study"], "--seeds", 1, "--results", tmp_path
    ).out
    assert next(r for r in records if isinstance(r, Confirmation)).minimised.shown in said


def test_interrupt_is_clean_and_resumable(folder, tmp_path):
    arguments = ["search", folder, "--target", 0.99, "--trials", 2, "--epochs", 3000, "--results", tmp_path]
    process = processes.Process(COMMAND, *arguments)
    for line in process.stdout:
        if "trial 0" in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        "Interrupted. Everything up to the last checkpoint is kept. Resume with:" in errors
        and "Traceback" not in errors
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "mnisst", "--target", "0.9"], "unknown data set"),
        (["search", "FOLDER", "--target", "1.5"], "fraction between 0 and 1"),
        (["search", "FOLDER", "--target", "0.9", "--budget", "soon"], "--budget is a time"),
        (["search", "FOLDER", "--target", "0.9", "--family", "mine"], "--family is"),
        (["search", "FOLDER", "--target", "0.9", "--max-parameters", "9"], "raise --max-parameters"),
        (["search", "FOLDER", "--target", "0.9", "--minimize", "size"], "--minimize is parameters, macs, activation-"),
        (["search", "FOLDER", "--target", "0.9", "--max-macs", "many"], "--max-macs is a number such as 1.5M"),
        (["search", "FOLDER", "--target", "0.9", "--max-macs", "20"], "the limit is 20 MACs: raise --max-macs"),
        (["search", "FOLDER", "--target", "0.9", "--max-latency", "1us"], "the limit is 0.001 ms: raise --max-latency"),
        (["search", "FOLDER", "--target", "0.9", "--max-activation-bytes", "64"], "raise --max-activation-bytes"),
        (["search", "FOLDER", "--targets", "0.9,0.9"], "one of them stands twice"),
        (["search", "FOLDER", "--targets", "0.9,"], "fraction between 0 and 1"),
        (["search", "FOLDER", "--targets", "0.8,0.9", "--validation-target", "0.9"], "goes with one --target"),
        (["search", "FOLDER", "--target", "0.9", "--results", "/proc/results"], "cannot write to /proc/results"),
        (["search", "FOLDER", "--target", "0.9", "--recipe", '{"epochs": 0}'], "--recipe: epochs"),
        (["train", "FOLDER", "--config", '{"depth": 0}'], "--config: depth"),
        (["train", "FOLDER", "--config", "nothing.json"], "can't be read"),
        (["train", "FOLDER", "--config", "{}", "--seed-list", "a"], "--seed-list is"),
        (["train", "FOLDER", "--config", "{}", "--seed-list", "1", "--seeds", "2"], "give one of them"),
        (["train", "FOLDER", "--config", "{}", "--seeds", "65"], "--seeds"),
        (["train", "FOLDER", "--config", '{"num_classes": 3}'], "num_classes is 3, but bars has 4"),
        (["search", "FOLDER", "--target", "0.9", "--start", '{"in_channels": 3}'], "in_channels is 3, but bars has 1"),
        (["tables", "--results", "/nowhere"], "/nowhere"),
        (["search", "WITHOUT", "--target", "0.9"], "it has no test part"),
        (["train", "WITHOUT", "--config", "{}"], "it has no test part"),
        (["train", "FOLDER", "--config", "{}", "--seed-list", "99999999999999999999"], "a seed is below"),
        (["audit", "--factory", "nothing"], "module:callable"),
        (["audit", "--checkpoint", "/nowhere.pth"], "/nowhere.pth"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder, wavemix, arguments, message):
    places = {"FOLDER": folder, "WITHOUT": folder / "train"}
    said = wavemix(*[places.get(a, a) for a in arguments], code=2).err
    lines = [line for line in said.splitlines() if line.startswith("wavemix:")]
    assert len(lines) == 1 and message in lines[0] and "Traceback" not in said


def test_audit_command_agrees(wavemix, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    table = wavemix("audit").out
    for count in ("3,566", "7,156", "37,058", "520,106"):
        assert table.count(count) >= 4


def test_real_mnist(data_dir, tmp_path, wavemix):
    """One short trial on real MNIST, through the command."""
    recipe = Recipe(epochs=9, batch_size=128, lr=0.03, optimizer="muon").model_dump_json()
    config = LiteConfig(in_channels=1, final_dim=8, depth=1, stride=(2, 2), pad=2, upsampling="bilinear")
    wavemix(
        "train", "mnist", "--config", config.model_dump_json(), "--recipe", recipe, "--epochs", 1,
        "--data-dir", data_dir, "--results", tmp_path, "--target", 0.5,
    )  # fmt: skip
    (record,) = read(tmp_path / "train.jsonl")
    assert record.reached and record.dataset.label == "MNIST" and record.dataset.test_count == 10000
    assert torch.tensor(record.accuracies).mean() > 0.7


def test_seeds_trained_before_give_what_training_them_again_gives(folder, tmp_path):
    config = LiteConfig(in_channels=1, num_classes=4, final_dim=4, depth=1, stride=(2, 1))
    data = datasets.load(str(folder), "train")
    options = {"study": "s", "family": "published"}
    whole = jobs.confirm(config, RECIPE, data, 0.5, [7, 8, 9], results=tmp_path / "whole", **options)
    jobs.confirm(config, RECIPE, data, 0.5, [8], results=tmp_path / "apart", **options)
    trained = []
    options |= {"on_epoch": lambda epoch, latest: trained.append(len(latest)), "results": tmp_path / "apart"}
    both = jobs.confirm(config, RECIPE, data, 0.5, [7, 8, 9], **options)
    assert trained == [2] * RECIPE.epochs and both.accuracies == pytest.approx(whole.accuracies, abs=0.011)


def test_batches_of_seeds_give_what_all_at_once_give_also_after_an_interruption(folder, tmp_path, monkeypatch):
    config = LiteConfig(in_channels=1, num_classes=4, final_dim=4, depth=1, stride=(2, 1))
    data, seeds = datasets.load(str(folder), "train"), [7, 8, 9, 10, 11]
    options = {"study": "s", "family": "published"}
    whole = jobs.confirm(config, RECIPE, data, 0.5, seeds, results=tmp_path / "whole", **options)
    batches = [7, 8, 9], [10, 11]
    # not enough after three, whatever they reach
    monkeypatch.setattr("search.confirmation.plan.enough", lambda accuracies, *_: len(accuracies) == 5)
    trained = []

    def stop(epoch, latest):
        trained.append(len(latest))
        if len(trained) == RECIPE.epochs + 1:
            raise KeyboardInterrupt

    options |= {"results": tmp_path / "apart", "looks": (3, 5)}
    with pytest.raises(KeyboardInterrupt):
        jobs.confirm(config, RECIPE, data, 0.5, seeds, on_epoch=stop, **options)
    record = jobs.confirm(config, RECIPE, data, 0.5, seeds, on_epoch=stop, **options)
    assert trained == [3] * 3 + [2] * 3, "nothing was trained again, neither the first batch nor the epoch cut off"
    assert record.seeds == sum(batches, []) and record.accuracies == pytest.approx(whole.accuracies, abs=0.011)
    assert [len(curve) for curve in record.curves] == [RECIPE.epochs] * 5
    assert not list(tmp_path.rglob("*.checkpoint*"))
