"""Where a study lives: an Optuna storage (SQLite, PostgreSQL, or that behind a gRPC proxy), made safe for many workers.

Optuna's SQLite transactions read before they lock, so that two processes can take the same trial or number: here every
transaction begins with the write lock. A storage that goes away for a while is waited for.
"""

import functools
import logging
import sqlite3
import time
import warnings
from contextlib import closing
from pathlib import Path

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from .environment import mask
from .errors import UserError
from .lock import LOCKS, acquire
from .recipe import filled

PATIENCE = 300.0  # seconds that a storage which does not answer is waited for


def writable(folder: Path) -> None:
    """Create `folder` and try it. Raises UserError where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".writable", "w"):
            pass
        (folder / ".writable").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another --results") from error


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
            self.file = open(f"{path}.lock", "w")
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


class Patient:
    """An Optuna storage that waits for its database: a call that fails for that reason is made again.

    A call that had been carried out before its answer was lost is harmless to repeat: what it can leave behind is a
    running trial without a worker, which is put back like any other. `waited` counts the repetitions, `once` is the
    storage without patience. Raises UserError after PATIENCE seconds.
    """

    def __init__(self, storage, url: str):
        self.once, self.url, self.waited = storage, url, 0

    def __getattr__(self, name: str):
        found = getattr(self.__dict__["once"], name)
        return functools.partial(self._call, found) if callable(found) else found

    def close(self) -> None:
        """End the connections of this process."""
        self.once.remove_session()
        if hasattr(self.once, "close"):  # a proxy's
            self.once.close()
        if engine := getattr(getattr(self.once, "_backend", None), "engine", None):
            engine.dispose()

    def _call(self, function, *arguments, **options):
        end, pause = time.monotonic() + PATIENCE, 0.1
        while True:
            try:
                return function(*arguments, **options)
            except Exception as error:
                if not _passing(error):
                    raise
                if time.monotonic() > end:
                    raise UserError(
                        f"the storage {mask(self.url)} has not answered for {PATIENCE:.0f} s ({first_line(error)}): "
                        "the same command goes on from here"
                    ) from error
                self.waited += 1
                time.sleep(pause)
                pause = min(2 * pause, 5.0)


def _passing(error: Exception) -> bool:
    """Whether a storage's error is one of the connection or the server, not of what was asked."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, SQLAlchemyError):
        return not isinstance(cause, (DataError, IntegrityError, ProgrammingError))
    code = getattr(cause, "code", None)  # of a grpc.RpcError; the proxy answers UNKNOWN while its database is away
    return callable(code) and getattr(code(), "name", "") in ("UNAVAILABLE", "UNKNOWN", "INTERNAL")


def sqlite_file(url: str) -> Path | None:
    """The file behind an SQLite URL, None for any other."""
    if not url.startswith("sqlite"):
        return None
    name = sqlalchemy.make_url(url).database
    return Path(name) if name and name != ":memory:" else None


def connect(url: str, create: bool = True) -> Patient:
    """The storage at `url`: what SQLAlchemy knows, or `grpc://host:port`. `create` allows making an SQLite file.

    Raises UserError, with passwords masked, where it can't be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # what goes wrong comes as an exception, too; Ctrl-C amid a query would be followed by a traceback of a cursor
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    try:
        if not create and (file := sqlite_file(url)) and not file.is_file():
            raise FileNotFoundError(f"there is no file {file}")
        return Patient(_grpc(url) if url.startswith("grpc://") else _database(url), url)
    except Exception as error:  # SQLAlchemy's, the driver's and Optuna's own, according to the URL
        raise UserError(f"the storage {mask(url)} cannot be opened: {first_line(error)}") from error


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


def _database(url: str) -> optuna.storages.BaseStorage:
    options: dict = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options = {"connect_args": {"timeout": 60, "isolation_level": None}}
        if file := sqlite_file(url):
            with closing(sqlite3.connect(file, timeout=60)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")  # one wait for the disk a commit instead of three
    elif url.startswith("postgresql+psycopg:"):
        # a server that vanishes without a word is noticed after a minute
        alive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60000}
        options["connect_args"] = {"connect_timeout": 10, **alive}
    for attempt in range(5):
        try:
            storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
            break
        except (IntegrityError, ProgrammingError, OperationalError, StorageInternalError) as error:
            made = "already exists" in str(error) or isinstance(error, IntegrityError)
            if not made or attempt == 4:  # another process may be making the tables at the same moment
                raise
            time.sleep(0.2 * (attempt + 1))
    if url.startswith("sqlite"):
        sqlalchemy.event.listen(
            storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
        )
    return optuna.storages._CachedStorage(storage)


def open_study(storage: Patient, name: str, identity: dict) -> optuna.Study:
    """The study `name` in `storage`, created where there is none.

    `identity` is what may not change between runs of one study (data digest, target, recipe, ...): kept with a new
    study, compared with an old one's. Raises UserError where they differ, or where the storage can't be read.
    """
    url = mask(storage.url)
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        stored = study.user_attrs.get("identity")
        trials = study.get_trials(deepcopy=False)
    except UserError:
        raise
    except Exception as error:  # a database that is no Optuna storage, or one of another version
        raise UserError(f"the storage {url} cannot be opened: {first_line(error)}") from error
    if stored is None and trials:
        raise UserError(f"the study {name} in {url} was not made by this program: give --name for a new one")
    if stored is None:
        study.set_user_attr("identity", identity)
        stored = study.user_attrs["identity"]  # another process may have started it at the same moment
    if "recipe" in stored:
        stored = {**stored, "recipe": filled(stored["recipe"])}
    if stored != identity:
        key = next(key for key in {**identity, **stored} if stored.get(key) != identity.get(key))
        what = "it is of other images" if key == "digest" else f"its {key} differs"
        raise UserError(
            f"the storage holds another study named {name} ({what}): give --name for a new one, or the "
            "options it was started with to go on"
        )
    return study


def first_line(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return mask(lines[0])[:200]
