"""A search: an Optuna study of configurations, trained on a training/validation split, that anyone can resume.

The parameter count is known before training, so a suggestion at or above the incumbent's is refused for free. A trial
trains `members` seeds at once; its curve is extrapolated after every epoch and the trial is pruned when even an
optimistic end misses the target. It is feasible when the mean validation accuracy reaches the target plus a margin.
Only `confirm` ever loads the test part of a data set.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from wavemix.config import LiteConfig

from .datasets import Split, split_validation
from .errors import UserError
from .recipe import Recipe
from .records import Data, Trial, append, read, repair
from .sampler import Candidate, FrontierSampler, Observation, relative_error
from .space import Space, training_work
from .training import Epoch, Trained, train

VALIDATION = {"mnist": 5000, "fashion-mnist": 5000, "cifar10": 5000, "cifar10-jpeg": 5000}
CEILINGS = {("mnist", 0.99): 3566, ("fashion-mnist", 0.9): 7156, ("cifar10", 0.8): 37058, ("cifar10", 0.9): 520106}
CEILINGS |= {("cifar10-jpeg", target): CEILINGS["cifar10", target] for target in (0.8, 0.9)}
# the published networks' width and an up-sampling: searches start from them
STARTS = {"mnist": (8, "bilinear"), "fashion-mnist": (8, "bilinear")}
STARTS |= {("cifar10", 0.8): (32, "bilinear"), ("cifar10", 0.9): (64, "bilinear")}
PATIENCE = 0.25  # fraction of the epochs before which no curve is pruned


def margin(target: float, validation_count: int) -> float:
    """What a validation mean must exceed the target by: a quarter of the standard error of an accuracy measured on that
    many images. The smallest of several candidates that pass is picked, so passing by luck is likelier than it looks;
    against that, a confirmation trains on the validation images too."""
    return 0.25 * math.sqrt(target * (1 - target) / validation_count)


@dataclass
class Event:
    """What a search tells a display: kind 'trial', 'epoch', 'done' or 'note'."""

    kind: str
    text: str = ""
    config: LiteConfig | None = None
    number: int = 0
    epochs: int = 0
    curve: list[float] = field(default_factory=list)
    state: str = ""
    accuracy: float | None = None
    feasible: bool = False


class Search:
    """One study over one data set's training part.

    Args:
        data: the training part; `validation_count` images of it are split off by `split_seed`.
        results: directory of the records; the embedded storage lies under it (`studies/NAME.db`).
        storage: an Optuna storage URL instead of the embedded one.

    Raises UserError where the storage holds another study of this name, cannot be opened, or no configuration is
    possible.
    """

    def __init__(
        self,
        data: Split,
        target: float,
        recipe: Recipe,
        *,
        family: str = "extended",
        name: str,
        results: Path,
        storage: str | None = None,
        seed: int = 0,
        members: int = 2,
        ceiling: int,
        validation_count: int,
        listen=lambda event: None,
    ):
        if not 0 < target < 1:
            raise UserError(f"the target accuracy is a fraction between 0 and 1, not {target}: 0.99 means 99 %")
        self.data, self.target, self.recipe, self.family, self.name = data, target, recipe, family, name
        self.results, self.seed, self.ceiling, self.listen = Path(results), seed, ceiling, listen
        self.seeds = [seed * 1000 + member for member in range(members)]
        self.train, self.validation = split_validation(data, validation_count, seed)
        self.space = Space(family, tuple(data.images.shape[1:]), len(data.classes), ceiling)
        self.threshold = target + margin(target, validation_count)
        self.path = self.results / f"{name}.jsonl"
        self.folder = self.results / "studies" / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"cannot write to {self.results}: {error.strerror}; choose another --results") from error
        repair(self.path)  # a killed run may have left half a line
        self.study = self._open(storage or f"sqlite:///{self.results / 'studies' / name}.db")
        self._adopt_interrupted()
        if not self.study.get_trials(deepcopy=False):
            self._start_near_published()

    # --- the study ---------------------------------------------------------------------------------------------

    def _open(self, url: str) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.identity = {
            "digest": self.data.digest,
            "target": self.target,
            "family": self.family,
            "seed": self.seed,
            "members": len(self.seeds),
            "validation": len(self.validation),
            "recipe": self.recipe.model_dump(mode="json"),
            "ceiling": self.ceiling,
        }
        try:
            sampler = FrontierSampler(
                self.space.knobs,
                self._candidates,
                self.threshold,
                self.ceiling,
                seed=self.seed,
                earlier=self._earlier(),
            )
            study = optuna.create_study(
                storage=url, study_name=self.name, direction="maximize", load_if_exists=True, sampler=sampler
            )
            stored = study.user_attrs.get("identity")
        except UserError:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise UserError(f"the storage {hidden(url)} cannot be opened: {hidden(reason)}") from error
        if stored is None:
            if study.get_trials(deepcopy=False):
                raise UserError(f"the study {self.name} in {hidden(url)} was not made by this program: use --name")
            study.set_user_attr("identity", self.identity)
        elif stored != self.identity:
            key = next(k for k in self.identity if stored.get(k) != self.identity[k])
            raise UserError(
                f"the storage holds another study named {self.name} (its {key} differs): give --name for a new one, or "
                "the options it was started with to go on"
            )
        return study

    def _adopt_interrupted(self) -> None:
        """Trials that a killed run left unfinished are enqueued again; their checkpoints let them go on."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            if trial.params:
                self.study.enqueue_trial(trial.params, skip_if_exists=False)

    def _start_near_published(self) -> None:
        """The first trial: the published width, as deep as fits below the published count, on maps of half the size."""
        name = self.data.name.removesuffix("-jpeg")
        dim, upsampling = STARTS.get(name) or STARTS.get((name, self.target)) or (None, None)
        if dim is None:
            return
        knobs = {name: values[0] for name, values in self.space.knobs.items()}
        knobs |= {"final_dim": dim, "upsampling": upsampling, "mult": 2, "stride": "2,1"}
        knobs["initial_conv"] = "separable" if self.family == "extended" else "strided"
        for depth in reversed(self.space.knobs["depth"]):
            config = self.space.build(knobs | {"depth": depth})
            if config is not None and config.parameters() < self.ceiling:
                self.study.enqueue_trial(self.space.knobs_of(config))
                return

    def _candidates(self, below: float) -> list[Candidate]:
        height, width = self.data.images.shape[2:]
        return [
            Candidate(knobs, config.parameters(), training_work(config, height, width))
            for config in self.space.configurations(self.seed + len(self.study.trials), int(below))
            if (knobs := self.space.knobs_of(config)) is not None
        ]

    def _earlier(self) -> list[Observation]:
        """Finished trials of other studies whose records lie in the results directory, as a warm start."""
        observations = []
        for path in sorted(self.results.glob("*.jsonl")):
            if path == self.path:
                continue
            for record in read(path):
                if not isinstance(record, Trial) or record.state != "complete" or not record.accuracy_validation:
                    continue
                config = record.config.model_copy(
                    update={"in_channels": self.data.images.shape[1], "num_classes": len(self.data.classes)}
                )
                knobs = self.space.knobs_of(config)
                if knobs is not None:
                    # another recipe tells less about the level, another data set only about trends
                    if record.dataset.label == self.data.label:
                        value = relative_error(record.accuracy_validation, self.threshold)
                        noise = 0.1 if record.recipe == self.recipe.model_dump(mode="json") else 0.3
                    else:
                        value, noise = relative_error(record.accuracy_validation, record.target), 0.4
                    observations.append(Observation(knobs, config.parameters(), value, noise))
        return observations

    def feasible(self) -> list[FrozenTrial]:
        """Trials that reached the threshold, fewest parameters first."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sorted((t for t in done if t.user_attrs.get("feasible")), key=lambda t: t.user_attrs["parameters"])

    def best(self) -> list[FrozenTrial]:
        """Feasible trials, fewest parameters first; where there are none, the completed one nearest to the target."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return self.feasible() or sorted(done, key=lambda t: -t.value)[:1]

    @property
    def incumbent(self) -> int:
        found = self.feasible()
        return found[0].user_attrs["parameters"] if found else self.ceiling

    # --- running -----------------------------------------------------------------------------------------------

    def run(self, *, trials: int | None = None, seconds: float | None = None, confirmation_seeds: int = 3) -> None:
        """Run trials until their number or the time is used up, less the time that confirming the best takes."""
        start, ran = time.monotonic(), 0
        while trials is None or ran < trials:
            if seconds is not None:
                left = seconds - (time.monotonic() - start) - self.confirmation_seconds(confirmation_seeds)
                if left <= 0 or (ran and left < 0.5 * self._typical_seconds()):
                    break
            if not self._one():
                self.listen(Event("note", "every configuration below the incumbent has been tried"))
                break
            ran += 1

    def confirmation_seconds(self, seeds: int) -> float:
        """Expected seconds of confirming the best trial so far, from the trial's own time and sizes."""
        best = self.best()
        if not best:
            return 0.0
        growth = seeds / len(self.seeds) * len(self.data) / len(self.train)
        return best[0].user_attrs.get("seconds", 0.0) * growth * 1.1

    def _typical_seconds(self) -> float:
        times = [
            t.user_attrs.get("seconds", 0.0) for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()
        ]
        times = sorted(time for time in times if time)
        return times[len(times) // 2] if times else 0.0

    def _one(self) -> bool:
        """Ask for one configuration, train it and tell; False when there is nothing left to try."""
        distributions = {
            name: optuna.distributions.CategoricalDistribution(values) for name, values in self.space.knobs.items()
        }
        before = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not before and not [c for c in self._candidates(self.incumbent)]:
            return False
        trial = self.study.ask(distributions)
        config = self.space.build(trial.params)
        incumbent = self.incumbent
        if config is None or config.parameters() >= incumbent:
            self.study.tell(trial, state=TrialState.PRUNED)
            if config is not None:
                self._record(config, trial.number, [], "refused", f"not below the incumbent's {incumbent:,}", 0.0)
                self.listen(Event("done", config=config, number=trial.number, state="refused"))
            return True
        trial.set_user_attr("parameters", config.parameters())
        trial.set_user_attr("config", config.model_dump(mode="json"))
        self.listen(Event("trial", config=config, number=trial.number, epochs=self.recipe.epochs))
        checkpoint = self.folder / f"{config.name}.checkpoint"
        start = time.monotonic()

        def on_epoch(epoch: int, latest: list[Epoch]) -> bool:
            accuracy = sum(e.accuracy for e in latest) / len(latest)
            curve.append(accuracy)
            self.listen(Event("epoch", config=config, number=trial.number, epochs=self.recipe.epochs, curve=curve))
            return self._hopeless(epoch, accuracy)

        curve: list[float] = []
        try:
            results = train(
                config,
                self.recipe,
                self.train,
                self.seeds,
                validation=self.validation,
                on_epoch=on_epoch,
                checkpoint=checkpoint,
            )
        except KeyboardInterrupt:
            self.study.tell(trial, state=TrialState.FAIL)
            self.study.enqueue_trial(trial.params, skip_if_exists=False)
            raise
        seconds = time.monotonic() - start
        self._finish(trial, config, results, seconds)
        checkpoint.unlink(missing_ok=True)
        return True

    def _finish(self, trial: optuna.Trial, config: LiteConfig, results: list[Trained], seconds: float) -> None:
        stopped = results[0].stopped
        mean = sum(r.accuracy for r in results) / len(results)
        curve = [sum(e.accuracy for e in epochs) / len(epochs) for epochs in zip(*(r.curve for r in results))]
        trial.set_user_attr("seconds", results[0].seconds)
        trial.set_user_attr("curve", [round(value, 5) for value in curve])
        feasible = False
        if stopped is None:
            feasible = mean >= self.threshold
            trial.set_user_attr("feasible", feasible)
            self.study.tell(trial, mean)
            state = "complete"
        elif stopped == "pruned":
            trial.set_user_attr("expected", self._extrapolated(len(curve), curve[-1]))
            self.study.tell(trial, state=TrialState.PRUNED)
            state = "pruned"
        else:
            self.study.tell(trial, state=TrialState.FAIL)
            state = "failed"
        self._record(config, trial.number, results, state, stopped, seconds)
        self.listen(
            Event("done", stopped or "", config, trial.number, self.recipe.epochs, curve, state, mean, feasible)
        )

    def _record(
        self,
        config: LiteConfig,
        number: int,
        results: Sequence[Trained],
        state: str,
        reason: str | None,
        seconds: float,
    ) -> None:
        accuracies = [r.accuracy for r in results]
        append(
            self.path,
            Trial(
                study=self.name,
                number=number,
                config=config,
                recipe=self.recipe,
                dataset=dataset_of(self.train, self.validation, self.seed),
                target=self.target,
                family=self.family,
                seeds=self.seeds,
                parameters=config.parameters(),
                parameters_counted=sum(
                    v.numel() for k, v in results[0].state.items() if "running_" not in k and "num_batches" not in k
                )
                if results
                else None,
                curves=[r.curve for r in results],
                accuracies=accuracies,
                accuracy_validation=sum(accuracies) / len(accuracies) if accuracies else None,
                state=state,
                reason=reason,
                wall_seconds=seconds,
                device_seconds=results[0].seconds if results else 0.0,
            ),
        )

    # --- curves ------------------------------------------------------------------------------------------------

    def _gains(self, fraction: float) -> tuple[float, float]:
        """Mean and deviation of how much log error completed trials still lost after this fraction of their epochs."""
        gains = []
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            curve = trial.user_attrs.get("curve", [])
            if len(curve) == self.recipe.epochs:
                at = min(len(curve) - 1, max(0, round(fraction * len(curve)) - 1))
                gains.append(relative_error(curve[at], self.target) - relative_error(curve[-1], self.target))
        # two trials' worth of what short one-cycle trainings of tiny networks show
        prior = 0.9 * (1 - fraction)
        mean = (sum(gains) + 2 * prior) / (len(gains) + 2)
        variance = (sum((g - mean) ** 2 for g in gains) + 2 * 0.15**2) / (len(gains) + 2)
        return mean, math.sqrt(variance) + 0.05

    def _extrapolated(self, epoch: int, accuracy: float) -> float:
        mean, _ = self._gains(epoch / self.recipe.epochs)
        return 1 - (1 - accuracy) * math.exp(-mean)

    def _hopeless(self, epoch: int, accuracy: float) -> bool:
        """Whether even two deviations more progress than usual would miss the target."""
        fraction = epoch / self.recipe.epochs
        if fraction < PATIENCE or epoch >= self.recipe.epochs:
            return False
        mean, deviation = self._gains(fraction)
        return relative_error(accuracy, self.threshold) > mean + 2 * deviation * (1 - fraction) ** 0.5


def dataset_of(train_split: Split, validation: Split | None, split_seed: int | None, test: Split | None = None) -> Data:
    return Data(
        name=train_split.name,
        label=train_split.label,
        variant=train_split.variant,
        digest=train_split.digest,
        train_count=len(train_split),
        validation_count=len(validation) if validation else 0,
        split_seed=split_seed,
        test_digest=test.digest if test else None,
        test_count=len(test) if test else None,
    )


def hidden(url: str) -> str:
    """A storage URL or a message about one, without passwords."""
    from .environment import mask

    return mask(url)


def winner_command(data: str, config: LiteConfig, recipe: Recipe, seeds: Sequence[int], results: Path) -> str:
    """The command that retrains a configuration; it needs nothing but the data."""
    # defaults are left out so that a person can read it
    knobs = config.model_dump(mode="json", exclude_defaults=True)
    steps = recipe.model_dump(mode="json", exclude_defaults=True)
    return (
        f"wavemix train {data} --config '{json.dumps(knobs, separators=(',', ':'))}' "
        f"--recipe '{json.dumps(steps, separators=(',', ':'))}' --seeds {','.join(map(str, seeds))}"
    )
