"""What a search tunes of the recipe together with the architecture: some of its hyperparameters, a few values each."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from search.errors import UserError
from search.training.recipe import Recipe

PREFIX = "recipe: "  # as in the pictures of importance; no name of an architecture's hyperparameter begins like this
EPOCHS = PREFIX + "epochs"


class Tuning:
    """A base recipe and, for those of its hyperparameters that are tuned, the values to choose from.

    Args:
        base: the recipe that all other hyperparameters are taken from.
        choices: hyperparameter -> two or more values; text is read as the command line's. The base recipe's own value
            goes first where it is among them.

    Attributes: `hyperparameters`, name (as the study has it) -> values.

    Raises UserError for what is no hyperparameter of a recipe, or no value of it.
    """

    def __init__(self, base: Recipe, choices: Mapping[str, Sequence] | None = None):
        self.base = base
        self.choices = {name: self._checked(name, values) for name, values in (choices or {}).items()}
        self.hyperparameters = {PREFIX + name: values for name, values in self.choices.items()}

    def _checked(self, name: str, values: Sequence) -> tuple:
        if name not in Recipe.model_fields:
            raise UserError(
                f"--tune {name}: a recipe has no such hyperparameter, only {', '.join(Recipe.model_fields)}"
            )
        read: list = []
        for value in values:
            try:
                number = getattr(Recipe.model_validate({name: value}), name)
            except ValidationError as error:
                raise UserError(f"--tune {name}={value}: {error.errors(include_url=False)[0]['msg']}") from error
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"--tune {name}={value}: Input should be a finite number")
            read.append(number)
        if len(read) < 2 or len(set(read)) < len(read):
            raise UserError(f"--tune {name}: give two or more different values, such as {name}=A,B")
        own = getattr(self.base, name)
        return tuple(sorted(read, key=lambda value: value != own))

    @property
    def first(self) -> dict[str, Any]:
        """The choices that a search starts with."""
        return self._numbered(0)

    def recipe(self, chosen: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial with these hyperparameters, the architecture's among them or not."""
        return self.base.model_copy(update={name: chosen[PREFIX + name] for name in self.choices})

    def length(self, chosen: Mapping[str, Any]) -> int:
        """Epochs of a trial with these hyperparameters."""
        return self.recipe(chosen).epochs

    def share(self, epochs: int) -> float:
        """How many times the base recipe's epochs these are."""
        return epochs / self.base.epochs

    def hyperparameters_of(self, recipe: Recipe) -> dict[str, Any]:
        """The choices of a recipe; where a value is not among them, the first one, or the nearest number of epochs."""
        own = {name: getattr(recipe, name) for name in self.choices}
        chosen = {name: own[name] if own[name] in values else values[0] for name, values in self.choices.items()}
        if "epochs" in chosen:
            chosen["epochs"] = min(self.choices["epochs"], key=lambda epochs: abs(math.log(epochs / recipe.epochs)))
        return {PREFIX + name: value for name, value in chosen.items()}

    def drawn(self, rng: random.Random, most: int) -> list[dict[str, Any]]:
        """Up to `most` different combinations of choices: the first one and others in random order."""
        count = math.prod(map(len, self.choices.values()))
        return [self._numbered(number) for number in (0, *rng.sample(range(1, count), min(most, count) - 1))]

    def text(self, chosen: Mapping[str, Any]) -> str:
        """These hyperparameters' choices for a person to read, '' where nothing is tuned: 'lr 0.03, beta1 0.9'."""
        return ", ".join(f"{name} {chosen[PREFIX + name]}" for name in self.choices)

    def _numbered(self, number: int) -> dict[str, Any]:
        """One of the combinations, which are numbered from 0 as in a number system with the hyperparameters as its
        digits."""
        chosen = {}
        for name, values in self.hyperparameters.items():
            number, place = divmod(number, len(values))
            chosen[name] = values[place]
        return chosen
