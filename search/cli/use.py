"""The commands that use what is stored: evaluate, predict, push, pull."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.app import app
from search.cli.options import (
    RUNS,
    DataDir,
    Json,
    Quiet,
    Resize,
    ResultsDir,
    SkipUnreadable,
    TestSplit,
    Threads,
    at_home,
)
from search.cli.terminal import show, tell
from search.cli.values import network_of, numbers_of, source_of
from search.errors import UserError

if TYPE_CHECKING:
    from search.inference.drawing import Drawn
    from search.inference.evaluation import Evaluation
    from search.inference.stored import Stored
    from search.records.results import Results

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="ROW|FILE...", help="Rows of the parameter-efficiency table, studies, files of weights."),
]
What = Annotated[str, typer.Argument(metavar="ROW|FILE", help="A row of the table, a study, or a file of weights.")]
Config = Annotated[
    str | None, typer.Option(help="Configuration of weights that don't say it (upstream's .pth), JSON or a file.")
]
Mean = Annotated[
    str | None,
    typer.Option(help="Normalises such weights' images (values from 0 to 1): 0.49,0.48,0.45, or 0.5."),
]
Std = Annotated[str | None, typer.Option(help="Standard deviations, as --mean; default: images as they are.")]


@app.command()
def evaluate(
    what: Names = None,
    every: Annotated[
        bool, typer.Option("--all", help="All rows of the table; with --data those of that data set.")
    ] = False,
    data: Annotated[str | None, typer.Option(help="Data to test on; default: those of the record.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Test so many of the seeds; default: all.")] = None,
    picture: Annotated[
        Path | None, typer.Option(callback=at_home, help="Draw the confusion matrix into this .png or .svg file.")
    ] = None,
    config: Config = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    test_split: TestSplit = None,
    skip_unreadable: SkipUnreadable = False,
    threads: Threads = None,
    data_dir: DataDir = None,
    results: ResultsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test stored networks on their test images. Exit code 1 where a seed is not as recorded.

    That is off by more than one image; of a mean IoU by more than 0.02 points, of a PSNR by more than 0.002 dB.
    """
    if bool(what) == every:
        raise UserError("name what to test (a row such as mnist-99-extended, or a file of weights), or give --all")
    if picture is not None and (every or len(what or ()) != 1):
        raise UserError("--picture is of one network: name one")
    from search.inference.evaluation import evaluate as tested
    from search.inference.evaluation import source_like
    from search.runtime import Runtime

    folder = _results(results)
    runtime = Runtime(data_dir=data_dir, say=lambda line: tell(line, err=True))
    found = _rows(folder, data) if every else _named(what or [], folder, config, mean, std)
    reading = resize is not None or test_split is not None or skip_unreadable
    if reading and data is None:
        raise UserError("--resize, --test-split and --skip-unreadable say how --data is read: name it")
    if picture is not None and found[0].config.task != "classification":
        raise UserError("--picture is the confusion matrix of a classifier; wavemix predict draws what others make")
    given = None if data is None else source_of(data, resize, test_split, skip_unreadable)
    evaluations = []
    for stored in found:
        if every and data is None and not _here(stored):
            tell(f"left out: {stored.name}, whose images are not here; name them with --data", err=True)
            continue
        source = None if every or given is None else source_like(stored, given)
        evaluations.append(tested(stored, runtime, source, seeds))
        if not as_json:
            _tell(evaluations[-1], alone=len(found) == 1)
    if as_json:
        tell(json.dumps([{**one.model_dump(mode="json"), "agrees": one.agrees} for one in evaluations]))
    if picture is not None:
        from search.report.confusion import write

        (one,) = evaluations
        path = write(picture, one.confusion, one.classes, f"{one.name}, {one.data}")
        tell(f"wrote {path}", err=as_json)
    if off := [one.name for one in evaluations if one.agrees is False]:
        tell(f"not as recorded: {', '.join(off)}", err=True)
        raise typer.Exit(1)


def _results(folder: Path) -> "Results":
    from search.records.results import Results, published

    return Results(folder, published())


def _rows(results: "Results", data: str | None) -> "list[Stored]":
    """The networks of all rows of the table, or those of a data set."""
    from search.inference.stored import rows

    found = [stored for stored in rows(results) if stored.record and data in (None, stored.record.dataset.name)]
    if not found:
        raise UserError(f"no row of the table {f'is of {data}' if data else 'has been tested'}")
    return found


def _named(
    what: list[str], results: "Results", config: str | None = None, mean: str | None = None, std: str | None = None
) -> "list[Stored]":
    from search.inference.stored import Normalisation, find

    if (mean is None) != (std is None):
        raise UserError("--mean and --std are one normalisation: give both")
    network = network_of(config, "--config") if config is not None else None
    said = [None if text is None else numbers_of(text, option) for text, option in ((mean, "--mean"), (std, "--std"))]
    return [find(name, results, network, Normalisation.of(*said)) for name in what]


def _here(stored: "Stored") -> bool:
    """Whether a row's images may be here: a folder's name says nothing about where it lies."""
    known = stored.record and stored.record.dataset
    return known is None or known.variant != "folder" or os.path.exists(os.path.expanduser(known.name))


def _tell(one: "Evaluation", alone: bool) -> None:
    """What a test came to: about ten lines where it is the only one, else two."""
    from search.records.models import counted

    words, shown = {True: "as recorded", False: "NOT as recorded", None: "not on record"}, one.score.shown
    spread = f" (95 % interval {shown(one.interval[0])} to {shown(one.interval[1])})" if one.interval else ""
    tell(f"{one.name}: {words[one.agrees]}")
    tell(f"  {one.score.name:<12} {shown(one.mean)}{spread}, {counted(len(one.seeds))}, {one.data}")
    if not alone:
        return
    tell(f"  network      {one.config.name}, {one.parameters:,} parameters")
    tell(f"  data         {one.images:,} test images, digest {one.test_digest[:12]}")
    if not one.normalised:
        tell("  images       values from 0 to 1, as they are; --mean and --std normalise them")
    tables = (_seeds, _classes) if one.config.task == "classification" else (_seeds_on_pixels, _measures)
    for table in tables:
        show(table(one))


def _seeds(one: "Evaluation"):
    """Each seed of a classifier."""
    from search.cli.listing import Listing
    from search.inference.evaluation import Tested

    table, shown = Listing("seed", "accuracy", "recorded", "images off", "top-5", "calibration error"), one.score.shown
    for column in list(table.columns):
        table.add_column(column, "right")
    for seed in one.seeds:
        assert isinstance(seed, Tested)
        off = "-" if seed.off is None else f"{seed.off:+d}" if seed.off else "0"
        cells = (shown(seed.accuracy), shown(seed.recorded), off, shown(seed.top5), shown(seed.calibration_error))
        table.add_row(str(seed.seed), *cells)
    return table


def _seeds_on_pixels(one: "Evaluation"):
    """Each seed of a network for segmentation or super-resolution."""
    from search.cli.listing import Listing

    table = Listing("seed", one.score.name, "recorded", "off by")
    for column in list(table.columns):
        table.add_column(column, "right")
    for seed in one.seeds:
        off = "-" if seed.recorded is None else one.score.difference(seed.score - seed.recorded)
        off = off.replace("-0.00 ", "0.00 ")
        table.add_row(str(seed.seed), one.score.shown(seed.score), one.score.shown(seed.recorded), off)
    return table


def _measures(one: "Evaluation"):
    """The other measures, means over seeds: pixel accuracy and the IoU of each class, or each test set's."""
    from search.cli.listing import Listing
    from search.records.verdicts import measure

    table = Listing("measure", "here", "recorded")
    table.add_column("here", "right")
    table.add_column("recorded", "right")
    for name, (here, recorded) in one.beside.items():
        table.add_row(name, measure(name, here), "-" if recorded is None else measure(name, recorded))
    return table


def _classes(one: "Evaluation"):
    """Classes, the share of each that is right over all seeds, and what its others are most often taken for."""
    from search.cli.listing import Listing
    from search.metrics.classification import per_class
    from search.tasks.score import ACCURACY

    table = Listing("class", "accuracy", "most often taken for")
    table.add_column("accuracy", "right")
    for name, share, row, number in zip(one.classes, per_class(one.confusion), one.confusion, range(len(one.classes))):
        others = row.copy()
        others[number] = 0
        wrong = f"{one.classes[others.argmax()]}, {ACCURACY.shown(others.max() / row.sum())}" if others.any() else "-"
        table.add_row(name, ACCURACY.shown(share) if row.any() else "-", wrong)
    return table


@app.command()
def predict(
    what: What,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|FOLDER...", help="Image files, and folders of them.")],
    seed: Annotated[int | None, typer.Option(min=0, help="Whose network; default: the first seed's.")] = None,
    config: Config = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    skip_unreadable: SkipUnreadable = False,
    output: Annotated[
        Path | None, typer.Option(callback=at_home, help="Folder for the pictures; default: the current one.")
    ] = None,
    threads: Threads = None,
    results: ResultsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Classify, segment or enlarge images by a stored network.

    A classifier's answers are printed: the class of an image and its probability, and the next one. Of networks for
    segmentation and super-resolution pictures are written: NAME-classes.png in the classes' colours, NAME-2x.png.
    """
    (stored,) = _named([what], _results(results), config, mean, std)
    size = source_of("", resize, None, False).reading.resize
    paths = [Path(os.path.expanduser(path)) for path in images]
    if stored.config.task != "classification":
        from search.inference.drawing import draw

        left_out, pictures = draw(stored, paths, output or Path(), seed, size, skip_unreadable)
        return _told_as_drawn(left_out, pictures, as_json)
    if output is not None:
        raise UserError(f"--output is a folder for pictures: {stored.name} is a classifier, whose answers are printed")
    from search.cli.listing import Listing
    from search.inference.prediction import predict as predicted
    from search.tasks.score import ACCURACY
    from search.text import line

    found, left_out = predicted(stored, paths, seed, size, skip_unreadable)
    _left_out(left_out)
    if as_json:
        return tell(json.dumps([prediction.model_dump(mode="json") for prediction in found]))
    table = Listing("image", "class", "probability", "or")
    table.add_column("probability", "right")
    for prediction in found:
        (best, share), (other, chance) = list(prediction.probabilities.items())[:2]
        table.add_row(line(prediction.image), best, ACCURACY.shown(share), f"{other}, {ACCURACY.shown(chance)}")
    show(table)


def _told_as_drawn(left_out: list[str], pictures: "Iterable[Drawn]", as_json: bool) -> None:
    """Say what is written as it is, one line a picture."""
    from search.text import line

    _left_out(left_out)
    found = []
    for one in pictures:
        found.append(one.model_dump(mode="json"))
        most = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(one.shares.items())[:3])
        if not as_json:
            tell(f"wrote {line(one.picture)}, {one.height}x{one.width}" + (f": {most}" if most else ""))
    if as_json:
        tell(json.dumps(found))


def _left_out(problems: list[str]) -> None:
    for problem in problems:
        tell(f"left out: {problem}", err=True)


@app.command()
def push(
    row: Annotated[str, typer.Argument(help="A row of the parameter-efficiency table, or the study behind one.")],
    repository: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME; made where there is none.")],
    results: ResultsDir = RUNS,
) -> None:
    """Upload a row's weights, card and index entry to Hugging Face; needs the extra `hub`."""
    (stored,) = _named([row], _results(results))
    from search.inference import hub

    tell(f"pushed {stored.name}: {hub.push(stored, repository)}")


@app.command()
def pull(
    repository: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME that `wavemix push` has filled.")],
    results: ResultsDir = RUNS,
) -> None:
    """Download a network that was pushed, and check it by its SHA-256; needs the extra `hub`."""
    from search.inference import hub
    from search.records.results import Results

    path, entry = hub.pull(repository, Results(results))
    tell(f"{entry.data.label}, {entry.parameters:,} parameters, test {entry.measure} {entry.judged.shown(entry.score)}")
    tell(f"  weights     {path}")
    tell(f"  load        import wavemix; network = wavemix.load({json.dumps(str(path))})")
