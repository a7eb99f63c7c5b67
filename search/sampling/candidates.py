"""Configurations that a sampler may propose, and a search space that is a product of its hyperparameters' choices."""

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

LISTED = 4000  # combinations that are all looked at; of more, some are drawn
DRAWN, NEW = 2000, 200  # combinations looked at then, and how many of them at least are drawn for each proposal
TURNS = 3  # changes a hyperparameter by which a combination that costs too much is made cheaper
VALUES = 1000  # most choices of a hyperparameter
PAIRS = 60  # neighbours in two hyperparameters that are drawn for each combination


class Candidate:
    """One configuration as the sampler sees it: hyperparameters, cost (parameters) and work (training FLOPs)."""

    __slots__ = ("params", "cost", "work", "key", "row")

    def __init__(self, params: dict[str, Any], cost: float, work: float):
        self.params, self.cost, self.work = params, cost, work
        self.key, self.row = key_of(params), None  # the row of features, once the sampler has needed it


def key_of(params: dict[str, Any]) -> tuple:
    """What tells configurations apart."""
    return tuple(sorted(params.items()))


def choices_of(name: str, values: Sequence | BaseDistribution) -> tuple:
    """All values that a hyperparameter can have. Raises ValueError where they can't be listed."""
    if not isinstance(values, BaseDistribution):
        found = tuple(values)
    elif isinstance(values, CategoricalDistribution):
        found = tuple(values.choices)
    elif isinstance(values, IntDistribution):
        found = tuple(range(values.low, values.high + 1, values.step))
    elif isinstance(values, FloatDistribution) and values.step is not None:
        count = round((values.high - values.low) / values.step) + 1  # Optuna has made the highest one of the steps
        found = tuple(min(values.low + i * values.step, values.high) for i in range(count))
    else:
        raise ValueError(f"{name} has to have choices, an integer range or a step, as all its values are compared")
    if not 0 < len(found) <= VALUES:
        raise ValueError(f"{name} has {len(found)} choices: give it between 1 and {VALUES}")
    return found


class Product:
    """Gives a sampler the combinations that cost less than it asks for.

    Args:
        choices: name -> values.
        cost: of a combination, above 0; infinite for one that is not allowed. It is called thousands of times a
            proposal.
        work: how long its evaluation takes, in any unit; by default all take the same.
        seed: of what is drawn.
    """

    def __init__(
        self,
        choices: Mapping[str, Sequence],
        cost: Callable[[dict[str, Any]], float],
        work: Callable[[dict[str, Any]], float] | None = None,
        seed: int = 0,
    ):
        self.choices, self.cost, self.work = choices, cost, work
        self._random = random.Random(seed)
        self._listed = math.prod(len(values) for values in choices.values()) <= LISTED
        every = itertools.product(*choices.values()) if self._listed else ()
        self._found = [self._candidate(dict(zip(choices, values))) for values in every]

    def below(self, cost: float) -> list[Candidate]:
        """All that cost less; or some where there are very many, some of them others than the last time."""
        left = [candidate for candidate in self._found if candidate.cost < cost]
        if self._listed:
            return left
        drawn = [self._candidate(self._drawn(cost)) for _ in range(max(NEW, DRAWN - len(left)))]
        self._found = list({c.key: c for c in left + drawn if c.cost < cost}.values())[-DRAWN:]
        return self._found

    def near(self, places: Sequence[dict[str, Any]], cost: float) -> list[Candidate]:
        """Those that cost less and differ from one of `places` in one hyperparameter, and some that differ in two."""
        if self._listed:  # the sampler has seen them
            return []
        found: dict[tuple, Candidate] = {}
        for place in places:
            moves = [{name: v} for name, values in self.choices.items() for v in values if v != place[name]]
            pairs = [one | other for one, other in (self._random.sample(moves, 2) for _ in range(PAIRS))]
            for move in moves + pairs:
                candidate = self._candidate(place | move)
                if candidate.cost < cost:
                    found[candidate.key] = candidate
        return list(found.values())

    def _drawn(self, cost: float) -> dict[str, Any]:
        """One drawn at random; where it costs too much, changed at random as long as each change makes it cheaper."""
        names = list(self.choices)
        params = {name: self._random.choice(values) for name, values in self.choices.items()}
        least = self._cost(params)
        for _ in range(TURNS * len(names)):
            if least < cost:
                break
            name = self._random.choice(names)
            changed = params | {name: self._random.choice(self.choices[name])}
            reached = self._cost(changed)
            if reached < least:
                params, least = changed, reached
        return params

    def _cost(self, params: dict[str, Any]) -> float:
        cost = self.cost(params)
        if not cost > 0:
            raise ValueError(f"the cost of {params} is {cost}: it has to be above 0")
        return cost

    def _candidate(self, params: dict[str, Any]) -> Candidate:
        cost = self._cost(params)
        return Candidate(params, cost, self.work(params) if self.work and cost < math.inf else 1.0)
