"""A directory of results: which file is where."""

from pathlib import Path

from sqlalchemy.engine import URL

from search.files import writable
from search.records import jsonl
from search.records.environment import ROOT
from search.records.jsonl import Record

PUBLISHED = ROOT / "results"  # of a checkout; an installed package has none


class Results:
    """The records, weights, tables and pictures in `folder`, and the studies that are being searched.

    `published` is a directory of results that is only read: a new study starts from what it has measured.
    """

    def __init__(self, folder: Path | str, published: Path | None = None):
        self.folder = Path(folder)
        here = published is not None and published.resolve() == self.folder.resolve()
        self.published = None if here else published

    def journal(self, name: str) -> Path:
        """The file of a study's records, wherever it has been sorted to; a new one is in `folder` itself.

        "audit", "benchmarks" and "reproductions" have theirs.
        """
        return next((path for path in self.journals() if path.stem == name), self.folder / f"{name}.jsonl")

    def journals(self) -> list[Path]:
        """All files of records."""
        return jsonl.journals(self.folder)

    def known(self) -> list[Path]:
        """All files of records, the published ones first."""
        return [*(jsonl.journals(self.published) if self.published else []), *self.journals()]

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    @property
    def tables(self) -> Path:
        return self.folder / "tables"

    @property
    def plots(self) -> Path:
        return self.folder / "plots"

    def study(self, name: str) -> Path:
        """The directory of a study's checkpoints and locks."""
        return self.folder / "studies" / name

    def database(self, name: str) -> URL:
        """URL of the storage that a study has where none is named."""
        return URL.create("sqlite", database=str(self.folder / "studies" / f"{name}.db"))

    def read(self) -> list[Record]:
        """All records. Raises UserError where there is no such directory, or a record is bad."""
        return jsonl.read_all(self.folder)

    def read_known(self) -> list[Record]:
        """All records, the published ones first."""
        return [record for path in self.known() for record in jsonl.read(path)]

    def append(self, name: str, record: Record) -> None:
        """Add a record to the file `name`."""
        jsonl.append(self.journal(name), record)

    def writable(self) -> None:
        """Raise UserError where nothing can be written."""
        writable(self.folder)


def published() -> Path | None:
    """The published results of the checkout that this program runs from."""
    return PUBLISHED if (PUBLISHED / "records").is_dir() else None
