"""Where a study lives: an Optuna storage (SQLite, PostgreSQL, or that behind a gRPC proxy), made safe for many workers.

Optuna's SQLite transactions read before they lock, so that two processes can take the same trial or number: here every
transaction begins with the write lock. A storage that goes away for a while is waited for; what does not pass (a full
disk, a damaged or deleted database) is told at once.
"""

import functools
import logging
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.event
from alembic.util import CommandError
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from search.errors import UserError
from search.files import LOCKS, acquire
from search.signals import Word, sleep
from search.study.database import Database
from search.study.optuna_internals import cached, engine
from search.study.outage import Lost, cause, damaged, passing, shown, told
from search.study.seals import digest
from search.training.recipe import filled

PATIENCE = 300.0  # seconds that a storage which does not answer is waited for
BUSY = 5.0  # seconds that SQLite itself waits for a lock; then a signal is heeded
TABLES = ("studies", "trials", "version_info", "alembic_version")  # some that an Optuna storage has


class Presence:
    """Held by every process that works on the SQLite file `path`; `alone` while no other does.

    Freed by `close` or with the process, however that ends. So a process that comes and is alone knows that whatever
    the file says is running has lost its process; others who come meanwhile wait until `settle` says it has been seen
    to. A `path` of None, of a storage that other machines can reach, is never alone.
    """

    def __init__(self, path: Path | None):
        self.file, self.alone = None, False
        if path is None or not LOCKS:  # without, a killed run's trials are put back after a while only
            return
        try:
            self.file = open(f"{path}.lock", "ab")  # whatever has this name keeps its content
            self.alone = acquire(self.file, wait=False)
            if not self.alone:
                acquire(self.file, shared=True)
        except OSError as error:
            raise UserError(f"the storage {path} cannot be opened: {error.strerror}") from error

    def settle(self) -> None:
        self.alone = False
        if self.file:
            acquire(self.file, shared=True)

    def close(self) -> None:
        if self.file:
            self.file.close()


def patiently(call: Callable, url: str | URL, repeated: Callable[[], None] = lambda: None):
    """What `call` returns, made again while the storage at `url` does not answer, each time after `repeated()`.

    Says from time to time that it waits. Raises UserError after PATIENCE seconds and at once for what does not pass;
    Lost where the database is damaged, or what was asked for is no longer in it.
    """
    end, pause = time.monotonic() + PATIENCE, 0.1
    with Word(f"the storage {shown(url)}") as word:
        while True:
            try:
                return call()
            except KeyError as error:  # so Optuna's storages answer for a study or trial that is not there
                raise Lost(f"the storage {shown(url)} does not hold the study or one of its trials any more") from error
            except Exception as error:
                reason = told(error, url)
                if not passing(error):
                    if damaged(error):
                        raise Lost(f"the storage {shown(url)} is damaged: {reason}") from error
                    if isinstance(cause(error), SQLAlchemyError):
                        raise UserError(f"the storage {shown(url)} cannot be used: {reason}") from error
                    raise
                if time.monotonic() > end:
                    raise UserError(
                        f"the storage {shown(url)} has not answered for {PATIENCE:.0f} s ({reason}): the same command "
                        "resumes"
                    ) from error
                word.reason = reason
                repeated()
                sleep(pause)
                pause = min(2 * pause, 5.0)


class Patient:
    """An Optuna storage that waits for its database: a call that fails for that reason is made again.

    A call that had been carried out before its answer was lost is harmless to repeat: what it can leave behind is a
    running trial without a worker, which is put back like any other. `waited` counts the repetitions, `once` is the
    storage without patience. Raises what `patiently` does, and Lost where the SQLite file is no longer the one that was
    opened: SQLite itself would go on writing into the deleted one.
    """

    def __init__(self, storage, url: str | URL):
        self.once, self.url, self.waited = storage, url, 0
        self.file = sqlite_file(url)
        self.opened = self._identity()

    def __getattr__(self, name: str):
        found = getattr(self.__dict__["once"], name)
        return functools.partial(self._call, found) if callable(found) else found

    def as_optunas(self) -> Any:
        """This one, for Optuna's functions: it is a storage in all but its class."""
        return self

    def close(self) -> None:
        """End the connections of this process."""
        self.once.remove_session()
        if hasattr(self.once, "close"):  # a proxy's
            self.once.close()
        if opened := engine(self.once):
            opened.dispose()

    def _call(self, function, *arguments, **options):
        if self._identity() != self.opened:
            raise Lost(f"the file {self.file} has been deleted or replaced")
        try:
            return patiently(functools.partial(function, *arguments, **options), self.url, self._again)
        except (ValueError, TypeError, AttributeError, LookupError) as error:  # rows that nobody has written so
            raise Lost(f"the storage {shown(self.url)} is damaged: {told(error, self.url)}") from error

    def _again(self) -> None:
        self.waited += 1

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self.file.stat() if self.file else None
        except OSError:
            return 0, 0
        return status and (status.st_dev, status.st_ino)


def sqlite_file(url: str | URL) -> Path | None:
    """The file behind an SQLite URL, None for any other."""
    try:
        parsed = sqlalchemy.make_url(url)
    except (SQLAlchemyError, ValueError):  # `connect` says so
        return None
    name = parsed.database if parsed.get_backend_name() == "sqlite" else None
    return Path(name) if name and name != ":memory:" and not name.startswith("file:") else None


def connect(url: str | URL, *, create: bool = True, write: bool = True, wait: bool = False) -> Patient:
    """The storage at `url`: what SQLAlchemy knows, or `grpc://host:port`.

    Without `create` neither an SQLite file nor Optuna's tables are made; without `write` nothing can be changed. One
    that does not answer is waited for where `wait` says so. Raises UserError, with secrets masked, where it can't be
    opened, and Lost where it is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # what goes wrong comes as an exception, too; Ctrl-C amid a query would be followed by a traceback of a cursor
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

    def opened():
        if not create and (file := sqlite_file(url)) and not file.is_file():
            raise FileNotFoundError(f"there is no file {file}")
        return _grpc(str(url)) if str(url).startswith("grpc://") else _database(sqlalchemy.make_url(url), create, write)

    try:
        return Patient(patiently(opened, url) if wait else opened(), url)
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy's, the driver's and Optuna's own, according to the URL
        kind = Lost if damaged(error) else UserError
        raise kind(f"the storage {shown(url)} cannot be opened: {told(error, url)}") from error


def _grpc(url: str) -> optuna.storages.BaseStorage:
    host, _, port = url.removeprefix("grpc://").rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("a proxy's URL is grpc://host:port")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            storage = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
        except ImportError as error:
            raise ImportError("install grpcio and protobuf to use a proxy") from error
    storage.wait_server_ready(timeout=10)
    return storage


def _database(url: URL, create: bool, write: bool) -> optuna.storages.BaseStorage:
    options: dict = {"pool_pre_ping": True}
    if url.get_backend_name() == "sqlite":
        options = _sqlite(url, create, write)
    elif url.drivername == "postgresql+psycopg":
        # a server that vanishes without a word is noticed after a minute
        alive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60000}
        options["connect_args"] = {"connect_timeout": 10, **alive}
    if url.get_backend_name() == "postgresql" and not write:
        options["execution_options"] = {"postgresql_readonly": True}
    if not create:
        engine = sqlalchemy.create_engine("sqlite://" if "creator" in options else url, **options)
        with closing(engine.connect()) as connection:
            missing = set(TABLES) - set(sqlalchemy.inspect(connection).get_table_names())
        engine.dispose()
        if missing:
            raise LookupError("it holds no studies")
    for attempt in range(5):
        try:
            # Optuna takes text alone, and a path would not come through it as it is: SQLite is opened by `creator`
            text = "sqlite://" if "creator" in options else url.render_as_string(hide_password=False)
            storage = Database(text, engine_kwargs=options, skip_table_creation=not create)
            break
        except (CommandError, RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
            # what the tables say is nothing that this Optuna can read: damage, or another version's
            kind = Lost if sqlite_file(url) else UserError
            raise kind(f"the storage {shown(url)} cannot be read: {told(error, url)}") from error
        except (IntegrityError, ProgrammingError, OperationalError, StorageInternalError) as error:
            made = "already exists" in str(error) or isinstance(error, IntegrityError)
            if not made or attempt == 4:  # another process may be making the tables at the same moment
                raise
            time.sleep(0.2 * (attempt + 1))
    if url.get_backend_name() == "sqlite" and write:
        sqlalchemy.event.listen(
            storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
        )
    return cached(storage)


def _sqlite(url: URL, create: bool, write: bool) -> dict:
    """An engine's options for an SQLite file."""
    (name,), given = url.get_dialect()().create_connect_args(url)
    if name == ":memory:":
        return {}
    given = {"timeout": BUSY, **given, "isolation_level": None, "check_same_thread": False}
    file = sqlite_file(url)
    if file and not write:  # as a URI, in which ? and % have a meaning
        name, given["uri"] = f"{file.absolute().as_uri()}?{_read_only(file)}", True
    if file and create:
        with closing(sqlite3.connect(name, timeout=BUSY)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # one wait for the disk a commit instead of three
    return {"creator": lambda: sqlite3.connect(name, **given), "poolclass": sqlalchemy.pool.QueuePool}


def _read_only(file: Path) -> str:
    """How SQLite opens a file that is only read: it may make the files of its log beside it, where it can.

    Where it can't (another user's directory, a medium that is read only) and no process has left a log, the file
    itself is all there is, and stays as it is. Raises UserError where there is a log without its index, which SQLite
    would have to write.
    """
    log, index = Path(f"{file}-wal"), Path(f"{file}-shm")
    if os.access(file.parent, os.W_OK, effective_ids=True):
        return "mode=ro"
    if log.exists() and not index.exists():
        raise UserError(
            f"{file} can't be read in a directory that is read only, since {log.name} has changes that are not in it "
            "yet: copy both files to a directory of yours, and give --results or --storage"
        )
    return "mode=ro" if log.exists() else "immutable=1"


def open_study(storage: Patient, name: str, identity: dict, free: Collection[str] = ()) -> optuna.Study:
    """The study `name` in `storage`, created where there is none.

    `identity` is what may not change between runs of one study (data digest, target, recipe, ...): kept with a new
    study, compared with an old one's, but for what is `free`. Raises UserError where they differ, or where the storage
    can't be read.
    """
    url = shown(storage.url)
    try:
        study = optuna.create_study(
            storage=storage.as_optunas(), study_name=name, direction="maximize", load_if_exists=True
        )
        stored = study.user_attrs.get("identity")
        trials = study.get_trials(deepcopy=False)
    except UserError:
        raise
    except Exception as error:  # a database that is no Optuna storage, or one of another version
        raise UserError(f"the storage {url} cannot be opened: {told(error, storage.url)}") from error
    if stored is None and trials:
        raise UserError(f"the study {name} in {url} was not made by this program: give --name for a new one")
    if stored is None:
        keep_identity(study, identity)
        stored = study.user_attrs["identity"]  # another process may have started it at the same moment
    if "recipe" in stored:
        stored = {**stored, "recipe": filled(stored["recipe"])}
    differing = [key for key in {**identity, **stored} if key not in free and stored.get(key) != identity.get(key)]
    if differing:
        key = differing[0]
        what = "it is of other images" if key == "digest" else f"its {key} differs"
        raise UserError(
            f"the storage holds another study named {name} ({what}): give --name for a new one, or the "
            "options it was started with to resume it"
        )
    return study


def keep_identity(study: optuna.Study, identity: dict) -> None:
    """Let the study say what it is, with a seal by which damage is found."""
    study.set_user_attr("identity", identity)
    study.set_user_attr("seal", digest(identity))
