"""What a study has found so far: its trials by what they came to."""

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.errors import present
from search.records.costs import Minimised
from search.sampling.sampler import FrontierSampler
from search.study.events import Event
from search.study.setting import Setting
from search.study.targets import reached


class Found:
    """The trials of a study, of all workers; `sampler` is asked which of them it believes in."""

    def __init__(self, study: optuna.Study, setting: Setting, sampler: FrontierSampler):
        self.study, self.setting, self.sampler = study, setting, sampler

    def recorded(self) -> list[FrozenTrial]:
        """Trials of the study that have ended with a record, of all workers; not those dropped untried."""
        return [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished() and "record" in t.user_attrs]

    def past(self) -> list[Event]:
        """The ends of those trials, as a display was told them or would have been."""
        return [
            Event(
                "past",
                config=self.setting.plan(trial.params)[0],
                number=trial.number,
                state=trial.state.name.lower().replace("fail", "failed"),
                accuracy=trial.value,
                reached=reached(trial, self.setting.targets),
                minimised=self.minimised(trial),
            )
            for trial in self.recorded()
        ]

    def ended(self) -> list[FrozenTrial]:
        return [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()]

    def feasible(self, target: float | None = None) -> list[FrozenTrial]:
        """Trials that are feasible for the target (left out: the highest), those that cost least first."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        goal = self.setting.target if target is None else target
        return sorted((t for t in done if goal in reached(t, self.setting.targets)), key=self.cost)

    def cost(self, trial: FrozenTrial) -> float:
        """What is minimised, of a trial that was built."""
        return trial.user_attrs[self.setting.costs.minimise]

    def best(self, target: float | None = None) -> list[FrozenTrial]:
        """Feasible trials, cheapest first; where there are none, the completed one nearest to the target."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return self.feasible(target) or sorted(done, key=lambda t: -present(t.value))[:1]

    def front(self) -> list[FrozenTrial]:
        """What would be confirmed now: the first of the `best` for each target, each once."""
        first = [trial for target in self.setting.targets for trial in self.best(target)[:1]]
        return list({trial.number: trial for trial in first}.values())

    def minimised(self, trial: FrozenTrial) -> Minimised | None:
        """What a record says of that; None where it is the parameters."""
        name = self.setting.costs.minimise
        return None if name == "parameters" else Minimised(name=name, value=self.cost(trial))

    @property
    def incumbent(self) -> float:
        """The cost that a suggestion has to undercut: of the smallest trial believed to reach the threshold."""
        best = self.sampler.incumbent(self.study)
        return self.cost(best) if best else self.setting.space.bound
