"""A search with a stand-in for training, whose accuracies are known: what it tries, refuses, records and survives."""

import math
import time

import jobs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from rich.console import Console
from toys import RECIPE, TARGET, Training, engine, toy, trials

from search.cli.listings import summary
from search.cli.panel import Display
from search.errors import UserError
from search.records.environment import environment
from search.records.statistics import FIRST
from search.space import configurations as space
from search.study.pace import CONFIRMING
from search.tasks.score import ACCURACY
from search.training.recipe import Recipe


def test_the_device_trains_and_is_recorded(tmp_path, monkeypatch):
    training, asked = Training(monkeypatch), []
    monkeypatch.setattr("search.study.trial.environment", lambda device: asked.append(device) or environment())
    engine(tmp_path, device="cuda:1").run(trials=1)
    assert asked == ["cuda:1"] and set(training.devices) == {"cuda:1"}


def test_studies_from_before_the_recipe_had_all_its_hyperparameters_go_on(tmp_path, monkeypatch):
    Training(monkeypatch)
    with engine(tmp_path) as search:
        search.run(trials=1)
        identity = search.study.user_attrs["identity"]
        del identity["recipe"]["cutout"]
        search.study.set_user_attr("identity", identity)
    with engine(tmp_path) as search:
        assert len(search.found.recorded()) == 1
    with pytest.raises(UserError, match="its recipe differs"):
        engine(tmp_path, recipe=RECIPE.model_copy(update={"cutout": 3}))


def test_studies_from_before_a_hyperparameter_had_a_choice_go_on_without_it(tmp_path, monkeypatch):
    Training(monkeypatch)
    now, before = space.EXTENDED, {**space.EXTENDED, "upsampling": ("bilinear", "deconv")}
    monkeypatch.setattr(space, "EXTENDED", before)
    with engine(tmp_path) as search:
        search.run(trials=2)
    monkeypatch.setattr(space, "EXTENDED", now)
    with engine(tmp_path) as search:
        search.run(trials=3)
        assert len(search.found.recorded()) == 5
        assert search.setting.space.hyperparameters["upsampling"] == before["upsampling"]
        left = search.setting.space.configurations(0, 3000)
        assert {config.upsampling for config in left} == set(before["upsampling"])


def test_studies_from_before_there_was_a_hyperparameter_go_on_without_it(tmp_path, monkeypatch):
    Training(monkeypatch)
    now, before = space.EXTENDED, {name: values for name, values in space.EXTENDED.items() if name != "affine"}
    monkeypatch.setattr(space, "EXTENDED", before)
    with engine(tmp_path) as search:
        search.run(trials=2)
    monkeypatch.setattr(space, "EXTENDED", now)
    with engine(tmp_path) as search:
        search.run(trials=3)
        assert len(search.found.recorded()) == 5
        assert "affine" not in search.setting.space.hyperparameters
        assert {config.affine for config in search.setting.space.configurations(0, 3000)} == {"depth"}


def test_incumbent_shrinks_to_where_the_target_is_just_reached(tmp_path, monkeypatch):
    training = Training(monkeypatch)
    search = engine(tmp_path)
    search.run(trials=30)
    smallest = search.found.feasible()[0].user_attrs["parameters"]
    assert smallest == search.found.incumbent
    wanted = 1200 * (0.1 / (1 - search.setting.threshold)) ** 1.25
    assert wanted <= smallest < 1.1 * wanted
    incumbent = 3000
    for record in trials(tmp_path):
        if record.state != "refused":
            assert record.parameters < incumbent
        if record.state == "complete" and record.accuracy_validation >= search.setting.threshold:
            incumbent = record.parameters
    assert set(training.counts) == {(250, 50)}
    assert len(set(training.configs)) == len(training.configs), "nothing is trained twice"


def test_summary_shows_the_winner_and_the_nearest_misses(tmp_path, monkeypatch):
    Training(monkeypatch)
    search = engine(tmp_path)
    search.run(trials=6)
    numbers = summary(search.setting, search.study.get_trials())["trial"]
    assert str(search.found.feasible()[0].number) in numbers
    complete = [r for r in trials(tmp_path) if r.state == "complete"]
    assert sorted(numbers, key=int) == [str(r.number) for r in complete], "so few are all shown"


def test_study_and_records_agree(tmp_path, monkeypatch):
    Training(monkeypatch)
    search = engine(tmp_path)
    search.run(trials=6)
    told = {t.number: t for t in search.study.get_trials()}
    names = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "refused": TrialState.PRUNED}
    records = trials(tmp_path)
    assert [r.number for r in records] == sorted(told)
    for record in records:
        trial = told[record.number]
        assert trial.state == names[record.state] and search.setting.space.build(trial.params) == record.config
        if record.state == "complete":
            assert trial.value == pytest.approx(record.accuracy_validation)
            assert trial.intermediate_values.keys() == set(range(1, RECIPE.epochs + 1))
        if record.state == "pruned":
            assert 0 < len(trial.intermediate_values) < RECIPE.epochs


def test_another_seed_is_trained_where_the_first_leaves_hope(tmp_path, monkeypatch):
    training = Training(monkeypatch)
    with engine(tmp_path) as search:
        search.run(trials=6)
        single, turns = (search.setting.space.smallest.model_copy(update=u) for u in ({}, {"depth": 2, "cycle": 2}))
        assert search.setting.parts(single, "cuda") == [[0, 1]], "a GPU trains both in the time of one"
        assert search.setting.parts(turns, "cuda") == search.setting.parts(single, "cpu") == [[0], [1]]
        told = {t.number: t for t in search.study.get_trials()}
    done = [record for record in trials(tmp_path) if record.state == "complete"]
    assert any(record.feasible for record in done)
    assert all(record.seeds == [0, 1] for record in done if record.feasible)
    for record in done:
        assert told[record.number].user_attrs["seeds"] == len(record.seeds) == len(record.accuracies)
        assert told[record.number].user_attrs["seconds"] == record.device_seconds == 8.0 * len(record.seeds)
    assert training.seeds.count([1]) == sum(record.seeds == [0, 1] for record in done)
    with engine(tmp_path / "hard", target=0.99) as search:
        search.run(trials=3)
    hopeless = trials(tmp_path / "hard")
    assert [record.seeds for record in hopeless] == [[0]] * 3, "they miss it by a factor of five in the error"
    assert all(len(record.curves) == len(record.accuracies) == 1 for record in hopeless)


def test_resumed_search_goes_on_as_one(tmp_path, monkeypatch):
    training = Training(monkeypatch)
    for _ in range(3):
        with engine(tmp_path) as search:
            search.run(trials=2)
    assert [r.number for r in trials(tmp_path)] == list(range(6))
    assert len(set(training.configs)) == len(training.configs)


def test_total_counts_failed_trials_and_what_others_did(tmp_path, monkeypatch):
    training = Training(monkeypatch, lambda config, epoch: "nan: a loss" if len(training.configs) == 2 else None)
    with engine(tmp_path) as search:
        search.run(total=3)
    with engine(tmp_path) as search:
        search.run(total=3)
        assert len(search.found.recorded()) == 3
        display = Display(Console(), "Toy", [TARGET], 3000, None)
        for event in search.found.past():
            display(event)
    assert len(trials(tmp_path)) == 3 and sum(r.state == "failed" for r in trials(tmp_path)) == 1
    assert sum(display.counts.values()) == 3 and display.counts["failed"] == 1
    assert display.best[TARGET].config.parameters() == search.found.feasible()[0].user_attrs["parameters"]


def test_space_that_is_used_up_ends_the_search(tmp_path, monkeypatch):
    training = Training(monkeypatch)
    notes = []
    ceiling = engine(tmp_path, name="probe", family="published").setting.space.smallest.parameters() + 1
    search = engine(
        tmp_path,
        family="published",
        ceiling=ceiling,
        listen=lambda e: notes.append(e.text) if e.kind == "note" else None,
    )
    search.run()
    assert training.configs and notes == ["no untried configuration below the incumbent was found"]
    assert len(set(training.configs)) == len(training.configs)


def test_broken_training_is_one_failed_trial(tmp_path, monkeypatch):
    broken = []

    def fail_once(config, epoch):
        if not broken:
            broken.append(config)
            raise RuntimeError("not enough\nmemory")

    Training(monkeypatch, fail_once)
    search = engine(tmp_path)
    search.run(trials=3)
    records = trials(tmp_path)
    assert records[0].state == "failed" and records[0].reason == "RuntimeError: not enough memory"
    assert len(records) == 3 and all(r.state != "failed" for r in records[1:])
    assert search.study.get_trials()[0].state == TrialState.FAIL
    assert all(r.config != broken[0] for r in records[1:])


def test_training_that_always_breaks_ends_the_search(tmp_path, monkeypatch):
    def fail(config, epoch):
        raise RuntimeError("no such kernel")

    Training(monkeypatch, fail)
    with pytest.raises(UserError, match="3 trials in a row broke, the last with RuntimeError: no such kernel"):
        engine(tmp_path).run(trials=10)
    assert [r.state for r in trials(tmp_path)] == ["failed"] * 3


def test_full_disk_ends_the_search_and_loses_nothing(tmp_path, monkeypatch):
    def fail(config, epoch):
        raise OSError(28, "No space left on device")

    Training(monkeypatch, fail)
    search = engine(tmp_path)
    with pytest.raises(UserError, match="No space left on device"):
        search.run(trials=1)
    states = [t.state.name for t in search.study.get_trials()]
    assert states == ["WAITING"], "the trial is tried again by the next run"


def test_nan_is_a_failed_trial_with_its_reason(tmp_path, monkeypatch):
    Training(
        monkeypatch, lambda config, epoch: "nan: the loss of seed 0 was not finite in epoch 2" if epoch == 2 else None
    )
    engine(tmp_path).run(trials=2)
    assert [(r.state, r.reason[:4]) for r in trials(tmp_path)] == [("failed", "nan:")] * 2


def test_interrupted_trial_is_the_first_of_the_next_run(tmp_path, monkeypatch):
    def interrupt(config, epoch):
        if epoch == 3:
            raise KeyboardInterrupt

    training = Training(monkeypatch, interrupt)
    with engine(tmp_path) as search, pytest.raises(KeyboardInterrupt):
        search.run(trials=5)
    assert [t.state for t in search.study.get_trials()] == [TrialState.WAITING]
    assert not (tmp_path / "toy.jsonl").exists()
    training.before = lambda config, epoch: None
    engine(tmp_path).run(trials=1)
    assert training.configs[0] == training.configs[1] == trials(tmp_path)[0].config


@pytest.mark.parametrize("state", ["complete", "pruned"])
def test_run_killed_before_its_record_was_written_has_it_written_by_the_next(tmp_path, monkeypatch, state):
    training = Training(monkeypatch)
    if state == "pruned":
        monkeypatch.setattr("search.sampling.sampler.FrontierPruner.prune", lambda *_: True)
    first = engine(tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr("search.study.store.append", lambda *_: (_ for _ in ()).throw(SystemExit("killed")))
        with pytest.raises(SystemExit):
            first.run(trials=1)
    first.close()
    assert not first.records.path.exists()
    with engine(tmp_path) as second:
        (told,) = second.study.get_trials()
        (record,) = trials(tmp_path)
        assert record.state == state and told.state.name.lower() == state
        second.run(trials=1)
    assert training.configs[0] != training.configs[1], "it is not trained again"
    engine(tmp_path).close()
    assert [r.number for r in trials(tmp_path)] == [0, 1], "and it is written once"


def test_records_whose_study_is_gone_start_the_new_one(tmp_path, monkeypatch):
    Training(monkeypatch)
    with engine(tmp_path) as first:
        first.run(trials=3)
        assert first.sampler.problem.earlier == []
    with engine(tmp_path) as again:
        assert again.sampler.problem.earlier == [], "it knows its own trials"
    complete = [r for r in trials(tmp_path) if r.state == "complete"]
    for path in (tmp_path / "studies").glob("toy.db*"):
        path.unlink()
    with engine(tmp_path) as new:
        assert len(new.sampler.problem.earlier) == len(complete) > 0
        new.run(trials=1)
    with engine(tmp_path) as new:
        assert len(new.sampler.problem.earlier) == len(complete), "with a trial of its own as well"


def test_torn_record_is_moved_aside(tmp_path, monkeypatch):
    Training(monkeypatch)
    with engine(tmp_path) as search:
        search.run(trials=2)
    with open(tmp_path / "toy.jsonl", "a") as file:
        file.write('{"kind": "tri')
    engine(tmp_path).run(trials=1)
    assert len(trials(tmp_path)) == 3


def test_trial_that_cannot_end_in_time_is_left_for_the_next_run(tmp_path, monkeypatch):
    slow = []

    def wait(config, epoch):
        time.sleep(0.5 if slow else 0)

    training = Training(monkeypatch, wait)
    notes = []
    with engine(tmp_path, listen=lambda e: notes.append(e.text) if e.kind == "note" else None) as search:
        search.run(trials=1)
        monkeypatch.setattr(search.pace, "confirmation", lambda best, seeds: 0.0)
        monkeypatch.setattr(search.pace, "typical", lambda ended: 0.0)
        monkeypatch.setattr(search.pace, "affordable", lambda *_: math.inf)
        slow.append(True)
        search.run(seconds=2)  # 8 epochs of half a second
    assert len(training.configs) == 2 and len(notes) == 1 and "the next run of the same command resumes it" in notes[0]
    assert len(trials(tmp_path)) == 1
    slow.clear()
    engine(tmp_path).run(trials=1)
    assert trials(tmp_path)[1].config == training.configs[1]


def test_first_trial_is_finished_whatever_the_time(tmp_path, monkeypatch):
    Training(monkeypatch, lambda config, epoch: time.sleep(0.02))
    engine(tmp_path).run(seconds=0.05)
    assert len(trials(tmp_path)) == 1


def test_time_for_the_confirmation_is_kept(tmp_path, monkeypatch):
    Training(monkeypatch)  # a trial claims 8 seconds a seed, so a confirmation with 3 seeds on all data 8 * 3 * 1.2
    search = engine(tmp_path)
    search.run(trials=1)
    needed = search.pace.confirmation(search.found.best()[0], 3)
    assert needed == pytest.approx(8 * 3 * 300 / 250 * 1.1)
    search.run(seconds=needed - 1)
    assert len(trials(tmp_path)) == 1


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"target": 0.8}, "target"),
        ({"family": "published"}, "family"),
        ({"seed": 1}, "seed"),
        ({"members": 3}, "members"),
        ({"ceiling": 2999}, "ceiling"),
        ({"validation_count": 60}, "validation"),
        ({"recipe": Recipe(epochs=9)}, "recipe"),
    ],
)
def test_storage_of_another_study_is_named(tmp_path, change, key):
    engine(tmp_path).close()
    with pytest.raises(UserError, match=rf"another study named toy \(its {key} differs\)"):
        engine(tmp_path, **change)
    engine(tmp_path).close()  # and the study is as it was


def test_storage_that_other_code_or_data_made_is_refused(tmp_path, monkeypatch):
    engine(tmp_path).close()
    monkeypatch.setattr("search.study.setting.SCHEMA", 2)
    with pytest.raises(UserError, match="its schema differs"):
        engine(tmp_path)
    monkeypatch.undo()
    with pytest.raises(UserError, match="it is of other images"):
        jobs.search(toy(299), TARGET, RECIPE, tmp_path, name="toy", ceiling=3000, validation_count=50)


def test_only_the_search_of_a_study_changes_the_version_that_goes_on_with_it(tmp_path, monkeypatch):
    """A second one, of other code, is refused before it has changed anything."""
    Training(monkeypatch)
    with engine(tmp_path) as first, first.records.searching():
        first.reopen()
        monkeypatch.setattr("search.study.search.code", lambda: "other")
        with engine(tmp_path) as second, pytest.raises(UserError, match="works on the study toy already"):
            with second.records.searching():
                second.reopen()
        monkeypatch.undo()
        first.obey()
        monkeypatch.setattr("search.study.search.code", lambda: "other")
    with engine(tmp_path) as second, second.records.searching():
        with pytest.raises(UserError, match="another version"):
            second.obey()
        second.reopen()
        second.obey()


def test_a_start_that_comes_too_late_is_said(tmp_path, monkeypatch):
    Training(monkeypatch)
    events, start = [], space.Space("extended", (1, 28, 28), 10, 3000).configurations(1, 3000, 1)[0]
    with engine(tmp_path, start=start, listen=events.append) as search:
        search.run(trials=1)
    with engine(tmp_path, start=start, listen=events.append):
        assert not [event for event in events if "has begun" in event.text]
    other = next(c for c in space.Space("extended", (1, 28, 28), 10, 3000).configurations(2, 3000, 9) if c != start)
    with engine(tmp_path, start=other, listen=events.append):
        assert f"{other.name} is not put before" in events[-1].text


def test_the_first_trial_is_finished_whatever_was_left(tmp_path, monkeypatch):
    Training(monkeypatch)
    with engine(tmp_path) as search:
        search.run(seconds=-5.0)  # loading the data took it all
        assert len(search.found.recorded()) == 1
        search.run(seconds=-5.0)
        assert len(search.found.recorded()) == 1


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "two words"])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="cannot name a study"):
        engine(tmp_path, name=name)


def test_results_that_are_a_file_are_refused(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="cannot write to .*results.*: Not a directory; choose another --results"):
        engine(tmp_path / "results")


def test_known_data_start_near_the_published_network(tmp_path, monkeypatch):
    training = Training(monkeypatch)
    object.__setattr__(named := toy(), "name", "mnist")
    jobs.search(named, 0.99, RECIPE, tmp_path, name="m", ceiling=3566, validation_count=50).run(trials=1)
    assert training.configs[0].final_dim == 8 and 3000 < training.configs[0].parameters() < 3566


@given(st.floats(0.01, 0.9999), st.integers(1, 100_000))
def test_threshold_stays_below_one(target, count):
    assert target < target + ACCURACY.margin(target, count) < 1


def test_margin_is_a_quarter_of_the_standard_error():
    assert ACCURACY.margin(0.9, 900) == pytest.approx(0.0025)


def test_a_given_configuration_is_tried_first(tmp_path, monkeypatch):
    Training(monkeypatch)
    with engine(tmp_path / "other") as search:
        first = search.setting.space.configurations(3, 2000)[5]
    with engine(tmp_path, start=first) as search:
        search.run(trials=1)
    assert trials(tmp_path)[0].config == first
    outside = first.model_copy(update={"final_dim": 1024, "ff_channel": 1024})
    with pytest.raises(UserError, match="can't be tried first"):
        engine(tmp_path / "outside", start=outside)


@pytest.mark.parametrize(
    "options", [{"recipe": RECIPE.model_copy(update={"batch_size": 100})}, {"tune": {"batch_size": [128, 100]}}]
)
def test_batches_that_the_kernels_cannot_take_are_refused_before_anything_is_trained(tmp_path, options):
    with pytest.raises(UserError, match="batch_size is 100: classification takes multiples of 16"):
        engine(tmp_path, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("times", "taken"), [(None, True), (4.1, True), (3.9, False)])
def test_what_is_known_to_reach_the_target_is_tried_first_where_time_is_left(tmp_path, monkeypatch, times, taken):
    """Its training and its test take a quarter of the time at most: the rest is for what is not known."""
    Training(monkeypatch)
    with engine(tmp_path) as search:
        search.run(trials=4)
        smallest = search.found.feasible()[0].params
    with engine(tmp_path, name="asked") as search:
        whole = search.pace.rate([]) * search.setting.work(smallest) * (2 + CONFIRMING * search.pace.growth(FIRST))
    with engine(tmp_path, name="later", seconds=times and times * whole) as search:
        first = [trial.system_attrs["fixed_params"] for trial in search.study.get_trials()]
    assert (first == [smallest]) == taken
