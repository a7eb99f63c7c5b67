"""The commands of a study that many processes or machines work on: worker, stop, status."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.app import app
from search.cli.endings import resumable
from search.cli.options import RUNS, Checkpoints, DataDir, Device, Json, ResultsDir, Storage, Threads
from search.cli.terminal import show, tell
from search.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from search.study.handle import StudyHandle

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

    Everything else is taken from the study. Any number of workers may run, on any number of machines. When one is
    killed, another resumes its trial from the last checkpoint. A stopped study is refused until `wavemix search`
    resumes it, and so are other images or another version of this program.
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

    Their trials are put back with their checkpoints. `wavemix search` with the study's options resumes it.
    """
    from search.cli.listings import facts

    found = found_study(study, storage, results)
    running = [worker["worker"] for worker in facts(found)["workers"] if worker["running"]]
    found.stop()
    if running:
        tell(f"the workers of study {study} end after the epoch they are in")
    else:
        tell(f"study {study} is stopped; no worker was running: `wavemix search` with its options resumes it")


@app.command()
def status(
    study: Annotated[str | None, typer.Option(help="A study that is running: its trials and workers.")] = None,
    storage: Storage = None,
    results: ResultsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Show the studies on record; with --study the trials and workers of that one."""
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


def found_study(name: str, storage: "str | URL | None", results: Path, wait: bool = False) -> "StudyHandle":
    """The study of this name in the storage, or in the file that it has under `results` where none is named."""
    from search.records.results import Results
    from search.study.handle import StudyHandle

    if storage is None:
        files = sorted(path.stem for path in (results / "studies").glob("*.db"))
        if name not in files:
            known = f"name one of {', '.join(files)}" if files else "search first, or give --storage or --results"
            raise UserError(f"no study {name} in {results}: {known}")
    return StudyHandle(storage or Results(results).database(name), name, wait)
