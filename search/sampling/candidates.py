"""Configurations that a sampler may propose, and a search space that is a product of its hyperparameters' choices."""

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

LISTED = 4000  # combinations that are all looked at; of more, some are drawn
DRAWN = 2000  # combinations drawn for each proposal
TURNS = 3  # changes a hyperparameter by which a combination that costs too much is made cheaper
KEPT = 100_000  # combinations remembered, a few hundred bytes each
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
        found = tuple(values.low + i * values.step for i in range(round((values.high - values.low) / values.step) + 1))
    else:
        raise ValueError(f"{name} has to have choices, an integer range or a step, as all its values are compared")
    if not 0 < len(found) <= VALUES:
        raise ValueError(f"{name} has {len(found)} choices: give it between 1 and {VALUES}")
    return found


class Product:
    """Gives a sampler the combinations that cost less than it asks for.

    Args:
        choices: name -> values.
        cost: of a combination, above 0; infinite for one that is not allowed. It is called thousands of times.
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
        self._built: dict[tuple, Candidate] = {}  # by values: cheaper ones than before are mostly known
        self._all: list[Candidate] | None = None
        if math.prod(len(values) for values in choices.values()) <= LISTED:
            self._all = [self._candidate(values) for values in itertools.product(*choices.values())]

    def below(self, cost: float) -> list[Candidate]:
        """All that cost less, or some where there are very many."""
        if self._all is not None:
            return [candidate for candidate in self._all if candidate.cost < cost]
        if len(self._built) > KEPT:
            self._built.clear()
        drawn = (self._drawn(cost) for _ in range(DRAWN))
        return list({candidate.key: candidate for candidate in drawn if candidate.cost < cost}.values())

    def near(self, places: Sequence[dict[str, Any]], cost: float) -> list[Candidate]:
        """Those that cost less and differ from one of `places` in one hyperparameter, and some that differ in two."""
        if self._all is not None:  # the sampler has seen them
            return []
        found: dict[tuple, Candidate] = {}
        for place in places:
            moves = [{name: v} for name, values in self.choices.items() for v in values if v != place[name]]
            pairs = [one | other for one, other in (self._random.sample(moves, 2) for _ in range(PAIRS))]
            for move in moves + pairs:
                candidate = self._candidate(tuple((place | move)[name] for name in self.choices))
                if candidate.cost < cost:
                    found[candidate.key] = candidate
        return list(found.values())

    def _drawn(self, cost: float) -> Candidate:
        """One drawn at random; where it costs too much, changed at random as long as each change makes it cheaper."""
        columns = list(self.choices.values())
        values = [self._random.choice(column) for column in columns]
        best = self._candidate(tuple(values))
        for _ in range(TURNS * len(columns)):
            if best.cost < cost:
                break
            place = self._random.randrange(len(columns))
            changed = [*values[:place], self._random.choice(columns[place]), *values[place + 1 :]]
            candidate = self._candidate(tuple(changed))
            if candidate.cost < best.cost:
                values, best = changed, candidate
        return best

    def _candidate(self, values: tuple) -> Candidate:
        if values not in self._built:
            params = dict(zip(self.choices, values))
            cost = self.cost(params)
            if not cost > 0:
                raise ValueError(f"the cost of {params} is {cost}: it has to be above 0")
            self._built[values] = Candidate(params, cost, self.work(params) if self.work and cost < math.inf else 1.0)
        return self._built[values]
