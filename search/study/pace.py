"""How long trainings take, by those that have ended: what fits into the time that is left."""

import math
from collections.abc import Sequence
from statistics import median

from optuna.trial import FrozenTrial, TrialState

from search.records.models import Trial
from search.study.setting import Setting

CONFIRMING = 1.1  # seconds of a confirmation for one of trials with as many images: it also tests


class Pace:
    """The speed of a study's trainings.

    Args:
        known: complete trials of other studies, in whose time they tell of this one until a trial of its own has ended;
            a machine of another speed made them, perhaps.
    """

    def __init__(self, setting: Setting, known: Sequence[Trial] = ()):
        self.setting = setting
        self._rates: dict[int, float] = {}  # by number of the trial: thousands take seconds to build anew
        rates = []
        for trial in known:
            epochs = trial.recipe.get("epochs")
            if trial.dataset.label != setting.data.label or not trial.wall_seconds or not isinstance(epochs, int):
                continue
            work = setting.space.work(trial.config, setting.tuning.share(epochs))
            rates.append(trial.wall_seconds / len(trial.seeds) / work)
        self.guess = median(rates) if rates else None

    def rate(self, ended: Sequence[FrozenTrial]) -> float | None:
        """Seconds that a unit of a candidate's work takes for each seed; None where nothing is known."""
        setting = self.setting
        for trial in ended:
            seconds, done = trial.user_attrs.get("seconds"), len(trial.intermediate_values)
            if trial.number not in self._rates and seconds and done:
                whole = self._each(trial) / done * setting.tuning.length(trial.params)
                self._rates[trial.number] = whole / setting.work(trial.params)
        return median(self._rates.values()) if self._rates else self.guess

    def _each(self, trial: FrozenTrial) -> float:
        """Seconds that a trial took for each seed."""
        return trial.user_attrs.get("seconds", 0.0) / trial.user_attrs.get("seeds", len(self.setting.seeds))

    def typical(self, ended: Sequence[FrozenTrial]) -> float:
        """Median seconds of the trials that have ended, 0 where none has."""
        times = [trial.user_attrs["seconds"] for trial in ended if trial.user_attrs.get("seconds")]
        return median(times) if times else 0.0

    def growth(self, seeds: int) -> float:
        """How much more than a trial does for one seed a training with `seeds` on all training images has to do."""
        return seeds * len(self.setting.data) / len(self.setting.train)

    def confirmation(self, best: FrozenTrial | None, seeds: int) -> float:
        """Expected seconds of confirming a trial, from its own time and sizes."""
        return CONFIRMING * self.growth(seeds) * self._each(best) if best else 0.0

    def affordable(self, ended: Sequence[FrozenTrial], left: float | None, seeds: int) -> float:
        """Work of the largest candidate that can be trained, with all seeds of a trial, and confirmed in `left`
        seconds; None: any.

        Half of what is left is kept where nothing has ended yet: the guess is rough then.
        """
        rate = self.rate(ended)
        if left is None or rate is None:
            return math.inf
        sure = any(trial.state == TrialState.COMPLETE for trial in ended)
        return left * (1.0 if sure else 0.5) / rate / (len(self.setting.seeds) + CONFIRMING * self.growth(seeds))
