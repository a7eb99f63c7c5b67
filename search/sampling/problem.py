"""What the sampler is asked about, and what it is told."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from search.sampling.gaussian_process import Features, Kernel


class Candidate:
    """One configuration as the sampler sees it: its knobs, its cost (parameters) and its work (training FLOPs)."""

    __slots__ = ("knobs", "cost", "work", "key", "row")

    def __init__(self, knobs: dict[str, Any], cost: float, work: float):
        self.knobs, self.cost, self.work = knobs, cost, work
        self.key, self.row = key_of(knobs), None  # the row of features, once the sampler has needed it


class Observation:
    """A measured candidate: its relative log error, `noise`, the standard deviation of that measurement's error, and
    `shared`, the part of it that all extrapolations have in common."""

    __slots__ = ("knobs", "cost", "value", "noise", "shared")

    def __init__(self, knobs: dict[str, Any], cost: float, value: float, noise: float, shared: float = 0.0):
        self.knobs, self.cost, self.value, self.noise, self.shared = knobs, cost, value, noise, shared


def key_of(knobs: dict[str, Any]) -> tuple:
    """What tells configurations apart."""
    return tuple(sorted(knobs.items()))


class Problem:
    """What a sampler is to solve; the arguments are those of `FrontierSampler`.

    Attributes: those, and how the model sees candidates: `features` and `kernel`.
    """

    def __init__(
        self,
        knobs: dict[str, Sequence],
        candidates: Callable[[float], list[Candidate]],
        target: float,
        ceiling: float,
        *,
        near: Callable[[Sequence[dict[str, Any]], float], list[Candidate]] | None = None,
        cost: Callable[[dict[str, Any]], float] | None = None,
        epochs: int | None = None,
        earlier: Sequence[Observation] = (),
        centred: Collection[str] = (),
    ):
        self.knobs, self.candidates, self.target, self.ceiling = knobs, candidates, target, ceiling
        self.near, self.cost, self.epochs = near, cost, epochs
        self.earlier = list(earlier)
        self.features = Features(knobs, centred)
        self.kernel = Kernel(len(self.features))

    def cost_of(self, trial: FrozenTrial) -> float | None:
        """A trial's cost, where it is known."""
        cost = trial.user_attrs.get("parameters")
        return self.cost(trial.params) if cost is None and self.cost is not None else cost
