"""The commands that use what is stored: evaluate, predict, push, pull."""

import json
import os
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
    network_of,
    source_of,
)
from search.cli.terminal import show, tell
from search.errors import UserError

if TYPE_CHECKING:
    from search.data.source import Source
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
    resize: Resize = None,
    test_split: TestSplit = None,
    skip_unreadable: SkipUnreadable = False,
    threads: Threads = None,
    data_dir: DataDir = None,
    results: ResultsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test stored networks on their test images. Exit code 1 where a seed is off its record by more than one image."""
    if bool(what) == every:
        raise UserError("name what to test (a row such as mnist-99-extended, or a file of weights), or give --all")
    if picture is not None and (every or len(what or ()) != 1):
        raise UserError("--picture is of one network: name one")
    from search.inference.evaluation import evaluate as tested
    from search.runtime import Runtime

    folder = _results(results)
    runtime = Runtime(data_dir=data_dir, say=lambda line: tell(line, err=True))
    found = _rows(folder, data) if every else _named(what or [], folder, config)
    reading = resize is not None or test_split is not None or skip_unreadable
    if reading and data is None:
        raise UserError("--resize, --test-split and --skip-unreadable say how --data is read: name it")
    source = None if every or data is None else _source(found[0], data, resize, test_split, skip_unreadable)
    evaluations = []
    for stored in found:
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

    tested = [stored for stored in rows(results) if stored.record and stored.config.task == "classification"]
    found = [stored for stored in tested if stored.record and data in (None, stored.record.dataset.name)]
    if not found:
        raise UserError(f"no row of the table {f'is of {data}' if data else 'has been tested'}")
    return found


def _named(what: list[str], results: "Results", config: str | None) -> "list[Stored]":
    from search.inference.stored import find

    network = network_of(config, "--config") if config is not None else None
    return [find(name, results, network) for name in what]


def _source(
    stored: "Stored", data: str, resize: str | None, test_split: float | None, skip_unreadable: bool
) -> "Source":
    """Data named on the command line: read as it says, or else as those that the network was trained on."""
    source, record = source_of(data, resize, test_split, skip_unreadable), stored.record
    if record is None or record.dataset.reading is None or (resize, test_split, skip_unreadable) != (None, None, False):
        return source
    from dataclasses import replace

    return replace(source, reading=record.dataset.reading)


def _tell(one: "Evaluation", alone: bool) -> None:
    """What a test came to: about ten lines where it is the only one, else two."""
    from search.cli.listing import Listing
    from search.records.models import counted
    from search.tasks.score import ACCURACY

    words = {True: "as recorded", False: "NOT as recorded", None: "not on record"}
    spread = (
        f" (95 % interval {ACCURACY.shown(one.interval[0])} to {ACCURACY.shown(one.interval[1])})"
        if one.interval
        else ""
    )
    tell(f"{one.name}: {words[one.agrees]}")
    tell(f"  accuracy     {ACCURACY.shown(one.mean)}{spread}, {counted(len(one.seeds))}, {one.data}")
    if not alone:
        return
    images = one.seeds[0].images
    tell(f"  network      {one.config.name}, {one.parameters:,} parameters")
    tell(f"  data         {images:,} test images, digest {one.test_digest[:12]}")
    table = Listing("seed", "accuracy", "recorded", "images off", "top-5", "calibration error")
    for column in list(table.columns):
        table.add_column(column, "right")
    for seed in one.seeds:
        off = "-" if seed.off is None else f"{seed.off:+d}" if seed.off else "0"
        cells = (ACCURACY.shown(seed.accuracy), ACCURACY.shown(seed.recorded), off, ACCURACY.shown(seed.top5))
        table.add_row(str(seed.seed), *cells, ACCURACY.shown(seed.calibration_error))
    show(table)
    show(_classes(one))


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
    resize: Resize = None,
    skip_unreadable: SkipUnreadable = False,
    threads: Threads = None,
    results: ResultsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Classify images by a stored network: their class and its probability, and the next one."""
    from search.inference.prediction import predict as predicted
    from search.tasks.score import ACCURACY
    from search.text import line

    (stored,) = _named([what], _results(results), config)
    size = source_of("", resize, None, False).reading.resize
    found, left_out = predicted(
        stored, [Path(os.path.expanduser(path)) for path in images], seed, size, skip_unreadable
    )
    for problem in left_out:
        tell(f"left out: {problem}", err=True)
    if as_json:
        return tell(json.dumps([prediction.model_dump(mode="json") for prediction in found]))
    from search.cli.listing import Listing

    table = Listing("image", "class", "probability", "or")
    table.add_column("probability", "right")
    for prediction in found:
        (best, share), (other, chance) = list(prediction.probabilities.items())[:2]
        table.add_row(line(prediction.image), best, ACCURACY.shown(share), f"{other}, {ACCURACY.shown(chance)}")
    show(table)


@app.command()
def push(
    row: Annotated[str, typer.Argument(help="A row of the parameter-efficiency table, or the study behind one.")],
    repository: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME; made where there is none.")],
    results: ResultsDir = RUNS,
) -> None:
    """Upload a row's weights, card and index entry to Hugging Face; needs the extra `hub`."""
    (stored,) = _named([row], _results(results), None)
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
    from search.tasks.score import ACCURACY

    path, entry = hub.pull(repository, Results(results))
    tell(f"{entry.data.label}, {entry.parameters:,} parameters, test accuracy {ACCURACY.shown(entry.accuracy)}")
    tell(f"  weights     {path}")
    tell(f"  load        import wavemix; network = wavemix.load({json.dumps(str(path))})")
