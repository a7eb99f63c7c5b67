"""Candidates of a search: drawn from the whole space, and near given ones."""

import cheap_searches
import pytest

from search.space import configurations
from search.space.candidates import TURNS, Pool
from search.space.configurations import Space
from search.space.recipe_choices import Tuning
from search.space.work import training_work
from search.training.recipe import Recipe

GREY = (1, 28, 28)
PLAIN = Tuning(Recipe())
TUNED = Tuning(Recipe(), {"lr": (0.02, 0.03, 0.05), "optimizer": ("adamw", "muon")})


@pytest.fixture(autouse=True)
def whole(monkeypatch):
    monkeypatch.setattr(configurations, "ENUMERATED", cheap_searches.WHOLE)


def pool(tuning=PLAIN, finished=lambda: 0, **options) -> Pool:
    return Pool(Space("extended", GREY, 10, 3566), tuning, 0, finished, **options)


def differences(one: dict, other: dict) -> int:
    return sum(one[name] != other[name] for name in one)


@pytest.mark.parametrize("tuning", [PLAIN, TUNED])
def test_drawn_ones_are_below_the_cost_and_build_what_they_say(tuning):
    made = pool(tuning)
    found = made.below(2000)
    assert len(found) > 1000 and len({c.key for c in found}) == len(found)
    for candidate in found[:: len(found) // 50]:
        config = made.space.build({name: candidate.params[name] for name in made.space.hyperparameters})
        assert candidate.cost == config.parameters() < 2000
        assert candidate.work == training_work(config, 28, 28)
        assert candidate.params.keys() == made.space.hyperparameters.keys() | tuning.hyperparameters.keys()


def test_drawn_ones_stay_until_enough_trials_have_ended():
    ended = [0]
    made = pool(finished=lambda: ended[0])
    first = made.below(3000)
    assert made.below(3000) == first
    assert [c.key for c in made.below(2000)] == [c.key for c in first if c.cost < 2000]
    ended[0] = TURNS
    assert {c.key for c in made.below(2000)} != {c.key for c in first if c.cost < 2000}


@pytest.mark.parametrize("tuning", [PLAIN, TUNED])
def test_near_ones_differ_in_one_hyperparameter_or_two(tuning):
    made = pool(tuning)
    place = max(made.below(3000), key=lambda c: c.cost)
    near = made.near([place.params], 3000)
    assert len(near) > 10 and len({c.key for c in near}) == len(near)
    assert all(c.cost < 3000 for c in near)
    # building can turn further hyperparameters to what the configuration's record has (a kernel that no stem uses)
    exact = [c for c in near if differences(c.params, place.params) <= 2]
    assert len(exact) > 0.8 * len(near)
    for name in tuning.hyperparameters:  # the recipe's neighbours are among them
        others = {c.params[name] for c in near if c.params | {name: 0} == place.params | {name: 0}}
        assert others >= set(tuning.hyperparameters[name]) - {place.params[name]}
    one = [{**place.params, "depth": depth} for depth in made.space.hyperparameters["depth"]]
    expected = {
        c.parameters()
        for hyperparameters in one
        if (c := made.space.build(hyperparameters_of(made, hyperparameters), 3000))
    }
    assert expected - {place.cost} <= {c.cost for c in near}


def hyperparameters_of(made: Pool, hyperparameters: dict) -> dict:
    return {name: hyperparameters[name] for name in made.space.hyperparameters}


def test_only_accepted_ones_are_proposed():
    def shallow(config):
        return config.depth <= 4

    made = pool(accept=shallow)
    drawn = made.below(3000)
    assert drawn and all(c.params["depth"] <= 4 for c in drawn + made.near([c.params for c in drawn[:5]], 3000))
