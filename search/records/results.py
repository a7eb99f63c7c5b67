"""A directory of results: which file is where."""

from pathlib import Path

from sqlalchemy.engine import URL

from search.files import writable


class Results:
    """The records, weights, tables and pictures in `folder`, and the studies that are being searched."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def journal(self, name: str) -> Path:
        """The file of a study's records; "audit", "benchmarks" and "reproductions" have theirs."""
        return self.folder / f"{name}.jsonl"

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    @property
    def plots(self) -> Path:
        return self.folder / "plots"

    def study(self, name: str) -> Path:
        """The directory of a study's checkpoints and locks."""
        return self.folder / "studies" / name

    def database(self, name: str) -> URL:
        """URL of the storage that a study has where none is named."""
        return URL.create("sqlite", database=str(self.folder / "studies" / f"{name}.db"))

    def journals(self) -> list[Path]:
        """The files of records that there are."""
        return sorted(self.folder.glob("*.jsonl"))

    def writable(self) -> None:
        """Raise UserError where nothing can be written."""
        writable(self.folder)
