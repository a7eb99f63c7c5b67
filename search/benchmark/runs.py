"""A row of the benchmark table run: opened, trained by one of its recipes, tested once, recorded."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from search.benchmark.checkpoint import whole_state
from search.benchmark.course import Course, scores
from search.benchmark.examples import Examples, Parts, chosen, divided
from search.benchmark.moments import Watch
from search.benchmark.processes import Processes
from search.benchmark.recipe import Recipe
from search.benchmark.rows import Row
from search.benchmark.tasks import Classification, Segmentation, SuperResolution, Task
from search.benchmark.training import Training
from search.benchmark.views import IMAGENET, View, measured
from search.errors import UserError
from search.records.benchmarks import RowRun
from search.records.environment import Environment, environment
from search.records.jsonl import read
from search.records.models import counted
from search.records.results import Results
from search.records.row_runs import PublishedFigure, RowData, RowEpoch
from search.training import tensors
from wavemix.checkpoint import load_checkpoint, nested, read_checkpoint

JOURNAL = "benchmark-rows"
SPLIT_SEED = 0  # of the validation images
UNCHANGED = {channels: ([0.0] * channels, [1.0] * channels) for channels in (1, 3)}  # mean and deviation


@dataclass(frozen=True)
class Order:
    """What a user asks for: a row by one of its recipes, from a seed.

    `images`: train on so many images alone; `epochs`: at most so many in each phase; `start`: a file of weights.
    """

    row: Row
    recipe_name: str
    seed: int = 0
    images: int | None = None
    epochs: int | None = None
    start: Path | None = None

    @property
    def recipe(self) -> Recipe:
        return self.row.recipe(self.recipe_name).limited(self.epochs)

    @property
    def name(self) -> str:
        """Of its files."""
        little = [f"{count}-{noun}" for count, noun in ((self.images, "images"), (self.epochs, "epochs")) if count]
        return "-".join([self.row.name, self.recipe_name, *little, f"seed{self.seed}"])


def run(
    order: Order,
    parts: Parts,
    processes: Processes,
    results: Results,
    watch: Watch,
    say: Callable[[str], None] = print,
) -> RowRun:
    """Train, test, and write the record and the weights; the training goes on from its checkpoint, if it has one. What
    is on record in `results` is not trained again.

    Raises UserError for data, weights or a setup that do not go with the row, before anything is trained.
    """
    # before it is trained: the code may be another one when that has ended
    here = environment(str(processes.device) if processes.device.type == "cuda" else "cpu")
    course, test = course_of(order, parts, processes)
    if known := recorded(order, course, results):
        say(f"{order.name} is on record already")
        return known
    torch.manual_seed(order.seed)
    network = order.row.network.build()
    start_with(network, order)
    probe(network, course, parts)
    identity = {
        "row": order.row.name,
        "network": order.row.network.model_dump(mode="json"),
        "recipe": order.recipe.model_dump(mode="json"),
        "seed": order.seed,
        "images": [len(course.train), len(course.validation or []), len(test)],
        "start": str(order.start),
    }
    place = results.study(f"benchmark-{order.name}") / "training.checkpoint"
    training = Training(network, course, processes, place, identity, watch)
    say(_described(order, course, test))
    progress = training.run()
    found = _tested(training.network, course, parts, processes)
    record = _record(order, here, parts, course, processes, len(test), progress.curve, found)
    state = whole_state(training.network)
    if processes.first:
        results.append(JOURNAL, record)
        _store(weights_of(order, results), state, order, course)
    processes.wait()
    training.checkpoint.remove()
    return record


def recorded(order: Order, course: Course, results: Results) -> RowRun | None:
    """The record of the same training in `results`."""
    path = results.journal(JOURNAL)
    found = [record for record in (read(path) if path.exists() else []) if isinstance(record, RowRun)]
    asked = (order.row.name, order.recipe, order.seed, order.start and order.start.name)
    asked += (order.row.network.shown, len(course.train))
    for run in found:
        recipe = Recipe.model_validate(run.recipe)  # with what fields have come since
        if asked == (run.row, recipe, run.seed, run.start, run.network, run.data.train_count):
            return run
    return None


def weights_of(order: Order, results: Results) -> Path:
    """The file of what a run has trained."""
    return results.weights / "benchmark" / f"{order.name}.safetensors"


def evaluate(row: Row, weights: Path, parts: Parts, processes: Processes) -> dict[str, float]:
    """The scores of the test images, the metric first, of weights in a file (`wavemix.load_checkpoint`).

    Images are normalised as the file says, where this program wrote it, else as the row's first recipe says. Raises
    UserError for a file that does not hold the row's network.
    """
    order = Order(row, next(iter(row.recipes)))
    network = row.network.build()
    try:
        header = read_checkpoint(weights).metadata
        load_checkpoint(network, weights)
    except ValueError as error:
        raise UserError(str(error)) from error
    course, test = course_of(order, parts, processes, json.loads(header.get("normalisation", "null")))
    probe(network, course, parts)
    return _tested(processes.prepared(network)[0], course, parts, processes)


def _tested(network: nn.Module, course: Course, parts: Parts, processes: Processes) -> dict[str, float]:
    """Scores of the test images, and after them those of further test sets, by their names."""
    found = scores(network, course, parts.test, processes, exact=True)
    for name, examples in parts.beside.items():
        more = scores(network, course, examples, processes, exact=True)
        found |= {f"{measure} {name}": value for measure, value in more.items()}
    return found


def course_of(order: Order, parts: Parts, processes: Processes, normalisation: Any = None) -> tuple[Course, Examples]:
    """What is trained on, and the test images. Raises UserError where they do not go with the row."""
    row, recipe = order.row, order.recipe
    if len(parts.classes) != row.network.classes:  # none of either, of super-resolution
        raise UserError(f"{row.label} has {len(parts.classes)} classes here, the row's network {row.network.classes}")
    train, validation = parts.train, parts.validation
    if recipe.judged and validation is None:
        train, validation = divided(train, recipe.validation, SPLIT_SEED)
    if order.images is not None:
        if order.images > len(train):
            raise UserError(f"--images {order.images}: there are {len(train)} to train on")
        numbers = torch.randperm(len(train), generator=torch.Generator().manual_seed(SPLIT_SEED))[: order.images]
        train = chosen(train, numbers.sort().values.tolist())
    if not recipe.judged:
        validation = None
    task: Task
    if row.task == "super-resolution":
        task, normalisation = SuperResolution(recipe, row.network.scale), UNCHANGED[row.network.channels]
    elif row.task == "segmentation":
        task = Segmentation(recipe, parts.classes, (torch.as_tensor(train[n][1]) for n in range(len(train))))
    else:
        task = Classification(recipe, parts.classes)
    view = View(train, recipe, row.network.channels, task.masks)
    if normalisation is None and recipe.normalise == "measured":
        found = measured(view, processes.setup.workers) if processes.first else None
        normalisation = processes.said(found)
    mean, deviation = normalisation or IMAGENET
    course = Course(
        recipe,
        task,
        train,
        validation,
        len(parts.classes),
        row.network.channels,
        list(mean),
        list(deviation),
        order.seed,
    )
    return course, parts.test


def start_with(network: nn.Module, order: Order) -> None:
    """Weights to begin with, all but those of the head, which may be another one (weights only: nothing in the file is
    executed). Raises UserError where the recipe needs a file, or the file is of another body."""
    if order.recipe.start == "weights" and order.start is None:
        raise UserError(
            f"the recipe {order.recipe_name!r} of {order.row.name} starts from weights: name them by --start"
        )
    if order.start is None:
        return
    own = network.state_dict()
    body = {name for name in own if name.startswith(("conv.", "layers.", "norms.", "affines."))}
    try:
        states = list(nested(read_checkpoint(order.start).state))
    except ValueError as error:
        raise UserError(str(error)) from error
    state = next((s for s in states if body <= s.keys()), states[0])
    wrong = [name for name in sorted(body) if name not in state or state[name].shape != own[name].shape]
    if wrong:
        raise UserError(f"{order.start} is not of this network's body: {wrong[0]} is missing or of another shape")
    taken = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    network.load_state_dict(own | taken)


def probe(network: nn.Module, course: Course, parts: Parts) -> None:
    """Look at one image of each part as the network would see it. Raises UserError where it can't."""
    network.eval()
    phases: list[tuple[Examples, str | None]] = [(course.train, "all"), (course.train, "flips")]
    tested = [course.validation, parts.test, *parts.beside.values()]
    for examples, training in phases + [(examples, None) for examples in tested if examples is not None]:
        view = course.view(examples, training)
        view.check()
        item = view[(0, 0) if training else 0]
        if isinstance(item, str):
            raise UserError(item)
        image, target = item
        if not course.task.dense and not 0 <= int(target) < course.classes:
            raise UserError(f"the label {int(target)} is none of the {course.classes} classes")
        try:
            with torch.no_grad():
                network(image[None].float() / 255)
        except (ValueError, RuntimeError) as error:
            size = "x".join(map(str, image.shape[-2:]))
            raise UserError(f"the network can't take images of {size}: {' '.join(str(error).split())[:200]}") from error
    network.train()


def _described(order: Order, course: Course, test: Examples) -> str:
    recipe, validating = course.recipe, len(course.validation or [])
    judged = f"{validating:,} images to validate, " if validating else ""
    phases = counted(len(recipe.phases), "phase")
    return (
        f"{order.row.label}: {order.row.network.shown}, {order.row.network.parameters():,} parameters; "
        f"{len(course.train):,} images to train on, {judged}{len(test):,} to test; "
        f"at most {counted(recipe.most_epochs, 'epoch')} in {phases} ({order.recipe_name})"
    )


def _record(
    order: Order,
    here: Environment,
    parts: Parts,
    course: Course,
    processes: Processes,
    tested: int,
    curve: list,
    scores: dict[str, float],
) -> RowRun:
    row, (metric, score) = order.row, next(iter(scores.items()))
    setup = asdict(processes.setup)
    for name in ("logs", "trackers", "save_every", "workers"):  # nothing of the result follows from these
        setup.pop(name)
    return RowRun.model_validate({
        "environment": here,
        "row": row.name,
        "task": row.task,
        "metric": metric,
        "published": row.published and PublishedFigure(**row.published.model_dump()),
        "recipe_name": order.recipe_name,
        "recipe": order.recipe.model_dump(mode="json"),
        "network": row.network.shown,
        "arguments": row.network.arguments,
        "parameters": row.network.parameters(),
        "data": RowData(
            label=row.label,
            train_count=len(course.train),
            validation_count=len(course.validation or []),
            test_count=tested,
            limited=order.images is not None,
            test_split=parts.split,
        ),
        "seed": order.seed,
        "start": order.start and order.start.name,
        "setup": setup,
        "processes": processes.share.world,
        "mean": course.mean,
        "deviation": course.deviation,
        "curve": [RowEpoch(**epoch.model_dump()) for epoch in curve],
        "score": score,
        "beside": {name: value for name, value in scores.items() if name != metric},
    })  # fmt: skip


def _store(path: Path, state: dict[str, Any], order: Order, course: Course) -> None:
    header = {
        "row": order.row.name,
        "recipe": order.recipe_name,
        "seed": str(order.seed),
        "network": order.row.network.model_dump_json(),
        "normalisation": json.dumps([course.mean, course.deviation]),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors.write(path, state, header)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
