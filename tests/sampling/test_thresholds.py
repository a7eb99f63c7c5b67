"""Several thresholds at once: one study's trials count for all of them."""

import itertools
import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from search.sampling.candidates import Candidate
from search.sampling.learning_curves import relative_error
from search.sampling.posterior import Survey
from search.sampling.problem import Observation
from search.sampling.sampler import FrontierSampler

CHOICES = {"width": (4, 8, 12, 16, 24), "depth": tuple(range(1, 11)), "flag": (False, True)}
SPACE = {name: CategoricalDistribution(values) for name, values in CHOICES.items()}
THRESHOLDS = (0.8, 0.88, 0.93)


def cost(params) -> float:
    return params["width"] ** 2 * params["depth"] + 10 * params["flag"]


def score(params) -> float:
    return 1 - 0.6 * math.exp(
        -0.55 * math.log(params["width"]) - 0.5 * math.log(params["depth"]) - 0.25 * params["flag"]
    )


def sampler(threshold=THRESHOLDS, **options) -> FrontierSampler:
    return FrontierSampler(CHOICES, threshold=threshold, ceiling=4000, cost=cost, **options)


def study(chosen) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(direction="maximize", sampler=chosen)


def told(chosen, params, value, state=TrialState.COMPLETE, curve=()):
    return create_trial(
        state=state, value=value, params=params, distributions=SPACE, intermediate_values=dict(enumerate(curve, 1))
    )


def searched(chosen, trials) -> optuna.Study:
    found = study(chosen)
    found.optimize(lambda trial: score({n: trial.suggest_categorical(n, v) for n, v in CHOICES.items()}), trials)
    return found


params = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CHOICES.items()})


@settings(max_examples=25)
@given(trials=st.lists(st.tuples(params, st.floats(0.5, 0.99)), max_size=12))
def test_no_lower_threshold_has_a_dearer_incumbent(trials):
    chosen = sampler()
    found = study(chosen)
    found.add_trials([told(chosen, params, value) for params, value in trials])
    survey = chosen._survey(found)
    costs = [below for _, below in survey.incumbents]
    assert costs == sorted(costs) and survey.below == costs[-1] <= 4000
    assert [t and t.number for t in chosen.incumbents(found)] == [t and t.number for t, _ in survey.incumbents]
    assert chosen.incumbent(found) is chosen.incumbents(found)[-1]
    for threshold, trial in zip(THRESHOLDS, chosen.incumbents(found)):
        assert trial is None or trial.value >= threshold
    assert all(c.cost < survey.below for c in chosen.unseen(found))


def test_one_threshold_is_several_of_which_there_is_one():
    alone, listed = searched(sampler(0.9), 12), searched(sampler([0.9]), 12)
    assert [t.params for t in alone.trials] == [t.params for t in listed.trials]


def test_a_front_takes_fewer_trials_than_its_thresholds_alone():
    """Each threshold's best of all configurations is found by one study sooner than by a study each."""
    every = [dict(zip(CHOICES, values)) for values in itertools.product(*CHOICES.values())]
    best = [min(cost(p) for p in every if score(p) >= threshold) for threshold in THRESHOLDS]

    def needed(study, goals) -> int:
        for count in range(1, len(study.trials) + 1):
            done = [(cost(t.params), t.value) for t in study.trials[:count]]
            if all(min((c for c, v in done if v >= t), default=math.inf) <= 1.05 * least for t, least in goals):
                return count
        return 1000

    together = needed(searched(sampler(), 40), list(zip(THRESHOLDS, best)))
    alone = sum(needed(searched(sampler(t), 40), [(t, least)]) for t, least in zip(THRESHOLDS, best))
    assert together < alone < 1000


def test_a_training_is_pruned_where_it_is_hopeless_for_all_it_would_be_the_cheapest_for():
    def reach(small_is_known: bool) -> float:
        chosen = sampler(epochs=10)
        found = study(chosen)
        for depth in (4, 6, 8):  # whole curves
            place = {"width": 16, "depth": depth, "flag": False}
            curve = [score(place) - 0.02 * (10 - epoch) for epoch in range(1, 11)]
            found.add_trial(told(chosen, place, score(place), curve=curve))
        if small_is_known:
            found.add_trial(told(chosen, {"width": 4, "depth": 1, "flag": True}, 0.82, curve=[0.82] * 10))
        running = {"width": 8, "depth": 6, "flag": False}
        found.add_trial(create_trial(state=TrialState.RUNNING, params=running, distributions=SPACE,
                                     intermediate_values={9: 0.7}))  # fmt: skip
        trial = found.trials[-1]
        assert chosen.hopeless(found, trial) == small_is_known
        return chosen.reach(found, trial)

    assert reach(False) > 0.4 > 0.1 > reach(True), "what it may reach, a smaller one does then"


def test_what_earlier_studies_reached_is_known_of_each():
    def seen(value, size):
        place = {"width": size, "depth": 5, "flag": False}
        return Observation(place, cost(place), relative_error(value, THRESHOLDS[-1]), 0.05)

    known = sampler(earlier=[seen(0.94, 24), seen(0.9, 16), seen(0.7, 4)]).problem.known
    assert [[o.params["width"] for o in each] for each in known] == [[16, 24], [16, 24], [24]]
    assert sampler(earlier=[seen(0.85, 4)]).problem.known[1:] == [[], []]


@pytest.mark.parametrize("threshold", [[], [0.5, 1.5], [0.0, 0.5], math.nan])
def test_thresholds_that_are_no_scores_are_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        sampler(threshold)


def test_the_survey_asks_for_what_an_incumbent_of_a_lower_threshold_leaves():
    chosen = sampler()
    found = study(chosen)
    small, large = {"width": 8, "depth": 3, "flag": True}, {"width": 24, "depth": 6, "flag": True}
    found.add_trial(told(chosen, small, 0.84))
    found.add_trial(told(chosen, large, 0.95))
    survey = Survey(chosen.history(found))
    assert [below for _, below in survey.incumbents] == [cost(small), cost(large), cost(large)]
    between = {"width": 12, "depth": 4, "flag": True}
    reach = survey.reach(Candidate(between, cost(between), 1.0), None)
    mean, deviation = survey.predict([Candidate(between, cost(between), 1.0)])
    offset = chosen.problem.offsets[1]
    assert reach == pytest.approx(0.5 * (1 + math.erf((offset - mean[0]) / deviation[0] / math.sqrt(2))))
