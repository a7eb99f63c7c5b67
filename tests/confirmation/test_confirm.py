"""What is confirmed, in which order and how surely, with a stand-in for training; the real one is in test_campaign."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import torch
from candidates import RECIPE, SEEDS, SURE, config, split, trial
from safetensors import safe_open
from safetensors.torch import save_file

from search.confirmation import confirm as confirming
from search.confirmation import retrain as retraining
from search.confirmation.confirm import Finalist, confirm, confirm_smallest, finalists, verdict
from search.confirmation.plan import SeedPlan
from search.errors import UserError
from search.records.environment import environment
from search.records.goal import Goal
from search.records.jsonl import append, read
from search.records.models import Confirmation, numbered
from search.records.results import Results
from search.records.weights import Inputs, WeightsFile, inputs, networks
from search.runtime import Runtime
from search.tasks import classification
from search.training.images import Images
from search.training.outcome import Epoch, Trained
from search.training.recipe import Recipe, Training
from search.training.tensors import read as tensors_of
from wavemix import LiteConfig, WaveMixLite

DATA = split()


@pytest.fixture
def lab(monkeypatch):
    """Records what is trained and tested; `lab.accuracy[depth]` are the test accuracies of a configuration."""

    class Lab:
        accuracy: dict[int, list[float]] = {}
        trained, loaded, devices, stopped = [], [], [], None

    here = Lab()
    here.trained, here.loaded, here.devices = [], [], []

    def train(config, recipe, data, seeds, *, validation=None, on_epoch=None, checkpoint=None, device):
        here.devices.append(device)
        here.trained.append((config.depth, list(seeds), len(data)))
        members = []
        for seed in seeds:
            curve = [Epoch(epoch=e, train_loss=1 / e, accuracy=None, seconds=e) for e in range(1, recipe.epochs + 1)]
            members.append(Trained(seed=seed, curve=curve, accuracy=None, stopped=here.stopped, seconds=4.0))
            torch.manual_seed(seed)
            members[-1]._state = WaveMixLite(config).state_dict()
        for epoch in range(1, recipe.epochs + 1):
            if on_epoch:
                on_epoch(epoch, [m.curve[epoch - 1] for m in members])
        return members

    def load(name, part, data_dir=None):
        here.loaded.append(part)
        return split(part)

    monkeypatch.setattr(classification, "train", train)
    monkeypatch.setattr(retraining.datasets, "load", load)
    monkeypatch.setattr(
        classification, "evaluate", lambda config, states, *_: here.accuracy[config.depth][: len(states)]
    )
    return here


def silent(line: str) -> None:
    pass


def run(results, candidates, seeds=SEEDS, study="toy", records=None, seconds=None, **runtime):
    path, deadline = results / "toy.jsonl", None if seconds is None else time.monotonic() + seconds
    if records is None:
        records = read(path) if path.exists() else []
    goal, plan = Goal(study, 0.9, "published"), SeedPlan.of(seeds, deadline)
    runtime = Runtime(**{"say": silent} | runtime)
    return confirm_smallest(candidates, DATA, goal, plan, Results(results), runtime, records=records)


def test_the_device_trains_and_is_measured_and_recorded(lab, tmp_path, monkeypatch):
    asked = []
    for module in (confirming, retraining):
        monkeypatch.setattr(module, "environment", lambda device: asked.append(device) or environment())
    monkeypatch.setattr(retraining, "cost", lambda *_, device: asked.append(device))
    lab.accuracy = {1: [0.91] * 3}
    run(tmp_path, [Finalist(config(1), RECIPE)], device="cuda:1")
    assert lab.devices == ["cuda:1"] and set(asked) == {"cuda:1"}


def test_after_the_first_that_is_confirmed_nothing_more_is_tested(lab, tmp_path):
    """One that only reaches the target is kept, and the next larger one is tried."""
    lab.accuracy = {1: [0.89, 0.9, 0.905], 2: [0.91, 0.9, 0.9], 3: SURE, 4: SURE}
    attempts = run(tmp_path, [Finalist(config(d), RECIPE) for d in (1, 2, 3, 4)])
    found = [(a.config.depth, a.verdict, a.reached) for a in attempts]
    assert found == [(1, "missed", False), (2, "reached", True), (3, "confirmed", True)]
    assert read(tmp_path / "toy.jsonl") == attempts, "the failed attempt is on record too"
    assert [depth for depth, *_ in lab.trained] == [1, 2, 3] and lab.loaded == ["test"] * 3
    assert all(seeds == SEEDS and count == 40 for _, seeds, count in lab.trained)
    record = attempts[1]
    assert record.mean == pytest.approx(0.9033, abs=1e-4) and (record.min, record.max, record.n) == (0.9, 0.91, 3)
    assert record.dataset.test_count == 40 and record.dataset.test_digest == split("test").digest
    assert record.parameters == record.parameters_counted == config(2).parameters() == record.cost.parameters


def test_attempt_on_record_is_not_repeated(lab, tmp_path):
    lab.accuracy = {1: [0.8] * 3, 2: SURE}
    candidates = [Finalist(config(1), RECIPE), Finalist(config(2), RECIPE)]
    first = run(tmp_path, candidates)
    lines = []
    assert run(tmp_path, candidates, say=lines.append) == first
    assert len(lab.trained) == len(lab.loaded) == 2 and "has been tested with these seeds" in lines[0]
    run(tmp_path, [Finalist(config(1), RECIPE.model_copy(update={"lr": 0.5}))])
    assert len(lab.trained) == 3, "another recipe is another attempt"


def test_time_limits_all_but_the_first_attempt(lab, tmp_path):
    lab.accuracy = {1: [0.8] * 3, 2: [0.95] * 3}
    lines = []
    candidates = [Finalist(config(1), RECIPE, 100.0), Finalist(config(2), RECIPE, 100.0)]
    attempts = run(tmp_path, candidates, say=lines.append, seconds=0.0)
    assert [a.config.depth for a in attempts] == [1] and lines[-1].startswith("no time left to confirm C8-D2")
    assert [a.config.depth for a in run(tmp_path, candidates, seconds=1000.0)] == [1, 2]


def test_failed_training_tests_nothing_and_keeps_no_weights(lab, tmp_path):
    lab.stopped = "nan: the loss of seed 1 was not finite in epoch 1"
    (record,) = run(tmp_path, [Finalist(config(1), RECIPE)])
    assert record.state == record.verdict == "failed" and not record.reached
    assert record.mean is None and record.accuracies == []
    assert not list((tmp_path / "weights").iterdir()) and "not finite" in verdict(record)


def test_weights_carry_configuration_recipe_and_seeds(lab, tmp_path):
    lab.accuracy = {1: [0.95] * 3}
    run(tmp_path, [Finalist(config(1), RECIPE)])
    (path,) = (tmp_path / "weights").iterdir()
    assert path.stat().st_mode == (tmp_path / "toy.jsonl").stat().st_mode
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        state = {k.removeprefix("1000001/"): file.get_tensor(k) for k in file.keys() if k.startswith("1000001/")}
    assert LiteConfig.model_validate_json(metadata["config"]) == config(1)
    assert Recipe.model_validate_json(metadata["recipe"]) == RECIPE
    assert json.loads(metadata["seeds"]) == SEEDS
    WaveMixLite(config(1)).load_state_dict(state)


def more(results, seeds, recipe=RECIPE, data=DATA, study="toy", config=config(1), **runtime):  # noqa: B008, frozen
    goal, runtime = Goal(study, 0.9, config.family), Runtime(**{"say": silent} | runtime)
    training = Training(config, recipe, data.digest)
    return confirm(training, data, goal, SeedPlan(tuple(seeds)), Results(results), runtime)


def seeds_of(results) -> dict[str, list[int]]:
    """What lies in the folder of weights, file by file."""
    found = {}
    for path in sorted((results / "weights").iterdir(), key=lambda path: (len(path.name), path.name)):
        with safe_open(path, "pt") as file:
            found[path.name] = json.loads(file.metadata()["seeds"])
    return found


def test_seeds_are_added_to_those_that_were_trained_before(lab, tmp_path, monkeypatch):
    """Each network is tested again, from its weights: the accuracies are its own, in the order of the seeds."""
    tested = []

    def evaluate(config, states, *_):
        tested.extend(states)
        return [float(state["pool.2.bias"].sigmoid().mean()) for state in states]

    monkeypatch.setattr(classification, "evaluate", evaluate)
    lines = []
    first = more(tmp_path, [8])
    both = more(tmp_path, [7, 8, 9], say=lines.append)
    assert [seeds for _, seeds, _ in lab.trained] == [[8], [7, 9]] and lines[0] == "trained before: seeds 8"
    assert both.seeds == [7, 8, 9] and both.accuracies[1] == first.accuracies[0]
    assert len(set(both.accuracies)) == 3 and both.curves[1] == first.curves[0]
    assert (first.reused, both.reused, both.device_seconds) == ([], [8], 4)
    torch.testing.assert_close(tested[2], dict(tested[0]))
    again = more(tmp_path, [9, 8])
    assert len(lab.trained) == 2 and again.reused == [9, 8], "neither was trained"
    assert seeds_of(tmp_path) == {seeds_of(tmp_path).popitem()[0]: [8, 7, 9]}, "and none is lost"


@pytest.mark.parametrize("changed", ["gpu", "torch", "images", "weights", "state", "recipe", "journal"])
def test_what_was_trained_otherwise_is_trained_again(lab, tmp_path, monkeypatch, changed):
    lab.accuracy = {1: [0.95] * 3}
    recipe, data = RECIPE, DATA
    if changed == "state":
        lab.stopped = "nan: the loss of seed 8 was not finite in epoch 1"
    record = more(tmp_path, [8])
    lab.stopped = None
    (path, *_) = [*(tmp_path / "weights").glob("*"), tmp_path / "none"]
    if changed == "gpu":
        (tmp_path / "toy.jsonl").unlink()
        trained_there = record.cost.model_copy(update={"device": "a GPU"})
        append(tmp_path / "toy.jsonl", record.model_copy(update={"cost": trained_there}))
    elif changed == "torch":
        other = environment().model_copy(update={"torch": "another"})
        monkeypatch.setattr(confirming, "environment", lambda device: other)
    elif changed == "images":
        data = split(count=44)
    elif changed == "weights":
        path.write_bytes(path.read_bytes()[:100])
    elif changed == "recipe":
        recipe = RECIPE.model_copy(update={"lr": 0.5})
    elif changed == "journal":
        (tmp_path / "toy.jsonl").unlink()
    record = more(tmp_path, [8, 9], recipe, data)
    assert [seeds for _, seeds, _ in lab.trained] == [[8], [8, 9]] and record.reused == []


def test_seeds_trained_for_one_view_are_judged_by_more_without_training(lab, tmp_path):
    """The record says so, and the new network's file holds their weights, too."""
    lab.accuracy = {1: [0.95] * 3}
    more(tmp_path, [8])
    mirrored = config(1).model_copy(update={"views": "mirror"})
    record = more(tmp_path, [8, 9], config=mirrored)
    assert [seeds for _, seeds, _ in lab.trained] == [[8], [9]] and record.reused == [8]
    assert record.config == mirrored and [*seeds_of(tmp_path).values()] == [[8], [8, 9]]
    assert more(tmp_path, [9, 8], config=mirrored).reused == [9, 8] and len(lab.trained) == 2


def test_seeds_trained_on_another_processor_count(lab, tmp_path, monkeypatch):
    lab.accuracy = {1: [0.95] * 3}
    more(tmp_path, [8])
    other = environment().model_copy(update={"device": "another"})
    for module in (confirming, retraining):
        monkeypatch.setattr(module, "environment", lambda device: other)
    record = more(tmp_path, [8, 9])
    assert [seeds for _, seeds, _ in lab.trained] == [[8], [9]]
    assert record.reused == [8] and record.environment.device == "another"


def test_weights_of_other_images_and_recipes_are_kept_and_never_taken(lab, tmp_path):
    """Also where a seed was trained on one, then on another, then is asked for with the first again."""
    lab.accuracy = {1: [0.95] * 3}
    other = split(count=44)
    more(tmp_path, [8])
    for _ in range(2):
        more(tmp_path, [8], data=other)
        more(tmp_path, [9], RECIPE.model_copy(update={"lr": 0.5}))
    assert more(tmp_path, [8, 9]).reused == [8]
    first, *others = seeds_of(tmp_path)
    stem = first.removesuffix(".safetensors")
    assert others == [f"{stem}-2.safetensors", f"{stem}-3.safetensors"]
    assert list(seeds_of(tmp_path).values()) == [[8, 9], [8], [9]]


def test_seeds_saved_at_once_by_two_are_both_kept(tmp_path):
    weights = WeightsFile(tmp_path / "w.safetensors", Training(config(1), RECIPE, "d"), Inputs.of(DATA))
    state = WaveMixLite(config(1)).state_dict()
    now = datetime.now(UTC)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: weights.save({seed: state}, now), range(24)))
    assert set(weights.load(range(24))) == {(seed, now.isoformat()) for seed in range(24)}
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_folder_of_weights_that_cannot_be_written_is_said_before_training(lab, tmp_path):
    (tmp_path / "weights").write_text("")
    with pytest.raises(UserError, match="weights"):
        more(tmp_path, [8])
    assert lab.trained == []


@pytest.mark.parametrize("study", ["x" * 200, "数" * 66])
def test_the_longest_names_have_weights_and_a_record(lab, tmp_path, study):
    lab.accuracy = {1: [0.95] * 3}
    record = more(tmp_path, [8], study=study)
    assert more(tmp_path, [8], study=study).reused == [8]
    assert [path.name for path in tmp_path.glob("*.jsonl")] == [f"{study}.jsonl"] and record.state == "complete"
    assert list(seeds_of(tmp_path).values()) == [[8]]


def test_a_path_that_no_weights_can_have_is_said_before_training(lab, tmp_path):
    room = 4060 - len(str(tmp_path))
    deep = tmp_path.joinpath(*["x" * 99] * (room // 100), "x" * (room % 100 + 1))  # a record would fit
    with pytest.raises(UserError, match="cannot write .*x/weights/toy.*safetensors: File name too long"):
        more(deep, [8])
    assert lab.trained == []


def test_a_command_that_is_not_utf8_is_recorded(lab, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x.py", "r\udcff"])
    results, lab.accuracy = tmp_path / "r\udcff", {1: [0.95] * 3}
    more(results, [8])
    (record,) = read(results / "toy.jsonl")
    assert "r\\udcff" in record.environment.command


def test_damaged_weights_are_set_aside_and_trained_again(lab, tmp_path, caplog):
    lab.accuracy = {1: [0.95] * 3}
    more(tmp_path, [8])
    (path,) = (tmp_path / "weights").iterdir()
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="its digest does not fit"):
        networks(path)
    assert more(tmp_path, [8]).reused == [] and len(lab.trained) == 2
    aside = path.with_name(f"{path.name}.damaged")
    assert aside.read_bytes() == content and list(networks(path)) == [8]
    assert sorted(path.parent.iterdir()) == [path, aside]
    assert caplog.messages == [
        f"{path} is a damaged file of weights (its digest does not fit); moved to {path.name}.damaged"
    ]


def test_weights_from_before_their_digest_are_read(lab, tmp_path):
    lab.accuracy = {1: [0.95] * 3}
    more(tmp_path, [8])
    (path,) = (tmp_path / "weights").iterdir()
    header, tensors = tensors_of(path)
    del header["inputs"]  # nor had they these
    save_file(tensors, path, header)
    with pytest.raises(UserError, match="does not say what images its networks take"):
        inputs(path)
    assert more(tmp_path, [8]).reused == [8] and len(lab.trained) == 1 and list(networks(path)) == [8]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("out of memory"), MemoryError()]
)
@pytest.mark.parametrize("step", ["train", "cost"])
def test_what_breaks_is_one_line(lab, tmp_path, monkeypatch, error, step):
    def breaks(*_, **__):
        raise error

    monkeypatch.setattr(classification if step == "train" else retraining, step, breaks)
    with pytest.raises(UserError, match="could not be (trained|measured): .*(space|memory|MemoryError)"):
        more(tmp_path, [8])
    assert step == "train" or lab.trained == []


def test_test_images_of_another_shape_are_said_before_training(lab, tmp_path):
    wide = split()
    object.__setattr__(wide, "images", wide.images.expand(-1, 3, -1, -1))
    with pytest.raises(UserError, match="test images of Toy are 1x16x16 .*, those to train on 3x16x16"):
        more(tmp_path, [8], data=wide, config=LiteConfig(in_channels=3, num_classes=4, final_dim=8, depth=1))
    assert lab.trained == []


def test_images_trained_on_are_no_test(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(retraining.datasets, "load", lambda *_: DATA)
    with pytest.raises(UserError, match="test images of Toy are its training images"):
        more(tmp_path, [8])
    assert lab.trained == []


def test_trained_networks_come_by_seed(lab, tmp_path):
    lab.accuracy = {1: [0.95] * 3}
    more(tmp_path, [8, 9])
    (path,) = (tmp_path / "weights").iterdir()
    found = networks(path)
    torch.manual_seed(9)
    plain, images = WaveMixLite(config(1)).eval(), torch.rand(2, 1, 16, 16)
    assert list(found) == [8, 9]
    given = inputs(path)
    assert (given.data, given.shape, given.classes) == ("Toy", (1, 16, 16), tuple("abcd"))
    as_trained = Images(DATA, torch.device("cpu"))
    assert (*given.mean, *given.deviation) == (*as_trained.mean.tolist(), *as_trained.deviation.tolist())
    expected = (DATA.images.float() / 255 - as_trained.mean) / as_trained.deviation  # of one channel
    torch.testing.assert_close(given.prepared(DATA.images), expected)
    with pytest.raises(UserError, match=r"uint8 images \(N, 1, 16, 16\)"):
        given.prepared(DATA.images[:, :, :8])
    torch.testing.assert_close(found[9](images), plain(images))
    for content in (b"", b"no weights", path.read_bytes()[:500]):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(UserError, match="other is no file of weights that wavemix trained") as said:
            networks(tmp_path / "other")
        assert "\n" not in str(said.value)
        with pytest.raises(UserError, match="other does not say what images its networks take"):
            inputs(tmp_path / "other")


def test_half_a_line_of_a_killed_run_is_no_obstacle(lab, tmp_path):
    lab.accuracy = {1: [0.95] * 3}
    more(tmp_path, [8])
    with open(tmp_path / "toy.jsonl", "a") as file:
        file.write('{"kind": "conf')
    assert more(tmp_path, [8, 9]).reused == [8]


def test_interrupted_with_all_seeds_goes_on_with_all_of_them(lab, tmp_path, monkeypatch):
    """Although one of them is finished alone meanwhile; and the checkpoint of those left is not that of all."""
    lab.accuracy = {1: [0.95] * 3}
    used, train = [], classification.train
    monkeypatch.setattr(
        classification, "train", lambda *a, checkpoint, **o: used.append((a[3], checkpoint)) or train(*a, **o)
    )
    more(tmp_path, [5, 8])
    (whole,) = (checkpoint for _, checkpoint in used)
    shutil.rmtree(tmp_path / "weights")
    more(tmp_path, [8])
    more(tmp_path, [7, 8, 9])
    more(tmp_path, [6, 8, 9])
    whole.parent.mkdir(parents=True, exist_ok=True)
    whole.touch()  # as an interruption leaves it
    record = more(tmp_path, [5, 8])
    assert [seeds for seeds, _ in used] == [[5, 8], [8], [7, 9], [6], [5, 8]] and record.reused == []
    assert used[-1][1] == whole and len({path for _, path in used}) == 4 and not whole.exists()


def test_configuration_that_does_not_fit_is_refused_before_training(lab, tmp_path):
    with pytest.raises(UserError, match="the configuration does not fit Toy: level 4 needs"):
        more(tmp_path, SEEDS, config=config(1, level=4, stride=(2, 1)))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        more(tmp_path / "file", SEEDS)
    assert lab.trained == []


def test_finalists_are_those_beyond_the_margin_smallest_first():
    records = [
        trial(3, 0.99),
        trial(1, 0.905),
        trial(2, 0.95),
        trial(4, 0.97, state="pruned"),
        trial(1, 0.95, target=0.8),
    ]
    assert [f.config.depth for f in finalists(records, "Toy", 0.9, 3)] == [2, 3], "0.905 is within the margin"
    known = trial(1, 0.905).dataset.model_copy(update={"validation_count": 0})
    assert trial(1, 0.905, dataset=known).feasible, "without a count, the target alone"
    assert finalists(records, "Other", 0.9, 3) == [] and finalists([], "Toy", 0.9, 3) == []
    assert finalists(records, "Toy", 0.9, 3)[0].recipe == RECIPE


def test_time_of_a_confirmation_grows_with_its_seeds_and_images():
    (one,) = finalists([trial(1, 0.95, wall_seconds=10.0)], "Toy", 0.9, 1)
    (two,) = finalists([trial(1, 0.95, wall_seconds=10.0)], "Toy", 0.9, 2)
    (ten,) = finalists([trial(1, 0.95, wall_seconds=10.0)], "Toy", 0.9, 10)
    assert one.seconds == pytest.approx(10.0 * (9 + 100) / 9) and two.seconds == pytest.approx(2 * one.seconds)
    assert ten.seconds == pytest.approx(3 * one.seconds), "the others are trained while there is time"


def test_without_feasible_trials_the_nearest_is_the_finalist():
    records = [trial(3, 0.85), trial(1, 0.86), trial(2, 0.7)]
    assert [f.config.depth for f in finalists(records, "Toy", 0.9, 3)] == [1]


def test_of_trials_of_one_configuration_the_last_counts():
    assert [f.config.depth for f in finalists([trial(1, 0.95), trial(1, 0.5), trial(2, 0.95)], "Toy", 0.9, 3)] == [2]


def test_a_trial_from_before_a_hyperparameter_is_the_same_finalist():
    before = trial(1, 0.95)
    before.recipe.pop("mixup")
    assert len(finalists([before, trial(1, 0.95)], "Toy", 0.9, 3)) == 1


def test_verdict_says_what_is_missing(tmp_path):
    def of(accuracies):
        return Confirmation.of(
            accuracies,
            study="toy",
            config=config(1),
            recipe=RECIPE,
            dataset=trial(1, 0.9).dataset,
            target=0.9,
            family="published",
            seeds=SEEDS[: len(accuracies)],
            parameters=config(1).parameters(),
            state="complete",
        )

    missed, reached = verdict(of([0.88, 0.89, 0.9])), verdict(of([0.92]))
    assert missed.startswith("missed: ") and "target 90 % missed by 1.00 points" in missed and "95 % interval" in missed
    assert reached.startswith("reached, not confirmed: ") and "missed" not in reached and "1 seed," in reached
    assert "adjusted for attempt 1: none is left" in missed and "confidence" not in reached
    confirmed = verdict(of(SURE).model_copy(update={"attempt": 2}))
    assert confirmed.startswith("confirmed: ")
    assert "confidence 99.9 % one-sided; adjusted for attempt 2: 99." in confirmed
    assert verdict(of(SURE).model_copy(update={"target": None})).startswith("tested: ")
    append(tmp_path / "x.jsonl", of([0.92]))


def test_the_same_training_again_is_no_attempt_of_its_own(lab, tmp_path):
    lab.accuracy = {1: [0.8] * 3, 2: SURE}
    (failed,) = run(tmp_path, [Finalist(config(1), RECIPE)])
    repeated = failed.model_copy(update={"study": "train"})
    (second,) = run(tmp_path, [Finalist(config(2), RECIPE)], records=[failed, repeated])
    assert second.attempt == 2


def test_a_study_that_is_stopped_ends_its_confirmation(lab, tmp_path):
    class Stopped(Exception):
        pass

    def obey():
        raise Stopped

    with pytest.raises(Stopped):
        run(tmp_path, [Finalist(config(1), RECIPE)], obey=obey)
    assert not (tmp_path / "toy.jsonl").exists()


def many(count: int) -> list[int]:
    return list(range(1_000_500, 1_000_500 + count))


@pytest.fixture
def by_seed(lab, monkeypatch):
    """`by_seed[depth]` are accuracies in the order of the seeds, whatever batches they are trained in."""
    table: dict[int, list[float]] = {}
    used: dict[int, int] = {}

    def evaluate(config, states, *_):
        start = used.get(config.depth, 0)
        used[config.depth] = start + len(states)
        return table[config.depth][start : start + len(states)]

    monkeypatch.setattr(classification, "evaluate", evaluate)
    return table


def confirm_all(results, depths, count=10, **options):
    return run(results, [Finalist(config(d), RECIPE) for d in depths], many(count), **options)


def test_what_is_hopeless_ends_after_three_seeds_and_clear_success_after_five(lab, by_seed, tmp_path):
    by_seed[1] = [0.5, 0.501, 0.502]
    by_seed[2] = [0.95, 0.951, 0.952, 0.953, 0.954]
    lines = []
    failed, confirmed = confirm_all(tmp_path, (1, 2), say=lines.append)
    assert "  after 3 seeds: not decided yet" in lines, "no accuracy on test images without a record"
    assert "  after 3 seeds: the bound can no longer be reached, 7 other seeds would not confirm it" in lines
    assert (failed.n, failed.verdict, failed.attempt) == (3, "missed", 1)
    assert (confirmed.n, confirmed.verdict, confirmed.attempt) == (5, "confirmed", 2)
    assert failed.looks == confirmed.looks == [3, 5, 10] and read(tmp_path / "toy.jsonl") == [failed, confirmed]
    assert [seeds for _, seeds, _ in lab.trained] == [many(10)[:3], many(10)[:3], many(10)[3:5]]
    assert lab.loaded == ["test", "test"], "once an attempt"
    assert "adjusted for attempt 2 and looks" in verdict(confirmed)


def test_close_case_takes_all_seeds_and_is_only_reached(lab, by_seed, tmp_path):
    by_seed[1] = [0.89, 0.91] * 5
    (record,) = confirm_all(tmp_path, (1,))
    assert (record.n, len(record.seeds), record.reached, record.verdict) == (10, 10, True, "reached")


def test_without_time_it_ends_after_three_seeds_and_goes_on_with_the_others_later(lab, by_seed, tmp_path):
    """As the same attempt: it is one test, looked at when it was planned to be."""
    accuracies = [0.9, 0.92, 0.88, 0.93, 0.87, 0.91, 0.912, 0.911, 0.909, 0.91]
    by_seed[1] = accuracies[:3] + accuracies  # the first three are tested again, from their weights
    lines = []
    (first,) = confirm_all(tmp_path, (1,), say=lines.append, seconds=0.0)
    assert (first.n, first.verdict) == (3, "reached") and first.looks == [3, 5, 10]
    assert any("no time for 7 other seeds: the same command with a larger --budget" in line for line in lines)
    assert confirm_all(tmp_path, (1,), seconds=0.0) == [first], "nothing is recorded again"
    (whole,) = confirm_all(tmp_path, (1,))
    assert (whole.n, whole.attempt, whole.reused) == (10, 1, many(3)) and len(read(tmp_path / "toy.jsonl")) == 2
    assert [seeds for _, seeds, _ in lab.trained] == [many(3), many(5)[3:], many(10)[5:]]
    later = [r.attempt for r in numbered([*read(tmp_path / "toy.jsonl"), first.model_copy(update={"seeds": [5]})])]
    assert later == [1, 1, 2]
    by_seed[2] = [0.95, 0.951, 0.952]
    (other,) = confirm_all(tmp_path, (2,), study="other", records=read(tmp_path / "toy.jsonl"), count=3)
    assert other.attempt == 2


def test_attempt_that_ended_early_is_not_repeated(lab, by_seed, tmp_path):
    by_seed[1] = [0.95, 0.951, 0.952, 0.953, 0.954]
    first = confirm_all(tmp_path, (1,))
    assert confirm_all(tmp_path, (1,)) == first and len(lab.trained) == 2


def test_attempt_from_before_a_recipe_had_all_its_hyperparameters_is_not_repeated(lab, by_seed, tmp_path):
    by_seed[1] = [0.95, 0.951, 0.952, 0.953, 0.954]
    (record,) = confirm_all(tmp_path, (1,))
    older = record.model_copy(update={"recipe": {k: v for k, v in record.recipe.items() if k != "flip"}})
    assert confirm_all(tmp_path, (1,), records=[older]) == [older] and len(lab.trained) == 2


def test_attempts_of_other_studies_at_the_threshold_count(lab, by_seed, tmp_path):
    by_seed[1], by_seed[2] = [0.5, 0.501, 0.502], [0.95, 0.951, 0.952, 0.953, 0.954]
    confirm_all(tmp_path, (1,), study="other")
    (record,) = confirm_all(tmp_path, (2,), records=read(tmp_path / "other.jsonl"))
    assert record.attempt == 2


def test_interrupted_between_batches_goes_on_with_what_was_trained(lab, by_seed, tmp_path, monkeypatch):
    """The checkpoint of a finished batch stays until there is a record; the real training reads it (test_train)."""
    by_seed[1] = [0.95, 0.951, 0.952, 0.953, 0.954]
    checkpoints, train = [], classification.train

    def stopping(config, recipe, data, seeds, *, validation=None, on_epoch=None, checkpoint=None, device):
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.touch()
        checkpoints.append(checkpoint)
        if len(checkpoints) == 2:
            raise KeyboardInterrupt
        return train(config, recipe, data, seeds, on_epoch=on_epoch, device=device)

    monkeypatch.setattr(classification, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        confirm_all(tmp_path, (1,))
    assert not (tmp_path / "toy.jsonl").exists() and all(path.exists() for path in checkpoints)
    assert len(set(checkpoints)) == 2, "each batch has its own"


def test_record_lines_of_earlier_versions_still_parse(tmp_path):
    line = json.loads(
        Confirmation.of(
            [0.95], study="toy", config=config(1), recipe=RECIPE, dataset=trial(1, 0.9).dataset, target=0.9,
            family="published", seeds=[1], parameters=config(1).parameters(), state="complete",
        ).model_dump_json()
    )  # fmt: skip
    del line["looks"], line["attempt"]
    line["confirmed"] = line.pop("reached")  # as it was called
    (tmp_path / "old.jsonl").write_text(json.dumps(line) + "\n")
    (record,) = read(tmp_path / "old.jsonl")
    assert record.looks == [] and record.attempt is None and record.reached


def test_the_time_left_is_that_of_the_seeds_at_work(monkeypatch):
    """A second batch of seeds is timed from its own beginning, also one that was resumed amid its epochs."""
    clock, said = iter(range(0, 10_000, 60)), []
    monkeypatch.setattr(retraining.time, "monotonic", lambda: next(clock))
    on_epoch = retraining.quarterly(8, Runtime(say=said.append))
    for epoch in (*range(1, 9), *range(1, 9), *range(5, 9)):
        on_epoch(epoch, [Epoch(epoch=epoch, train_loss=1.0, accuracy=None, seconds=1.0)])
    assert [line.partition("1.0000")[2] for line in said[:4]] == [line.partition("1.0000")[2] for line in said[4:8]]
    assert said[8].endswith(" left"), "of the one that was resumed, an epoch after its first"
