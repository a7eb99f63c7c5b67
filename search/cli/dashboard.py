"""A study in a browser: optuna-dashboard (the extra `dashboard`), served to this machine and not changed by it.

It shows the study as `search.study.view` presents it: the parameters are minimised among the feasible trials.
"""

import ipaddress
import socket
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from sqlalchemy.engine import URL

from search.errors import UserError
from search.records.results import Results
from search.study.outage import shown, told
from search.study.storage import connect
from search.study.view import View


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a page that is being loaded does not keep it from ending


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_) -> None:
        pass


def guarded(app: Callable, names: Collection[str]) -> Callable:
    """`app` without its ways to change a study, which its search owns, for pages of this server alone.

    A page from elsewhere whose own name was made to mean this machine (DNS rebinding) says that name as the host: only
    `names`, `localhost` and addresses are answered.
    """

    def answer(environ: dict, start_response: Callable) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Content-Type", "text/plain"), ("Allow", "GET, HEAD")])
            return [b"read only: studies are changed by `wavemix search` alone"]
        if not _ours(environ.get("HTTP_HOST", "localhost"), names):
            start_response("421 Misdirected Request", [("Content-Type", "text/plain")])
            return [b"this server has another name: give it by --host"]
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")  # optuna-dashboard takes it for granted
        return app(environ, start_response)

    return answer


def _ours(host: str, names: Collection[str]) -> bool:
    """Whether a Host header, with or without a port, is an address or one of the `names`."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name in {known.lower() for known in names}
    return True


def location(name: str | None, storage: str | URL | None, results: Path) -> tuple[str | URL, str | None]:
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
    return Results(results).database(name), name


def server(url: str | URL, name: str | None, host: str, port: int) -> tuple[WSGIServer, str]:
    """A server that is bound but not yet running, and the address of the study's page (of all studies' without `name`).

    Port 0 takes a free one. Raises UserError where optuna-dashboard is not installed, the storage can't be opened, it
    holds no study of that name, or the port is taken. The storage's password is in no message.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError as error:
        raise UserError("the dashboard is not installed: pip install '.[dashboard]'") from error
    storage = View(connect(url, create=False, write=False).once)  # a page that waits for minutes helps nobody
    try:
        studies = optuna.get_all_study_names(storage)
        number = storage.get_study_id_from_name(name) if name in studies else None
    except Exception as error:  # SQLAlchemy's, the driver's and Optuna's own, according to the URL
        raise UserError(f"the storage {shown(url)} cannot be read: {told(error, url)}") from error
    if name is not None and name not in studies:
        raise UserError(f"no study {name} in {shown(url)}: it holds {', '.join(sorted(studies)) or 'none'}")
    try:
        bound = make_server(host, port, guarded(wsgi(storage), {host, socket.gethostname()}), _Server, _Quiet)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"cannot serve on {host} port {port}: {error}; choose another --port") from error
    page = "dashboard" if number is None else f"dashboard/studies/{number}"
    return bound, f"http://{f'[{host}]' if ':' in host else host}:{bound.server_port}/{page}"
