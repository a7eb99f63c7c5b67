"""The package as the registry loads it, on a problem whose answer is known: python -m pytest tests"""

import itertools
import math
from pathlib import Path

import optuna
import optunahub
import pytest

frontier = optunahub.load_local_module("samplers/frontier", registry_root=str(Path(__file__).resolve().parents[3]))

SEARCH_SPACE = {
    "width": optuna.distributions.IntDistribution(2, 24, step=2),
    "depth": optuna.distributions.IntDistribution(1, 8),
    "kind": optuna.distributions.CategoricalDistribution(("plain", "dense")),
}
THRESHOLD, CEILING = 0.9, 3000


def cost(params: dict) -> float:
    return params["width"] ** 2 * params["depth"] * (2 if params["kind"] == "dense" else 1)


def score(params: dict) -> float:
    kind = 1.1 if params["kind"] == "dense" else 1.0
    return 1 - 0.6 * params["width"] ** -0.55 * params["depth"] ** -0.6 / kind


def suggested(trial: optuna.Trial) -> dict:
    return {
        "width": trial.suggest_int("width", 2, 24, step=2),
        "depth": trial.suggest_int("depth", 1, 8),
        "kind": trial.suggest_categorical("kind", ("plain", "dense")),
    }


def best() -> float:
    combinations = itertools.product(range(2, 25, 2), range(1, 9), ("plain", "dense"))
    every = [dict(zip(SEARCH_SPACE, values)) for values in combinations]
    return min(cost(params) for params in every if score(params) >= THRESHOLD)


def constrained(trial: optuna.Trial) -> float:
    params = suggested(trial)
    trial.set_constraint("score", THRESHOLD - score(params))
    return cost(params)


def make(**options) -> "frontier.FrontierSampler":
    return frontier.FrontierSampler(SEARCH_SPACE, cost=cost, threshold=THRESHOLD, ceiling=CEILING, **options)


def test_finds_the_cheapest_by_constraint_and_by_score():
    for direction, objective in (("minimize", constrained), ("maximize", lambda trial: score(suggested(trial)))):
        sampler = make()
        study = optuna.create_study(direction=direction, sampler=sampler)
        study.optimize(objective, n_trials=20)
        assert cost(sampler.incumbent(study).params) == best()
        if direction == "minimize":
            assert study.best_value == best(), "Optuna itself sees which trials are feasible"


def test_prunes_by_the_reported_curve():
    sampler = make(epochs=4)
    study = optuna.create_study(sampler=sampler, pruner=frontier.FrontierPruner(sampler))

    def objective(trial: optuna.Trial) -> float:
        end = score(suggested(trial))
        for epoch in range(1, 5):
            trial.report(max(0.0, 1 - (1 - end) * 1.6 ** (4 - epoch)), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return constrained(trial)

    study.optimize(objective, n_trials=20)
    assert study.best_value <= 1.2 * best() and any(t.state.name == "PRUNED" for t in study.trials)


def test_a_cost_as_the_value_needs_the_constraint():
    study = optuna.create_study(sampler=make())
    with pytest.raises(ValueError, match="set_constraint"):
        study.optimize(lambda trial: cost(suggested(trial)), n_trials=2)


def test_bad_arguments_are_named():
    for options, said in (
        ({"threshold": 1.5}, "threshold"),
        ({"ceiling": math.inf}, "ceiling"),
        ({"ceiling": 2}, "nothing in the search space"),
        ({"cost": None}, "cost is missing"),
        ({"cost": lambda params: 0}, "above 0"),
    ):
        with pytest.raises(ValueError, match=said):
            frontier.FrontierSampler(
                SEARCH_SPACE, **{"cost": cost, "threshold": THRESHOLD, "ceiling": CEILING, **options}
            )
