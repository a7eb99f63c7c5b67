"""Stored networks: a row of the table, a study or a file of weights as one object with all that is needed to use it."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.errors import UserError
from search.records.jsonl import Record
from search.records.models import Confirmation, numbered
from search.records.results import Results
from search.records.weights import Header, Inputs, file_of, networks
from search.report.efficiency import smallest, winners
from search.training.recipe import Recipe, identity
from wavemix.checkpoint import load_checkpoint
from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite

FROM_REPOSITORY = "name a file that you have; those of the published rows are in the repository's results/weights"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


@dataclass(frozen=True)
class Normalisation:
    """How images are prepared for weights whose file does not say it: values between 0 and 1 less `mean` and divided by
    `deviation`, one number for all channels or one a channel."""

    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, mean: Sequence[float] | None, deviation: Sequence[float] | None) -> "Normalisation | None":
        """The one that is given; None for none. Raises UserError where only half of it is."""
        if mean is None and deviation is None:
            return None
        if mean is None or deviation is None:
            raise UserError("a normalisation is a mean and a standard deviation: give both")
        return cls(tuple(mean), tuple(deviation))


@dataclass(frozen=True)
class Stored:
    """Trained networks in a file, and what is known of them.

    Attributes:
        path: the file of weights.
        config: the networks' configuration, the same for all seeds.
        seeds: those in the file, in its order; 0 stands for the one network of a file that wavemix did not write.
        inputs: what images they take, how these are prepared and what the outputs are called; None where the file does
            not say (weights of others).
        recipe: what they were trained with; None where the file does not say.
        digest: of the images and labels they were trained on; None where the file does not say.
        row: the row of the parameter-efficiency table that they stand in; None for others.
        record: the test of these networks; None where there is no record of one.
        normalisation: of the images, as said for a file that does not say it; None: images as they are.
    """

    path: Path
    config: LiteConfig
    seeds: tuple[int, ...]
    inputs: Inputs | None = None
    recipe: Recipe | None = None
    digest: str | None = None
    row: str | None = None
    record: Confirmation | None = None
    normalisation: Normalisation | None = None

    @property
    def name(self) -> str:
        """The row's name, or the file's."""
        return self.row or self.path.stem

    @property
    def takes(self) -> Inputs:
        """What its networks take, by the file or as it was said. Raises UserError for another number of channels."""
        said = self.normalisation or Normalisation()
        return self.inputs or Inputs.plain(self.config, said.mean, said.deviation)

    def networks(self) -> dict[int, WaveMixLite]:
        """The networks by seed, in evaluation mode. Raises UserError where the file is damaged or another network's."""
        if self.inputs is not None:
            return networks(self.path)
        try:
            loaded = load_checkpoint(WaveMixLite(self.config), self.path)
        except ValueError as error:
            raise UserError(f"{error}; --config has to be the configuration that it was trained with") from error
        assert isinstance(loaded, WaveMixLite)
        return {self.seeds[0]: loaded.eval()}

    def network(self, seed: int | None = None) -> WaveMixLite:
        """That of a seed, by default the first, in evaluation mode. Raises UserError, also for an unknown seed."""
        if seed is not None and seed not in self.seeds:
            raise UserError(f"{self.path} has no seed {seed}; it has {', '.join(map(str, self.seeds))}")
        return self.networks()[self.seeds[0] if seed is None else seed]


def find(
    what: str | Path, results: Results, config: LiteConfig | None = None, normalisation: Normalisation | None = None
) -> Stored:
    """Stored networks by a name or a file.

    Args:
        what: a row of the parameter-efficiency table ("mnist-99-extended"), a study (its smallest network that did
            best), the stem of a file of weights, or a file: .safetensors, or a .pth of anybody's.
        results: where records and weights are looked for, its published ones as well.
        config: of a file that does not say it itself. Up-sampling is by transposed convolutions where it is not named,
            as in all weights of upstream.
        normalisation: of its images, also for a file that does not say it itself; default: images as they are.

    Raises UserError where there is nothing of that name, its weights are not here, or `config` is missing or another
    than the file's, and for a normalisation that does not fit.
    """
    path = Path(os.path.expanduser(what))  # an unknown ~user stays as it is
    if path.is_file():
        return _of_file(path, results, config, normalisation)
    if path.suffix in SUFFIXES or len(path.parts) > 1:
        raise UserError(f"{what}: there is no such file of weights")
    name, folders = str(what), _folders(results)
    found = next((file for folder in folders if (file := folder / f"{name}.safetensors").is_file()), None)
    if found is not None:
        return _of_file(found, results, config, normalisation)
    if normalisation is not None:
        raise UserError(f"{name} is no file: only one that does not say how its images are prepared has to be told")
    records = numbered(results.read_known())
    rows = {row: run for row, run in winners(records).items() if run.mean is not None}
    if name in rows:
        return _of_test(rows[name], folders, row=name)
    runs = [r for r in records if isinstance(r, Confirmation) and r.study == name and r.state == "complete"]
    if runs:
        best = _best(name, runs, folders)
        return _of_test(best, folders, row=_row_of(best, rows))
    known = f"rows: {', '.join(rows)}" if rows else f"nothing has been tested in {results.folder} yet"
    missing = "" if results.published else f"; this installation has no published weights: {FROM_REPOSITORY}"
    raise UserError(f"there is no row, study or file of weights {name!r}; {known}{missing}")


def rows(results: Results) -> list[Stored]:
    """The networks of all rows of the parameter-efficiency table, in its order; UserError where one's are not here."""
    found = {row: run for row, run in winners(results.read_known()).items() if run.mean is not None}
    return [_of_test(run, _folders(results), row) for row, run in found.items()]


def _folders(results: Results) -> list[Path]:
    """Where weights lie, a user's own first."""
    return [results.weights, *([Results(results.published).weights] if results.published else [])]


def _best(study: str, runs: list[Confirmation], folders: Iterable[Path]) -> Confirmation:
    """The test that a study is known by. Without a target the test set would choose among several networks."""
    judged = [run for run in runs if run.target is not None]
    if judged:
        return smallest(judged)
    if len({run.network for run in runs}) > 1:
        stems = sorted({path.stem for run in runs if (path := file_of(run, *folders))})
        raise UserError(f"the study {study} has tested several networks without a target; name one: {', '.join(stems)}")
    return max(runs, key=lambda run: (run.n, run.created))


def _of_test(run: Confirmation, folders: list[Path], row: str | None) -> Stored:
    path = file_of(run, *folders)
    if path is None:
        places = " or ".join(map(str, folders))
        raise UserError(f"the weights of {row or run.study} ({run.config.name}) are not in {places}: {FROM_REPOSITORY}")
    header = Header.read(path)
    assert header is not None  # `file_of` has read it
    return _stored(path, header, row, run)


def _of_file(path: Path, results: Results, config: LiteConfig | None, normalisation: Normalisation | None) -> Stored:
    header = Header.read(path)
    if header is None or header.inputs is None and config is not None:
        return _foreign(path, config, normalisation)
    if normalisation is not None:
        raise UserError(f"{path} says how its images are prepared: omit the normalisation")
    if config is not None and config != header.config:
        raise UserError(f"{path} says that its configuration is {header.config.name}, not {config.name}: omit --config")
    records = numbered(results.read_known())
    run = _test_of(path, header, records)
    return _stored(path, header, run and _row_of(run, winners(records)), run)


def _foreign(path: Path, config: LiteConfig | None, normalisation: Normalisation | None) -> Stored:
    """A file that wavemix did not write."""
    if config is None:
        raise UserError(f"{path} does not say what network it is of: give its configuration with --config")
    if "upsampling" not in config.model_fields_set:
        config = config.model_copy(update={"upsampling": "deconv"})
    found = Stored(path, config, (0,), normalisation=normalisation)
    _ = found.takes  # says where that does not fit
    return found


def _stored(path: Path, header: Header, row: str | None, run: Confirmation | None) -> Stored:
    if header.inputs is None:
        raise UserError(f"{path} is from before files said what images their networks take: train it again")
    training = header.training
    return Stored(
        path, header.config, tuple(header.seeds), header.inputs, training.recipe, training.digest, row=row, record=run
    )


def _test_of(path: Path, header: Header, records: Iterable[Record]) -> Confirmation | None:
    """The test of a file's networks: of those of the same training the one made last that the file names, or else the
    last one whose seeds it holds."""
    network, made = identity(header.config, header.recipe, header.digest), set(header.records)
    runs = [
        r
        for r in records
        if isinstance(r, Confirmation)
        and r.network == network
        and r.state == "complete"
        and set(r.seeds) <= set(header.seeds)
    ]
    return max(runs, key=lambda run: (path.stem.startswith(run.study), run.created in made, run.created), default=None)


def _row_of(run: Confirmation, rows: dict[str, Confirmation]) -> str | None:
    """The row that a test stands in."""
    return next((row for row, other in rows.items() if other.created == run.created and other.study == run.study), None)
