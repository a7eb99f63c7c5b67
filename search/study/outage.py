"""What goes wrong with a storage: which errors pass by themselves, which stay, which mean that the study is lost."""

import re
import sqlite3
from urllib.parse import unquote

from optuna.exceptions import StorageInternalError
from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, ProgrammingError, SQLAlchemyError

from search.errors import UserError
from search.records.environment import mask

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# classes of PostgreSQL's errors that pass: connection, conflict, resources, object in use, shutdown and restart
PASSING = ("08", "40", "53", "55", "57")
DISK_FULL, CORRUPTED = "53100", ("XX001", "XX002")
# what a PostgreSQL says that answers, but not to this user: such an answer carries no code
REFUSED = re.compile(r"authentication failed|no pg_hba\.conf entry|(database|role) \".*\" does not exist")


class Lost(UserError):
    """The study, its storage or a part of it is damaged or has been deleted: waiting or trying again helps nothing."""

    def __str__(self) -> str:
        return f"{super().__str__()}; `wavemix search` with its options and --rebuild makes it anew from the records"


def cause(error: Exception) -> Exception:
    behind = error.__cause__
    return behind if isinstance(error, StorageInternalError) and isinstance(behind, Exception) else error


def passing(error: Exception) -> bool:
    """Whether a storage's error is one that passes: of the connection or of the server, not of what was asked."""
    error = cause(error)
    if isinstance(error, SQLAlchemyError):
        driver = getattr(error, "orig", None)
        if isinstance(driver, sqlite3.Error):
            return _sqlite_code(driver) in BUSY
        if state := getattr(driver, "sqlstate", None):
            return state.startswith(PASSING) and state != DISK_FULL
        if isinstance(error, (ArgumentError, DataError, IntegrityError, ProgrammingError)):
            return False
        return not REFUSED.search(str(driver))
    code = getattr(error, "code", None)  # of a grpc.RpcError; the proxy answers UNKNOWN while its database is away
    return isinstance(error, ConnectionError) or (
        callable(code) and getattr(code(), "name", "") in ("UNAVAILABLE", "UNKNOWN", "INTERNAL")
    )


def damaged(error: Exception) -> bool:
    """Whether the database has said that it is damaged."""
    driver = getattr(cause(error), "orig", cause(error))
    if isinstance(driver, sqlite3.Error):
        # Python's own module says so of a text, without a code
        return _sqlite_code(driver) in DAMAGED or "Could not decode to UTF-8" in str(driver)
    return getattr(driver, "sqlstate", None) in CORRUPTED


def _sqlite_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what an extended code adds


def told(error: Exception, url: str | URL) -> str:
    """The first line of a storage's error, without the secrets of `url`: a driver may quote them on their own."""
    error = getattr(cause(error), "orig", None) or cause(error)  # the driver's own, without SQLAlchemy's frame
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = mask(lines[0])
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text[:200]


def _secrets(url: str | URL) -> set[str]:
    """Passwords and values of the query, as SQLAlchemy reads them and as someone may have meant them who forgot to
    percent-encode: all between the first colon and the last @, and its parts."""
    found: set[str] = set()
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):  # no URL, or a part of the password where a port should be
        pass
    else:
        found.update([str(parsed.password or ""), *map(str, parsed.query.values())])
    if private := re.search(r"//[^:]*:(.*)@", text, re.DOTALL):
        found.add(private[1])
    found |= set(map(unquote, found))
    return {part for secret in found for part in (secret, *re.split(r"[:@/?#]", secret)) if part}


def shown(url: str | URL) -> str:
    """A storage's URL as it may be shown: without user, password and values of the query."""
    return mask(url if isinstance(url, str) else url.render_as_string(hide_password=False), whole=True)
