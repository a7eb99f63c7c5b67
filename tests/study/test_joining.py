"""Many workers on one study: real processes, a real PostgreSQL, a real gRPC proxy; nothing lost, nothing twice."""

import os
import re
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path

import jobs
import optuna
import pytest
import sqlalchemy
from fsspec.core import url_to_fs
from optuna.trial import TrialState
from processes import Process
from rich.console import Console
from toys import Training, engine, named, recorded, start
from typer.testing import CliRunner

from search.cli import app as cli
from search.cli.listings import standing
from search.data import datasets
from search.errors import UserError
from search.records.environment import code
from search.records.results import Results
from search.study import heartbeat, optuna_internals, storage
from search.study.checkpoint_store import Checkpoints
from search.study.handle import StudyHandle
from search.study.joining import join
from search.study.outage import Lost
from search.study.storage import connect
from search.training.recipe import Recipe
from search.training.recipe import Training as Identity
from search.training.tensors import write
from wavemix.config import LiteConfig

QUICK = (
    "from search.__main__ import main\n"
    "from search.study import heartbeat, search\n"
    "from search.training import course\n"
    "heartbeat.INTERVAL, heartbeat.GRACE, search.POLL, course.CHECKPOINT_SECONDS = 0.2, 1.5, 0.1, 0.0\n"
    "main()"
)


@pytest.fixture
def sqlite(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/shared.db"


@pytest.fixture(params=["sqlite", "postgresql", "grpc"])
def url(request, sqlite):
    """A storage of every kind. The study's name is the test's own, since the server outlives it."""
    if request.param == "sqlite":
        yield sqlite
        return
    server = request.getfixturevalue("server")
    if request.param == "postgresql":
        yield server.url
        return
    pytest.importorskip("grpc")
    from concurrent.futures import ThreadPoolExecutor

    from optuna.storages._grpc.server import make_server

    pool = ThreadPoolExecutor(4)
    proxy = make_server(optuna.storages.RDBStorage(server.url), "localhost", 0, pool)
    port = proxy.add_insecure_port("localhost:0") or pytest.fail("no free port")
    proxy.start()
    yield f"grpc://localhost:{port}"
    proxy.stop(None).wait()


# --- one worker's trial in another's hands, through every kind of storage ------------------------------------------


def test_workers_share_a_study_and_count_every_trial_once(tmp_path, monkeypatch, url):
    training = Training(monkeypatch, lambda config, epoch: time.sleep(0.002))
    workers = [start(tmp_path, url, place=place) for place in ("a", "a", "b")]
    threads = [threading.Thread(target=worker.run, kwargs={"trials": 2}) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = workers[0].study.get_trials()
    assert [t.number for t in told] == list(range(len(told)))
    done = [t for t in told if "record" in t.user_attrs]
    records = recorded(tmp_path)
    assert sorted(r.number for r in records) == [t.number for t in done] and len(done) == 6
    assert all("twin" in t.user_attrs for t in told if t not in done)
    assert len(set(training.configs)) == len(training.configs), "nothing is trained twice"
    assert {path.parent.name for path in tmp_path.glob("*/*.jsonl")} == {"a", "b"}
    assert len({w.found.best()[0].number for w in workers}) == 1


def test_trial_whose_worker_died_goes_on_as_the_same_one(tmp_path, monkeypatch, url):
    monkeypatch.setattr(heartbeat, "GRACE", 0.3)
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)
    monkeypatch.setattr("search.study.search.POLL", 0.05)
    dead = start(tmp_path, url)
    choices = {
        name: optuna.distributions.CategoricalDistribution(v) for name, v in dead.setting.space.hyperparameters.items()
    }
    lost = dead.study.ask(choices)  # killed before its first sign of life
    lost.set_user_attr("parameters", 1)
    half = dead.study.ask()  # killed while it was asking
    Training(monkeypatch)
    with start(tmp_path, url, place="b") as other:
        other.store.running()
        time.sleep(0.35)
        other.run(trials=1)
        told = other.study.get_trials()
    assert [r.number for r in recorded(tmp_path)] == [lost.number]
    assert told[lost.number].params == lost.params and told[half.number].state == TrialState.FAIL
    assert len(told) == 2


@pytest.mark.parametrize("statement", [1, 25, 60])
def test_worker_killed_while_it_asks_keeps_nobody_waiting(tmp_path, monkeypatch, sqlite, statement):
    """kill -9 at a statement of the transactions that take a trial; a trial that looked unfinished was waited for."""
    Training(monkeypatch)
    child = os.fork()
    if child == 0:
        with start(tmp_path, sqlite) as killed:
            left = [None] * statement

            def before(*_):
                left.pop()
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

            sqlalchemy.event.listen(optuna_internals.engine(killed.storage.once), "before_cursor_execute", before)
            killed.store.take()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    monkeypatch.setattr("search.study.search.sleep", lambda seconds: pytest.fail("it waits for the dead one"))
    with start(tmp_path, sqlite, place="b") as other:
        other.run(trials=1)
        told = other.study.get_trials()
    assert len(recorded(tmp_path)) == 1
    assert all(len(t.params) == len(other.setting.hyperparameters) for t in told), "what is not yet whole is not there"


def test_live_trial_that_was_given_away_is_counted_once(tmp_path, monkeypatch, url):
    """A heartbeat that came late (Optuna's issue 4234): whoever finishes first wins, the other one goes on."""
    first, second = start(tmp_path, url), start(tmp_path, url, place="b")

    def give_away(config, epoch):
        if epoch == 3 and not recorded(tmp_path):
            training.before = lambda config, epoch: None
            first.store.put_back(first.study.get_trials()[0])
            second.run(trials=1)

    training = Training(monkeypatch, give_away)
    notes = []
    first.listen = lambda event: notes.append(event.text) if event.kind == "note" else None
    first.run(trials=1)
    told = first.study.get_trials()
    assert sorted(r.number for r in recorded(tmp_path)) == [0, 1]
    assert [t.state.is_finished() for t in told] == [True, True]
    assert "trial 0 was finished by another worker first" in notes
    assert (tmp_path / "b" / f"{named(tmp_path)}.jsonl").exists()


def test_live_trial_that_was_put_back_keeps_its_result(tmp_path, monkeypatch, sqlite):
    def put_back(config, epoch):
        if epoch == 3:
            search.store.put_back(search.study.get_trials()[0])

    Training(monkeypatch, put_back)
    search = start(tmp_path, sqlite)
    search.run(trials=1)
    (told,) = search.study.get_trials()
    (record,) = recorded(tmp_path)
    assert told.state.is_finished() and record.number == 0


def test_trial_that_another_program_failed_is_tried_anew(tmp_path, monkeypatch, sqlite):
    """Telling a trial that is FAIL already used to end the process (Optuna's issue 5470)."""
    failed = []

    def fail(config, epoch):
        if epoch == 3 and not failed:
            failed.append(config)
            search.study.tell(0, state=TrialState.FAIL)

    training = Training(monkeypatch, fail)
    search = start(tmp_path, sqlite)
    search.run(trials=1)
    assert training.configs == [failed[0]] * 2
    assert [r.number for r in recorded(tmp_path)] == [1]


def test_stopped_study_puts_its_trial_back_and_is_opened_by_a_search(tmp_path, monkeypatch, sqlite):
    def stop(config, epoch):
        if epoch == 2:
            StudyHandle(sqlite, named(tmp_path)).stop()

    training = Training(monkeypatch, stop)
    with start(tmp_path, sqlite) as search:
        search.run(trials=5)
        assert search.stopped and [t.state for t in search.study.get_trials()] == [TrialState.WAITING]
        search.run(trials=5)
        assert len(training.configs) == 1, "it does not start again by itself"
    with pytest.raises(UserError, match="was stopped at .*: `wavemix search` resumes it, then workers may join"):
        join(StudyHandle(sqlite, named(tmp_path)), None, Results(tmp_path))
    training.before = lambda config, epoch: None
    with start(tmp_path, sqlite) as search:
        search.reopen()
        search.run(trials=1)
    assert training.configs[0] == training.configs[1] and len(recorded(tmp_path)) == 1


def test_same_configuration_is_kept_by_the_lower_number(tmp_path, monkeypatch, sqlite):
    training = Training(monkeypatch)
    with start(tmp_path, sqlite) as search:
        hyperparameters = search.setting.space.hyperparameters_of(search.setting.space.configurations(0, 3000)[0])
        for _ in range(2):
            search.study.enqueue_trial(hyperparameters)
        search.run(trials=2)
        twin = search.study.get_trials()[1]
    assert twin.state == TrialState.FAIL and twin.user_attrs["twin"] == 0
    assert training.configs[0] != training.configs[1]


def test_status_shows_trials_workers_and_the_smallest_feasible(tmp_path, monkeypatch, sqlite):
    Training(monkeypatch)
    with start(tmp_path, sqlite) as search:
        search.run(trials=6)
    console = Console(width=200, record=True, file=open(os.devnull, "w"))
    console.print(standing(study := StudyHandle(sqlite, named(tmp_path))))
    text = console.export_text()
    best = search.found.feasible()[0]
    assert f"{best.user_attrs['parameters']:,} parameters" in text and search.worker in text
    assert re.search(r"\b\d s ago", text) and "open" in text
    study.stop()
    console.print(standing(StudyHandle(sqlite, named(tmp_path))))
    assert "stopped at" in console.export_text()


# --- heartbeats ----------------------------------------------------------------------------------------------------


def test_no_clock_is_compared(tmp_path, monkeypatch):
    """A worker whose clock is a day off, either way, is alive while its sign changes, and dead once it does not."""
    monkeypatch.setattr(heartbeat, "GRACE", 0.2)
    with engine(tmp_path) as search:
        hyperparameters = search.setting.space.hyperparameters
        choices = {name: optuna.distributions.CategoricalDistribution(v) for name, v in hyperparameters.items()}
        trial = search.study.ask(choices)
        for second in range(4):
            trial.set_user_attr("beat", f"200{second}-01-01T00:00:00+00:00")
            assert [t.number for t in search.store.running()] == [0]
            time.sleep(0.1)
        time.sleep(0.2)
        assert search.store.running() == []
        assert search.study.get_trials()[0].state == TrialState.WAITING


def test_heartbeat_outlives_errors_and_ends_with_its_trial(monkeypatch):
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    beats = []

    class Storage:
        def set_trial_user_attr(self, *beat):
            beats.append(beat)
            if len(beats) == 2:
                raise OSError("no route")
            if len(beats) == 4:
                raise optuna.exceptions.UpdateFinishedTrialError

        def remove_session(self):
            pass

    storage = Storage()
    with heartbeat.Heartbeat(storage, lambda: storage.set_trial_user_attr(7, "beat")) as life:
        life.thread.join(10)  # ends by itself
    assert len(beats) == 4 and {b[:2] for b in beats} == {(7, "beat")}


def test_ctrl_c_amid_a_query_logs_no_traceback(tmp_path, caplog):
    opened = connect(f"sqlite:///{tmp_path}/study.db")

    class Busy:
        def close(self):
            raise sqlite3.ProgrammingError("Recursive use of cursors not allowed.")

    with optuna_internals.engine(opened.once).connect() as connection:
        connection._safe_close_cursor(Busy())  # what SQLAlchemy does then
    assert not caplog.records


def test_storage_is_waited_for_and_then_given_up(monkeypatch):
    class Storage:
        calls = 0

        def get_trial(self, number):
            self.calls += 1
            if self.calls % 3:
                cause = storage.OperationalError("x", {}, Exception("connection refused"))
                raise optuna.exceptions.StorageInternalError from cause
            return number

        def get_study(self):
            raise KeyError("none")

    patient = storage.Patient(Storage(), "postgresql://me:secret@host/db")
    assert patient.get_trial(4) == 4 and patient.waited == 2
    with pytest.raises(Lost, match="does not hold the study"):
        patient.get_study()
    monkeypatch.setattr(storage, "PATIENCE", 0.0)
    with pytest.raises(UserError, match="has not answered for 0 s .*connection refused") as caught:
        patient.get_trial(4)
    assert "secret" not in str(caught.value)


def test_database_that_is_killed_and_started_again_loses_nothing(tmp_path, monkeypatch, server):
    def crash(config, epoch):
        if epoch == 4 and not crashed:
            crashed.append(server.kill())
            threading.Timer(0.3, server.start).start()

    crashed = []
    Training(monkeypatch, crash)
    with start(tmp_path, server.url) as search:
        search.run(trials=3)
        assert search.storage.waited
        told = search.study.get_trials()
    assert [r.number for r in recorded(tmp_path)] == [0, 1, 2]
    assert all(t.state.is_finished() for t in told)


# --- checkpoints ---------------------------------------------------------------------------------------------------


def test_a_later_version_with_more_hyperparameters_finds_a_checkpoint():
    class Later(Recipe):
        hyperparameter: float = 0.0

    config, recipe = LiteConfig(depth=2), Recipe(epochs=3)
    name = Identity(config, recipe, "digest").checkpoint_name([0])
    assert Identity(config, Later(epochs=3), "digest").checkpoint_name([0]) == name
    others = [
        Identity(config, Later(epochs=3, hyperparameter=1.0), "digest").checkpoint_name([0]),
        Identity(config, Recipe(epochs=4), "digest").checkpoint_name([0]),
        Identity(LiteConfig(depth=3), recipe, "digest").checkpoint_name([0]),
        Identity(config, recipe, "digest").checkpoint_name([1]),
        Identity(config, recipe, "another").checkpoint_name([0]),
    ]
    assert len({name, *others}) == 6


def keep(checkpoint, count: int) -> bytes:
    """Write a checkpoint of so many steps; its content."""
    write(checkpoint.path, {}, {"progress": f'{{"count": {count}, "seconds": 0, "curves": []}}'})
    return checkpoint.path.read_bytes()


@pytest.fixture
def place(tmp_path):
    return f"memory://{tmp_path.name}/kept"


def kept(place) -> list[str]:
    """The names of what lies behind a URL."""
    memory, root = url_to_fs(place)
    return sorted(name.rpartition("/")[2] for name in memory.ls(root, detail=False))


def test_checkpoints_travel_by_url(tmp_path, place):
    one, two = Checkpoints(place, tmp_path / "one"), Checkpoints(place, tmp_path / "two")
    first = one.open("x.checkpoint")
    assert not first.path.exists()
    content = keep(first, 1)
    first.keep()
    second = two.open("x.checkpoint")
    assert second.path != first.path and second.path.read_bytes() == content
    memory, root = url_to_fs(place)
    memory.pipe(f"{root}/x.checkpoint.0123.part", b"cut off")
    memory.pipe(f"{root}/xx.checkpoint", b"another's")
    second.remove()
    assert not second.path.exists() and not second.problem and kept(place) == ["xx.checkpoint"]
    assert not Checkpoints(place, tmp_path / "three").open("x.checkpoint").path.exists()


def test_a_checkpoint_that_could_not_be_sent_is_not_overwritten_by_an_older_one(tmp_path, place):
    home = Checkpoints(place, tmp_path / "one")
    first = home.open("x.checkpoint")
    older = keep(first, 5)
    first.keep()
    newer = keep(first, 20)  # the store was out of reach
    assert home.open("x.checkpoint").path.read_bytes() == newer
    keep(first, 3)  # another machine has gone on with it
    assert home.open("x.checkpoint").path.read_bytes() == older
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["x.checkpoint"]


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-1], lambda c: c.replace(b"5", b"6")])
def test_a_damaged_checkpoint_behind_a_url_is_set_aside(tmp_path, place, damage, caplog):
    memory, root = url_to_fs(place)
    home = Checkpoints(place, tmp_path / "one")
    first = home.open("x.checkpoint")
    content = keep(first, 5)
    memory.pipe(f"{root}/x.checkpoint", damage(content))
    again = home.open("x.checkpoint")
    assert again.path.read_bytes() == content, "the one that is here is whole"
    assert not again.problem and kept(place) == ["x.checkpoint.damaged"]
    assert caplog.messages == [f"{first.url} is a damaged checkpoint; moved to x.checkpoint.damaged"]
    memory.pipe(f"{root}/x.checkpoint", content)
    first.path.write_bytes(damage(content))
    assert home.open("x.checkpoint").path.read_bytes() == content, "the one behind the URL is whole"
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["x.checkpoint"]


def test_checkpoints_that_cannot_be_used_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file"), "nosuch://me:secret@bucket/x"):
        with pytest.raises(UserError) as caught:
            Checkpoints(place, tmp_path / "here")
        assert "checkpoints" in str(caught.value) and "secret" not in str(caught.value)


def test_second_search_is_refused_and_a_worker_is_not(tmp_path):
    with engine(tmp_path) as first, first.records.searching():
        with engine(tmp_path) as second, pytest.raises(UserError, match="works on the study toy already"):
            with second.records.searching():
                pass
    with engine(tmp_path) as third, third.records.searching():
        pass


# --- real processes ------------------------------------------------------------------------------------------------


def prepared(images: Path, tmp_path: Path, url: str, epochs: int) -> str:
    """A study of a folder of images, as `wavemix search` starts it; its name."""
    recipe = Recipe(epochs=epochs, batch_size=32, lr=0.03, optimizer="muon")
    options = {"ceiling": 1500, "validation_count": 64, "source": str(images), "storage": url, "members": 1}
    name = named(tmp_path)
    data = datasets.load(str(images), "train")
    jobs.search(data, 0.5, recipe, tmp_path / "a", name=name, **options).close()
    return name


def ended(process: Process, code: int = 0) -> str:
    output, errors = process.communicate()
    assert process.returncode == code, output + errors
    assert "Traceback" not in output + errors
    return output


@pytest.mark.parametrize(("kind", "places"), [("sqlite", "aa"), ("postgresql", "b")])
def test_killed_worker_leaves_its_trial_to_the_other(folder, tmp_path, request, kind, places):
    url = request.getfixturevalue("sqlite") if kind == "sqlite" else request.getfixturevalue("server").url
    name = prepared(folder, tmp_path, url, 40)
    options = ["worker", "--storage", url, "--study", name, "--checkpoints", tmp_path / "kept", "--results"]
    killed = Process(QUICK, *options, tmp_path / "a")
    for line in killed.stdout:
        if "epoch 20/" in line:
            break
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert list((tmp_path / "kept").glob("*.checkpoint"))
    # a process that is alone on an SQLite file knows at once that the other has died; elsewhere it has to watch
    limit = ["--trials", 1] if kind == "sqlite" else []
    others = [Process(QUICK, *options, tmp_path / place, *limit) for place in places]
    if kind == "postgresql":
        watched, end = StudyHandle(url, name), time.monotonic() + 300
        while not watched.trials()[0].state.is_finished() and time.monotonic() < end:
            time.sleep(0.1)
        watched.stop()
    outputs = [ended(other) for other in others]
    told = connect(url).get_all_trials(StudyHandle(url, name).id)
    assert told[0].state.is_finished() and "record" in told[0].user_attrs
    resumed = [m[1] for o in outputs if (m := re.search(r"trial 0: [^\n]* parameters\n(.*?)trial", o, re.DOTALL))]
    assert len(resumed) == 1 or kind == "postgresql"  # there, another trial may have come first and made it too large
    assert all("epoch 10/" not in epochs and "epoch 40/" in epochs for epochs in resumed), "it went on"
    records = recorded(tmp_path)
    done = [t.number for t in told if "record" in t.user_attrs]
    assert sorted(r.number for r in records) == done and len(done) >= 1
    assert not any("se%3Acr" in path.read_text() or "se:cr" in path.read_text() for path in tmp_path.glob("a/*.jsonl"))


def test_worker_refuses_other_code_and_other_images(folder, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/shared.db"
    name = prepared(folder, tmp_path, url, 2)
    copy = tmp_path / "copies" / folder.name
    shutil.copytree(folder, copy)
    monkeypatch.setattr("search.study.joining._here", lambda study, data_dir: str(copy))
    join(StudyHandle(url, name), None, Results(tmp_path / "b")).close()
    next(copy.rglob("train/*/*.png")).unlink()
    with pytest.raises(UserError, match=r"is not what the study .* was made with: its digest is \w+, not \w+"):
        join(StudyHandle(url, name), None, Results(tmp_path / "b"))
    storage = connect(url)
    storage.set_study_user_attr(StudyHandle(url, name).id, "code", "0.0.9 abc")
    with pytest.raises(UserError, match=f"runs version 0.0.9 abc of this program, this is {code()}: install that one"):
        join(StudyHandle(url, name), None, Results(tmp_path / "b"))


def test_folder_elsewhere_is_found_by_data_dir(folder, tmp_path):
    url = f"sqlite:///{tmp_path}/shared.db"
    name = prepared(folder, tmp_path, url, 2)
    study = StudyHandle(url, name)
    study.source = f"/somewhere/else/{folder.name}"
    with pytest.raises(UserError, match="is not on this machine"):
        join(study, None, Results(tmp_path / "b"))
    join(study, folder.parent, Results(tmp_path / "b")).close()


@pytest.mark.parametrize("command", ["worker", "stop", "status"])
def test_errors_of_the_commands_are_one_line_without_the_password(tmp_path, monkeypatch, command):
    monkeypatch.setattr(storage, "PATIENCE", 0.0)
    for url, message in (
        ("postgresql+psycopg://me:se:cr/et@127.0.0.1:1/none", "the storage postgresql+psycopg://***@127.0.0.1:1/none"),
        (f"sqlite:///{tmp_path}/none.db", "there is no file"),
        ("grpc://nowhere", "grpc://host:port"),
    ):
        result = CliRunner().invoke(cli.app, [command, "--study", "x", "--storage", url, "--results", str(tmp_path)])
        assert isinstance(result.exception, UserError), result.exception
        assert message in str(result.exception) and "se:cr" not in str(result.exception)
    assert not list(tmp_path.glob("*.db"))
