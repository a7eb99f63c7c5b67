"""Workers as jobs of a scheduler, by submitit (the extra `launch`): Slurm's, or processes of this machine.

submitit keeps a job's function and arguments in a file beside its log, and the job loads it. The arguments hold the
storage's URL, password and all, so the folder is its owner's alone, and nobody else can put a file there.
"""

import os
import runpy
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from search import signals
from search.errors import UserError

EXECUTORS = ("slurm", "local")


@dataclass(frozen=True)
class Needs:
    """What each worker asks of the scheduler: whole minutes, CPUs, bytes of memory (None: the scheduler's default)."""

    minutes: int
    cpus: int = 1
    memory: int | None = None
    gpu: bool = False
    partition: str | None = None


def submit(words: Sequence[str], count: int, needs: Needs, executor: str, folder: Path) -> list[str]:
    """Start `count` jobs that each run the command `words`, `wavemix` first; returns their numbers.

    `folder`, which must not exist, gets their logs; all machines have to see it. Interrupted meanwhile, the jobs are
    cancelled. Raises UserError, with nothing left behind, where submitit or the scheduler is missing or refuses.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError("launching needs submitit: pip install '.[launch]'") from error
    if executor == "slurm" and (missing := [name for name in ("sbatch", "srun") if not shutil.which(name)]):
        raise UserError(
            f"no Slurm here ({missing[0]} is not on the path): run it where jobs are submitted, or give "
            "--executor local for processes of this machine"
        )
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    try:
        with signals.deferred():
            chosen = submitit.AutoExecutor(folder, cluster=executor)
            chosen.update_parameters(**_parameters(count, needs))
            jobs = chosen.submit_array([partial(work, list(words))] * count)
            for kept in folder.glob("*.pkl"):  # not by a umask, which the jobs would inherit
                kept.chmod(0o600)
            if signals.received:
                for job in jobs:
                    job.cancel()
    except (RuntimeError, OSError) as error:  # what sbatch says
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"{executor} refuses the jobs: {' '.join(str(error).split())[:300]}") from error
    return [job.job_id for job in jobs]


def _parameters(count: int, needs: Needs) -> dict:
    """In submitit's words. `srun` gets the CPUs, too: since Slurm 22.05 it no longer takes them from its job."""
    return {
        "name": "wavemix",
        "timeout_min": needs.minutes,
        "cpus_per_task": needs.cpus,
        "mem_gb": needs.memory and needs.memory / 2**30,
        "gpus_per_node": 1 if needs.gpu else None,
        "stderr_to_stdout": True,
        "slurm_partition": needs.partition,
        "slurm_array_parallelism": count,
        "slurm_srun_args": [f"--cpus-per-task={needs.cpus}"],
    }


def work(words: Sequence[str]) -> None:
    """What a job does: the command, in the job's own process, so that signals reach it and `ps` shows no URL.

    USR2, by which submitit has a job told that its time is nearly over, ends it as SIGTERM does: its trial is put back.
    """
    signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    sys.argv = list(words)
    runpy.run_module("search", run_name="__main__")
