"""What a search, a confirmation or a training came to."""

from dataclasses import dataclass, field
from pathlib import Path

from optuna.trial import FrozenTrial

from search.data.split import Portion
from search.errors import UserError, present
from search.records.goal import Goal
from search.records.models import Confirmation
from search.records.results import Results
from search.records.weights import Inputs, WeightsFile, networks
from search.study.setting import Setting
from search.training.recipe import Recipe, Training
from wavemix.lite import WaveMixLite

WORDS = ("confirmed", "reached")


@dataclass(frozen=True)
class Outcome:
    """What a search or a confirmation came to.

    Attributes:
        tests: of the candidates for each target, the lowest first, in the order of their sizes; a target's last one is
            confirmed, or none of them is.
        finished: whether it came to its end; False where it was stopped, or is gone on with later.
        setting, trials: of the study that was searched.
    """

    data: Portion
    goal: Goal
    results: Results
    tests: list[Confirmation] = field(default_factory=list)
    finished: bool = True
    setting: Setting | None = None
    trials: list[FrozenTrial] = field(default_factory=list)

    @property
    def front(self) -> list[Confirmation]:
        """Of each target that was tested, the lowest first, the confirmed test; where there is none the first that
        reached the target, else the first."""
        targets = dict.fromkeys(test.target for test in self.tests)
        return [_best([test for test in self.tests if test.target == target]) for target in targets]

    @property
    def best(self) -> Confirmation | None:
        """That of the highest target."""
        return next(reversed(self.front), None)

    @property
    def weights(self) -> Path:
        """The file of the best one's weights. Raises UserError where nothing was tested."""
        if self.best is None:
            raise UserError("nothing was tested, so there are no weights")
        return self.weights_of(self.best)

    def weights_of(self, test: Confirmation) -> Path:
        """The file of the weights that were tested."""
        training = Training(test.config, Recipe.model_validate(test.recipe), self.data.digest)
        return WeightsFile.of(self.results.weights, self.goal.study, training, Inputs.of(self.data)).place()

    def load(self, seed: int | None = None, test: Confirmation | None = None) -> WaveMixLite:
        """The network of a seed (default: its first) that was tested, by default the best, in evaluation mode."""
        chosen = test or self.best
        found = networks(self.weights if chosen is None else self.weights_of(chosen))
        return found[present(chosen).seeds[0] if seed is None else seed]


def _best(tests: list[Confirmation]) -> Confirmation:
    return next((c for word in WORDS for c in tests if c.verdict == word), tests[0])
