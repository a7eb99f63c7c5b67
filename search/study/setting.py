"""What all workers of a study have in common: its images, its goal, its seeds and what may be tried."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from search.data.split import Portion, split_validation
from search.errors import UserError, present
from search.files import LONGEST, can_name
from search.records.costs import CostName, Minimised
from search.records.jsonl import Record
from search.records.models import Aim
from search.space.configurations import Space
from search.space.costs import Costs
from search.space.recipe_choices import Tuning
from search.study.calibration import calibrated, gaps
from search.study.targets import listed, one_or_all
from search.tasks.task import task_of
from search.training.recipe import Recipe
from wavemix.config import LiteConfig
from wavemix.stack import single_level

SCHEMA = 1  # of what a study holds: raised when older studies can't be gone on with


class Setting:
    """A study's, from its data, goal and recipe.

    Args:
        data: the training part of a data set; `validation_count` images of it are split off by `seed`.
        recipe: what every trial is trained with, but for the hyperparameters that `tune` has choices for.
        tune: hyperparameter of the recipe -> choices, which are searched together with the architecture's (see
            `Tuning`).
        members: seeds that a trial trains at most.
        ceiling: number of parameters to stay below.
        minimise, limits: see `search.space.costs.Costs`.
        target: one or several, for all of which each trial counts.
        threshold: the validation score from which a trial is feasible, one a target; left out, what the task makes of
            the target, perhaps after a look at the kind of the images that `test` loads, and of the `records`.
        records: of earlier searches and tests, which tell how validation images compare with test images
            (`search.study.calibration`).

    Attributes: those, and `train` and `validation`, the images; `seeds` of a trial; `space` and `tuning`, what may be
    tried; `costs`; `aims`, the targets with their thresholds, the lowest first; `stated`, whether `threshold` was
    given; `gaps`, how much worse networks on record came out on test images than on validation images; `task`, that the
    data are for.
    """

    def __init__(
        self,
        data: Portion,
        target: float | Sequence[float],
        recipe: Recipe,
        *,
        tune: Mapping[str, Sequence] | None = None,
        family: str = "extended",
        name: str,
        seed: int = 0,
        members: int = 2,
        ceiling: int,
        minimise: CostName = "parameters",
        limits: Mapping[CostName, float] = MappingProxyType({}),
        validation_count: int,
        threshold: float | Sequence[float] | None = None,
        test: Callable[[], Portion] | None = None,
        records: Iterable[Record] = (),
    ):
        self.task = task_of(data)
        targets = sorted(set(listed(target)))
        if wrong := [target for target in targets if not self.task.score.possible(target)]:
            what = "a fraction between 0 and 1" if self.task.score.unit == "%" else "a number of dB"
            example = "0.99 means 99 %" if self.task.score.unit == "%" else "36.66dB"
            raise UserError(f"the target {self.task.score.name} is {what}, not {wrong[0]}: {example}")
        checked_name(name)
        self.data, self.family, self.name = data, family, name
        self.seed, self.ceiling = seed, ceiling
        self.seeds = [seed * 1000 + member for member in range(members)]
        self.train, self.validation = split_validation(data, validation_count, seed)
        task = self.task
        task.check_recipe(recipe, self.train)
        image = task.image(data)
        self.costs = Costs(image, minimise, limits, task.name)
        parts = task.choices(data), task.heads(data), self.costs, task.views(recipe)
        self.space = Space(family, image, len(data.classes), ceiling, *parts)
        self.tuning = Tuning(recipe, tune)
        for change in self.tuning.single:
            task.check_recipe(recipe.model_copy(update=change), self.train)
        thresholds = [] if threshold is None else sorted(listed(threshold))
        if thresholds and len(thresholds) != len(targets):
            raise UserError(
                f"{len(targets)} targets and {len(thresholds)} scores on validation images: give one of each"
            )
        self.stated, self.gaps, score = bool(thresholds), [], self.task.score
        if not thresholds:
            thresholds = [self.task.threshold(target, self.validation, test) for target in targets]
            # a task on a linear scale has looked at the test images' kind already
            self.gaps = [] if score.scale == "linear" else gaps(records, data, score)
            thresholds = calibrated(thresholds, self.gaps, score)
        self._aim(targets, thresholds)

    def _aim(self, targets: Sequence[float], thresholds: Sequence[float]) -> None:
        self.aims = [Aim(target=target, threshold=score) for target, score in zip(targets, thresholds)]

    def resume(self, identity: Mapping[str, Any]) -> None:
        """Ask of validation images what the study with this identity does: records may say something else by now."""
        kept = identity.get("threshold")
        self._aim(self.targets, self._plain() if kept is None else listed(kept))

    def parts(self, config: LiteConfig, device: str) -> list[list[int]]:
        """The seeds of a trial, those together that are trained at once: of networks that it trains side by side a GPU
        trains all in the time of one."""
        at_once = device != "cpu" and self.task.name == "classification" and single_level(config, training=True)
        return [self.seeds] if at_once or len(self.seeds) == 1 else [self.seeds[:1], self.seeds[1:]]

    @property
    def asked(self) -> list[float] | None:
        """The validation scores that trials have to reach; None where they follow from the targets alone."""
        thresholds = [aim.threshold for aim in self.aims]
        return None if self.task.name == "classification" and thresholds == self._plain() else thresholds

    def _plain(self) -> list[float]:
        return [self.task.threshold(target, self.validation, None) for target in self.targets]

    @property
    def targets(self) -> list[float]:
        """The lowest first."""
        return [aim.target for aim in self.aims]

    @property
    def target(self) -> float:
        """The highest one."""
        return self.targets[-1]

    @property
    def threshold(self) -> float:
        """That of the highest target."""
        return self.aims[-1].threshold

    def reached(self, score: float | None) -> list[float]:
        """The targets that a complete trial with this score is feasible for."""
        return [aim.target for aim in self.aims if score is not None and score >= aim.threshold]

    @property
    def hyperparameters(self) -> dict[str, Sequence]:
        """Name -> choices, of every trial."""
        return {**self.space.hyperparameters, **self.tuning.hyperparameters}

    def keep_choices(self, trials: Sequence[FrozenTrial]) -> None:
        """Go on with the hyperparameters and choices that a study's `trials` have: Optuna allows no others, and what
        there was none of yet stays at its default."""
        choices = self.space.hyperparameters
        ended = [t.distributions for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        for name in [name for name in choices if ended and not any(name in known for known in ended)]:
            del choices[name]
        for trial in trials:
            for name, distribution in trial.distributions.items():
                if name in choices and isinstance(distribution, CategoricalDistribution):
                    choices[name] = distribution.choices
            if trial.distributions.keys() >= choices.keys():
                break

    def plan(self, params: Mapping) -> tuple[LiteConfig | None, Recipe]:
        """The configuration that a trial's parameters mean, None where they don't go together, and the recipe."""
        # older trials may lack some
        chosen = {name: params[name] for name in self.space.hyperparameters if name in params}
        return self.space.build(chosen), self.tuning.recipe(params)

    def trained(self, params: Mapping) -> tuple[LiteConfig, Recipe]:
        """`plan` for a trial that was trained, whose parameters do go together."""
        config, recipe = self.plan(params)
        return present(config), recipe

    def minimised(self, config: LiteConfig | None) -> Minimised | None:
        """What a record says of it besides the parameters; a latency is measured."""
        if config is None:
            return None
        self.costs.measure([config])
        return self.costs.minimised(config)

    def work(self, params: Mapping) -> float:
        """Relative cost of a trial's training, as its candidate has it."""
        config, recipe = self.trained(params)
        return self.space.work(config, self.tuning.share(recipe.epochs))

    def identity(self) -> dict[str, Any]:
        """What may not change between the runs of one study."""
        identity = {
            "schema": SCHEMA,
            "digest": self.data.digest,
            "target": one_or_all(self.targets),
            "family": self.family,
            "seed": self.seed,
            "members": len(self.seeds),
            "validation": len(self.validation),
            "recipe": self.tuning.base.model_dump(mode="json"),
            "ceiling": self.ceiling,
        }
        if self.task.name != "classification":
            identity |= {"task": self.task.name, "scale": self.data.source.reading.scale}
        if self.asked:
            identity["threshold"] = one_or_all(self.asked)
        if self.costs.minimise != "parameters":
            identity["minimise"] = self.costs.minimise
        if self.costs.limits:
            identity["limits"] = self.costs.limits
        if self.tuning.choices:  # studies without are as they were before there was this
            identity["tune"] = {name: list(values) for name, values in self.tuning.choices.items()}
        return identity


def checked_name(name: str) -> None:
    if not can_name(name):
        raise UserError(f"{name[:80]!r} cannot name a study: use letters, digits and . _ + -, at most {LONGEST} bytes")
