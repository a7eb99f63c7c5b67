"""What the sampler is asked about, and what it is told."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from .candidates import Candidate, Product, choices_of, key_of
from .gaussian_process import Features, Kernel
from .learning_curves import relative_error
from .prior import par_of

SCORE = "score"  # the constraint that says how much of its score a trial lacks
ALIKE = 0.1  # noise of a measurement that another study made under the same conditions, at most
PARAMETERS = "parameters"  # the user attribute of a trial that is its cost by default
SMALL = 8.0  # logarithm of a small network's parameter count


class Observation:
    """A measured candidate: its relative log error, `noise`, the standard deviation of that measurement's error, and
    `shared`, the part of it that all extrapolations have in common, or all scouts where it is one."""

    __slots__ = ("params", "cost", "value", "noise", "shared", "scout")

    def __init__(
        self,
        params: dict[str, Any],
        cost: float,
        value: float,
        noise: float,
        shared: float = 0.0,
        scout: bool = False,
    ):
        self.params, self.cost, self.value, self.noise, self.shared = params, cost, value, noise, shared
        self.scout = scout


def averaged(measured: Iterable[Observation]) -> list[Observation]:
    """One of each candidate, with the mean of its measurements: the luckiest of several would say too much."""
    found: dict[frozenset, list[Observation]] = {}
    for observation in measured:
        found.setdefault(frozenset(observation.params.items()), []).append(observation)
    return [
        Observation(group[0].params, group[0].cost, sum(o.value for o in group) / len(group), group[0].noise)
        for group in found.values()
    ]


class Problem:
    """What a sampler is to solve; the arguments are those of `FrontierSampler`.

    Attributes: those; `scouts`, candidates that were trained briefly; `choices`, the values of each hyperparameter, and
    `distributions`, the same for Optuna; `thresholds`, the lowest first; `threshold`, the highest, which the model's
    scale counts from, and `offsets`, where the others lie on it; `measured`, the keys of all that earlier studies have
    measured under the same conditions; `known`, for each threshold those of them that have reached it, the cheapest
    first; `missed`, the keys of those that have reached none; `usual`, the epochs of the first choices; `par`, the
    cost that is expected to reach the threshold (`prior`); and how the model sees candidates: `features` and `kernel`.

    Raises ValueError for arguments that give no problem.
    """

    def __init__(
        self,
        search_space: Mapping[str, Sequence | BaseDistribution],
        candidates: Callable[[float], list[Candidate]] | None,
        threshold: float | Sequence[float],
        ceiling: float,
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
        self.error = error or relative_error
        thresholds = sorted(threshold) if isinstance(threshold, Sequence) else [threshold]
        if not thresholds or not all(0 < score < 1 or error and math.isfinite(score) for score in thresholds):
            raise ValueError(f"threshold is {threshold}: it has to be a score between 0 and 1, or several of them")
        if not 0 < ceiling < math.inf:
            raise ValueError(f"ceiling is {ceiling}: it has to be the cost that is to be beaten")
        self.choices = {name: choices_of(name, values) for name, values in search_space.items()}
        self.distributions = {
            name: values if isinstance(values, BaseDistribution) else CategoricalDistribution(values)
            for name, values in search_space.items()
        }
        if candidates is None:
            if not callable(cost):
                raise ValueError("cost is missing: a function of a configuration")
            product = Product(self.choices, cost, work, seed)
            if not product.below(ceiling):
                raise ValueError(f"nothing in the search space costs less than the ceiling, {ceiling}")
            candidates, near = product.below, product.near
        # what a function gives may have any unit
        self.features = Features(self.choices, centred, SMALL if cost == PARAMETERS else math.log(ceiling))
        self.candidates, self.near, self.cost = candidates, near, cost
        self.thresholds, self.threshold = thresholds, thresholds[-1]
        self.offsets = [*(self.error(score, self.threshold) for score in thresholds[:-1]), 0.0]
        self.ceiling, self.epochs = ceiling, epochs
        self.earlier, self.curves = list(earlier), curves
        self.scouts: list[Observation] = []
        same = [observation for observation in self.earlier if observation.noise <= ALIKE]
        self.measured = {key_of(observation.params) for observation in same}
        alike = sorted(averaged(o for o in same if o.cost < ceiling), key=lambda o: o.cost)
        self.known = [[o for o in alike if o.value <= offset] for offset in self.offsets]
        self.missed = self.measured - {key_of(o.params) for o in self.known[0]}
        self.usual = self.length({name: values[0] for name, values in self.choices.items()})
        told = averaged(same)
        lengths = [self.length(o.params) for o in told]
        self.par = par_of(ceiling, [o.cost for o in told], lengths, self.usual, [o.value for o in told])
        self.kernel = Kernel(len(self.features))

    def length(self, params: Mapping[str, Any]) -> int | None:
        """Epochs of a whole training of a configuration; None where trials report nothing on the way."""
        return self.epochs(params) if callable(self.epochs) else self.epochs

    def cost_of(self, trial: FrozenTrial) -> float | None:
        """A trial's cost, where it is known."""
        cost = self.cost(trial.params) if callable(self.cost) else trial.user_attrs.get(self.cost)
        return None if cost == math.inf else cost

    def score_of(self, trial: FrozenTrial, minimised: bool) -> float:
        """A complete trial's score, by its constraint, else its value, unless that is a cost, which is `minimised`.

        Raises ValueError where it is not known.
        """
        lacking = trial.constraints.get(SCORE)
        if lacking is not None:
            return self.threshold - lacking
        if minimised or trial.value is None:
            raise ValueError(
                f"trial {trial.number} has no score: a study that minimises the cost needs "
                f"trial.set_constraint({SCORE!r}, threshold - score)"
            )
        return trial.value

    def reached(self, trial: FrozenTrial, score: float) -> int:
        """How many of the thresholds its score reaches; 0 where another of its constraints is not kept."""
        others = {name: value for name, value in trial.constraints.items() if name != SCORE}
        if any(value > 0 for value in others.values()):
            return 0
        if trial.constraints.get(SCORE, 1.0) <= 0:
            return len(self.thresholds)
        below = self.thresholds[:-1] if SCORE in trial.constraints else self.thresholds
        return sum(score >= threshold for threshold in below)
