"""A study in a browser: optuna-dashboard (the extra `dashboard`), served to this machine and not changed by it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna

from .environment import mask
from .errors import UserError
from .storage import first_line


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a page that is being loaded does not keep it from ending


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_) -> None:
        pass


def read_only(app: Callable) -> Callable:
    """`app` without its ways to rename, delete and tell: the search owns its study, a page anybody opens does not."""

    def guarded(environ: dict, start_response: Callable) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return app(environ, start_response)
        start_response("405 Method Not Allowed", [("Content-Type", "text/plain"), ("Allow", "GET, HEAD")])
        return [b"read only: studies are changed by `wavemix search` alone"]

    return guarded


def location(name: str | None, storage: str | None, results: Path) -> tuple[str, str | None]:
    """The storage URL and the study's name, from --storage or from the study's own file under `results`.

    Raises UserError, naming the known studies, where there is none or where it is not clear which.
    """
    if storage is not None:
        return storage, name
    files = {path.stem: path for path in sorted((results / "studies").glob("*.db"))}
    if not files:
        raise UserError(f"no study in {results}: search first, or give --storage or --results")
    if name is None and len(files) == 1:
        name = next(iter(files))
    if name not in files:
        problem = "several studies" if name is None else f"no study {name}"
        raise UserError(f"{problem} in {results}: name one of {', '.join(files)}")
    return f"sqlite:///{files[name]}", name


def server(url: str, name: str | None, host: str, port: int) -> tuple[WSGIServer, str]:
    """A server that is bound but not yet running, and the address of the study's page (of all studies' without `name`).

    Port 0 takes a free one. Raises UserError where optuna-dashboard is not installed, the storage can't be opened, it
    holds no study of that name, or the port is taken. The storage's password is in no message.
    """
    try:
        from optuna_dashboard._app import create_app  # what `optuna_dashboard.wsgi` calls, for a storage object
    except ImportError as error:
        raise UserError("the dashboard is not installed: pip install '.[dashboard]'") from error
    file = url.removeprefix("sqlite:///")
    if file != url and not Path(file).is_file():  # SQLite would make an empty one
        raise UserError(f"no file {file}: the storage holds no study yet")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = optuna.storages.get_storage(url)
        studies = {study.study_name: study._study_id for study in storage.get_all_studies()}
    except Exception as error:  # SQLAlchemy's, the driver's and Optuna's own, according to the URL
        raise UserError(f"the storage {mask(url)} cannot be opened: {first_line(error)}") from error
    if name is not None and name not in studies:
        raise UserError(f"no study {name} in {mask(url)}: it holds {', '.join(sorted(studies)) or 'none'}")
    try:
        bound = make_server(host, port, read_only(create_app(storage)), _Server, _Quiet)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"cannot serve on {host} port {port}: {error}; choose another --port") from error
    page = f"dashboard/studies/{studies[name]}" if name is not None else "dashboard"
    return bound, f"http://{f'[{host}]' if ':' in host else host}:{bound.server_port}/{page}"
