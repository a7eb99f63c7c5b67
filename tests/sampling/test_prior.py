"""What is expected before anything was measured: a line that reaches the threshold at the par."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.records.models import Data, Trial
from search.sampling.gaussian_process import LEVEL
from search.sampling.prior import LENGTH, SCATTER, SLOPE, expected, par_of
from search.sampling.problem import Observation
from search.sampling.sampler import FrontierSampler
from search.space.configurations import Space
from search.space.recipe_choices import Tuning
from search.study.warm_start import warm_start
from search.training.recipe import Recipe

COSTS = st.floats(10, 1e6)


def test_a_line_in_the_logarithms_of_cost_and_length():
    assert expected(1000, [1000], [24], 24) == pytest.approx([0])
    assert expected(1000, [500, 250], [24, 24], 24) == pytest.approx([SLOPE * math.log(2), SLOPE * math.log(4)])
    assert expected(1000, [1000, 1000], [48, 12], 24) == pytest.approx([-LENGTH * math.log(2), LENGTH * math.log(2)])
    assert expected(1000, [500], [None], None) == pytest.approx([SLOPE * math.log(2)]), "nothing of lengths"


@given(ceiling=COSTS, true=COSTS, costs=st.lists(COSTS, max_size=9), epochs=st.integers(1, 200))
def test_the_par_goes_from_the_ceiling_to_what_was_measured(ceiling, true, costs, epochs):
    """By as much as the posterior mean of a level does, the more the more was measured."""
    lengths = [epochs] * len(costs)
    found = par_of(ceiling, costs, lengths, 24, expected(true, costs, lengths, 24))
    weight = len(costs) / (len(costs) + SCATTER / LEVEL)
    assert math.log(found) == pytest.approx((1 - weight) * math.log(ceiling) + weight * math.log(true), abs=1e-6)


def sampler(ceiling: float, earlier=()) -> FrontierSampler:
    return FrontierSampler({"size": (100, 200, 400)}, lambda below: [], 0.9, ceiling, cost=lambda p: 1, earlier=earlier)


def test_a_wish_is_no_expectation():
    """Four networks of 2,000 have just reached it: one of 500 is far from it, whatever the ceiling."""
    known = [Observation({"size": 400 + n}, 2000.0, 0.0, 0.1) for n in range(4)]
    doubted = [Observation({"size": 400 + n}, 2000.0, 0.0, 0.4) for n in range(4)]
    assert sampler(500).problem.par == 500
    assert sampler(500, doubted).problem.par == 500, "measured under other conditions, which have another level"
    pars = [sampler(ceiling, known).problem.par for ceiling in (500, 5000)]
    assert 1500 < pars[0] < 2000 < pars[1] < 2500


def test_the_level_of_other_recipes_is_where_the_same_one_has_it():
    """And not where the ceiling would: there, what another recipe gave 2,000 parameters would count as enough."""
    space, recipe = Space("extended", (1, 28, 28), 10, 900), Recipe(epochs=24)
    data = Data(name="x", label="MNIST", variant="official", digest="d", train_count=9)
    everything = Space("extended", (1, 28, 28), 10, 3566).configurations(0, 3566, 400)
    configs = [config for config in everything if 1500 < config.parameters() < 2500][:30]
    assert len(configs) == 30

    def trial(config, recipe, score):
        return Trial(
            study="other", config=config, recipe=recipe, dataset=data, target=0.9, family="extended", seeds=[1],
            parameters=config.parameters(), accuracies=[score], accuracy_validation=score, state="complete",
        )  # fmt: skip

    other = [trial(config, recipe.model_copy(update={"lr": 0.5}), 0.7) for config in configs[5:]]
    same = [trial(config, recipe, 0.9) for config in configs[:5]]
    without, found = (warm_start(t, space, "MNIST", Tuning(recipe), 0.9) for t in (other, [*same, *other]))
    lacking = [np.mean([o.value for o in part if o.noise > 0.1]) for part in (without, found)]
    assert lacking[0] < -0.5 and abs(lacking[1]) < 0.15
