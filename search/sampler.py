"""A sampler for "the cheapest configuration that reaches a target", where the cost is known before any training.

A Gaussian process models the logarithm of the error relative to the target, log((1 - accuracy) / (1 - target)): the
constraint holds below zero, and a study on another data set or with another target speaks the same language. The prior
mean says that a configuration at the ceiling just reaches the target and how fast the error falls with the cost. The
next configuration is the one with the greatest expected saving per training cost, P(feasible) * log(incumbent / cost)
/ sqrt(work): the root, because a trial's information is worth its time even where its own saving is small.

Learning curves enter as measurements of their extrapolated ends, with the deviation of that extrapolation; the same
posterior, P(accuracy after the last epoch >= target | configuration, curve so far), decides what is pruned, and
P(accuracy >= target | all measurements) whether a configuration that was measured feasible is believed to be.

With any Optuna objective that knows its cost and reports an accuracy after every epoch:

    sampler = FrontierSampler(knobs, candidates, target=0.9, ceiling=4000, cost=size, epochs=6)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=FrontierPruner(sampler))

    def objective(trial):
        chosen = {name: trial.suggest_categorical(name, values) for name, values in knobs.items()}
        for epoch, accuracy in enumerate(train(chosen), 1):
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return accuracy

    study.optimize(objective, n_trials=50)
    sampler.incumbent(study)  # the cheapest trial believed to reach the target
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from .curves import Curves, relative_error
from .process import Features, Kernel, Process

SLOPE = 0.8  # of the log error over the log parameters: MNIST networks of 700 to 3,500 parameters show 0.7 to 1.2
FITTED = 400  # observations in a fit: the cheapest way to keep a suggestion below a second after 10,000 trials
NOISE, GUESSED = 0.05, 0.2  # deviations of a measured and of a guessed log error
CUT = 0.05  # probability of reaching the target below which a training is pruned
SURE = 0.5  # probability from which a configuration measured feasible counts as it


class Candidate:
    """One configuration as the sampler sees it: its knobs, its cost (parameters) and its work (training FLOPs)."""

    __slots__ = ("knobs", "cost", "work", "key", "row")

    def __init__(self, knobs: dict[str, Any], cost: float, work: float):
        self.knobs, self.cost, self.work = knobs, cost, work
        self.key, self.row = _key(knobs), None  # the row of features, once the sampler has needed it


class Observation:
    """A measured candidate: its relative log error and the standard deviation of that measurement."""

    __slots__ = ("knobs", "cost", "value", "noise")

    def __init__(self, knobs: dict[str, Any], cost: float, value: float, noise: float):
        self.knobs, self.cost, self.value, self.noise = knobs, cost, value, noise


class FrontierSampler(BaseSampler):
    """Proposes the candidate with the greatest expected saving of cost per work.

    Usable with any Optuna objective whose value (maximised) is an accuracy and is feasible from `target` on.
    Unfinished and pruned trials count by the accuracies they reported, with `epochs` given, or by their user attribute
    'expected' (an extrapolated accuracy); running trials that reported nothing as if they had reached what the model
    expects of them. When every candidate is used up, it samples at random.

    Args:
        knobs: name -> choices; every candidate has one choice for each.
        candidates: gives configurations that cost less than its argument (all, or some of very many).
        target: accuracy that makes a configuration feasible, in (0, 1).
        ceiling: the cost to beat; the first incumbent.
        cost: of a configuration; left out, a trial's user attribute 'parameters' is its cost.
        epochs: steps of a whole training, where trials report an accuracy after each.
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
        epochs: int | None = None,
        seed: int = 0,
        earlier: Sequence[Observation] = (),
    ):
        self.knobs, self.candidates, self.target, self.ceiling = knobs, candidates, target, ceiling
        self.cost, self.epochs = cost, epochs
        self.earlier = list(earlier)
        self.features = Features(knobs)
        self.kernel = Kernel(len(self.features))
        self._priors: dict[int, tuple[float, float]] = {}  # by trial, for pruning
        self._fallback = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {name: CategoricalDistribution(values) for name, values in self.knobs.items()}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self._fallback.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        survey = Survey(self, study, trial.number)
        pool = survey.pool()
        if not pool:
            return {}
        mean, deviation = survey.predict(pool)
        cost = np.array([c.cost for c in pool])
        work = np.array([c.work for c in pool])
        reach = ndtr(-mean / deviation)
        if survey.incumbent:
            utility = reach * np.log(survey.below / cost) / np.sqrt(work)
        else:  # nothing has reached the target yet: first find something that does
            utility = reach / work**0.25
        return dict(pool[int(np.argmax(utility))].knobs)

    def unseen(self, study: Study) -> list[Candidate]:
        """Candidates below the incumbent's cost that no trial has had: what is left to propose."""
        return Survey(self, study).pool()

    def incumbent(self, study: Study) -> FrozenTrial | None:
        """The cheapest trial that was measured feasible and is believed to be, given all measurements; or None."""
        return Survey(self, study).incumbent

    def reach(self, study: Study, trial: FrozenTrial) -> float:
        """P(accuracy after the last epoch >= target), given the trial's configuration and what it reported so far."""
        cost = self.cost_of(trial)
        if cost is None:
            return 1.0
        if trial.number not in self._priors:
            mean, deviation = Survey(self, study, trial.number).predict([Candidate(trial.params, cost, 1.0)])
            self._priors = {trial.number: (float(mean[0]), float(deviation[0]))}
        mean, deviation = self._priors[trial.number]
        if trial.intermediate_values and self.epochs:
            epoch, accuracy = max(trial.intermediate_values.items())
            end, spread = self.curves(study).end(epoch, accuracy, self.target)
            weight = deviation**2 / (deviation**2 + spread**2)
            mean, deviation = mean + weight * (end - mean), deviation * math.sqrt(1 - weight)
        return float(ndtr(-mean / deviation))

    def curves(self, study: Study) -> Curves:
        curves = Curves(self.epochs)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            curves.add([trial.intermediate_values[step] for step in sorted(trial.intermediate_values)])
        return curves

    def cost_of(self, trial: FrozenTrial) -> float | None:
        cost = trial.user_attrs.get("parameters")
        return self.cost(trial.params) if cost is None and self.cost is not None else cost


class FrontierPruner(BasePruner):
    """Stops a training whose probability of reaching the sampler's target has fallen below `CUT`."""

    def __init__(self, sampler: FrontierSampler):
        self.sampler = sampler

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        return step is not None and step < (self.sampler.epochs or 0) and self.sampler.reach(study, trial) < CUT


class Survey:
    """What a study has measured, as its sampler sees it; trial `number` left out."""

    def __init__(self, sampler: FrontierSampler, study: Study, number: int | None = None):
        self.sampler = sampler
        curves = sampler.curves(study) if sampler.epochs else None
        self.observed, self.running, self.seen = list(sampler.earlier[-FITTED // 2 :]), [], set()
        passed: list[tuple[float, FrozenTrial]] = []
        for trial in study.get_trials(deepcopy=False):
            if trial.number == number or not trial.params:
                continue
            self.seen.add(_key(trial.params))
            cost = sampler.cost_of(trial)
            if cost is None:
                continue
            measured = self._measured(trial, curves)
            if measured is not None:
                self.observed.append(Observation(trial.params, cost, *measured))
            elif trial.state == TrialState.RUNNING:
                self.running.append((trial.params, cost))
            if trial.state == TrialState.COMPLETE and trial.value >= sampler.target:
                passed.append((cost, trial))
        self.model = self._model()
        self.incumbent, self.below = self._incumbent(passed)

    def _measured(self, trial: FrozenTrial, curves: Curves | None) -> tuple[float, float] | None:
        target = self.sampler.target
        if trial.state == TrialState.COMPLETE:
            return relative_error(trial.value, target), NOISE
        if trial.state == TrialState.FAIL:
            return None
        if curves and trial.intermediate_values:
            epoch, accuracy = max(trial.intermediate_values.items())
            return curves.end(epoch, accuracy, target)
        expected = trial.user_attrs.get("expected")
        return None if expected is None else (relative_error(expected, target), GUESSED)

    def _incumbent(self, passed: list[tuple[float, FrozenTrial]]) -> tuple[FrozenTrial | None, float]:
        passed = sorted((pair for pair in passed if pair[0] < self.sampler.ceiling), key=lambda pair: pair[0])[:FITTED]
        if passed:
            mean, deviation = self.predict([Candidate(trial.params, cost, 1.0) for cost, trial in passed])
            for (cost, trial), probability in zip(passed, ndtr(-mean / deviation)):
                if probability >= SURE:
                    return trial, cost
        return None, self.sampler.ceiling

    def pool(self) -> list[Candidate]:
        """Candidates below the incumbent that no trial has had."""
        return [c for c in self.sampler.candidates(self.below) if c.cost < self.below and c.key not in self.seen]

    def _model(self) -> Process:
        features, kernel = self.sampler.features, self.sampler.kernel
        observed = self.observed[-FITTED:]
        x = features([o.knobs for o in observed], [o.cost for o in observed])
        y = np.array([o.value for o in observed]) - self._prior([o.cost for o in observed])
        noise = np.array([o.noise for o in observed])
        if len(y) >= 1.1 * kernel.fitted + 1:
            kernel.fit(x, y, noise)
        model = Process(kernel, x, y, noise)
        if self.running:
            places = features([knobs for knobs, _ in self.running], [cost for _, cost in self.running])
            model = model.extended(places, model(places)[0], np.full(len(places), GUESSED))
        return model

    def predict(self, pool: Sequence[Candidate]) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and standard deviation of the relative log error of each candidate in `pool`."""
        new = [c for c in pool if c.row is None]
        for candidate, row in zip(new, self.sampler.features([c.knobs for c in new], [c.cost for c in new])):
            candidate.row = row
        mean, deviation = self.model(np.array([c.row for c in pool]))
        return mean + self._prior([c.cost for c in pool]), deviation

    def _prior(self, costs: Sequence[float]) -> np.ndarray:
        return SLOPE * np.log(self.sampler.ceiling / np.array(costs, dtype=float))


def _key(knobs: dict[str, Any]) -> tuple:
    return tuple(sorted(knobs.items()))
