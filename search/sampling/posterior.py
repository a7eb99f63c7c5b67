"""What a study has measured, as its sampler sees it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from .candidates import Candidate, key_of
from .gaussian_process import Process
from .learning_curves import Curves
from .prior import expected
from .problem import Observation, Problem

FITTED = 400  # observations in a fit: the cheapest way to keep a suggestion below a second after 10,000 trials
NOISE, GUESSED = 0.05, 0.2  # deviations of a measured and of a guessed log error
# of an extrapolation's deviation: if one curve gains more than those before it did, others will too, and a hundred
# pruned trainings are not a hundred independent proofs
SHARED = 0.8
# deviations of a scout's log error from a whole training's, less what they differ by in the mean: of one scout, and of
# that mean, which no scout tells. Already 2 epochs of all images leave 0.22 to 4 of 10,000, with a rank correlation of
# 0.94 (36 random networks on MNIST, scripts/experiments/scouts.py)
SCOUT, SCOUTS = 0.3, 0.5
SURE = 0.5  # probability from which a configuration measured feasible counts as it


class History:
    """A study's trials, finished ones read once: reading 10,000 of them would take longer than a suggestion.

    Attributes: curves (of complete trials, and of earlier studies), finished (those with an accuracy) as (cost, trial),
        passed (those measured feasible) as (cost, trial, how many thresholds it reaches), running (trials), seen (keys
        of all configurations that were finished), ended (how many have).
        `minimised` says that a complete trial's value is its cost.
    """

    def __init__(self, problem: Problem, minimised: bool = False):
        self.problem, self.minimised = problem, minimised
        self.curves = Curves(problem.error, problem.threshold)
        for curve in problem.curves:
            self.curves.add(curve)
        self.finished: list[tuple[float, FrozenTrial]] = []
        self.passed: list[tuple[float, FrozenTrial, int]] = []
        self.running: list[FrozenTrial] = []
        self.seen: set[tuple] = set()
        self.ended = 0
        self._read, self._open = 0, []

    def updated(self, trials: list[FrozenTrial]) -> History:
        """Take in what is new; `trials` are all of the study's, by number."""
        waiting = [*self._open, *range(self._read, len(trials))]
        self._read, self._open, self.running = len(trials), [], []
        for number in waiting:
            trial = trials[number]
            if trial.state.is_finished():
                self.ended += 1
                self._finish(trial)
                continue
            self._open.append(number)
            if len(trial.params) == len(self.problem.choices):  # not one that is just being asked for
                self.running.append(trial)
        return self

    def _finish(self, trial: FrozenTrial) -> None:
        if not trial.params:
            return
        self.seen.add(key_of(trial.params))
        cost = self.problem.cost_of(trial)
        if cost is None or trial.state == TrialState.FAIL:
            return
        if trial.state == TrialState.COMPLETE:
            score = self.problem.score_of(trial, self.minimised)
            if len(trial.intermediate_values) == self.problem.length(trial.params):
                self.curves.add([trial.intermediate_values[step] for step in sorted(trial.intermediate_values)])
            reached = self.problem.reached(trial, score)
            if reached and cost < self.problem.ceiling:
                self.passed.append((cost, trial, reached))
        elif not trial.intermediate_values:
            return
        self.finished.append((cost, trial))


class Survey:
    """The posterior of a moment, trial `number` left out: the sampler's model, incumbent and what is left to try."""

    def __init__(self, history: History, number: int | None = None):
        self.history, self.problem = history, history.problem
        running = [t for t in history.running if t.number != number]
        self.seen = {key_of(t.params) for t in running}
        self.observed = [*self.problem.earlier[-FITTED // 2 :], *self._scouted(self.problem.scouts[-FITTED // 4 :])]
        for cost, trial in history.finished[-FITTED:]:
            self._observe(trial, cost)
        silent = []  # running, and nothing reported yet
        for trial in running:
            cost = self.problem.cost_of(trial)
            if cost is not None and not self._observe(trial, cost):
                silent.append((trial.params, cost))
        self.model = self._model(silent)
        self.incumbents = [self._incumbent(*place) for place in enumerate(self.problem.offsets, 1)]
        self.incumbent, self.below = self.incumbents[-1]  # the highest threshold's costs most

    def _scouted(self, scouts: Sequence[Observation]) -> list[Observation]:
        """Scouts at the level where the prior has candidates of their costs: what they tell is who is better."""
        if not scouts:
            return []
        level = float(np.mean([o.value for o in scouts] - self._prior(scouts)))
        noise = math.hypot(SCOUT, SCOUTS)
        return [Observation(o.params, o.cost, o.value - level, noise, SCOUTS, scout=True) for o in scouts]

    def _observe(self, trial: FrozenTrial, cost: float) -> bool:
        threshold, value, shared = self.problem.threshold, None, 0.0
        if trial.state == TrialState.COMPLETE:
            value = self.problem.error(self.problem.score_of(trial, self.history.minimised), threshold)
            noise = NOISE
        elif trial.intermediate_values and (epochs := self.problem.length(trial.params)):
            epoch, score = max(trial.intermediate_values.items())
            value, noise = self.history.curves.end(epoch, epochs, score, threshold)
            shared = SHARED * noise
        if value is not None:
            self.observed.append(Observation(trial.params, cost, value, noise, shared))
        return value is not None

    def _model(self, silent: list[tuple[dict, float]]) -> Process:
        features, kernel = self.problem.features, self.problem.kernel
        observed = self.observed[-FITTED:]
        x = features([o.params for o in observed], [o.cost for o in observed])
        y = np.array([o.value for o in observed]) - self._prior(observed)
        noise, shared = (np.array([getattr(o, name) for o in observed]) for name in ("noise", "shared"))
        scout = np.array([o.scout for o in observed], dtype=bool)
        errors = np.diag(noise**2 - shared**2) + np.outer(shared, shared) * (scout[:, None] == scout)
        if len(y) >= 1.1 * kernel.fitted + 1:
            kernel.fit(x, y, errors)
        model = Process(kernel, x, y, errors)
        if silent:
            places = features([params for params, _ in silent], [cost for _, cost in silent])
            model = model.extended(places, model(places)[0], np.full(len(places), GUESSED))
        self.shared = np.append(shared * ~scout, np.zeros(len(silent)))
        return model

    def _incumbent(self, number: int, offset: float) -> tuple[FrozenTrial | None, float]:
        """Of the threshold with this number, from 1, and offset: the cheapest trial that is believed to reach it, and
        the cost to stay below.

        Where none is believed, a little doubt is no reason to look at the ceiling again: of each trial that was
        measured to reach it the cost counts with its probability, the ceiling with the rest, and the trial by which
        that is the least decides. (Not all of them together: what makes one doubtful makes the others so.)
        """
        passed = sorted((one for one in self.history.passed if one[2] >= number), key=lambda one: one[0])[:FITTED]
        ceiling = below = self.problem.ceiling
        if passed:
            mean, deviation = self.predict([Candidate(trial.params, cost, 1.0) for cost, trial, _ in passed])
            for (cost, trial, _), probability in zip(passed, ndtr((offset - mean) / deviation)):
                if probability >= SURE:
                    return trial, cost
                below = min(below, ceiling * (cost / ceiling) ** probability)
        return None, below

    def pool(self) -> list[Candidate]:
        """Candidates below the incumbent that no trial has had."""
        found = self.new(self.problem.candidates(self.below))
        if not (found or self.incumbent):  # nothing is left that would undercut what is doubted
            self.below = self.problem.ceiling
            found = self.new(self.problem.candidates(self.below))
        return found

    def new(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those of `candidates` that cost less than the incumbent and that no trial has had, here or, under the same
        conditions, in an earlier study. What has reached a threshold there is left, as long as nothing has here."""
        earlier, ours = self.problem.measured if self.incumbent else self.problem.missed, self.history.seen
        new = [c for c in candidates if c.cost < self.below and c.key not in ours and c.key not in self.seen]
        return [c for c in new if c.key not in earlier]

    def predict(self, pool: Sequence[Candidate]) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and standard deviation of the relative log error of each candidate in `pool`."""
        new = [c for c in pool if c.row is None]
        for candidate, row in zip(new, self.problem.features([c.params for c in new], [c.cost for c in new])):
            candidate.row = row
        mean, deviation = self.model(np.array([c.row for c in pool]))
        return mean + self._prior(pool), deviation

    def reach(self, candidate: Candidate, end: tuple[float, float] | None) -> float:
        """P(threshold reached) of one candidate; `end` is what its own curve promises, and the deviation of that.

        Of several thresholds the lowest that it would be an incumbent for.
        """
        mean, deviation = (float(values[0]) for values in self.predict([candidate]))
        if end is not None:
            prior = float(self._prior([candidate])[0])
            value, noise = end
            place = self.problem.features([candidate.params], [candidate.cost])
            mean, deviation = self.model.measured(place, value - prior, noise, SHARED * noise * self.shared)
            mean += prior
        places = zip(self.problem.offsets, self.incumbents)
        offset = next((offset for offset, (_, below) in places if candidate.cost < below), 0.0)
        return float(ndtr((offset - mean) / deviation))

    def _prior(self, found: Sequence[Candidate | Observation]) -> np.ndarray:
        lengths = [self.problem.length(one.params) for one in found]
        return expected(self.problem.par, [one.cost for one in found], lengths, self.problem.usual)
