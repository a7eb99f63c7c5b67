"""Stored networks in repositories of Hugging Face: weights, card and index entry pushed, and pulled with a check.

huggingface_hub speaks to the server that HF_ENDPOINT names, by default its own, with the token of `hf auth login` or
HF_TOKEN.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from search.errors import UserError
from search.files import sync, temporary_name, write_atomically
from search.inference.stored import Stored
from search.records.results import Results
from search.records.weights import Header, networks
from search.report.index import NAME, Entry, card, entry_of, sha256, written

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MOST = 1 << 20  # bytes of an index
TIMEOUT = 20.0  # seconds that a server is waited for
INDEX = TypeAdapter(list[Entry])


def push(stored: Stored, repository: str) -> str:
    """Upload the weights of a row, its card as README.md and its index entry, in one commit; returns its address.

    The repository, "owner/name", is made where there is none. Raises UserError where `stored` stands in no row, the
    extra or a token is missing, or the server can't be reached or refuses.
    """
    if stored.row is None or stored.record is None:
        raise UserError(f"{stored.name} stands in no row of the table: only what was tested for a target is pushed")
    api = _api()
    from huggingface_hub import CommitOperationAdd, get_token

    if not get_token():
        raise UserError("no token of Hugging Face is here: run `hf auth login`, or set HF_TOKEN")
    entry = entry_of(stored.row, stored.record, stored.path)
    files = {stored.path.name: stored.path, "README.md": card(entry).encode(), NAME: written([entry]).encode()}
    with _spoken(api, repository):
        api.create_repo(repository, exist_ok=True)
        added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
        done = api.create_commit(repository, added, commit_message=f"Add {stored.row}, {entry.parameters:,} parameters")
    return str(done.commit_url)


def pull(repository: str, results: Results) -> tuple[Path, Entry]:
    """Download what `push` has uploaded into a folder of its own below `results`, pulled/OWNER--NAME-DIGEST.

    It appears when all of it is there and checked: the weights by the SHA-256 in the index entry, and by their own.

    Returns:
        The file of weights and its entry.
    Raises:
        UserError: the extra is missing, the server can't be reached, there is no such repository or it holds no network
            of ours, or what came is not what the entry says; then nothing is left.
    """
    api, folder = _api(), results.folder / "pulled"
    place = temporary_name(folder / repository.replace("/", "--"))
    try:
        place.mkdir(parents=True)
        with _spoken(api, repository):
            commit = api.model_info(repository, timeout=TIMEOUT).sha  # both files are of this one
            entry = _entry(Path(api.hf_hub_download(repository, NAME, revision=commit, local_dir=place)), repository)
            assert entry.weights is not None
            final = folder / f"{repository.replace('/', '--')}-{entry.weights.sha256[:8]}"
            file = entry.weights.file
            if not _whole(final / file, entry):
                api.hf_hub_download(repository, file, revision=commit, local_dir=place)
        if not _whole(final / file, entry):
            _land(place, final, entry, repository)
        return final / file, entry
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _entry(path: Path, repository: str) -> Entry:
    """The one entry of a downloaded index."""
    try:
        if path.stat().st_size > MOST:
            raise ValueError(f"more than {MOST:,} bytes")
        (entry,) = INDEX.validate_json(path.read_bytes())
        if entry.weights is None:
            raise ValueError("it names no weights")
        return entry
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(f"{repository}: its {NAME} is not one that `wavemix push` writes ({reason})") from error
    except ValueError as error:
        raise UserError(f"{repository}: its {NAME} is not one that `wavemix push` writes ({error})") from error


def _whole(path: Path, entry: Entry) -> bool:
    return entry.weights is not None and path.is_file() and sha256(path) == entry.weights.sha256


def _land(place: Path, final: Path, entry: Entry, repository: str) -> None:
    """Check what came, and give its folder its name."""
    assert entry.weights is not None
    path = place / entry.weights.file
    if not _whole(path, entry):
        raise UserError(f"{repository}: {path.name} is not what its {NAME} says (SHA-256 differs): nothing was kept")
    networks(path)  # by the digest of its own, and into the network
    header = Header.read(path)
    if header is None or header.config != entry.configuration or not set(entry.seeds) <= set(header.seeds):
        raise UserError(f"{repository}: {path.name} holds other networks than its {NAME} says: nothing was kept")
    shutil.rmtree(place / ".cache", ignore_errors=True)
    write_atomically(place / "README.md", card(entry).encode())  # from the entry, so that it can't say anything else
    if final.exists():  # damaged since
        shutil.rmtree(final)
    os.replace(place, final)
    sync(final.parent)


def _api() -> "HfApi":
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars, logging
    except ImportError as error:
        raise UserError("huggingface_hub is not installed: pip install '.[hub]'") from error
    disable_progress_bars()
    logging.set_verbosity_error()  # what matters comes as an exception
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)  # as it is now, not when it was first imported


@contextmanager
def _spoken(api: "HfApi", repository: str) -> Iterator[None]:
    """What goes wrong between here and the server, as a UserError in one line."""
    from httpx2 import HTTPError, InvalidURL
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise UserError(f"a repository is OWNER/NAME, not {repository!r}") from error
    except LocalEntryNotFoundError as error:
        raise UserError(f"{api.endpoint} can't be reached: check the network, or HF_ENDPOINT") from error
    except EntryNotFoundError as error:
        raise UserError(f"{repository} at {api.endpoint} lacks a file that `wavemix push` uploads") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = {401: "the token is missing or refused", 403: "the token may not do that"}.get(status)
        if isinstance(error, RepositoryNotFoundError):
            reason = "there is no such repository, or it is private and the token is missing"
        raise UserError(f"{repository} at {api.endpoint}: {reason or f'the server answered {status}'}") from error
    except (HTTPError, InvalidURL) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{api.endpoint} can't be reached ({reason}): check the network, or HF_ENDPOINT") from error
