"""A sampler for "the cheapest configuration that reaches a threshold", where the cost is known before any training.

A Gaussian process models the logarithm of the error relative to the threshold, log((1 - score) / (1 - threshold)),
where the score is an accuracy, for example: the constraint holds below zero, and a study on another data set or with
another threshold speaks the same language. The prior mean says at which cost a configuration just reaches the
threshold (`prior`: at the ceiling, unless other studies know better) and how fast the error falls with the cost. The
next configuration is the one with the greatest expected saving per expected training time, P(feasible) * log(incumbent
/ cost) / time: a training that fails is pruned, and costs a fraction of one that succeeds, but no trial costs nothing.
It is looked for among configurations drawn from the whole space, then among the neighbours of the best of them.

Learning curves enter as measurements of their extrapolated ends, with the deviation of that extrapolation; the same
posterior, P(score after the last epoch >= threshold | configuration, curve so far), decides what is pruned, and
P(score >= threshold | all measurements) whether a configuration that was measured feasible is believed to be.

With an objective as Optuna's other samplers have it, which returns the cost and sets the constraint:

    sampler = FrontierSampler(search_space, cost=size, threshold=0.9, ceiling=4000, epochs=6)
    study = optuna.create_study(sampler=sampler, pruner=FrontierPruner(sampler))

    def objective(trial):
        params = {name: trial.suggest_categorical(name, values) for name, values in search_space.items()}
        for epoch, score in enumerate(train(params), 1):
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        trial.set_constraint("score", 0.9 - score)
        return size(params)

    study.optimize(objective, n_trials=50)
    study.best_trial  # the cheapest trial that was measured to reach the threshold
    sampler.incumbent(study)  # the cheapest of these that is believed to reach it, given all measurements
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from scipy.special import ndtr

from .candidates import Candidate
from .posterior import History, Survey
from .problem import PARAMETERS, Observation, Problem

CUT = 0.1  # probability of reaching the threshold below which a training is pruned
TOLD = 0.5  # unless it is still more than this share of what it was before the training's own curve
WHOLE = 3  # complete curves without which none is: one alone may be odd, and pruned ones would never correct it
CLIMBERS, ROUNDS = 6, 4  # candidates whose neighbours are looked at, and how often
# share of a typical training that any trial costs: otherwise what trains fastest is tried in every variation
OVERHEAD = 0.1
EARLY = 0.1  # share of a whole training that one which fails takes before it is pruned
# log error by which it has to miss the threshold for that: half-way through, extrapolations deviate so much
NEAR = 0.3


class FrontierSampler(BaseSampler):
    """Proposes the candidate with the greatest expected saving of cost per work.

    In a study that minimises, the objective returns the cost and calls `trial.set_constraint("score", threshold -
    score)`; a trial is feasible where this constraint and all others of the trial are at most 0. In a study that
    maximises, the objective may return the score itself. What a trial reports are scores. With `epochs` given,
    unfinished and pruned trials count by what they reported; running ones that reported nothing count as if they had
    reached what the model expects of them. When every candidate is used up, it samples at random.

    Args:
        search_space: name -> choices, or one of Optuna's distributions whose values can be listed. A trial suggests
            all of these and no others. Positive numbers are compared by their logarithms, other choices have no order.
        candidates: gives configurations that cost less than its argument (all, or some of very many). Left out, they
            are all combinations of the choices.
        threshold: score that makes a configuration feasible, in (0, 1); 1 is a perfect score. Or several: each trial
            counts for all of them, a proposal is the one with the greatest sum of expected savings per time, and a
            training is pruned where it is hopeless for all thresholds for which it would be the cheapest. The highest
            is the one that a constraint or "feasible" means.
        ceiling: the cost to beat; the first incumbent.
        near: gives configurations that differ little from given ones and cost less than its second argument; with it,
            the search for the next proposal goes on in the neighbourhood of the best of the `candidates`.
        cost: of a configuration, above 0 and in any unit; infinite for combinations that are not allowed. Or the name
            of the trials' user attribute that it is in, by default 'parameters'.
        work: how long a configuration's evaluation takes, in any unit; by default all take the same. It is not asked
            where there are `candidates`, which say it themselves.
        epochs: steps of a whole training, where trials report a score after each; or a function that gives those of a
            configuration. Trainings of different lengths are compared by the fraction that is done.
        seed: of what is drawn.
        earlier: measurements of other studies, as a warm start; `curves`: scores by step of their whole trainings
            under the same conditions, by which trials are pruned before this study has curves of its own.
        centred: hyperparameters that no network is made of, such as learning rates (see `Features`).
        error: of a score and the threshold: how far one is from the other on the scale that is modelled, 0 where they
            are equal and falling as the score rises. Left out, log((1 - score) / (1 - threshold)); with it, scores may
            have any unit.

    Raises ValueError for arguments that give no problem, and for trials without a score.
    """

    def __init__(
        self,
        search_space: Mapping[str, Sequence | BaseDistribution],
        candidates: Callable[[float], list[Candidate]] | None = None,
        threshold: float
        | Sequence[float] = math.nan,  # it and the ceiling have to be given: by name, where there are no candidates
        ceiling: float = math.nan,
        *,
        near: Callable[[Sequence[dict[str, Any]], float], list[Candidate]] | None = None,
        cost: Callable[[dict[str, Any]], float] | str = PARAMETERS,
        work: Callable[[dict[str, Any]], float] | None = None,
        epochs: int | Callable[[Mapping[str, Any]], int] | None = None,
        seed: int = 0,
        earlier: Sequence[Observation] = (),
        curves: Sequence[Sequence[float]] = (),
        centred: Collection[str] = (),
        error: Callable[[float, float], float] | None = None,
    ):
        self.problem = Problem(
            search_space, candidates, threshold, ceiling,
            near=near, cost=cost, work=work, epochs=epochs, seed=seed, earlier=earlier, curves=curves,
            centred=centred, error=error,
        )  # fmt: skip
        self._history: tuple[str, History] | None = None
        self._last: tuple[tuple, Survey] | None = None
        # by trial, for pruning: what is known without its own curve, and its probability to reach the threshold by that
        self._judged: dict[int, tuple[Survey, Candidate, float]] = {}
        self._fallback = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.problem.distributions)

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self._fallback.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        found = self.proposal(study, trial.number)
        return dict(found.params) if found else {}

    def proposal(self, study: Study, number: int | None = None, affordable: float = math.inf) -> Candidate | None:
        """What to try next, for the trial `number` where it is in the study already.

        None where all have been tried whose whole training is no more work than `affordable`.
        """
        survey = self._survey(study, number)
        pool = [candidate for candidate in survey.pool() if candidate.work <= affordable]
        if not pool:
            return None
        typical = float(np.median([candidate.work for candidate in pool]))
        utility = self._utility(survey, pool, typical)
        near_to = self.problem.near
        for _ in range(ROUNDS):
            if near_to is None:
                break
            best = [pool[i] for i in np.argsort(-utility)[:CLIMBERS]]
            known = {candidate.key for candidate in pool}
            near = near_to([candidate.params for candidate in best], survey.below)
            added = [c for c in survey.new(near) if c.key not in known and c.work <= affordable]
            if not added:
                break
            gained = self._utility(survey, added, typical)
            climbed = gained.max() > utility.max()
            pool, utility = pool + added, np.concatenate([utility, gained])
            if not climbed:
                break
        return pool[int(np.argmax(utility))]

    def learn(self, scouts: Sequence[Observation]) -> None:
        """Take in candidates that were trained briefly, which tells who is better, not who reaches the threshold.

        Of their noise nothing is read; the model knows what scouts are worth.
        """
        self.problem.scouts += scouts
        self._last = None

    def _utility(self, survey: Survey, pool: list[Candidate], typical: float) -> np.ndarray:
        """Expected saving per expected training time of each candidate; `typical` is a whole training's work."""
        mean, deviation = survey.predict(pool)
        cost = np.array([c.cost for c in pool])
        work = np.array([c.work for c in pool])
        gain, trained = np.zeros(len(pool)), np.zeros(len(pool))
        for offset, known, (incumbent, below) in zip(self.problem.offsets, self.problem.known, survey.incumbents):
            saving = np.log(below / cost)
            if not incumbent:  # first find something that does; where something was measured to, something smaller
                saving = 1.0 + saving if known or below < self.problem.ceiling else np.ones(len(pool))
            gain = gain + ndtr((offset - mean) / deviation) * (cost < below) * saving
            trained = np.maximum(trained, ndtr((offset + NEAR - mean) / deviation) * (cost < below))
        return gain / (work * (EARLY + (1 - EARLY) * trained) + OVERHEAD * typical)

    def unseen(self, study: Study) -> list[Candidate]:
        """Candidates below the incumbent's cost that no trial has had: what is left to propose."""
        return self._survey(study).pool()

    def incumbent(self, study: Study) -> FrozenTrial | None:
        """The cheapest trial that was measured feasible and is believed to be, given all measurements; or None.

        Of several thresholds it is that of the highest.
        """
        return self.incumbents(study)[-1]

    def incumbents(self, study: Study) -> list[FrozenTrial | None]:
        """The same for each threshold, the lowest first: no lower one's costs more than a higher one's."""
        return [trial for trial, _ in self._survey(study).incumbents]

    def reach(self, study: Study, trial: FrozenTrial) -> float:
        """P(score after the last epoch >= threshold), given the trial's configuration and what it reported so far."""
        cost = self.problem.cost_of(trial)
        if cost is None:
            return 1.0
        if trial.number not in self._judged:
            survey, candidate = self._survey(study, trial.number), Candidate(trial.params, cost, 1.0)
            self._judged = {trial.number: (survey, candidate, survey.reach(candidate, None))}
        survey, candidate, hope = self._judged[trial.number]
        epochs = self.problem.length(trial.params)
        if not (trial.intermediate_values and epochs):
            return hope
        epoch, score = max(trial.intermediate_values.items())
        curves = self._known(study, epoch).curves
        return survey.reach(candidate, curves.end(epoch, epochs, score, self.problem.threshold))

    def hopeless(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop a training: never before whole curves have been seen, which alone tell what is to come.

        A recipe that begins with smaller images, for one, gains far more in its second half than others do. Where
        little is likely to reach the threshold, what was proposed with little hope goes on until its curve tells
        against it: to stop it for another one of the same hope would gain nothing.
        """
        step, epochs = trial.last_step, self.problem.length(trial.params)
        if step is None or not epochs or step >= epochs or self._known(study, step).curves.count < WHOLE:
            return False
        reach = self.reach(study, trial)
        if reach >= CUT:
            return False
        *_, hope = self._judged[trial.number]
        return reach < TOLD * hope

    def history(self, study: Study) -> History:
        """The study's trials up to now; what is known of finished ones is kept between calls."""
        if self._history is None or self._history[0] != study.study_name:
            minimised = study.direction == StudyDirection.MINIMIZE
            self._history, self._judged = (study.study_name, History(self.problem, minimised)), {}
        return self._history[1].updated(study.get_trials(deepcopy=False))

    def _known(self, study: Study, step: int) -> History:
        """`history` for one that reports its `step`: read anew when the steps have doubled, or else as it was then.

        All running trials are read with it, which a thousand workers can't do after every epoch.
        """
        if step & (step - 1) and self._history is not None and self._history[0] == study.study_name:
            return self._history[1]
        return self.history(study)

    def _survey(self, study: Study, number: int | None = None) -> Survey:
        """The posterior as of now, without trial `number`; the last one where nothing has been reported since."""
        history = self.history(study)
        running = tuple((t.number, len(t.intermediate_values)) for t in history.running if t.number != number)
        moment = study.study_name, history.ended, running
        if self._last is None or self._last[0] != moment:
            self._last = moment, Survey(history, number)
        return self._last[1]


class FrontierPruner(BasePruner):
    """Stops a training whose probability of reaching the sampler's threshold has fallen below one in ten, by its curve.

    Not before three trainings have run to their end (see `FrontierSampler.hopeless`). Where an objective trains several
    seeds one after another, `hopeful` says after the first whether it is worth another.
    """

    def __init__(self, sampler: FrontierSampler):
        self.sampler = sampler

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return self.sampler.hopeless(study, trial)

    def hopeful(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the probability of reaching the threshold is at least one in ten, given all that `trial` reported."""
        return self.sampler.reach(study, trial) >= CUT
