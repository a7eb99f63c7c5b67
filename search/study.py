"""A search: an Optuna study of configurations, trained on a training/validation split, that anyone can resume.

The parameter count is known before training, so a suggestion at or above the incumbent's is refused for free. A trial
trains `members` seeds at once; its curve is extrapolated after every epoch and the trial is pruned when even an
optimistic end misses the target. It is feasible when the mean validation accuracy reaches the target plus a margin.
Only `confirm` ever loads the test part of a data set.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from wavemix.config import LiteConfig

from .curves import Curves
from .datasets import Split, split_validation
from .errors import UserError
from .protocol import STARTS, margin
from .recipe import Recipe
from .records import Data, Trial, append, read, repair
from .sampler import Candidate, FrontierPruner, FrontierSampler
from .space import Space, training_work
from .storage import Lock, open_study, writable
from .training import Epoch, Trained, train
from .warm import warm_start

SCHEMA = 1  # of what a study holds: raised when older studies can't be gone on with
BROKEN = 3  # trainings in a row that may break before the search gives up


class OutOfTime(Exception):
    """Ends a trial that can't be finished within the budget; its checkpoint stays for the next run."""


@dataclass
class Event:
    """What a search tells a display: kind 'trial', 'epoch', 'done' or 'note'."""

    kind: str
    text: str = ""
    config: LiteConfig | None = None
    number: int = 0
    epoch: int = 0
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
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise UserError(f"{name!r} cannot name a study: use letters, digits and the signs . _ + -")
        self.data, self.target, self.recipe, self.family, self.name = data, target, recipe, family, name
        self.results, self.seed, self.ceiling, self.listen = Path(results), seed, ceiling, listen
        self.seeds = [seed * 1000 + member for member in range(members)]
        self.train, self.validation = split_validation(data, validation_count, seed)
        self.space = Space(family, tuple(data.images.shape[1:]), len(data.classes), ceiling)
        self.threshold = target + margin(target, validation_count)
        self.path = self.results / f"{name}.jsonl"
        self.folder = self.results / "studies" / name
        writable(self.folder)
        self.lock = Lock(self.folder)
        try:
            repair(self.path)  # a killed run may have left half a line
            self.broken, self.curves = 0, Curves(recipe.epochs)
            self._pool: tuple[int, list[Candidate]] = (-1, [])
            self.study = self._open(storage or f"sqlite:///{self.results / 'studies' / name}.db")
            self._adopt_interrupted()
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                self.curves.add(trial.user_attrs.get("curve", []))
            if not self.study.get_trials(deepcopy=False):
                start = STARTS.get(data.name) or STARTS.get((data.name.removesuffix("-jpeg"), target))
                if start and (knobs := self.space.near_published(*start)):
                    self.study.enqueue_trial(knobs)
        except BaseException:
            self.lock.close()
            raise

    def __enter__(self) -> "Search":
        return self

    def __exit__(self, *problem) -> None:
        self.close()

    def close(self) -> None:
        """Let another process go on with this study."""
        self.lock.close()

    # --- the study ---------------------------------------------------------------------------------------------

    def _open(self, url: str) -> optuna.Study:
        identity = {
            "schema": SCHEMA,
            "digest": self.data.digest,
            "target": self.target,
            "family": self.family,
            "seed": self.seed,
            "members": len(self.seeds),
            "validation": len(self.validation),
            "recipe": self.recipe.model_dump(mode="json"),
            "ceiling": self.ceiling,
        }
        records = (r for path in sorted(self.results.glob("*.jsonl")) if path != self.path for r in read(path))
        trials = [r for r in records if isinstance(r, Trial) and r.state == "complete"]
        earlier = warm_start(trials, self.space, self.data.label, self.recipe, self.threshold)
        self.sampler = FrontierSampler(
            self.space.knobs,
            self._candidates,
            self.threshold,
            self.ceiling,
            epochs=self.recipe.epochs,
            seed=self.seed,
            earlier=earlier,
        )
        study = open_study(url, self.name, identity, self.sampler)
        study.pruner = FrontierPruner(self.sampler)
        return study

    def _adopt_interrupted(self) -> None:
        """Trials that a killed run left unfinished are enqueued again; their checkpoints let them go on.

        One whose record was written before the run was killed is told from the record instead.
        """
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        written = (
            {r.number: r for r in read(self.path) if isinstance(r, Trial)} if running and self.path.exists() else {}
        )
        for trial in running:
            whole = trial.params.keys() == self.space.knobs.keys()  # the run may have been killed while asking
            record, config = written.get(trial.number), self.space.build(trial.params) if whole else None
            if record and record.config == config and record.recipe == self.recipe.model_dump(mode="json"):
                self._tell(trial.number, record.state, record.accuracy_validation)
                continue
            self._put_back(trial.number, trial.params if config is not None else None)

    def _put_back(self, number: int, params: dict | None) -> None:
        """End an unfinished trial and enqueue its configuration again; its checkpoint lets that one go on."""
        self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        if params is not None:
            self.study.enqueue_trial(params, skip_if_exists=False)

    def _tell(self, number: int, state: str, accuracy: float | None) -> None:
        states = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL}
        value = accuracy if state == "complete" else None
        self.study.tell(number, value, state=states.get(state, TrialState.PRUNED), skip_if_finished=True)

    def _candidates(self, below: float) -> list[Candidate]:
        """Candidates below a cost: others after every tenth trial, or when few are left of the last ones."""
        finished = sum(t.state.is_finished() for t in self.study.get_trials(deepcopy=False))
        made, pool = self._pool
        pool = [c for c in pool if c.cost < below]
        if made < 0 or finished >= made + 10 or (finished > made and len(pool) < 300):
            height, width = self.data.images.shape[2:]
            pool = [
                Candidate(knobs, config.parameters(), training_work(config, height, width))
                for config in self.space.configurations(self.seed + finished, int(below))
                if (knobs := self.space.knobs_of(config)) is not None
            ]
            made = finished
        self._pool = (made, pool)
        return pool

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
        """Parameters that a suggestion has to undercut: of the smallest trial believed to reach the threshold."""
        best = self.sampler.incumbent(self.study)
        return best.user_attrs["parameters"] if best else self.ceiling

    # --- running -----------------------------------------------------------------------------------------------

    def run(self, *, trials: int | None = None, seconds: float | None = None, confirmation_seeds: int = 3) -> None:
        """Run trials until their number or the time is used up, less the time that confirming the best takes.

        The first trial of a study is finished whatever the time; a later one that can't be is left for the next run.
        """
        start, ran = time.monotonic(), 0
        while trials is None or ran < trials:
            deadline = None
            if seconds is not None:
                deadline = start + seconds - self.confirmation_seconds(confirmation_seeds)
                left = deadline - time.monotonic()
                if left <= 0 or (ran and left < 0.5 * self._typical_seconds()):
                    break
            try:
                if not self._one(deadline if self.best() else None):
                    self.listen(Event("note", "every configuration below the incumbent has been tried"))
                    break
            except OutOfTime as reason:
                self.listen(Event("note", str(reason)))
                break
            ran += 1

    def confirmation_seconds(self, seeds: int) -> float:
        """Expected seconds of confirming the best trial so far, from the trial's own time and sizes."""
        best = self.best()
        return self.growth(seeds) * best[0].user_attrs.get("seconds", 0.0) * 1.1 if best else 0.0

    def growth(self, seeds: int) -> float:
        """How much more than a trial a training with `seeds` seeds on all training images has to do."""
        return seeds / len(self.seeds) * len(self.data) / len(self.train)

    def _typical_seconds(self) -> float:
        times = [
            t.user_attrs.get("seconds", 0.0) for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()
        ]
        times = sorted(time for time in times if time)
        return times[len(times) // 2] if times else 0.0

    def _one(self, deadline: float | None = None) -> bool:
        """Ask for one configuration, train it and tell; False when there is nothing left to try."""
        distributions = {
            name: optuna.distributions.CategoricalDistribution(values) for name, values in self.space.knobs.items()
        }
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not waiting and not self.sampler.unseen(self.study):
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
        start, first, curve = time.monotonic(), 0, []

        def on_epoch(epoch: int, latest: list[Epoch]) -> bool:
            nonlocal first
            first = first or epoch - 1  # epochs that an earlier run had done
            accuracy = sum(e.accuracy for e in latest) / len(latest)
            curve.append(accuracy)
            trial.report(accuracy, epoch)
            self.listen(Event("epoch", "", config, trial.number, epoch, self.recipe.epochs, curve, accuracy=accuracy))
            if trial.should_prune():
                return True
            if deadline is not None and epoch < self.recipe.epochs:
                now = time.monotonic()
                end = now + (now - start) / (epoch - first) * (self.recipe.epochs - epoch)
                if end > deadline + 0.1 * (end - start):
                    raise OutOfTime(
                        f"trial {trial.number} needs {end - now:.0f} s more and the budget leaves "
                        f"{max(0, deadline - now):.0f}: the next run of the same command goes on with it"
                    )
            return False

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
        except (KeyboardInterrupt, OutOfTime):
            self._put_back(trial.number, trial.params)
            raise
        except OSError as error:
            self._put_back(trial.number, trial.params)
            raise UserError(f"trial {trial.number} could not go on: {error.strerror or error}") from error
        except (RuntimeError, MemoryError) as error:
            self._broken(trial, config, error, time.monotonic() - start)
        else:
            self.broken = 0
            self._finish(trial, config, results, time.monotonic() - start)
        checkpoint.unlink(missing_ok=True)
        return True

    def _broken(self, trial: optuna.Trial, config: LiteConfig, error: Exception, seconds: float) -> None:
        """A training that broke (out of memory, say) is one failed trial; several in a row are no accident."""
        self.broken += 1
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        self._record(config, trial.number, [], "failed", reason, seconds)
        self._tell(trial.number, "failed", None)
        self.listen(Event("done", reason, config, trial.number, state="failed"))
        if self.broken == BROKEN:
            raise UserError(f"{BROKEN} trials in a row broke, the last with {reason}") from error

    def _finish(self, trial: optuna.Trial, config: LiteConfig, results: list[Trained], seconds: float) -> None:
        stopped = results[0].stopped
        mean = sum(r.accuracy for r in results) / len(results)
        curve = [sum(e.accuracy for e in epochs) / len(epochs) for epochs in zip(*(r.curve for r in results))]
        trial.set_user_attr("seconds", results[0].seconds)
        trial.set_user_attr("curve", [round(value, 5) for value in curve])
        state = "complete" if stopped is None else "pruned" if stopped == "pruned" else "failed"
        feasible = state == "complete" and mean >= self.threshold
        if state == "complete":
            trial.set_user_attr("feasible", feasible)
            self.curves.add(curve)
        elif state == "pruned":
            trial.set_user_attr("expected", self.curves.extrapolated(len(curve), curve[-1]))
        # the record comes first: a run killed before the next line tells the trial from it when it goes on
        self._record(config, trial.number, results, state, stopped, seconds)
        self._tell(trial.number, state, mean)
        self.listen(
            Event(
                "done",
                stopped or "",
                config,
                trial.number,
                len(curve),
                self.recipe.epochs,
                curve,
                state,
                mean,
                feasible,
            )
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
