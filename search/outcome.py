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
        tests: of the candidates, in the order of their sizes; the last one is confirmed, or none is.
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
    def best(self) -> Confirmation | None:
        """The confirmed test; where there is none the first that reached the target, else the first."""
        return next((c for word in WORDS for c in self.tests if c.verdict == word), next(iter(self.tests), None))

    @property
    def weights(self) -> Path:
        """The file of the best one's weights. Raises UserError where nothing was tested."""
        if self.best is None:
            raise UserError("nothing was tested, so there are no weights")
        training = Training(self.best.config, Recipe.model_validate(self.best.recipe), self.data.digest)
        return WeightsFile.of(self.results.weights, self.goal.study, training, Inputs.of(self.data)).place()

    def load(self, seed: int | None = None) -> WaveMixLite:
        """The best one's network of a seed (default: its first), in evaluation mode."""
        found = networks(self.weights)
        return found[present(self.best).seeds[0] if seed is None else seed]
