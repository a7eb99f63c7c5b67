"""What fits into the time that is left, and what is tried first."""

import math

import pytest
from toys import RECIPE, Training, engine, trials

from search.sampling.candidates import Candidate
from search.sampling.prior import LENGTH
from search.space.recipe_choices import EPOCHS, Tuning
from search.study.pace import Pace
from search.study.warm_start import known_curves, warm_start


def test_work_left_is_the_time_left_at_the_speed_of_what_has_ended(tmp_path, monkeypatch):
    Training(monkeypatch)  # every trial claims 8 seconds a seed
    with engine(tmp_path) as search:
        assert search.pace.affordable([], 100.0, 3) == math.inf, "nothing is known"
        search.run(trials=2)
        ended = search.found.recorded()
        works = [search.setting.work(trial.params) for trial in ended]
        rate = search.pace.rate(ended)
        assert rate == pytest.approx(sum(8 / work for work in works) / 2)
        limit = search.pace.affordable(ended, 100.0, 3)
        confirming = 1.1 * search.pace.growth(3)
        assert limit * rate * (2 + confirming) == pytest.approx(100)
        assert search.pace.affordable(ended, None, 3) == math.inf
        proposed = search.sampler.proposal(search.study, affordable=min(works) / 2)
        assert proposed is None or proposed.work == search.setting.work(proposed.params) <= min(works) / 2


def test_longer_trainings_are_more_work(tmp_path):
    with engine(tmp_path, tune={"epochs": (8, 4, 16)}) as search:
        tuned = search.setting
    choices = tuned.space.hyperparameters_of(tuned.space.smallest)
    works = [tuned.work(choices | {"recipe: epochs": epochs}) for epochs in (8, 4, 16)]
    assert [work / works[0] for work in works] == [1, 0.5, 2]


def test_records_of_the_same_data_tell_the_speed_of_a_new_study(tmp_path, monkeypatch):
    Training(monkeypatch)
    with engine(tmp_path) as search:
        search.run(trials=1)
    (record,) = trials(tmp_path)
    known = record.model_copy(update={"wall_seconds": 30.0})
    pace = Pace(search.setting, [known])
    work = search.setting.work(search.setting.space.hyperparameters_of(record.config))
    assert pace.rate([]) == pytest.approx(30 / len(record.seeds) / work)
    assert pace.affordable([], 60.0, 3) == pytest.approx(0.5 * 60 / pace.rate([]) / (2 + 1.1 * pace.growth(3)))
    other = known.model_copy(update={"dataset": known.dataset.model_copy(update={"label": "another"})})
    assert Pace(search.setting, [other]).rate([]) is None


def test_longer_trainings_promise_more_before_anything_is_measured(tmp_path):
    with engine(tmp_path, tune={"epochs": (8, 4, 16)}) as search:
        space, survey = search.setting.space, search.sampler._survey(search.study)
        choices = space.hyperparameters_of(space.smallest)
        found = [Candidate(choices | {EPOCHS: epochs}, space.smallest.parameters(), 1.0) for epochs in (4, 8, 16)]
        short, usual, long = survey.predict(found)[0]
    assert short - usual == pytest.approx(LENGTH * math.log(2)) == pytest.approx(usual - long)


def test_records_of_other_recipes_say_nothing_about_lengths(tmp_path, monkeypatch):
    Training(monkeypatch)
    with engine(tmp_path) as search:
        search.run(trials=1)
    short = trials(tmp_path)[0]
    short = short.model_copy(update={"recipe": {**short.recipe, "epochs": 4}})
    other = short.model_copy(update={"recipe": {**short.recipe, "lr": 0.5}})
    tuning = Tuning(RECIPE, {"epochs": (8, 4, 16)})
    first, second = warm_start([other, short], search.setting.space, short.dataset.label, tuning, 0.9)
    assert (first.params[EPOCHS], second.params[EPOCHS]) == (8, 4) and first.noise > second.noise


def test_what_is_known_decides_the_first_trial(tmp_path, monkeypatch):
    training = Training(monkeypatch)
    with engine(tmp_path) as first:
        first.run(trials=12)
    reached = [r for r in trials(tmp_path) if r.feasible]
    assert reached, "the toy problem has answers"
    with engine(tmp_path, name="later") as second:
        second.run(trials=1)
    smallest = min(r.parameters for r in reached)
    assert training.configs[-1].parameters() == smallest < 0.9 * second.setting.ceiling


def test_curves_of_the_same_recipe_are_known_whatever_their_length(tmp_path, monkeypatch):
    Training(monkeypatch)
    with engine(tmp_path) as search:
        search.run(trials=1)
    (record,) = trials(tmp_path)
    tuning = Tuning(RECIPE, {"epochs": (16, 32)})
    (curve,) = known_curves([record], "Toy", tuning)
    assert curve == [point.accuracy for point in record.curves[0]] and len(curve) == 8
    other = record.model_copy(update={"recipe": record.recipe | {"lr": 0.5}})
    cut = record.model_copy(update={"curves": [points[:-1] for points in record.curves]})
    assert known_curves([other, cut], "Toy", tuning) == known_curves([record], "another", tuning) == []
    assert len(known_curves([record, other], "Toy", Tuning(RECIPE, {"lr": (0.02, 0.5)}))) == 2, "searched as well"
