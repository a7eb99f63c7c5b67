"""The commands of a study that many processes or machines work on: worker, stop, status."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.app import app
from search.cli.endings import resumable
from search.cli.options import RUNS, Checkpoints, DataDir, Device, Json, ResultsDir, Threads
from search.cli.terminal import show, tell

if TYPE_CHECKING:
    from search.study.handle import StudyHandle

Storage = Annotated[
    str | None, typer.Option(help="Optuna storage URL, or grpc://host:port; default: the file under --results.")
]
Name = Annotated[str, typer.Option("--study", help="Name of the study.")]


@app.command()
def worker(
    study: Name,
    storage: Storage = None,
    trials: Annotated[int | None, typer.Option(min=1, help="End after so many trials.")] = None,
    checkpoints: Checkpoints = None,
    device: Device = "cpu",
    threads: Threads = None,
    data_dir: DataDir = None,
    results: ResultsDir = RUNS,
) -> None:
    """Run trials of a study that `wavemix search --storage` has started, until none are left or it is stopped.

    Everything else is taken from the study. Any number of workers may run, on any number of machines; the trial of one
    that is killed goes on from its last checkpoint on another. A stopped study is refused until `wavemix search` goes
    on with it, and so are other images or another version of this program.
    """
    from rich.console import Console

    from search.cli.panel import Display
    from search.records.results import Results, published
    from search.study.joining import join

    found = found_study(study, storage, results, wait=True)
    target, ceiling = found.identity["target"], found.identity["ceiling"]
    display = Display(Console(), f"{study}, worker", target, ceiling, None)
    options = {"checkpoints": checkpoints, "device": device, "listen": display}
    with resumable(), join(found, data_dir, Results(results, published()), **options) as search, display:
        for event in search.past():
            display(event)
        for line in search.setting.data.told:
            display.say(line)
        display.say(f"worker {search.worker} of study {study}: {len(found.trials())} trials so far")
        search.run(trials=trials)


@app.command()
def stop(study: Name, storage: Storage = None, results: ResultsDir = RUNS) -> None:
    """Stop a study: its workers, `wavemix search` among them, end after the epoch they are in.

    Their trials are put back with their checkpoints. `wavemix search` with the study's options opens it again.
    """
    found_study(study, storage, results).stop()
    tell(f"the workers of study {study} end after the epoch they are in")


@app.command()
def status(
    study: Annotated[str | None, typer.Option(help="A study that is running: its trials and workers.")] = None,
    storage: Storage = None,
    results: ResultsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Show the studies on record; with --study the trials and workers of that one."""
    from search.errors import UserError

    if study:
        from search.cli.listings import facts, standing

        found = found_study(study, storage, results)
        return tell(json.dumps(facts(found))) if as_json else show(standing(found))
    if storage:
        raise UserError("--storage goes with the --study in it")
    from search.cli.listings import overview, studies
    from search.records.results import Results

    rows = overview(Results(results).read())
    if as_json:
        return tell(json.dumps(rows))
    show(studies(rows))


def found_study(name: str, storage: str | None, results: Path, wait: bool = False) -> "StudyHandle":
    """The study of this name in the storage, or in the file that it has under `results` where none is named."""
    from search.records.results import Results
    from search.study.handle import StudyHandle

    return StudyHandle(storage or Results(results).database(name), name, wait)
