"""A sampler for "the cheapest configuration that reaches a target", where the cost is known before any training.

A Gaussian process models the logarithm of the error relative to the target, log((1 - accuracy) / (1 - target)): the
constraint holds below zero, and a study on another data set or with another target speaks the same language. Its
kernel is linear in the features plus a squared exponential (Rasmussen & Williams, "Gaussian Processes for Machine
Learning", 2006, 2.2, 2.7 and 4.2); the prior mean says that a network of the published size just reaches the target
and how fast the error falls with the parameters. The next configuration is the one with the greatest expected saving
per training cost, P(feasible) * log(incumbent / parameters) / sqrt(cost): the root, because a trial's information is
worth its time even where its own saving is small.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import ndtr

SLOPE = 0.8  # of the log error over the log parameters: MNIST networks of 700 to 3,500 parameters show 0.7 to 1.2
LEVEL, LINEAR = 0.09, 0.02  # prior variances of the level and of each feature's weight
FITTED = 400  # observations in a fit: the cheapest way to keep a suggestion below a second after 10,000 trials


class Candidate:
    """One configuration as the sampler sees it: its knobs, its cost (parameters) and its work (training FLOPs)."""

    __slots__ = ("knobs", "cost", "work")

    def __init__(self, knobs: dict[str, Any], cost: float, work: float):
        self.knobs, self.cost, self.work = knobs, cost, work


class Observation:
    """A measured candidate: its relative log error and the standard deviation of that measurement."""

    __slots__ = ("knobs", "cost", "value", "noise")

    def __init__(self, knobs: dict[str, Any], cost: float, value: float, noise: float):
        self.knobs, self.cost, self.value, self.noise = knobs, cost, value, noise


def relative_error(accuracy: float, target: float) -> float:
    """log((1 - accuracy) / (1 - target)), at most 0 where the target is reached."""
    return math.log(max(1 - accuracy, 1e-4) / (1 - target))


class FrontierSampler(BaseSampler):
    """Proposes the candidate with the greatest expected saving of cost per work.

    Usable with any Optuna objective whose value (maximised) is an accuracy and is feasible from `target` on.
    Pruned trials count by their user attribute 'expected' (an extrapolated accuracy); running trials as if they had
    reached what the model expects of them. When every candidate is used up, it samples at random.

    Args:
        knobs: name -> choices; every candidate has one choice for each.
        candidates: gives configurations that cost less than its argument (all, or some of very many).
        target: accuracy that makes a configuration feasible, in (0, 1).
        ceiling: the cost to beat; the first incumbent.
        cost: of a configuration; left out, a trial's user attribute 'parameters' is its cost.
        earlier: measurements of other studies, as a warm start.
    """

    def __init__(
        self,
        knobs: dict[str, Sequence],
        candidates: Callable[[float], list[Candidate]],
        target: float,
        ceiling: float,
        *,
        cost: Callable[[dict[str, Any]], float] | None = None,
        seed: int = 0,
        earlier: Sequence[Observation] = (),
    ):
        self.knobs, self.candidates, self.target, self.ceiling = knobs, candidates, target, ceiling
        self.cost = cost
        self.earlier = list(earlier)
        self._fallback = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {name: CategoricalDistribution(values) for name, values in self.knobs.items()}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self._fallback.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        observed, running, pool, incumbent = self._survey(study, trial.number)
        if not pool:
            return {}
        mean, deviation = self.predict(observed, running, pool)
        cost = np.array([c.cost for c in pool])
        work = np.array([c.work for c in pool])
        reach = ndtr(-mean / deviation)
        if any(o.value <= 0 for o in observed):
            utility = reach * np.log(incumbent / cost) / np.sqrt(work)
        else:  # nothing has reached the target yet: first find something that does
            utility = reach / work**0.25
        return dict(pool[int(np.argmax(utility))].knobs)

    def unseen(self, study: Study) -> list[Candidate]:
        """Candidates below the incumbent's cost that no trial has had: what is left to propose."""
        return self._survey(study, None)[2]

    def _survey(self, study: Study, number: int | None) -> tuple[list, list, list[Candidate], float]:
        """Observations, running configurations, unseen candidates and the incumbent's cost; without trial `number`."""
        observed, running, seen = list(self.earlier[-FITTED // 2 :]), [], set()
        incumbent = self.ceiling
        for other in study.get_trials(deepcopy=False):
            if other.number == number or not other.params:
                continue
            seen.add(_key(other.params))
            cost = other.user_attrs.get("parameters")
            if cost is None:
                if self.cost is None:
                    continue
                cost = self.cost(other.params)
            if other.state == TrialState.RUNNING:
                running.append((other.params, cost))
            accuracy = other.value if other.state == TrialState.COMPLETE else other.user_attrs.get("expected")
            if accuracy is not None:
                noise = 0.05 if other.state == TrialState.COMPLETE else 0.2
                observed.append(Observation(other.params, cost, relative_error(accuracy, self.target), noise))
            if other.state == TrialState.COMPLETE and other.value >= self.target:
                incumbent = min(incumbent, cost)
        pool = [c for c in self.candidates(incumbent) if _key(c.knobs) not in seen and c.cost < incumbent]
        return observed, running, pool, incumbent

    def predict(
        self, observed: list[Observation], running: list[tuple[dict, float]], pool: list[Candidate]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and standard deviation of the relative log error of each candidate in `pool`."""
        observed = observed[-FITTED:]
        features = Features(self.knobs)
        points = features([c.knobs for c in pool], [c.cost for c in pool])
        prior = self._prior([c.cost for c in pool])
        if observed:
            model = Process(
                features([o.knobs for o in observed], [o.cost for o in observed]),
                np.array([o.value for o in observed]) - self._prior([o.cost for o in observed]),
                np.array([o.noise for o in observed]),
            )
        else:
            model = Process(np.zeros((0, points.shape[1])), np.zeros(0), np.zeros(0))
        if running:
            places = features([knobs for knobs, _ in running], [cost for _, cost in running])
            model = model.extended(places, model(places)[0], np.full(len(running), 0.2))
        mean, deviation = model(points)
        return mean + prior, deviation

    def _prior(self, costs: Sequence[float]) -> np.ndarray:
        return SLOPE * np.log(self.ceiling / np.array(costs, dtype=float))


def _key(knobs: dict[str, Any]) -> tuple:
    return tuple(sorted(knobs.items()))


class Features:
    """Knobs as numbers of about unit spread: logarithms of positive numbers, an indicator for every other choice."""

    def __init__(self, knobs: dict[str, Sequence]):
        self.numeric = [
            name
            for name, values in knobs.items()
            if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values) and min(values) > 0
        ]
        self.choices = [(name, value) for name, values in knobs.items() if name not in self.numeric for value in values]

    def __call__(self, knobs: list[dict[str, Any]], costs: list[float]) -> np.ndarray:
        rows = [
            [math.log(cost) - 8]
            + [math.log(k[name]) for name in self.numeric]
            + [float(k[name] == value) for name, value in self.choices]
            for k, cost in zip(knobs, costs)
        ]
        return np.array(rows).reshape(len(knobs), 1 + len(self.numeric) + len(self.choices))


class Process:
    """Gaussian-process regression; the amplitude of its smooth part is the likeliest of a few."""

    def __init__(self, x: np.ndarray, y: np.ndarray, noise: np.ndarray, amplitude: float | None = None):
        self.x, self.y, self.noise = x, y, noise
        amplitudes = [amplitude] if amplitude else [0.1, 0.2, 0.4]
        fits = [(self._fit(a), a) for a in amplitudes]
        self.amplitude = max(fits)[1]
        self._fit(self.amplitude)

    def _fit(self, amplitude: float) -> float:
        self.amplitude = amplitude
        if not len(self.y):
            return 0.0
        self.lower = cholesky(self.kernel(self.x, self.x) + np.diag(self.noise**2), lower=True)
        self.weights = cho_solve((self.lower, True), self.y)
        return float(-0.5 * self.y @ self.weights - np.log(np.diag(self.lower)).sum())

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        square = ((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T).clip(min=0)
        return LEVEL + LINEAR * a @ b.T + self.amplitude**2 * np.exp(-0.5 * square / 1.5)

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        variance = LEVEL + LINEAR * (x**2).sum(1) + self.amplitude**2
        if not len(self.y):
            return np.zeros(len(x)), np.sqrt(variance)
        cross = self.kernel(self.x, x)
        solved = solve_triangular(self.lower, cross, lower=True)
        return cross.T @ self.weights, np.sqrt((variance - (solved**2).sum(0)).clip(min=1e-6))

    def extended(self, x: np.ndarray, y: np.ndarray, noise: np.ndarray) -> "Process":
        return Process(
            np.vstack([self.x, x]), np.concatenate([self.y, y]), np.concatenate([self.noise, noise]), self.amplitude
        )
