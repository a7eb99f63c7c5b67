"""Where a study lives: what is waited for and what is not, what reading leaves alone, paths of every kind."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError
from toys import Training, engine, trials

from search import files, signals
from search.cli.dashboard import location
from search.errors import UserError
from search.records.results import Results
from search.study import outage, storage
from search.study.handle import StudyHandle
from search.study.outage import Lost, damaged, passing, told
from search.study.storage import Patient, Presence, connect, sqlite_file


class Driver(Exception):
    def __init__(self, text: str = "", **codes):
        super().__init__(text)
        self.__dict__.update(codes)


def failed(driver: Exception) -> StorageInternalError:
    """As Optuna passes it on."""
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = OperationalError("SELECT 1", {}, driver)
    return error


def answer(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("driver", "passes", "lost"),
    [
        (answer("database is locked", sqlite3.SQLITE_BUSY), True, False),
        (answer("database is locked", sqlite3.SQLITE_BUSY_SNAPSHOT), True, False),
        (answer("database or disk is full", sqlite3.SQLITE_FULL), False, False),
        (answer("attempt to write a readonly database", sqlite3.SQLITE_READONLY_DIRECTORY), False, False),
        (answer("disk I/O error", sqlite3.SQLITE_IOERR_WRITE), False, False),
        (answer("database disk image is malformed", sqlite3.SQLITE_CORRUPT_INDEX), False, True),
        (answer("file is not a database", sqlite3.SQLITE_NOTADB), False, True),
        (answer("no such table: trials", sqlite3.SQLITE_ERROR), False, False),
        (Driver("connection refused", sqlstate=None), True, False),
        (Driver("the database system is starting up", sqlstate="57P03"), True, False),
        (Driver("deadlock detected", sqlstate="40P01"), True, False),
        (Driver("too many connections", sqlstate="53300"), True, False),
        (Driver("could not extend file: No space left on device", sqlstate="53100"), False, False),
        (Driver("invalid page in block 7", sqlstate="XX001"), False, True),
        (Driver("cannot execute INSERT in a read-only transaction", sqlstate="25006"), False, False),
        (Driver('FATAL: password authentication failed for user "me"'), False, False),
        (Driver('FATAL: database "none" does not exist'), False, False),
    ],
    ids=lambda value: str(value) if isinstance(value, Exception) else "",
)
def test_what_passes_is_waited_for_and_what_stays_is_told_at_once(driver, passes, lost):
    error, calls = failed(driver), []
    assert (passing(error), damaged(error)) == (passes, lost)

    def call():
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise error
        return 7

    if passes:
        assert storage.patiently(call, "postgresql://me:secret@host/db") == 7 and len(calls) == 2
    else:
        with pytest.raises(Lost if lost else UserError) as caught:
            storage.patiently(call, "postgresql://me:secret@host/db")
        assert len(calls) == 1 and str(driver) in str(caught.value) and "secret" not in str(caught.value)


def test_a_wait_says_so_and_for_how_long(monkeypatch, caplog):
    monkeypatch.setattr(signals, "SOON", 0.02)
    monkeypatch.setattr(signals, "AGAIN", 0.02)
    calls = []

    def call():
        calls.append(1)
        if len(calls) < 3:
            raise failed(Driver("connection refused"))

    storage.patiently(call, "postgresql://me:secret@host/db")
    said = caplog.messages
    assert said[0] == "waiting for the storage postgresql://***@host/db for 0 s (connection refused)" and len(said) > 1
    time.sleep(0.1)
    assert len(caplog.messages) == len(said), "it ends with the wait"


def test_a_driver_that_hangs_is_spoken_for(monkeypatch, caplog):
    monkeypatch.setattr(signals, "SOON", 0.02)
    storage.patiently(lambda: time.sleep(0.1), "sqlite:///a.db")
    assert "waiting for the storage sqlite:///a.db for 0 s" in caplog.messages


def test_a_lock_that_another_process_keeps_is_waited_for_with_a_word(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(signals, "SOON", 0.02)
    with open(tmp_path / "lock", "w") as one, open(tmp_path / "lock", "w") as other:
        assert files.acquire(one) and not files.acquire(other, wait=False)
        threading.Timer(0.2, one.close).start()
        assert files.acquire(other)
    assert f"waiting for another process, which has locked {tmp_path}/lock, for 0 s" in caplog.messages


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:s3c:r/e@t@host/db",
        "postgresql+psycopg://me@corp:s3c%3Ar%2Fe%40t@host/db",
        "postgresql+psycopg://host/db?password=s3c%3Ar%2Fe%40t",
        "no url://me:s3c:r/e@t@host",
    ],
)
def test_what_a_driver_quotes_of_a_password_is_hidden(url):
    for text in ('could not translate host name "t@host"', "s3c:r/e@t is wrong", "no port s3c", 'user="me" pw="r/e@t"'):
        message = told(Exception(text), url)
        assert not any(part in message for part in ("s3c", "r/e", "e@t")), message
        assert "***" in message or "@" in text


@pytest.mark.parametrize("name", ["ws_feature%2Fx why?", "a#b {x}", "50% ünï", "x;y&z=1 a:b@c"])
def test_a_results_path_of_any_kind_holds_its_own_study(tmp_path, monkeypatch, name):
    Training(monkeypatch)
    place = tmp_path / name / "results"
    with engine(place) as search:
        search.run(trials=1)
    with engine(place) as search:
        assert len(search.found.recorded()) == len(trials(place)) == 1
    assert [path.relative_to(place) for path in tmp_path.rglob("*.db")] == [Path("studies/toy.db")]
    assert len(StudyHandle(Results(place).database("toy"), "toy").trials()) == 1
    url, found = location(None, None, place)
    assert found == "toy" and connect(url, create=False, write=False).get_all_studies()


def content(path: Path) -> dict:
    return {
        file.relative_to(path): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in path.rglob("*")
        if file.is_file()
    }


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Nothing can be made in `folder`; root, whom permissions don't stop, is somebody else for a while."""
    root = os.geteuid() == 0
    above = [part for part in folder.parents if root and part.stat().st_uid == 0 and not part.stat().st_mode & 0o001]
    modes = {part: part.stat().st_mode for part in (folder, *above)}
    for part in above:
        part.chmod(modes[part] | 0o011)
    folder.chmod(0o555)
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)
        for part, mode in modes.items():
            part.chmod(mode)


def foreign(path: Path, *tables: str) -> Path:
    with sqlite3.connect(path) as connection:
        for table in ("customers", *tables):
            connection.execute(f"CREATE TABLE {table} (id INTEGER)")
    connection.close()
    return path


@pytest.mark.parametrize("tables", [(), ("studies", "trials")])
def test_reading_a_foreign_database_changes_nothing(tmp_path, tables):
    url = f"sqlite:///{foreign(tmp_path / 'foreign.db', *tables)}"
    before = content(tmp_path)
    for read in (lambda: StudyHandle(url, "x"), lambda: connect(url, create=False), lambda: connect(url, write=False)):
        with pytest.raises(UserError):
            read()
    (tmp_path / "empty.db").touch()
    with pytest.raises(UserError, match="it holds no studies"):
        StudyHandle(f"sqlite:///{tmp_path}/empty.db", "x")
    assert (tmp_path / "empty.db").read_bytes() == b""
    (tmp_path / "empty.db").unlink()
    assert content(tmp_path) == before


def test_reading_a_study_changes_nothing_and_cannot(tmp_path, monkeypatch):
    Training(monkeypatch)
    with engine(tmp_path) as search:
        search.run(trials=2)
    before = content(tmp_path)
    study = StudyHandle(Results(tmp_path).database("toy"), "toy")
    assert len(study.trials()) == 2
    with pytest.raises(UserError, match="readonly"):
        study.storage.set_study_user_attr(study.id, "x", 1)
    study.storage.close()
    assert {path: v for path, v in content(tmp_path).items() if path.suffix in (".db", ".jsonl")} == {
        path: v for path, v in before.items() if path.suffix in (".db", ".jsonl")
    }


def test_a_study_in_a_directory_that_is_read_only_can_be_read(tmp_path, monkeypatch):
    Training(monkeypatch)
    with engine(tmp_path) as search:
        search.run(trials=1)
    url = Results(tmp_path).database("toy")
    with unprivileged(sqlite_file(url).parent):
        study = StudyHandle(url, "toy")
        assert len(study.trials()) == 1
        study.storage.close()
    Path(f"{sqlite_file(url)}-wal").write_bytes(b"changes that a killed process left")
    Path(f"{sqlite_file(url)}-shm").unlink(missing_ok=True)
    with unprivileged(sqlite_file(url).parent), pytest.raises(UserError, match="copy both files to a directory"):
        StudyHandle(url, "toy")


def test_files_that_have_a_locks_name_keep_their_content(tmp_path):
    (tmp_path / "study.db.lock").write_text("mine")
    Presence(tmp_path / "study.db").close()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / ".writable").write_text("mine")
    files.writable(tmp_path / "results")
    assert (tmp_path / "study.db.lock").read_text() == (tmp_path / "results" / ".writable").read_text() == "mine"


def test_a_file_that_is_deleted_or_replaced_is_noticed(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    opened = connect(url)
    optuna.create_study(storage=opened, study_name="x")
    assert opened.get_all_studies()
    for path in tmp_path.glob("study.db*"):
        path.unlink()
    with pytest.raises(Lost, match="study.db has been deleted or replaced"):
        opened.get_all_studies()
    other = connect(url)
    with pytest.raises(Lost, match="study.db has been deleted or replaced"):
        opened.get_all_studies()
    assert other.get_all_studies() == []


@pytest.mark.parametrize("url", ["sqlite:x.db", "nonsense", "postgresql+psycopg://me:se@cr:et@host:port/db", "x://y"])
def test_what_is_no_url_is_told_in_one_line(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for opening in (lambda: connect(url, wait=True), lambda: engine(tmp_path, storage=url)):
        with pytest.raises(UserError, match="cannot be") as caught:
            opening()
        assert "cr" not in str(caught.value)


def test_a_database_that_is_not_up_yet_is_waited_for(tmp_path, monkeypatch):
    tries = []

    def database(*arguments):
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("connect", {}, Driver("connection refused"))
        return optuna.storages.InMemoryStorage()

    monkeypatch.setattr(storage, "_database", database)
    assert isinstance(connect("postgresql://me:secret@host/db", wait=True), Patient) and len(tries) == 3
    tries.clear()
    with pytest.raises(UserError, match=r"postgresql://\*\*\*@host/db cannot be opened: .*connection refused"):
        connect("postgresql://me:secret@host/db")


def test_secrets_are_whole_words_only():
    assert told(Exception("timeout of it"), "postgresql://me:it@host/db") == "timeout of ***"
    assert outage.shown(sqlalchemy.make_url("postgresql://me:it@host/db")) == "postgresql://***@host/db"


def test_trials_are_read_as_optuna_reads_them(tmp_path, monkeypatch):
    Training(monkeypatch)
    url = f"sqlite:///{tmp_path}/study.db"
    with engine(tmp_path, storage=url) as search:
        search.run(trials=3)
        search.study.enqueue_trial({"depth": 1})
        unfinished = search.study.ask()
        unfinished.report(float("nan"), 1)
        unfinished.report(float("-inf"), 2)
        other = optuna.create_study(storage=search.storage, study_name="other", directions=["minimize", "maximize"])
        other.add_trial(optuna.create_trial(values=[1.0, float("inf")], params={}))
    ours, optunas = connect(url).once, optuna.storages.RDBStorage(url)

    def facts(trials) -> list[str]:  # attributes have no order, and NaN is not itself
        parts = [{k: sorted(v.items()) if isinstance(v, dict) else v for k, v in vars(t).items()} for t in trials]
        return list(map(repr, parts))

    for study in optunas.get_all_studies():
        for states in (None, (optuna.trial.TrialState.COMPLETE,), (optuna.trial.TrialState.RUNNING,)):
            found = ours.get_all_trials(study._study_id, states=states)
            assert facts(found) == facts(optunas.get_all_trials(study._study_id, states=states))
    backend, number = ours._backend, optunas.get_all_studies()[0]._study_id
    for known, above in (({1, 3}, 2), (set(), 2), ({2}, -1)):
        found = facts(backend._get_trials(number, None, known, above))
        assert found == facts(optunas._get_trials(number, None, known, above))
