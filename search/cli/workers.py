"""The commands of a study that many processes or machines work on: worker, stop, status."""

import json
from typing import Annotated

import typer

from search.cli.app import app
from search.cli.endings import resumable
from search.cli.options import RUNS, Checkpoints, DataDir, Device, Json, Name, Precision, ResultsDir, Storage, Threads
from search.cli.terminal import show, tell
from search.errors import UserError


@app.command()
def worker(
    study: Name,
    storage: Storage = None,
    trials: Annotated[int | None, typer.Option(min=1, help="End after so many trials.")] = None,
    checkpoints: Checkpoints = None,
    device: Device = "cpu",
    precision: Precision = "auto",
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
    from search.study.handle import find
    from search.study.joining import join
    from search.study.targets import listed

    found = find(study, storage, results, wait=True)
    targets, ceiling = listed(found.identity["target"]), found.identity["ceiling"]
    display = Display(Console(), f"{study}, worker", targets, ceiling, None)
    options = {"checkpoints": checkpoints, "device": device, "precision": precision, "listen": display}
    with resumable(), join(found, data_dir, Results(results, published()), **options) as search, display:
        for event in search.found.past():
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
    from search.study.handle import find

    found = find(study, storage, results)
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
        from search.study.handle import find

        found = find(study, storage, results)
        return tell(json.dumps(facts(found))) if as_json else show(standing(found))
    if storage:
        raise UserError("--storage goes with the --study in it")
    from search.cli.listings import overview, studies
    from search.records.results import Results

    rows = overview(Results(results).read())
    if as_json:
        return tell(json.dumps(rows))
    show(studies(rows))
