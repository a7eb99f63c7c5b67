"""What a search may propose: configurations of its space with the recipes' choices, drawn or near given ones."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from search.errors import present
from search.sampling.problem import Candidate
from search.space.configurations import Space
from search.space.recipe_choices import Tuning
from wavemix.config import LiteConfig

LISTED = 4000  # candidates for which every recipe is listed; of more configurations each comes with two
TURNS = 20  # finished trials after which others are drawn
FEW = 300  # with fewer left, others are drawn after the next trial
PAIRS = 60  # neighbours in two hyperparameters that are drawn for each configuration


class Pool:
    """The candidates of a search.

    Args:
        space: of the architectures; `tuning`: of the recipe.
        seed: what is drawn follows from it, the number of finished trials and the cost asked for.
        finished: how many trials have ended so far.
        accept: which configurations may be proposed.
    """

    def __init__(
        self,
        space: Space,
        tuning: Tuning,
        seed: int,
        finished: Callable[[], int],
        accept: Callable[[LiteConfig], bool] = lambda config: True,
    ):
        self.space, self.tuning, self.seed, self.finished, self.accept = space, tuning, seed, finished, accept
        self._drawn: tuple[int, float, list[Candidate]] = (-TURNS, 0.0, [])
        self._built: dict[tuple, Candidate | None] = {}  # by choices: neighbours are asked for again and again

    def below(self, cost: float) -> list[Candidate]:
        """Some that cost less, from the whole space: others every few trials, or when few are left."""
        finished, (made, ceiling, drawn) = self.finished(), self._drawn
        left = [candidate for candidate in drawn if candidate.cost < cost]
        # an incumbent that is no longer believed in makes room above what was drawn
        if cost > ceiling or finished >= made + TURNS or (finished > made and len(left) < FEW):
            seed = self.seed + finished
            configs, rng = self.space.configurations(seed, cost), random.Random(seed)
            recipes = max(2, LISTED // max(1, len(configs)))
            left = [
                self._candidate(config, chosen)
                for config in configs
                if self.accept(config)
                for chosen in self.tuning.drawn(rng, recipes)
            ]
            self._drawn = (finished, cost, left)
            self._built.clear()
        return left

    def near(self, places: Sequence[dict[str, Any]], cost: float) -> list[Candidate]:
        """Those that cost less and differ from one of `places` in one hyperparameter, and some that differ in
        two.

        Two, because a deeper network has room below the cost only where it is narrower as well.
        """
        rng = random.Random(repr((self.seed, self.finished(), places)))
        hyperparameters = self.space.hyperparameters | self.tuning.hyperparameters
        found: dict[tuple, Candidate] = {}
        for place in places:
            moves = [
                {name: value} for name in hyperparameters for value in hyperparameters[name] if value != place[name]
            ]
            pairs = [one | other for one, other in (rng.sample(moves, 2) for _ in range(PAIRS))]
            for move in moves + pairs:
                choices = tuple((place | move)[name] for name in hyperparameters)
                if choices not in self._built:
                    self._built[choices] = self._build(dict(zip(hyperparameters, choices)))
                candidate = self._built[choices]
                if candidate is not None and candidate.cost < cost:
                    found[candidate.key] = candidate
        return list(found.values())

    def _build(self, hyperparameters: dict[str, Any]) -> Candidate | None:
        config = self.space.build(
            {name: hyperparameters[name] for name in self.space.hyperparameters}, self.space.ceiling
        )
        if config is None or self.space.refused(config) or not self.accept(config):
            return None
        return self._candidate(config, {name: hyperparameters[name] for name in self.tuning.hyperparameters})

    def _candidate(self, config: LiteConfig, chosen: dict[str, Any]) -> Candidate:
        """With the hyperparameters that a record of `config` has: several choices can build the same configuration."""
        hyperparameters = present(self.space.hyperparameters_of(config)) | chosen
        work = self.space.work(config, self.tuning.share(self.tuning.length(hyperparameters)))
        return Candidate(hyperparameters, self.space.costs.of(config), work)
