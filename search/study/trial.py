"""A trial while it is being worked on: trained, reported, judged and told; or put back for another run.

One seed is trained first, and the others only where it does not tell against the configuration: of most trials one is
enough. A GPU that trains all of them in the time of one does so.
"""

import time
from collections.abc import Callable, Sequence

from search.errors import UserError, breakage, present
from search.records.environment import environment
from search.records.making import dataset_of, is_buffer, trial_of
from search.records.models import Trial
from search.study.checkpoint_store import Checkpoint, Checkpoints
from search.study.events import Event
from search.study.setting import Setting
from search.study.store import Store, Taken
from search.study.targets import marks
from search.training.outcome import Epoch, Trained
from search.training.precision import settled_precision
from search.training.recipe import Training


class Unfinished(Exception):
    """Ends a trial that can't be finished by this run, with the reason; its checkpoint stays for the next."""


class TrialRun:
    """One worker's work on the trial `number` of a study; `params` are its hyperparameters.

    Args:
        checkpoints: where its checkpoint lies; `device`: what it is trained on; `precision`: see `settled_precision`.
        obey: called after every epoch; ends the trial for now by raising Unfinished.
        listen: takes the events.
    """

    def __init__(
        self,
        setting: Setting,
        store: Store,
        number: int,
        params: dict,
        *,
        checkpoints: Checkpoints,
        device: str,
        precision: str,
        obey: Callable[[], None],
        listen: Callable[[Event], None],
    ):
        self.setting, self.store, self.number, self.params = setting, store, number, params
        self.checkpoints, self.device, self.obey, self.listen = checkpoints, device, obey, listen
        self.precision = precision
        self.config, self.recipe = setting.plan(params)
        self.minimised = setting.minimised(self.config)
        self.choices = setting.tuning.text(params)
        self.id = store.trial_id(number)

    def refuse(self, reason: str) -> None:
        """End it untrained."""
        if self._end("refused", [], reason, 0.0):
            self.listen(Event("done", reason, self.config, self.number, state="refused", minimised=self.minimised))

    def run(self, deadline: float | None = None) -> Exception | None:
        """Train it and judge it; what broke the training is returned, and the trial is a failed one.

        Raises Unfinished when the deadline would be missed or the study is stopped, KeyboardInterrupt, and UserError
        when it can't go on (a full disk); the trial has been put back then.
        """
        setting, store, config, broken = self.setting, self.store, self.config, None
        try:
            store.begin(self.id, self.params)
        except Taken:
            self._taken()
            return None
        parts = setting.parts(present(config), self.device)
        own = self.precision, present(config), self.recipe, setting.train, len(parts[0]), self.device
        self.recipe = settled_precision(*own)
        self.start = start = time.monotonic()
        self.opened: list[Checkpoint] = []
        with store.beating(self.id):
            try:
                results = self._trained(parts, deadline)
            except Taken:
                self._taken()
            except (KeyboardInterrupt, Unfinished, UserError):
                for checkpoint in self.opened:
                    checkpoint.keep()
                store.release(self.id)
                raise
            except OSError as error:
                store.release(self.id)
                reason = error.strerror or error
                raise UserError(f"trial {self.number} could not continue: {reason}") from error
            except (RuntimeError, MemoryError) as error:
                broken = error
                reason = breakage(error)
                self._end("failed", [], reason, time.monotonic() - start)
                self.listen(Event("done", reason, config, self.number, state="failed", minimised=self.minimised))
            else:
                self._judge(results, time.monotonic() - start)
        for checkpoint in self.opened:
            checkpoint.remove()
            if checkpoint.problem:
                self.listen(Event("note", checkpoint.problem))
        for seeds in (setting.seeds, setting.seeds[:1], setting.seeds[1:]):  # of a worker that had others at once
            (self.checkpoints.folder / self._checkpoint(seeds)).unlink(missing_ok=True)
        return broken

    def _trained(self, parts: Sequence[Sequence[int]], deadline: float | None) -> list[Trained]:
        """The seeds of the first part, and those of the others while what has been measured leaves hope."""
        results: list[Trained] = []
        for part in parts:
            if results and not self._hopeful(results[0], deadline):
                break
            results += self._part(part, deadline, results)
        return results

    def _hopeful(self, first: Trained, deadline: float | None) -> bool:
        """Whether the configuration may be feasible by what its first seed came to, and there is time for another."""
        late = deadline is not None and time.monotonic() + first.seconds > deadline
        if first.stopped is not None or late:
            return False
        return bool(self.setting.reached(present(first.accuracy))) or self.store.hopeful(self.id)

    def _checkpoint(self, seeds: Sequence[int]) -> str:
        return Training(present(self.config), self.recipe, self.setting.data.digest).checkpoint_name(seeds)

    def _part(self, seeds: Sequence[int], deadline: float | None, before: Sequence[Trained]) -> list[Trained]:
        """Seeds that are trained at once, after the trainings `before`, whose time they add to."""
        setting, config = self.setting, present(self.config)
        checkpoint = self.checkpoints.open(self._checkpoint(seeds))
        self.opened.append(checkpoint)
        told = ", ".join(filter(None, (self.choices, "another seed" if before else "")))
        self.listen(Event("trial", told, config, self.number, epochs=self.recipe.epochs, minimised=self.minimised))

        def on_epoch(epoch: int, latest: list[Epoch]) -> bool:
            checkpoint.keep()
            return self._epoch(epoch, latest, deadline, reported=not before)

        self.first: tuple[int, float] | None = None
        self.curve: list[float] = []
        results = setting.task.train(
            config,
            self.recipe,
            setting.train,
            seeds,
            validation=setting.validation,
            on_epoch=on_epoch,
            checkpoint=checkpoint.path,
            device=self.device,
        )
        spent = before[-1].seconds if before else 0.0
        for result in results:
            result.seconds += spent
        return results

    def _epoch(self, epoch: int, latest: list[Epoch], deadline: float | None, reported: bool) -> bool:
        """Whether the training shall end here. Only one that is `reported` is in the storage, and may be pruned."""
        epochs = self.recipe.epochs
        if self.first is None:  # it compiles and captures on a GPU: its time says nothing about the others'
            self.first = epoch, time.monotonic()
        accuracy = sum(present(e.accuracy) for e in latest) / len(latest)
        self.curve.append(accuracy)
        pruned = reported and self.store.report(self.id, epoch, accuracy)
        place = self.choices, self.config, self.number, epoch, epochs, self.curve
        self.listen(Event("epoch", *place, accuracy=accuracy, minimised=self.minimised))
        if pruned:
            return True
        if epoch < epochs:
            self.obey()
        first, began = self.first
        if deadline is not None and first < epoch < epochs:
            clock = time.monotonic()
            end = clock + (clock - began) / (epoch - first) * (epochs - epoch)
            if end > deadline + 0.1 * (end - self.start):
                raise Unfinished(
                    f"trial {self.number} needs {end - clock:.0f} s more and the budget leaves "
                    f"{max(0, deadline - clock):.0f}: the next run of the same command resumes it"
                )
        return False

    def _judge(self, results: list[Trained], seconds: float) -> None:
        stopped = results[-1].stopped
        mean = sum(present(r.accuracy) for r in results) / len(results)
        curve = [sum(present(e.accuracy) for e in epochs) / len(epochs) for epochs in zip(*(r.curve for r in results))]
        state = "complete" if stopped is None else "pruned" if stopped == "pruned" else "failed"
        reached = self.setting.reached(mean) if state == "complete" else []
        attributes = {"seconds": results[-1].seconds, "seeds": len(results)}
        if state == "complete":
            attributes |= marks(self.setting.targets, reached)
        if self._end(state, results, stopped, seconds, **attributes):
            place = stopped or "", self.config, self.number, len(curve), self.recipe.epochs, curve
            self.listen(Event("done", *place, state, mean, reached, self.minimised))

    def _end(self, state: str, results: list[Trained], reason: str | None, spent: float, **attributes) -> bool:
        """Tell the outcome after `spent` seconds; False where another worker had done so before."""
        try:
            self.store.end(self.id, self._record(results, state, reason, spent), **attributes)
        except Taken:
            self._taken()
            return False
        return True

    def _taken(self) -> None:
        self.listen(Event("note", f"trial {self.number} {self.store.lost(self.id, self.params)}"))

    def _record(self, results: list[Trained], state: str, reason: str | None, seconds: float) -> Trial:
        setting = self.setting
        weights = [v.numel() for k, v in results[0].state.items() if not is_buffer(k)] if results else None
        return trial_of(
            present(self.config),
            self.recipe,
            results,
            study=setting.name,
            number=self.number,
            dataset=dataset_of(setting.train, setting.validation, None if setting.data.validation else setting.seed),
            target=setting.target,
            threshold=setting.threshold if setting.asked else None,
            aims=setting.aims if len(setting.aims) > 1 else [],
            family=setting.family,
            minimised=self.minimised,
            seeds=[result.seed for result in results] or setting.seeds,
            parameters_counted=sum(weights) if weights else None,
            state=state,
            reason=reason,
            wall_seconds=seconds,
            environment=environment(self.device),
        )
