"""A journal: a file of records, one JSON object a line, only ever appended to.

It holds the records of one campaign. A line is written with one system call under a lock and reaches the disk before
`append` returns, so that a killed run loses at most the record it was writing; that torn tail is moved to FILE.torn by
the next `append` or `repair`. A line's last field is its checksum: the first 16 hexadecimal digits of the SHA-256 of
the line without that field. Older lines have none.

By hand, although jsonlines and pandas read and write such files: they neither wait for the disk, nor lock, nor tell a
torn tail from a damaged line, and no checksum is part of the format. What they would spare is splitting at line ends;
JSON itself and its validation are pydantic's.
"""

import functools
import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from search import text as safe
from search.errors import UserError
from search.files import acquire, sync
from search.records.audits import Audit, Statement
from search.records.benchmarks import Benchmark, RowRun
from search.records.environment import SCHEMA_VERSION
from search.records.models import Confirmation, Reproduction, Scout, Trial

# any record: a line says by its `kind` which
Record = Annotated[
    Trial | Scout | Confirmation | Reproduction | Audit | Statement | Benchmark | RowRun, Field(discriminator="kind")
]
_adapter: TypeAdapter[Record] = TypeAdapter(Record)
# a command reads the same journals several times; records do not change
_validated = functools.lru_cache(maxsize=8192)(_adapter.validate_json)
APART = ("studies", "apart")  # folders
CHECKSUM = re.compile(rb',"checksum":"([^"]*)"\}\s*$')
log = logging.getLogger(__name__)


def append(path: Path | str, record: Record) -> None:
    """Write `record` as one line at the end of `path` (created with its directories) and wait for the disk.

    Raises UserError where the file cannot be written; what it held before is still there, byte for byte.
    """
    line = _sealed(record.model_dump_json().encode()) + b"\n"
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
            _repair(file, path)
            size = os.fstat(file).st_size
            try:
                if os.write(file, line) != len(line):
                    raise OSError("no space left on device")
                os.fsync(file)
            except OSError:
                os.ftruncate(file, size)
                raise
            if size == 0:
                sync(path.parent)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror or error}") from error


def repair(path: Path | str) -> None:
    """Move a last line that an interrupted write left torn to PATH.torn; do nothing where there is none."""
    path = Path(path)
    try:
        with _locked(path, os.O_RDWR | os.O_APPEND) as file:
            _repair(file, path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror or error}") from error


def identity_of(line: bytes) -> tuple[int | None, str | None]:
    """What tells a trial's record from others of its study, its number and when it was made, without validating it.

    None of it where the line is damaged.
    """
    try:
        fields = json.loads(_opened(line) or b"")
        return fields.get("number"), fields.get("created")
    except (ValueError, AttributeError):
        return None, None


def read(path: Path | str, known: Collection[tuple] = ()) -> list[Record]:
    """All records of a file, in the order they were written; an editor's empty lines count for nothing.

    A line whose checksum does not fit is said and left out, and so are those whose identities are `known`: to validate
    thousands takes seconds. Raises UserError naming the file and a bad line.
    """
    path = Path(path)
    try:
        with _locked(path, os.O_RDONLY) as file, open(file, "rb", closefd=False) as stream:
            content = stream.read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    lines = content.split(b"\n")
    tail = lines.pop()
    found = [
        _parse(line, path, number)
        for number, line in enumerate(lines, 1)
        if line.strip() and not (known and identity_of(line) in known)
    ]
    if tail:
        raise UserError(
            f"{path}, line {len(lines) + 1}: cut off while it was written; `wavemix tables`, or the next run that "
            f"records into this file, moves it to {path.name}.torn"
        )
    return [record for record in found if record is not None]


def journals(results_dir: Path | str) -> list[Path]:
    """The files of records below `results_dir`, in the order of their names.

    They may be sorted into folders. What is `APART` is none: checkpoints, and records that no table is made of.
    """
    folder = Path(results_dir)
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in APART]
        found += [Path(place) / name for name in files if name.endswith(".jsonl")]
    return sorted(found, key=lambda path: (path.name, path))


def read_all(results_dir: Path | str) -> list[Record]:
    """The records in all `journals`. Raises UserError where there is no such directory, or a record is bad."""
    if not Path(results_dir).is_dir():
        raise UserError(f"no results directory {results_dir}: run a search first or name the directory")
    return [record for path in journals(results_dir) for record in read(path)]


def _sealed(line: bytes) -> bytes:
    """The line of a record with its checksum."""
    return line[:-1] + b',"checksum":"%b"}' % hashlib.sha256(line).hexdigest()[:16].encode()


def _opened(line: bytes) -> bytes | None:
    """The line of a record without its checksum, None where that does not fit."""
    seal = CHECKSUM.search(line)
    if seal is None:
        return line
    body = line[: seal.start()] + b"}"
    return body if _sealed(body) == line.rstrip() else None


def _parse(line: bytes, path: Path, number: int) -> Record | None:
    body = _opened(line)
    if body is None:
        log.warning("%s, line %d: damaged (its checksum does not fit), so this record is left out", path, number)
        return None
    try:
        return _validated(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        if where == "schema_version":
            what = f"written by another version of this program (this one reads version {SCHEMA_VERSION})"
        else:
            what = f"{where}: {first['msg']}" if where else first["msg"]
        raise UserError(f"{path}, line {number}: not a valid record: {' '.join(what.split())}") from error


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[int]:
    """`path` opened and locked: shared for reading, exclusive otherwise, so that no reader sees half a line.

    Raises OSError for what is no regular file: a pipe would keep a reader waiting for ever.
    """
    file = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError("it is no regular file")
        acquire(file, shared=flags & os.O_ACCMODE == os.O_RDONLY)
        yield file
    finally:
        os.close(file)


def _repair(file: int, path: Path) -> None:
    size = os.fstat(file).st_size
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return
    start, block = size, b""
    while start > 0 and b"\n" not in block:  # backwards from the end: files grow large, lines do not
        step = min(start, 1 << 16)
        start -= step
        block = os.pread(file, step, start)
    start = start + block.rfind(b"\n") + 1 if b"\n" in block else 0
    tail = os.pread(file, size - start, start)
    try:
        _adapter.validate_json(_opened(tail) or b"")
    except ValidationError:
        aside = path.with_name(path.name + ".torn")
        with open(aside, "ab") as stream:
            stream.write(tail + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.ftruncate(file, start)
        log.warning("%s: its last record had been cut off; moved aside to %s", safe.line(path), safe.line(aside.name))
    else:
        os.write(file, b"\n")  # whole but for its line end
