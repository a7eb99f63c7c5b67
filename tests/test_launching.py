"""`wavemix launch`: real jobs of submitit's local executor on a real PostgreSQL; what Slurm would be handed."""

import os
import re
import signal
import stat
import sys
import time
from pathlib import Path
from urllib.parse import quote

import jobs
import pytest
from postgres import PASSWORD
from processes import Process
from toys import DATA, RECIPE, named

from search import signals
from search.data import datasets
from search.errors import UserError
from search.launching import Needs, submit
from search.study.handle import StudyHandle
from search.training.recipe import Recipe

pytest.importorskip("submitit", reason="needs the extra `launch`")

# stands for Slurm: keeps the script that it is given, starts nothing
SBATCH = '#!/bin/sh\ncp "$1" "$KEPT"\numask > "$KEPT.umask"\necho "Submitted batch job 42"\n'


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """A Slurm that keeps each script; returns where."""
    for name, text in (("sbatch", SBATCH), ("srun", "#!/bin/sh\n")):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("KEPT", str(tmp_path / "kept.sh"))
    return tmp_path / "kept.sh"


def prepared(tmp_path: Path, url: str, data=DATA, recipe: Recipe = RECIPE, **options) -> str:
    """A study as `wavemix search` starts it; its name."""
    options = {
        "ceiling": 1500,
        "validation_count": 50,
        "members": 1,
        "family": "published",
        "name": named(tmp_path),
        "storage": url,
    } | options
    jobs.search(data, 0.5, recipe, tmp_path / "a", **options).close()
    return options["name"]


def private(folder: Path, *secrets: str) -> None:
    """Nobody else can read the folder, nor what holds a secret should the folder be opened."""
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    holding = [path for path in folder.iterdir() if any(secret.encode() in path.read_bytes() for secret in secrets)]
    assert holding and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in holding)


def wait_for(what, seconds: float = 120):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)
    return found


def running(job: str) -> bool:
    try:
        return os.waitpid(int(job), os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def test_launched_workers_train_a_study_until_it_is_stopped(folder, tmp_path, server, wavemix, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("WAVEMIX_KERNELS", "off")  # to compile them takes longer than these trainings
    name = prepared(tmp_path, server.url, datasets.load(str(folder), "train"), Recipe(epochs=2), source=str(folder))
    place = ["--study", name, "--storage", server.url]
    out = wavemix("launch", "--workers", 2, *place, "--results", tmp_path / "b", "--executor", "local").out
    first, last = re.search(r"2 workers of study \S+ submitted \(local\): job (\d+) to (\d+)", out).groups()
    logs = Path(re.search(r"logs in (.*)", out)[1])
    private(logs, PASSWORD, quote(PASSWORD, safe=""))
    study = StudyHandle(server.url, name)
    try:
        wait_for(lambda: len({trial.user_attrs["worker"] for trial in study.trials()}) == 2)
    finally:
        wavemix("stop", *place)
        wait_for(lambda: not running(first) and not running(last))
    texts = [path.read_text() for path in logs.glob("*_log.out")]
    assert len(texts) == 2 and all(" of study " in text and "Traceback" not in text for text in texts)
    assert not any(PASSWORD in text or quote(PASSWORD, safe="") in text for text in texts)
    assert "is stopped" in wavemix("launch", "--workers", 1, *place, "--executor", "local", code=2).err


def test_slurm_is_asked_for_what_each_worker_needs(tmp_path, server, wavemix, slurm):
    name, before = prepared(tmp_path, server.url), os.umask(0o022)
    os.umask(before)
    options = ["--study", name, "--storage", server.url, "--results", tmp_path / "b", "--checkpoints", "s3://k:s@b/c"]
    options += ["--time", "90m", "--cpus", 4, "--memory", "6G", "--gpu", "--partition", "long"]
    out = wavemix("launch", "--workers", 300, *options).out
    assert "300 workers" in out and "job 42_0 to 42_299" in out
    script, logs = slurm.read_text(), Path(re.search(r"logs in (.*)", out)[1])
    for asked in ("time=90", "cpus-per-task=4", "mem=6GB", "gpus-per-node=1", "partition=long", "array=0-299%300"):
        assert f"#SBATCH --{asked}\n" in script
    assert "--cpus-per-task=4 " in script.splitlines()[-1] and "USR2@" in script
    assert not any(secret in script for secret in (PASSWORD, quote(PASSWORD, safe=""), "postgresql", "s3://"))
    private(logs, quote(PASSWORD, safe=""))
    assert int(Path(f"{slurm}.umask").read_text(), 8) == before, "a job's files are as readable as the user's others"


def test_a_dry_run_shows_the_command_and_starts_nothing(tmp_path, server, wavemix, slurm):
    name = prepared(tmp_path, server.url)
    options = ["--study", name, "--storage", server.url, "--results", tmp_path / "b", "--cpus", 2, "--gpu"]
    out = wavemix("launch", "--workers", 3, *options, "--dry-run").out
    masked = re.sub("//.*@", "//***@", server.url)
    assert out == (
        f"wavemix worker --study {name} --storage '{masked}' --results {tmp_path / 'b'} --threads 2 --device cuda\n"
    )
    assert not slurm.exists() and not (tmp_path / "b").exists()


def test_what_is_wrong_is_one_line(tmp_path, wavemix, monkeypatch):
    name = prepared(tmp_path, None)
    start = ["launch", "--workers", 1, "--study", name, "--results", tmp_path / "a"]
    for options, said in (
        ([], "SQLite is not safe on a file system that machines share"),
        (["--executor", "pbs"], "--executor is slurm or local, not 'pbs'"),
        (["--time", "8"], "--time is a time such as 90s, 15m or 2h, not '8'"),
        (["--memory", "8"], "--memory is a size such as 500M or 8G, not '8'"),
    ):
        error = wavemix(*start, *options, code=2).err
        assert said in error and error.count("\n") == 1
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install '.[launch]'" in wavemix(*start, "--executor", "local", code=2).err
    assert not (tmp_path / "a" / "jobs").exists()


def test_a_scheduler_that_is_missing_or_refuses_leaves_nothing_behind(tmp_path, slurm, monkeypatch):
    (slurm.parent / "bin" / "sbatch").write_text("#!/bin/sh\necho 'invalid partition: none' >&2\nexit 1\n")
    for count in (1, 3):
        with pytest.raises(UserError, match="slurm refuses the jobs: .*invalid partition: none"):
            submit(["wavemix", "--version"], count, Needs(60), "slurm", tmp_path / "jobs")
        assert not (tmp_path / "jobs").exists()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="no Slurm here .sbatch is not on the path."):
        submit(["wavemix", "--version"], 1, Needs(60), "slurm", tmp_path / "jobs")
    assert not (tmp_path / "jobs").exists()


def test_interrupted_while_it_submits_it_cancels(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "received", None)
    monkeypatch.setattr("search.launching._parameters", lambda *_: signals._handle(signal.SIGINT, None) or {})
    cancelled = []
    monkeypatch.setattr(
        "submitit.local.local.LocalJob.cancel", lambda job: cancelled.append(job) or job._process.kill()
    )
    with pytest.raises(KeyboardInterrupt):
        submit(["wavemix", "--version"], 2, Needs(60), "local", tmp_path / "jobs")
    assert len(cancelled) == 2
    for job in cancelled:
        job._process.wait()


def test_the_end_of_its_time_is_as_sigterm_to_a_worker(folder, tmp_path, server, monkeypatch):
    monkeypatch.setenv("WAVEMIX_KERNELS", "off")
    name = prepared(tmp_path, server.url, datasets.load(str(folder), "train"), Recipe(epochs=40), source=str(folder))
    words = ["wavemix", "worker", "--study", name, "--storage", server.url, "--results", str(tmp_path / "b")]
    worker = Process(f"from search.launching import work; work({words!r})")
    for line in worker.stdout:
        if "trial 0: " in line:
            break
    worker.send_signal(signal.SIGUSR2)
    _, errors = worker.communicate()
    assert worker.returncode == 143 and "Traceback" not in errors, errors
    (trial,) = StudyHandle(server.url, name).trials()
    assert trial.state.name == "WAITING", "it was put back"
