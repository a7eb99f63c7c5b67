"""Checkpoints of a study's trials: in a directory, which machines may share, or under any URL that fsspec knows.

A checkpoint's name follows from all that the training depends on, so that whoever takes over a trial finds it.
"""

import logging
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.errors import UserError
from search.files import temporaries, temporary_name, writable
from search.records.environment import mask
from search.training.checkpoint import steps

log = logging.getLogger(__name__)
ABANDONED = 3600.0  # seconds after which a half-written checkpoint is nobody's any more


class Checkpoints:
    """Where checkpoints are kept.

    Args:
        place: a directory, or an fsspec URL (`s3://bucket/folder`); None keeps them in `folder`.
        folder: where a training reads and writes them on this machine when `place` is a URL.

    Raises UserError where nothing can be written at `place`.
    """

    def __init__(self, place: str | None, folder: Path):
        self.remote: Any = None  # an fsspec file system, where `place` is a URL
        self.root, self.place = "", place
        self.folder = Path(place) if place and "://" not in place else folder
        try:
            writable(self.folder)
        except UserError as error:
            raise UserError(str(error).replace("--results", "--checkpoints")) if place else error from None
        if place and "://" in place:
            try:
                from fsspec.core import url_to_fs

                self.remote, self.root = url_to_fs(place)
                self.remote.makedirs(self.root, exist_ok=True)
            except Exception as error:  # every protocol raises its own
                raise UserError(f"--checkpoints {mask(place)} cannot be used: {mask(str(error))[:200]}") from error

    def open(self, name: str) -> "Checkpoint":
        """The checkpoint of this name, brought to this machine where there is one."""
        return Checkpoint(self, name)


class Checkpoint:
    """One trial's checkpoint. `path` is the file that a training reads and writes; `problem` is what last went wrong.

    A URL that can't be reached costs a trial its checkpoint, never its result.
    """

    def __init__(self, home: Checkpoints, name: str):
        self.home, self.path, self.problem = home, home.folder / name, ""
        self.url = f"{home.root.rstrip('/')}/{name}"
        if home.remote is not None:
            self._try(self._download)
        self.kept = self._time()

    def keep(self) -> None:
        """Copy what the training has written since the last call to the URL, as one whole object."""
        if self.home.remote is not None and self._time() != self.kept:
            self.kept = self._time()
            self._try(self._upload)

    def remove(self) -> None:
        """The trial is done: delete the checkpoint, and what killed trainings of it left behind."""
        self.path.unlink(missing_ok=True)
        for part in temporaries(self.path):
            with suppress(FileNotFoundError):  # a young one may be of a worker that trains this trial as well
                if time.time() - part.stat().st_mtime > ABANDONED:
                    part.unlink()
        if self.home.remote is not None:
            self._try(self._delete)

    def _time(self) -> int:
        return self.path.stat().st_mtime_ns if self.path.exists() else 0

    def _download(self) -> None:
        """Bring it here, unless the last uploads have failed and what is here is newer. A damaged one is set aside."""
        remote, part = self.home.remote, temporary_name(self.path)
        remote.invalidate_cache()
        if not remote.exists(self.url):
            return
        try:
            remote.get_file(self.url, str(part))
            held = steps(part)
            if held is None:
                remote.mv(self.url, f"{self.url}.damaged")
                log.warning("%s is a damaged checkpoint; moved to %s.damaged", mask(self.url), self.path.name)
            elif held >= (steps(self.path) or 0):
                part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)

    def _upload(self) -> None:
        part = f"{self.url}.{secrets.token_hex(8)}.part"
        self.home.remote.put_file(str(self.path), part)
        self.home.remote.mv(part, self.url)

    def _delete(self) -> None:
        """With the parts of uploads that were cut off: nobody has a use for them any more."""
        remote, folder = self.home.remote, self.url.rpartition("/")[0]
        remote.invalidate_cache()
        for found in remote.ls(folder, detail=False):
            name = found.rpartition("/")[2]
            if name == self.path.name or name.startswith(f"{self.path.name}.") and name.endswith(".part"):
                remote.rm_file(found)

    def _try(self, what) -> None:
        try:
            what()
        except Exception as error:  # every protocol raises its own
            self.problem = (
                f"checkpoints at {mask(str(self.home.place))}: {mask(str(error))[:200] or type(error).__name__}"
            )
