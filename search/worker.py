"""More workers for a study that `wavemix search` has started: joining it, stopping it, and seeing how it goes."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState
from rich.console import Group
from sqlalchemy.engine import URL

from . import datasets, signals
from .environment import code
from .errors import UserError
from .heartbeat import now
from .listing import Block, Listing
from .outage import Lost, shown
from .recipe import Recipe
from .seal import checked, digest
from .source import Reading, Source
from .storage import Patient, connect
from .study import Search, checked_name


class Study:
    """A study in the storage at `url`, as one sees it who has none of its data: it is only read.

    One that does not answer is waited for where `wait` says so. Raises UserError where there is none of this name, or
    one that this program has not made.
    """

    def __init__(self, url: str | URL, name: str, wait: bool = False):
        checked_name(name)
        self.storage: Patient = connect(url, create=False, write=False, wait=wait)
        self.url, self.name = url, name
        try:
            self.id = self.storage.get_study_id_from_name(name)
            attributes = self.storage.get_study_user_attrs(self.id)
        except Lost as error:
            if not isinstance(error.__cause__, KeyError):
                raise
            raise UserError(f"the storage {shown(url)} holds no study {name}: `wavemix search` starts one") from None
        self.stopped: str | None = attributes.get("stop")
        self.identity, self.source, self.code = (attributes.get(key) for key in ("identity", "source", "code"))
        self.reading = Reading.model_validate(attributes.get("reading") or {})
        if not (self.identity and self.source and self.code):
            raise UserError(
                f"the study {name} in {shown(url)} does not say what a worker needs: go on with `wavemix search` first"
            )

        if attributes.get("seal") not in (None, digest(self.identity)):
            raise Lost(f"the study {name} in {shown(url)} is damaged: what it says of itself is not what was written")

    def stop(self) -> None:
        """Ask its workers to put their trials back after the epoch they are in, and to end."""
        with closing(connect(self.url, create=False)) as storage:
            storage.set_study_user_attr(self.id, "stop", now())

    def trials(self) -> list[FrozenTrial]:
        return checked(self.storage.get_all_trials(self.id, deepcopy=False))

    def join(self, data_dir: Path | None, results: Path, checkpoints: str | None = None, **options) -> Search:
        """A worker of this study: the search it was started as, with this machine's data.

        Raises UserError where the study is stopped, or was made with other images or another version of this program.
        """
        identity = self.identity
        if self.stopped:
            raise UserError(
                f"the study {self.name} was stopped at {self.stopped[:16]}: go on with it by `wavemix search` first"
            )
        if self.code != code():
            raise UserError(
                f"the study {self.name} runs version {self.code} of this program, this is {code()}: install that one"
            )
        with signals.prompt():
            split = datasets.load(Source(self._here(data_dir), self.reading), "train", data_dir)
        if split.digest != identity["digest"]:
            raise UserError(
                f"{split.label} on this machine is not what the study {self.name} was made with: its digest is "
                f"{split.digest[:16]}, not {identity['digest'][:16]}; copy the data from there"
            )
        return Search(
            split,
            identity["target"],
            Recipe.model_validate(identity["recipe"]),
            tune=identity.get("tune"),
            family=identity["family"],
            name=self.name,
            results=results,
            storage=self.url,
            seed=identity["seed"],
            members=identity["members"],
            ceiling=identity["ceiling"],
            validation_count=identity["validation"],
            source=self.source,
            checkpoints=checkpoints,
            **options,
        )

    def _here(self, data_dir: Path | None) -> str:
        """The data on this machine: a folder that lies elsewhere here is looked for in `data_dir`."""
        if "/" not in self.source or Path(self.source).exists():
            return self.source
        copy = data_dir / Path(self.source).name if data_dir else None
        if copy is None or not copy.exists():
            raise UserError(
                f"{self.source} is not on this machine: copy it, and name the folder it is in by --data-dir"
            )
        return str(copy)

    def __rich__(self) -> Group:
        identity, trials = self.identity, self.trials()
        feasible = [t for t in trials if t.state == TrialState.COMPLETE and t.user_attrs.get("feasible")]
        best = min(feasible, key=lambda t: t.user_attrs["parameters"], default=None)
        counts: dict[str, int] = {}
        for trial in trials:
            dropped = trial.state == TrialState.FAIL and "record" not in trial.user_attrs  # untried
            state = "dropped" if dropped else trial.state.name.lower()
            counts[state] = counts.get(state, 0) + 1
        facts = {
            "data": self.source,
            "target": f"{identity['target']:g}",
            "family": identity["family"],
            "state": f"stopped at {self.stopped[:16]}" if self.stopped else "open",
            "trials": ", ".join(f"{count} {state}" for state, count in counts.items()) or "none",
            "smallest feasible": "none yet",
        }
        if best:
            facts["smallest feasible"] = (
                f"{best.user_attrs['parameters']:,} parameters, {best.value:.2%}, trial {best.number}"
            )
        return Group(Block(self.name, facts), self._workers(trials))

    def _workers(self, trials: list[FrozenTrial]) -> Listing:
        table = Listing("worker", "running trial", "finished trials", "last sign of life")
        groups: dict[str, list[FrozenTrial]] = {}
        for trial in trials:
            if "worker" in trial.user_attrs:
                groups.setdefault(trial.user_attrs["worker"], []).append(trial)
        for worker, group in groups.items():
            running = [str(t.number) for t in group if t.state == TrialState.RUNNING]
            finished = sum(t.state.is_finished() for t in group)
            signs = [t.user_attrs["beat"] for t in group if "beat" in t.user_attrs]
            seconds = (datetime.now(UTC) - datetime.fromisoformat(max(signs))).total_seconds() if signs else None
            ago = "-" if seconds is None else f"{max(0, seconds):.0f} s ago"
            table.add_row(worker, ", ".join(running) or "-", str(finished), ago)
        return table
