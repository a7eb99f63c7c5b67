"""What a database is asked by 10, 100 and 1,000 workers: counted at one real worker, among so many running trials.

    python -m scripts.benchmarks.many_workers [--storage URL] [--repetitions 3] [--results results]

A study in PostgreSQL (one is started where none is named) has 50 finished trials and a running one of every other
worker. A worker takes trials whose training ends at once; SQLAlchemy's events count its statements, transactions, rows
and the seconds until they are answered: for a trial's begin and end, for an epoch, for a sign of life. From these
follows what all workers ask in a second. Writes RESULTS/records/scale.json and RESULTS/pages/scale.md.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from unittest.mock import patch

import optuna
import sqlalchemy.event
import torch
from optuna.trial import TrialState, create_trial
from sqlalchemy.engine import Engine

from scripts.benchmarks.storage import curve, finished, setting, train
from search.files import write_atomically
from search.records.environment import environment
from search.records.results import Results
from search.study import heartbeat, rebuild
from search.study.optuna_internals import engine
from search.study.search import Search
from search.tasks import classification

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import postgres  # noqa: E402

WORKERS = (10, 100, 1000)
EPOCHS = 24  # of a trial: what the data sets' default recipes have, about
SECONDS = {"10 s": 10, "1 min": 60, "10 min": 600}  # of an epoch
PAST = 50  # finished trials


@dataclass
class Asked:
    """What a worker has asked of its database, and the seconds that it waited for the answers."""

    statements: float = 0
    transactions: float = 0
    rows: float = 0
    seconds: float = 0

    def __sub__(self, other: "Asked") -> "Asked":
        return Asked(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def copy(self) -> "Asked":
        return Asked(**asdict(self))


def middle(found: list[Asked], of: Callable[[Iterable[float]], float] = statistics.median) -> Asked:
    return Asked(*(of([getattr(one, f.name) for one in found]) for f in fields(Asked)))


@contextmanager
def counted(database: Engine) -> Iterator[Asked]:
    """Counts while the block runs."""
    asked = Asked()

    def before(connection, *_) -> None:
        connection.info["began"] = time.perf_counter()

    def after(connection, cursor, *_) -> None:
        asked.seconds += time.perf_counter() - connection.info["began"]
        asked.statements += 1
        asked.rows += max(0, cursor.rowcount)  # SQLite does not say

    def begun(_) -> None:
        asked.transactions += 1

    listeners = [("before_cursor_execute", before), ("after_cursor_execute", after), ("begin", begun)]
    for name, listener in listeners:
        sqlalchemy.event.listen(database, name, listener)
    try:
        yield asked
    finally:
        for name, listener in listeners:
            sqlalchemy.event.remove(database, name, listener)


def fill(search: Search, past: int, running: int) -> None:
    """Let the study have so many finished trials, and so many that run elsewhere, three epochs in."""
    for number, made in enumerate(finished(search.setting, past + running)):
        trial = rebuild.trial_of(made, number, search.setting, search.worker)
        if number >= past:
            points = {epoch.epoch: epoch.accuracy for epoch in made_curve(search, trial.params)[:3]}
            marks = search.marks(trial.params) | {"worker": f"elsewhere-{number}"}
            options = {"params": trial.params, "distributions": trial.distributions, "user_attrs": marks}
            trial = create_trial(state=TrialState.RUNNING, intermediate_values=points, **options)
        search.study.add_trial(trial)


def made_curve(search: Search, params: Mapping) -> list:
    config, _ = search.setting.plan(params)
    return curve(config, random.Random(0))


def measure(url: str, workers: int, repetitions: int, folder: Path, past: int = PAST) -> dict[str, Asked]:
    """What one of so many workers asks: for a trial's begin and end and for a sign of life at the median, for an epoch
    in the mean, as others' trials are read at some epochs only."""
    epochs: list[Asked] = []

    def observed(config, recipe, data, seeds, *, on_epoch, **options):
        def counting(*arguments) -> bool:
            start = asked.copy()
            try:
                return on_epoch(*arguments)
            finally:
                epochs.append(asked - start)

        return train(config, recipe, data, seeds, on_epoch=counting, **options)

    of = setting(workers)
    with (
        patch.object(classification, "train", observed),
        patch.object(heartbeat, "INTERVAL", 1e6),
        patch.object(heartbeat, "GRACE", 1e9),
        Search.open(of, Results(folder), storage=url) as search,
    ):
        fill(search, past, workers - 1)
        with counted(engine(search.storage.once)) as asked:
            search.run(trials=1)  # it reads what had ended before
            epochs.clear()
            turns, beats = [], []
            for _ in range(repetitions):
                start, before = asked.copy(), len(epochs)
                search.run(trials=1)
                turn = asked - start
                for epoch in epochs[before:]:
                    turn = turn - epoch
                turns.append(turn)
            running = next(t for t in search.study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING)
            heart = search.store.beating(search.store.trial_id(running.number))
            for _ in range(repetitions):
                start = asked.copy()
                heart.beat()
                beats.append(asked - start)
    return {"trial": middle(turns), "epoch": middle(epochs, statistics.fmean), "beat": middle(beats)}


def rates(workers: int, seconds: float, asked: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What all workers ask in a second where an epoch takes so long; `seconds` of it: connections that are busy."""

    def rate(what: str) -> float:
        epoch = asked["epoch"][what] + asked["trial"][what] / EPOCHS
        return workers * (epoch / seconds + asked["beat"][what] / heartbeat.INTERVAL)

    return {field.name: rate(field.name) for field in fields(Asked)}


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if value < 1 else f"{value:.1f}"


def page(found: Mapping) -> str:
    lines = [
        "# What many workers ask of the database",
        "",
        f"`python -m scripts.benchmarks.many_workers` on {found['machine']}, {found['created']}, one-minute load "
        f"{found['load']:.1f}: a real worker on PostgreSQL, among as many running trials as there are other workers. "
        "Its statements are counted; those of all workers are computed from them, not measured.",
        "",
        f"Per second, for trials of {EPOCHS} epochs and a sign of life every {heartbeat.INTERVAL:.0f} s:",
        "",
        "| workers | an epoch takes | statements | transactions | rows | connections busy |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for count, asked in found["asked"].items():
        for name, seconds in SECONDS.items():
            rate = rates(int(count), seconds, asked)
            values = " | ".join(figure(rate[f.name]) for f in fields(Asked))
            lines.append(f"| {int(count):,} | {name} | {values} |")
    lines += [
        "",
        "*Connections busy* are the seconds that the workers wait for answers in a second: with more than the server "
        "has processors, it falls behind. The waiting was measured with one worker at a time, on a machine that did "
        "other work.",
        "",
        "Statements grow with the workers, rows almost with their square: when its own epochs have doubled, a worker "
        "reads the other running trials. So what limits the number of workers is short trials.",
        "",
        "One worker asks for (at the median, for an epoch in the mean):",
        "",
        "| workers | for | statements | transactions | rows | seconds |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    names = {"trial": "a trial's begin and end", "epoch": "an epoch", "beat": "a sign of life"}
    for count, asked in found["asked"].items():
        for part, name in names.items():
            values = " | ".join([*(f"{asked[part][w]:,.0f}" for w in ("statements", "transactions", "rows"))])
            lines.append(f"| {int(count):,} | {name} | {values} | {asked[part]['seconds']:.3f} |")
    lines += ["", "The figures are in [scale.json](../records/scale.json).", ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", help="a PostgreSQL URL with an empty database; default: a server of its own")
    parser.add_argument("--repetitions", type=int, default=3, help="trials; medians count")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    if not options.storage and (reason := postgres.missing()):
        parser.error(f"{reason}: give --storage")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="wavemix-workers-"))
    root.chmod(0o755)
    server = None if options.storage else postgres.Server(root / "server")
    try:
        asked = {}
        for workers in WORKERS:
            found = measure(options.storage or server.url, workers, options.repetitions, root / "results")
            asked[str(workers)] = {part: asdict(one) for part, one in found.items()}
            print(workers, json.dumps(asked[str(workers)]), flush=True)
    finally:
        if server:
            server.stop()
        shutil.rmtree(root)
    here = environment()
    created, load = time.strftime("%Y-%m-%d", time.gmtime()), os.getloadavg()[0]
    content = {"machine": here.device, "created": created, "load": load, "environment": here.model_dump()}
    content |= {"past": PAST, "epochs": EPOCHS, "beat_seconds": heartbeat.INTERVAL, "asked": asked}
    write_atomically(options.results / "records" / "scale.json", (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(options.results / "pages" / "scale.md", page(content).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
