"""The benchmark scripts on tiny sizes: they finish, and what they record agrees with what was counted by hand."""

import ctypes
import json
import math
import runpy
import shutil
import sys
import time
from pathlib import Path

import processes
import pytest

from search.data import datasets
from search.data.catalogue import VALIDATION
from search.data.split import split_validation
from search.records.jsonl import append, read
from search.records.models import Data, Trial
from search.space.configurations import Space
from search.training.default_recipe import default_recipe
from search.training.outcome import Epoch
from wavemix import kernels
from wavemix.config import LiteConfig

ROOT = Path(__file__).parents[2]

STAND_IN = """
from .blocks import Level1Waveblock
from .dwt import haar
def xf1(x):
    low, details = haar(x)
    return low, (details.unflatten(1, (-1, 3)),)
"""  # our parts under the names of upstream's
# no GPU part: a test of the the same on every machine
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


def run(name, output, *arguments):
    quick = ["--repetitions", "2", "--seconds", "0.01", "--threads", "1", "--output", str(output)]
    return processes.done(f"scripts.{name}", *quick, *arguments, **NO_GPU)


@pytest.fixture
def script(ended):
    """A script in this process, with its exit code."""

    def run(name, *arguments, code=0):
        return ended(
            lambda: runpy.run_module(f"scripts.{name}", run_name="__main__", alter_sys=True), *arguments, code=code
        )

    return run


def test_haar(tmp_path):
    pytest.importorskip("ptwt")
    output = tmp_path / "benchmarks.jsonl"
    result = run("benchmarks.haar", output, "--shapes", "2x4x8x8", "--dtypes", "float32")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("no GPU here: the GPU part is skipped")
    (record,) = read(output)
    assert record.name == "Haar forward+backward, 2x4x8x8 float32" and record.better == "lower"
    assert set(record.peers) == {"pytorch_wavelets", "ptwt"} and record.details["left_out"] == {}
    for peer in record.peers:  # medians lie between the fastest and the slowest repetition
        low, high = record.details["spread_seconds"][peer]
        assert low * 1e6 <= record.peers[peer] <= high * 1e6


def test_members(tmp_path):
    output = tmp_path / "benchmarks.jsonl"
    small = ["--members", 1, 2, "--batch", 16, "--size", 8, "--depth", 1]
    result = run("benchmarks.members", output, *small)
    assert result.returncode == 0, result.stderr
    one, two = read(output)
    assert one.name.startswith("training 1 networks") and two.name.startswith("training 2 networks")
    low, high = two.details["spread_seconds"]["one stack"]
    assert 2 * 16 / high <= two.ours <= 2 * 16 / low  # the images of both members count


def test_training_beside_a_stand_in_for_upstream(tmp_path):
    # our blocks under upstream's names: the same numbers, so the comparison of the first step has to pass
    folder = tmp_path / "wheel"
    shutil.copytree(ROOT / "wavemix", folder / "wavemix", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "wavemix" / "__init__.py").write_text("from .blocks import Level1Waveblock\nxf1 = None\n")
    output = tmp_path / "benchmarks.jsonl"
    arguments = ["--upstream", folder, "--networks", "small", "--batch", 16, "--modes", "autocast"]
    result = run("benchmarks.training", output, *arguments)
    assert result.returncode == 0, result.stderr
    speed, saved, peak = read(output)
    assert (speed.better, saved.better, peak.better) == ("higher", "lower", "lower")
    narrow = {"Stack"} if kernels.bfloat16() else set()  # beside bfloat16
    both = "upstream 0.2.4", "plain WaveMixLite"
    assert set(speed.peers) == {*both, *(f"{name}, autocast" for name in both)} | narrow
    assert saved.peers["upstream 0.2.4"] == saved.peers["plain WaveMixLite"] > 16 * 8 * 8 * 4  # at least the images
    # other mathematics under upstream's name is refused, and nothing is recorded
    path = folder / "wavemix" / "blocks.py"
    path.write_text(path.read_text().replace("return coarse", "return coarse * 3"))
    output.unlink()
    result = run("benchmarks.training", output, *arguments)
    assert result.returncode == 1 and "not the same networks" in result.stderr
    assert not output.exists()


def test_networks_of_the_table_beside_a_stand_in_for_upstream(tmp_path, script):
    folder = tmp_path / "wheel"
    shutil.copytree(ROOT / "wavemix", folder / "wavemix", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "wavemix" / "__init__.py").write_text(STAND_IN)
    output = tmp_path / "benchmarks.jsonl"
    arguments = ["--upstream", folder, "--rows", "mnist-99-extended", "--results", ROOT / "results", "--batch", 16]
    result = run("benchmarks.networks", output, *arguments)
    assert result.returncode == 0, result.stderr
    training, memory, inference, latency = read(output)
    assert [r.unit for r in (training, memory, inference, latency)] == ["images/s", "bytes", "images/s", "ms"]
    assert tuple(training.peers) == ("WaveMix Lite-8/10, upstream 0.2.4",)
    assert tuple(latency.peers) == (*training.peers, "ours, compiled")
    assert training.details["peer_parameters"] == 3566 > training.details["parameters"]
    low, high = training.details["spread_seconds"]["ours"]
    assert 16 / high <= training.ours <= 16 / low
    nothing = [*arguments[:2], "--rows", "nothing", *arguments[4:], "--output", output]
    assert "there is no row nothing, only mnist-99" in script("benchmarks.networks", *nothing, code=2).err


def test_training_fit_knows_the_images_that_trained(tmp_path, data_dir, script):
    weights = ROOT / "results" / "weights" / "mnist-99-extended-C8-D11-m2-F8-L1-bilinear-separable-s21-lean.safetensors"
    output = tmp_path / "fit.jsonl"
    options = ["--data-dir", data_dir, "--images", 500, "--output", output]
    script("experiments.training_fit", "mnist", weights, *options)
    (line,) = map(json.loads, output.read_text().splitlines())
    assert line["images"] == 500 and len(line["accuracies"]) == len(line["seeds"]) > 1
    assert min(line["accuracies"]) > 0.98 and line["weights"] == weights.name
    other = next(weights.parent.glob("fashion-mnist-90-published-network-*-s11.safetensors"))
    said = script("experiments.training_fit", "mnist", other, *options, code=2).err
    assert "was not trained on the training images of MNIST" in said
    assert len(output.read_text().splitlines()) == 1


def test_explore_records_what_it_trains_once(tmp_path, data_dir, script, monkeypatch):
    few, _ = split_validation(datasets.load("fashion-mnist", "train", data_dir), 58_000, 0)
    monkeypatch.setattr(datasets, "load_classes", lambda *arguments: few)
    monkeypatch.setitem(VALIDATION, "fashion-mnist", 500)
    network = json.dumps({"in_channels": 1, "final_dim": 4, "depth": 1, "stride": [2, 1]})
    place = ["--data-dir", data_dir, "--results"]
    command = ["experiments.explore", "fashion-mnist", 1, network, *place]
    script(*command, tmp_path)
    (trial,) = read(tmp_path / "explored-fashion-mnist.jsonl")
    assert trial.state == "complete" and trial.recipe["epochs"] == 1 and len(trial.curves) == 1
    assert "already recorded" in script(*command, tmp_path).out
    assert len(list(read(tmp_path / "explored-fashion-mnist.jsonl"))) == 1
    assert script(*command, "/dev/null", code=2).err.startswith("error: cannot write to /dev/null/studies")
    less = [*command, tmp_path / "few", "--images"]
    script(*less, 640)
    (trial,) = read(tmp_path / "few" / "explored-fashion-mnist.jsonl")
    assert (trial.dataset.train_count, trial.dataset.validation_count) == (640, 1360)
    assert trial.curves[0][-1].accuracy == trial.accuracy_validation is not None
    assert "already recorded" not in script(*less, 320).out
    trials = read(tmp_path / "few" / "explored-fashion-mnist.jsonl")
    assert [t.dataset.train_count for t in trials] == [640, 320]
    bad = [
        ([network, network.replace("[2, 1]", "[2, 2]")], "the configuration does not fit Fashion-MNIST: level 1 needs"),
        ([network, "--recipe", "{"], "--recipe is JSON such as"),
        ([network, "--recipe", '{"lr": -1}'], "--recipe: lr: "),
    ]
    for arguments, message in bad:  # before anything is trained
        written = script(*command[:3], *arguments, *place, tmp_path, code=2)
        assert written.out == "", "before anything is trained"
        assert written.err.startswith(f"error: {message}") and written.err.count("\n") == 1


def test_upstream_that_is_not_there_is_one_line(tmp_path, script):
    said = script("benchmarks.training", "--upstream", tmp_path, "--output", tmp_path / "none.jsonl", code=2).err
    assert said.count("\n") == 1 and "holds no wavemix package" in said


def test_roofline(tmp_path):
    if kernels.library() is None:
        pytest.skip("needs a C++ compiler")
    output = tmp_path / "benchmarks.jsonl"
    result = run("benchmarks.roofline", output, "--networks", "small", "--batch", 16, "--size", 64, "--mebibytes", 1)
    assert result.returncode == 0, result.stderr
    found = {record.name.split(", ")[-1]: record for record in read(output)}
    # stem 1 -> 4 -> 8, 3x3, on 16 images of 8x8; two FLOPs a product; the images need no gradient
    assert found["conv_forward"].details["flops"] == 2 * 16 * 64 * 9 * (4 + 32)
    assert found["conv_backward"].details["flops"] == 2 * 16 * 64 * 9 * (4 + 2 * 32)
    # reduction 8 -> 2, Haar of 2 channels, feed-forward 8 -> 8 -> 8 on 4x4 positions, BatchNorm and sum, residual;
    # there is one block: nothing was added before it
    branch = 2 * 16 * 16 * (64 + 64) + 4 * 16 * 16 * 8
    assert found["chain_forward"].details["flops"] == 2 * 16 * 64 * 16 + 16 * 16 * 16 * 2 + branch + 16 * 64 * 8
    # the products' gradients by both sides, the hidden layer once more
    branch = 2 * 16 * 16 * 64 * 5 + 8 * 16 * 16 * 8
    assert found["chain_backward"].details["flops"] == 4 * 16 * 64 * 16 + 16 * 16 * 16 * 2 + branch
    total = sum(found[name].details["flops"] for name in found if name != "training step")
    assert found["training step"].details["flops"] == total
    for name in found:
        assert found[name].ours > 0 and found[name].peers["peak"] > 0


def test_a_deconvolution_counts_like_the_convolution_it_transposes():
    from scripts.benchmarks import roofline

    one, none = ctypes.c_void_p(1), ctypes.c_void_p(None)
    # members, groups, in, height, width, out, kernel, stride, padding, depthwise
    shape = (3, 2, 8, 8, 8, 4, 4, 2, 1, 0)
    forward = roofline.conv_backward(none, 0, one, one, one, none, none, *shape)
    transposed = roofline.conv_forward(one, 0, one, none, one, *shape)
    images = 3 * 2 * kernels.LANES
    assert forward == transposed == (2 * images * 16 * 4 * 8 * 16, 4 * images * (8 * 64 + 4 * 16))


def test_contenders_alternate():
    from scripts.benchmarks.harness import alternate, medians, spread

    seen = []

    def contender(name):
        return lambda: seen.append(name) or float(len(seen))

    samples = alternate({"a": contender("a"), "b": contender("b")}, 3)
    assert seen == ["a", "b", "b", "a", "a", "b"]
    assert medians(samples) == {"a": 4.0, "b": 3.0}
    assert spread(samples) == {"a": [1.0, 5.0], "b": [2.0, 6.0]}


def test_records_are_json_lines_with_the_load(tmp_path):
    from scripts.benchmarks.harness import record

    path = tmp_path / "x.jsonl"
    record(path, name="x", unit="s", ours=1.0, peers={"y": 4.0}, better="lower", repetitions=1)
    line = json.loads(path.read_text())
    assert line["ratios"] == {"y": 0.25} and line["details"]["load_1min"] >= 0 and line["machine"]


def test_sampler(tmp_path, ended, monkeypatch):
    """Made-up curves: deeper and wider is better; the sampler is played beside TPE and both find something."""
    from scripts.benchmarks import sampler as benchmark

    monkeypatch.setattr(benchmark, "TABLE", 2000)

    def run(*arguments, code=0):
        return ended(lambda: sys.exit(benchmark.ended(benchmark.main)), *arguments, code=code)

    space = Space("extended", (1, 28, 28), 10, 6000)
    space.hyperparameters["shared"] = (0, 1)  # as in the recorded curves
    recipe, data = default_recipe("mnist", 28, 6), Data(name="x", label="MNIST", variant="v", digest="d", train_count=9)
    for number, config in enumerate([c for c in space.configurations(1, 6000, 3000) if c.parameters() > 500][:40]):
        last = 1 - 0.02 * (3000 / config.parameters()) ** 0.8 * 1.05 ** (number % 3)
        curve = [
            Epoch(epoch=e, train_loss=0.1, accuracy=1 - (1 - last) * 1.1 ** (6 - e), seconds=1.0) for e in range(1, 7)
        ]
        append(
            tmp_path / "curves-mnist.jsonl",
            Trial(
                study="curves-mnist", number=number, config=config, recipe=recipe, dataset=data, target=0.99,
                family="extended", seeds=[0], parameters=config.parameters(), curves=[curve], accuracies=[last],
                accuracy_validation=last, state="complete",
            ),
        )  # fmt: skip
    options = ["--data", "mnist", "--repetitions", 1, "--budget", 2, "--processes", 1, "--contenders", "TPE"]
    output = tmp_path / "benchmarks.jsonl"
    run("--results", tmp_path, *options, "--output", output)
    below, near = read(output)
    assert "below the published count" in below.name and "5 % of the optimum" in near.name
    assert 0 < below.ours < 2 and below.details["reached"]["frontier"] == 1
    assert below.details["parameters_at_end"]["frontier"] < 3566
    assert 0 < below.details["surrogate"]["left-one-out root mean square"] < 0.2
    assert (tmp_path / "plots" / "sampler-MNIST.svg").exists()
    (tmp_path / "curves-mnist.jsonl").unlink()
    benchmark.surrogate.cache_clear()
    assert run("--results", tmp_path, *options, code=2).err.count("\n") == 1


def test_searches_with_real_trainings_are_kept_and_judged(tmp_path, data_dir, monkeypatch):
    from scripts.benchmarks import whole_search as benchmark

    few, _ = split_validation(datasets.load("mnist", "train", data_dir), 58_000, 0)
    monkeypatch.setattr(benchmark.datasets, "load", lambda *arguments: few)
    monkeypatch.setitem(benchmark.VALIDATION, "mnist", 500)
    monkeypatch.setitem(benchmark.TASKS, "mnist", ("MNIST", 0.03, 3566))  # less than chance: the first one reaches it
    monkeypatch.setattr(benchmark, "EPOCHS", 2)
    charge, spent = benchmark.Trainings.charge, []

    def charged(task, config) -> float:  # an epoch at one price on every machine, however slow
        spent.append(charge(task, config))
        return 0.5

    monkeypatch.setattr(benchmark.Trainings, "charge", charged)
    kept = tmp_path / "play.json"
    result = benchmark.job(kept, "frontier", 0, 2, data_dir)
    assert result["trained"] >= 1 and result["shown"] and len(result["judged"]) == 5
    assert len(spent) == 2 * result["compute"] and all(0 < minutes < 5 for minutes in spent)
    assert benchmark.at(result, 2) == LiteConfig.model_validate(result["shown"]).parameters() < 3566
    assert all(earlier[0] < later[0] for earlier, later in zip(result["steps"], result["steps"][1:]))
    monkeypatch.setattr(benchmark, "play", None)  # what is kept is not searched again
    assert benchmark.job(kept, "frontier", 0, 2, data_dir) == result


def test_storage(tmp_path, script):
    output, start = tmp_path / "benchmarks.jsonl", time.perf_counter()
    script("benchmarks.storage", "--trials", 5, "--repetitions", 1, "--output", output)
    whole = time.perf_counter() - start  # seconds, however busy the machine is
    (found,) = read(output)
    assert (
        found.name == "a search's trial without its training after 5 finished trials, sqlite" and 0 < found.ours < whole
    )


def test_recipes(tmp_path, monkeypatch):
    from bars import CONFIG, bars

    from scripts.benchmarks import recipes as module
    from search import exploration as courses
    from search.space.work import multiply_accumulates

    monkeypatch.setitem(module.TASKS, "mnist", (CONFIG, 0.5))
    monkeypatch.setitem(courses.VALIDATION, "mnist", 128)
    monkeypatch.setattr(courses.datasets, "load_classes", lambda name, part, folder: bars(640))
    course = module.Recipes("mnist", None, tmp_path)
    trial, reached = course.shortest([1, 8, 16])
    assert reached and trial.accuracy_validation >= 0.5 and trial.seeds == [0, 1, 2]
    recorded = read(tmp_path / "recipes-mnist.jsonl")
    assert [r.recipe["epochs"] for r in recorded] == [1, 8, 16][: len(recorded)] and recorded[-1].config == CONFIG
    # again from the records, without training
    monkeypatch.setattr(courses, "train", None)
    assert module.Recipes("mnist", None, tmp_path).shortest([1, 8, 16])[0] == trial
    # plain at five times the length, then at shorter ones until one misses
    lengths = {10: 0.6, 4: 0.55, 2: 0.4}
    monkeypatch.setattr(course, "train", lambda name, epochs: trial.model_copy(
        update={"accuracy_validation": lengths[epochs], "recipe": {**trial.recipe, "epochs": epochs}}))  # fmt: skip
    assert (course.plain(2)[0].recipe["epochs"], course.plain(2)[1]) == (4, True)
    lengths[10] = 0.45
    assert (course.plain(2)[0].recipe["epochs"], course.plain(2)[1]) == (10, False)
    # images of 8 pixels have no reduced size: three forward passes of 512 images an epoch
    assert course.work(trial) == 3 * 512 * multiply_accumulates(CONFIG, 8, 8) * trial.recipe["epochs"]


def test_hyperparameter_effects_find_what_was_put_in():
    from scripts.experiments import hyperparameter_effects

    law = dict(
        zip(
            hyperparameter_effects.CHANGES,
            (-0.3, -0.1, -0.5, -0.2, -0.1, -0.2, -0.4, -0.3, -0.6, 0.1, 0.2, 0.3, 0, 0.1),
        )
    )

    def ruled(trial: Trial) -> Trial:
        error = 0.2 * math.exp(
            sum(law.get(n, 0) * change.of(trial.config) for n, change in hyperparameter_effects.CHANGES.items())
        )
        return trial.model_copy(update={"accuracy_validation": 1 - error})

    trials = [
        ruled(r) for r in read(ROOT / "results" / "records" / "curves" / "curves-mnist.jsonl") if r.state == "complete"
    ]
    found = {
        name: (effect, deviation, cost) for name, effect, deviation, cost in hyperparameter_effects.changes(trials)
    }
    for name, (effect, deviation, _) in found.items():
        assert effect == pytest.approx(law.get(name, 0), abs=1e-6) and deviation < 1e-6
    costs = {name: cost for name, (_, _, cost) in found.items()}
    assert {name for name, cost in costs.items() if cost == 0} == {
        n for n in costs if n[:4] in ("near", "stri", "silu")
    }
    own = [t.config for t in trials if not t.config.shared]
    twice = [c.model_copy(update={"depth": 2 * c.depth}).parameters() / c.parameters() for c in own]
    assert costs["depth twice"] == pytest.approx(sum(map(math.log2, twice)) / len(twice))
