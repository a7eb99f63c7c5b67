import itertools
import math
import random

import optuna
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search.sampling.candidates import LISTED, Product, choices_of, key_of
from search.sampling.problem import Observation, Problem
from search.sampling.sampler import FrontierSampler

SMALL = {"width": (2, 4, 8, 16), "depth": (1, 2, 3), "kind": ("plain", "dense")}
LARGE = {f"width{i}": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) for i in range(5)} | {"flag": (False, True)}
THRESHOLD = 0.9


def cost(params) -> float:
    return math.prod(v for v in params.values() if not isinstance(v, (str, bool)))


def score(params) -> float:
    """The first widths are worth more than the last ones."""
    return 1 - 0.8 * math.prod(params[f"width{i}"] ** (-0.08 * (4 - i)) for i in range(5)) / (1.1 + params["flag"])


def study(sampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=sampler)


def constrained(trial) -> float:
    params = {name: trial.suggest_categorical(name, values) for name, values in LARGE.items()}
    trial.set_constraint("score", THRESHOLD - score(params))
    return cost(params)


@settings(deadline=None)
@given(limit=st.floats(0.5, 60))
def test_few_combinations_are_all_candidates(limit):
    every = [dict(zip(SMALL, values)) for values in itertools.product(*SMALL.values())]
    found = Product(SMALL, cost).below(limit)
    assert [c.params for c in found] == [params for params in every if cost(params) < limit]
    assert all(c.cost == cost(c.params) and c.work == 1 for c in found)


@settings(max_examples=examples(10), deadline=None)
@given(limit=st.floats(1.5, 1e6), seed=st.integers(0, 99))
def test_of_many_combinations_new_ones_below_the_limit_are_drawn(limit, seed):
    product = Product(LARGE, cost, work=lambda params: 2 * cost(params), seed=seed)
    found = product.below(limit)
    assert found and all(c.cost < limit and c.work == 2 * c.cost for c in found)
    assert len({c.key for c in found}) == len(found), "each once"
    assert all(c.params[name] in values for c in found for name, values in LARGE.items())


@settings(max_examples=examples(30), deadline=None)
@given(limit=st.floats(2, 1e6), seed=st.integers(0, 99))
def test_neighbours_differ_in_one_or_two(limit, seed):
    place = {name: random.Random(seed).choice(values) for name, values in LARGE.items()}
    found = Product(LARGE, cost, seed=seed).near([place], limit)
    differing = [sum(c.params[name] != place[name] for name in place) for c in found]
    assert set(differing) <= {1, 2} and all(c.cost < limit for c in found)
    single = {key_of(place | {name: v}) for name, values in LARGE.items() for v in values if v != place[name]}
    single = {key for key in single if cost(dict(key)) < limit}
    assert single == {c.key for c, number in zip(found, differing) if number == 1}, "all that differ in one"


def test_distributions_that_can_be_listed_are():
    assert choices_of("n", IntDistribution(2, 10, step=4)) == (2, 6, 10)
    assert choices_of("p", FloatDistribution(0.0, 0.3, step=0.1)) == pytest.approx((0, 0.1, 0.2, 0.3))
    assert choices_of("k", CategoricalDistribution(("a", "b"))) == ("a", "b") == choices_of("k", ["a", "b"])
    for wrong in (FloatDistribution(0, 1), IntDistribution(1, 10**6), ()):
        with pytest.raises(ValueError, match="lr has"):
            choices_of("lr", wrong)


def test_suggestions_by_distribution_are_the_samplers():
    space = {"n": IntDistribution(2, 10, step=4), "p": FloatDistribution(0.1, 0.3, step=0.1)}
    ours = study(FrontierSampler(space, cost=cost, threshold=THRESHOLD, ceiling=10))

    def objective(trial):
        params = {"n": trial.suggest_int("n", 2, 10, step=4), "p": trial.suggest_float("p", 0.1, 0.3, step=0.1)}
        trial.set_constraint("score", 0.5)
        return cost(params)

    ours.optimize(objective, n_trials=9)
    assert len({key_of(t.params) for t in ours.trials}) == 9, "each combination once"


def test_many_combinations_are_searched_better_than_at_random():
    sampler = FrontierSampler(LARGE, cost=cost, threshold=THRESHOLD, ceiling=10_000)
    assert math.prod(map(len, LARGE.values())) > LISTED
    ours, others = study(sampler), study(optuna.samplers.RandomSampler(seed=0))
    ours.optimize(constrained, n_trials=15)
    others.optimize(constrained, n_trials=60)
    assert ours.best_value < 0.5 * others.best_value
    assert sampler.incumbent(ours).value == ours.best_value


def test_units_of_the_cost_do_not_matter():
    def first(unit):
        space = {name: LARGE[name] for name in ("width0", "width1", "flag")}
        ours = FrontierSampler(space, cost=lambda p: unit * cost(p), threshold=THRESHOLD, ceiling=500 * unit)
        studied = study(ours)
        studied.optimize(
            lambda trial: (
                trial.set_constraint("score", 0.3 - 0.1 * trial.suggest_categorical("flag", (False, True)))
                or unit * cost({n: trial.suggest_categorical(n, LARGE[n]) for n in ("width0", "width1")})
            ),
            n_trials=6,
        )
        return [t.params for t in studied.trials]

    assert first(1) == first(1024)


def test_combinations_that_are_not_allowed_are_not_proposed():
    def allowed(params):
        return math.inf if params["width"] == 8 else cost(params)

    ours = study(FrontierSampler(SMALL, cost=allowed, threshold=THRESHOLD, ceiling=100))
    for _ in range(18):
        trial = ours.ask({name: CategoricalDistribution(values) for name, values in SMALL.items()})
        trial.set_constraint("score", 0.5)
        ours.tell(trial, 1.0)
        assert trial.params["width"] != 8


def test_other_constraints_count_as_well():
    sampler = FrontierSampler(SMALL, cost=cost, threshold=THRESHOLD, ceiling=100)
    ours = study(sampler)
    for width, other in ((8, -1.0), (4, 1.0)):
        ours.enqueue_trial({"width": width, "depth": 1, "kind": "plain"})
        trial = ours.ask({name: CategoricalDistribution(values) for name, values in SMALL.items()})
        trial.set_constraint("score", -0.05)
        trial.set_constraint("latency", other)
        ours.tell(trial, cost(trial.params))
    assert sampler.incumbent(ours).params["width"] == 8 == ours.best_trial.params["width"]


def test_a_candidate_measured_twice_is_known_by_its_mean():
    """Else the luckiest of several measurements decides what a study begins with."""
    lucky, unlucky = (Observation({"a": 1}, 10.0, value, 0.1) for value in (-0.1, 0.3))
    other, far = Observation({"a": 2}, 20.0, -0.05, 0.1), Observation({"a": 3}, 5.0, -1.0, 0.4)

    def problem(*earlier):
        return Problem({"a": [1, 2, 3]}, None, 0.9, 100.0, cost=lambda params: 10.0 * params["a"], earlier=earlier)

    assert [o.params for o in problem(lucky, other, far).known[-1]] == [{"a": 1}, {"a": 2}]
    both = problem(lucky, unlucky, other, far)
    assert [o.params for o in both.known[-1]] == [{"a": 2}]
    assert len(both.earlier) == 4, "the model sees each measurement"
