"""A trial while it is being worked on: trained, reported, judged, told and recorded; or put back for another run."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from wavemix.config import LiteConfig

from .checkpoints import checkpoint_name
from .datasets import Split
from .environment import environment
from .errors import UserError
from .heartbeat import Heartbeat, now
from .journal import append
from .outage import Lost
from .recipe import Recipe
from .records import Data, Trial
from .seal import seal
from .source import PLAIN
from .training import Epoch, Trained, train

if TYPE_CHECKING:
    from .study import Search

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "refused": TrialState.PRUNED}


class Unfinished(Exception):
    """Ends a trial that can't be finished by this run, with the reason; its checkpoint stays for the next."""


class Taken(Exception):
    """Ends a trial that another worker, to whom it had been given, has finished first."""


@dataclass
class Event:
    """What a search tells a display: kind 'trial', 'epoch' (text: the recipe's choices), 'done' or 'note'."""

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


class Attempt:
    """One worker's work on the trial `number` of a search; `params` are its knobs."""

    def __init__(self, search: "Search", number: int, params: dict):
        self.search, self.number, self.params = search, number, params
        self.config, self.recipe = search.plan(params)
        self.choices = search.tuning.text(params)
        self.id = search.allocation.trial_id(number)

    # --- its end -----------------------------------------------------------------------------------------------

    def refuse(self, reason: str) -> None:
        """End it untrained."""
        if self.end("refused", [], reason, 0.0):
            self.search.listen(Event("done", config=self.config, number=self.number, state="refused"))

    def drop(self, **attributes) -> None:
        """End it without a record: there was nothing to try."""
        storage = self.search.storage
        try:
            for key, value in attributes.items():
                storage.set_trial_user_attr(self.id, key, value)
            storage.set_trial_state_values(self.id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            pass

    def put_back(self) -> None:
        """Let another run go on with it, now: it stays the same trial, its checkpoint lies where that run looks.

        Without patience: where the storage does not answer, the trial is found without a sign of life later on.
        """
        try:
            trial = self.search.storage.once.get_trial(self.id)
            if trial.user_attrs.get("worker") == self.search.worker and trial.state == TrialState.RUNNING:
                self.search.storage.once.set_trial_state_values(self.id, TrialState.WAITING)
        except Exception:  # whatever a driver raises
            pass

    def end(self, state: str, results: list[Trained], reason: str | None, spent: float, **attributes) -> bool:
        """Tell the trial's outcome after `spent` seconds and record it; False where another worker had done so before.

        The record is part of what the storage keeps, and whoever sets the final state first has ended the trial: it is
        counted once, and a run that is killed before the last line is completed by the next one (see `Ledger`).
        """
        storage, ledger, final = self.search.storage, self.search.ledger, STATES.get(state, TrialState.FAIL)
        record = self._record(results, state, reason, spent)
        accuracy = record.accuracy_validation if state in ("complete", "pruned") else None
        values = None if accuracy is None else [accuracy]
        attributes |= {"worker": self.search.worker, "record": record.model_dump_json()}
        with ledger.locked():
            repeated = storage.waited
            try:
                attributes["seal"] = seal(storage.get_trial(self.id), final, values, attributes)
                for key, value in attributes.items():
                    storage.set_trial_user_attr(self.id, key, value)
                storage.set_trial_state_values(self.id, final, values)
            except UpdateFinishedTrialError:
                stored = storage.get_trial(self.id).user_attrs.get("record")
                if storage.waited == repeated or stored != attributes["record"]:
                    self._taken()
                    return False
                # otherwise the answer to this very call had been lost
            except Lost:
                append(ledger.path, record)  # all that is left of it
                raise
            self.search.ended += 1
            append(ledger.path, record)
        return True

    def _taken(self) -> None:
        """Somebody else has ended this trial. One that another program failed has not been tried: it goes in anew."""
        reason = "was finished by another worker first"
        ended = self.search.storage.get_trial(self.id)
        if ended.state == TrialState.FAIL and not {"record", "twin"} & ended.user_attrs.keys():
            self.search.study.enqueue_trial(self.params)
            reason = "was failed by another program: it is put in anew"
        self.search.listen(Event("note", f"trial {self.number} {reason}"))

    # --- training ----------------------------------------------------------------------------------------------

    def run(self, deadline: float | None = None) -> None:
        """Train it and judge it.

        Raises Unfinished when the deadline would be missed or the study is stopped, KeyboardInterrupt, and UserError
        when it can't go on (a full disk) or breaks as others before it did; the trial has been put back or told then.
        """
        search, storage, config = self.search, self.search.storage, self.config
        try:
            stored = storage.get_trial(self.id).user_attrs
            for key, value in search.marks(self.params).items():
                if stored.get(key) != value:
                    storage.set_trial_user_attr(self.id, key, value)
        except UpdateFinishedTrialError:
            return self._taken()
        search.listen(Event("trial", self.choices, config, self.number, epochs=self.recipe.epochs))
        name = checkpoint_name(config, self.recipe, search.seeds, search.data.digest)
        checkpoint = search.checkpoints.open(name)
        self.start = start = time.monotonic()

        def on_epoch(epoch: int, latest: list[Epoch]) -> bool:
            checkpoint.keep()
            return self._epoch(epoch, latest, deadline)

        self.first, self.curve = None, []
        with Heartbeat(storage.once, lambda: storage.once.set_trial_user_attr(self.id, "beat", now())):
            try:
                results = train(
                    config,
                    self.recipe,
                    search.train,
                    search.seeds,
                    validation=search.validation,
                    on_epoch=on_epoch,
                    checkpoint=checkpoint.path,
                    device=search.device,
                )
            except Taken:
                self._taken()
            except (KeyboardInterrupt, Unfinished, UserError):
                checkpoint.keep()
                self.put_back()
                raise
            except OSError as error:
                self.put_back()
                reason = error.strerror or error
                raise UserError(f"trial {self.number} could not go on: {reason}") from error
            except (RuntimeError, MemoryError) as error:
                self._broken(error, time.monotonic() - start)
            else:
                search.broken = 0
                self._judge(results, time.monotonic() - start)
        checkpoint.remove()
        if checkpoint.problem:
            search.listen(Event("note", checkpoint.problem))

    def _epoch(self, epoch: int, latest: list[Epoch], deadline: float | None) -> bool:
        search, epochs = self.search, self.recipe.epochs
        if self.first is None:  # it compiles and captures on a GPU: its time says nothing about the others'
            self.first = epoch, time.monotonic()
        accuracy = sum(e.accuracy for e in latest) / len(latest)
        self.curve.append(accuracy)
        try:
            search.storage.set_trial_intermediate_value(self.id, epoch, accuracy)
        except UpdateFinishedTrialError:
            raise Taken from None
        search.listen(
            Event("epoch", self.choices, self.config, self.number, epoch, epochs, self.curve, accuracy=accuracy)
        )
        if search.study.pruner.prune(search.study, search.storage.get_trial(self.id)):
            return True
        if epoch < epochs:
            search.obey()
        first, began = self.first
        if deadline is not None and first < epoch < epochs:
            clock = time.monotonic()
            end = clock + (clock - began) / (epoch - first) * (epochs - epoch)
            if end > deadline + 0.1 * (end - self.start):
                raise Unfinished(
                    f"trial {self.number} needs {end - clock:.0f} s more and the budget leaves "
                    f"{max(0, deadline - clock):.0f}: the next run of the same command goes on with it"
                )
        return False

    def _broken(self, error: Exception, seconds: float) -> None:
        """A training that broke (out of memory, say) is one failed trial; several in a row are no accident."""
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        self.end("failed", [], reason, seconds)
        self.search.listen(Event("done", reason, self.config, self.number, state="failed"))
        self.search.broke(reason, error)

    def _judge(self, results: list[Trained], seconds: float) -> None:
        search, stopped = self.search, results[0].stopped
        mean = sum(r.accuracy for r in results) / len(results)
        curve = [sum(e.accuracy for e in epochs) / len(epochs) for epochs in zip(*(r.curve for r in results))]
        state = "complete" if stopped is None else "pruned" if stopped == "pruned" else "failed"
        feasible = state == "complete" and mean >= search.threshold
        attributes = {"seconds": results[0].seconds}
        if state == "complete":
            attributes["feasible"] = feasible
        if self.end(state, results, stopped, seconds, **attributes):
            epochs = self.recipe.epochs
            done = Event(
                "done", stopped or "", self.config, self.number, len(curve), epochs, curve, state, mean, feasible
            )
            search.listen(done)

    def _record(self, results: list[Trained], state: str, reason: str | None, seconds: float) -> Trial:
        search = self.search
        weights = [v.numel() for k, v in results[0].state.items() if not is_buffer(k)] if results else None
        return trial_of(
            self.config,
            self.recipe,
            results,
            study=search.name,
            number=self.number,
            dataset=dataset_of(search.train, search.validation, None if search.data.validation else search.seed),
            target=search.target,
            family=search.family,
            seeds=search.seeds,
            parameters_counted=sum(weights) if weights else None,
            state=state,
            reason=reason,
            wall_seconds=seconds,
            environment=environment(search.device),
        )


def trial_of(config: LiteConfig, recipe: Recipe, results: list[Trained], **fields) -> Trial:
    """The record of a configuration trained with one result a seed (none: untrained); `fields` are the others."""
    accuracies = [r.accuracy for r in results]
    return Trial(
        config=config,
        recipe=recipe,
        parameters=config.parameters(),
        curves=[r.curve for r in results],
        accuracies=accuracies,
        accuracy_validation=sum(accuracies) / len(accuracies) if accuracies else None,
        device_seconds=results[0].seconds if results else 0.0,
        **fields,
    )


def is_buffer(key: str) -> bool:
    """Whether a state dict's entry is BatchNorm's bookkeeping, no parameter."""
    return "running_" in key or "num_batches" in key


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
        reading=train_split.source.reading if train_split.source.reading != PLAIN else None,
        skipped=train_split.skipped,
    )
