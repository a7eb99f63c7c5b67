"""The command that starts workers through a scheduler."""

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.app import app
from search.cli.options import RUNS, Checkpoints, DataDir, Name, ResultsDir, Storage
from search.cli.terminal import tell
from search.cli.values import seconds_of, size_of
from search.errors import UserError
from search.launching import EXECUTORS, Needs, submit

if TYPE_CHECKING:
    from search.study.handle import StudyHandle


@app.command()
def launch(
    study: Name,
    workers: Annotated[int, typer.Option(min=1, max=100_000, help="How many to start.")],
    storage: Storage = None,
    checkpoints: Checkpoints = None,
    data_dir: DataDir = None,
    results: ResultsDir = RUNS,
    executor: Annotated[str, typer.Option(help="'slurm', or 'local': processes of this machine.")] = "slurm",
    time: Annotated[str, typer.Option(help="Limit of each: 90m, 8h. Before its end a trial is put back.")] = "8h",
    cpus: Annotated[int, typer.Option(min=1, max=4096, help="CPUs, and threads, of each.")] = 1,
    memory: Annotated[str | None, typer.Option(help="Memory of each, such as 4G; default: the scheduler's.")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="A GPU for each, which trains on it.")] = False,
    partition: Annotated[str | None, typer.Option(help="Slurm's partition; default: the scheduler's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command of a worker; start none.")] = False,
) -> None:
    """Start workers of a study, which `wavemix search --storage` has begun, as jobs of a scheduler.

    It ends once they are submitted; Ctrl-C before that cancels them. Then `wavemix stop` ends the workers after the
    epoch they are in, the scheduler's own command (`scancel`) ends the jobs; either way trials are put back.
    """
    from search.records.environment import command_line
    from search.study.handle import find

    if executor not in EXECUTORS:
        raise UserError(f"--executor is {' or '.join(EXECUTORS)}, not {executor!r}")
    minutes = math.ceil(seconds_of(time, "--time") / 60)
    needs = Needs(minutes, cpus, size_of(memory, "--memory") if memory else None, gpu, partition)
    found = find(study, storage, results)
    joinable(found, executor)
    place = found.url if isinstance(found.url, str) else found.url.render_as_string(hide_password=False)
    words = ["wavemix", "worker", "--study", study, "--storage", place, "--results", str(results.absolute())]
    for option, value in (("--checkpoints", checkpoints), ("--data-dir", data_dir and data_dir.absolute())):
        words += [option, str(value)] if value is not None else []
    words += ["--threads", str(cpus), *(["--device", "cuda"] if gpu else [])]
    if dry_run:
        return tell(command_line(words))
    folder = results.absolute() / "jobs" / f"{study}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    jobs = submit(words, workers, needs, executor, folder)
    told = jobs[0] if len(jobs) == 1 else f"{jobs[0]} to {jobs[-1]}"
    tell(f"{len(jobs)} worker{'s' * (len(jobs) > 1)} of study {study} submitted ({executor}): job {told}", kept="\n")
    tell(f"logs in {folder}")


def joinable(study: "StudyHandle", executor: str) -> None:
    """Raises UserError for what every worker of the study would be refused for."""
    from search.records.environment import code
    from search.study.storage import sqlite_file

    if executor == "slurm" and sqlite_file(study.url):
        raise UserError("SQLite is not safe on a file system that machines share: give --storage a database server's")
    if study.stopped:
        raise UserError(f"the study {study.name} is stopped: `wavemix search` resumes it, then workers may join")
    if study.code != code():
        raise UserError(f"the study {study.name} runs version {study.code} of this program, this is {code()}")
