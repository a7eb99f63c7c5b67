"""The commands that train: search, confirm, train, reproduce."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from search.cli.app import app
from search.cli.costs import CostOptions, Minimize, minimise_of
from search.cli.endings import conclude, resumable, tabulate
from search.cli.options import (
    Checkpoints,
    DataName,
    Family,
    Fresh,
    ImageOptions,
    Json,
    RecipeText,
    RunOptions,
    Start,
    Storage,
    StudyName,
    Target,
    Tune,
    grouped,
    progress,
)
from search.cli.terminal import show, tell
from search.cli.values import (
    checked,
    fitted,
    network_of,
    recipe_of,
    seconds_of,
    seeds_of,
    study_name,
    target_of,
    targets_of,
    tune_of,
)
from search.errors import UserError


def say_if_built(say: Callable[[str], None]) -> None:
    """Say that the kernels will be compiled, which a person would otherwise wait for without knowing why."""
    from wavemix import kernels

    if not kernels.compiled():
        say("compiling the kernels once, about 20 s")


@app.command()
@grouped
def search(
    data: DataName,
    target: Target,
    *,
    budget: Annotated[
        str | None, typer.Option(help="Time for search and confirmation: 90s, 15m, 2h; default: 15m.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials the study is to have, instead of a time.")] = None,
    family: Family = "extended",
    seed: Annotated[int, typer.Option(min=0, max=999, help="Seed of validation split, sampler and trials.")] = 0,
    members: Annotated[
        int, typer.Option(min=1, max=64, help="Seeds of a trial: one, and the others where it leaves hope.")
    ] = 2,
    seeds: Annotated[int, typer.Option(min=1, max=64, help="Fresh seeds of the confirmation at most.")] = 10,
    max_parameters: Annotated[
        int | None,
        typer.Option(min=1, help="Count to beat; default: the published one, 50,000 where there is none."),
    ] = None,
    costs: CostOptions,
    validation_target: Annotated[
        str | None, typer.Option(help="Score a trial has to reach on validation images; default: made of the target.")
    ] = None,
    recipe: RecipeText = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of every trial; default: the recipe's, or searched as well.")
    ] = None,
    tune: Tune = None,
    start: Start = None,
    storage: Storage = None,
    checkpoints: Checkpoints = None,
    name: StudyName = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make a study that was lost or damaged anew from its records.")
    ] = False,
    images: ImageOptions,
    run: RunOptions,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Search the smallest network, or the one with the least of another cost, that reaches TARGET on DATA and confirm
    it on the test set.

    The same command resumes an interrupted search, also after `wavemix stop`; `wavemix worker` helps it.
    """
    source = images.source(data)
    aims = targets_of(target, images.task)
    checked(family)
    if validation_target is not None and len(aims) > 1:
        raise UserError("--validation-target goes with one --target: of several each has its own")
    if trials and budget:
        raise UserError("--trials says how many trials and --budget how much time: give one of them")
    seconds, choices = None if trials else seconds_of(budget or "15m"), tune_of(tune)
    cost, limits = minimise_of(costs.minimize), costs.limits()
    from rich.console import Console

    from search import campaign
    from search.cli.listings import summary
    from search.cli.panel import Display
    from search.records.goal import Goal
    from search.records.results import Results, published
    from search.tasks.score import SCORES

    began = time.monotonic()
    # what a program reads is on standard output alone
    say = partial(tell, err=as_json, level=-1 if as_json else 0)
    split = campaign.load(source, run.runtime(say))
    lower = None if validation_target is None else target_of(validation_target, images.task, "--validation-target")
    study = study_name(data, aims, family, name, source.reading, cost)
    goal = Goal(study, aims, family, max_parameters, lower, cost, limits)
    ceiling = max_parameters or campaign.ceiling_of(split, goal)
    title, score = f"{split.label}, {family} family", SCORES[source.reading.task]
    display = Display(Console(quiet=run.quiet or as_json), title, aims, ceiling, seconds, score)
    display.tell = say
    runtime = run.runtime(display.say)
    say_if_built(display.say)
    with resumable(), display:
        outcome = campaign.search(
            split,
            goal,
            results=Results(run.results, None if fresh else published()),
            runtime=runtime,
            recipe=recipe_of(recipe, split, ceiling, epochs) if recipe or epochs else None,
            tune=choices,
            start=fitted(network_of(start, "--start"), split, "--start") if start else None,
            seconds=None if seconds is None else seconds - (time.monotonic() - began),
            trials=trials,
            seed=seed,
            members=members,
            seeds=seeds,
            source=str(Path(data).expanduser().resolve()) if split.variant == "folder" else data,
            storage=storage,
            checkpoints=checkpoints,
            rebuild=rebuild,
            listen=display,
        )
    if not outcome.finished:
        return
    if run.verbose and outcome.setting is not None:
        show(summary(outcome.setting, outcome.trials))
    conclude(outcome, source, runtime, as_json)


@app.command()
@grouped
def confirm(
    data: DataName,
    target: Target,
    *,
    family: Family = "extended",
    seed: Annotated[int, typer.Option(min=0, max=999, help="Which fresh seeds: other numbers are other attempts.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=64, help="Fresh seeds at most, other ones than a search's.")] = 10,
    budget: Annotated[str | None, typer.Option(help="Time after which no further candidate is tried.")] = None,
    minimize: Minimize = "parameters",
    name: StudyName = None,
    images: ImageOptions,
    run: RunOptions,
) -> None:
    """Confirm the smallest network a search recorded, with other seeds; where that fails, the next larger one.

    An attempt ends when it is confirmed, from 5 seeds on, or can't be any more, from 3 seeds on.
    """
    source = images.source(data)
    aims = targets_of(target, images.task)
    checked(family)
    seconds = seconds_of(budget) if budget else None
    from search import campaign
    from search.records.goal import Goal
    from search.records.results import Results

    goal = Goal(study_name(data, aims, family, name, source.reading, minimise_of(minimize)), aims, family)
    runtime = run.runtime()
    campaign.recorded(goal, Results(run.results))
    split = campaign.load(source, runtime)
    with resumable():
        outcome = campaign.confirm(
            split, goal, results=Results(run.results), runtime=runtime, seconds=seconds, seed=seed, seeds=seeds
        )
    conclude(outcome, source, runtime)


@app.command()
@grouped
def train(
    data: DataName,
    config: Annotated[str, typer.Option(help="Network configuration, JSON or a file of it.")],
    *,
    recipe: RecipeText = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=64, help="How many seeds; default: 1.")] = None,
    seed_list: Annotated[str | None, typer.Option(help="Which seeds, instead of how many: 7,8,9.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Score to judge by; without one the test is no attempt and has no row.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the record file.")] = "train",
    images: ImageOptions,
    run: RunOptions,
) -> None:
    """Train one configuration on all training images and test it once, at the last epoch. Resumable."""
    source = images.source(data)
    aim = None if target is None else target_of(target, images.task)
    study = study_name(data, 0.0, "extended", name)
    from search import campaign
    from search.confirmation.plan import fresh_seeds
    from search.records.models import counted
    from search.records.results import Results

    network, runtime = network_of(config, "--config"), run.runtime()
    if seeds and seed_list:
        raise UserError("--seeds says how many and --seed-list which: give one of them")
    numbers = seeds_of(seed_list) if seed_list is not None else fresh_seeds(seeds or 1, 0)
    split = campaign.load(source, runtime)
    network = fitted(network, split, "--config")
    plan = recipe_of(recipe, split, network.parameters(), epochs)
    size = f"{network.parameters():,} parameters"
    progress(f"{network.name}: {size}, {counted(len(numbers))}, {counted(plan.epochs, 'epoch')}")

    def on_epoch(epoch, latest):
        loss = sum(e.train_loss for e in latest) / len(latest)
        progress(f"epoch {epoch}/{plan.epochs}: training loss {loss:.4f}, {latest[0].seconds:.0f} s")

    with resumable():
        outcome = campaign.train(
            split,
            network,
            plan,
            numbers,
            results=Results(run.results),
            runtime=runtime,
            target=aim,
            name=study,
            on_epoch=on_epoch,
        )
    conclude(outcome, source, runtime)


@app.command()
@grouped
def reproduce(
    row: Annotated[str, typer.Argument(help="A row of the parameter-efficiency table: mnist-99-extended.")],
    *,
    data: Annotated[str | None, typer.Option(help="Where a folder's images are; default: as recorded.")] = None,
    run: RunOptions,
) -> None:
    """Train a row's network again from its record, same seeds and data. Exit code 1 when it misses the target."""
    from search.cli.listings import comparison
    from search.confirmation.reproduce import reproduce
    from search.records.results import Results, published
    from search.report.efficiency import row_of

    folder = Results(run.results, published())
    name, original = row_of(row, folder.read_known())
    with resumable():
        record = reproduce(name, original, folder, run.runtime(), data)
    for line in comparison(record):
        tell(line)
    tabulate(run.results)
    raise typer.Exit(0 if record.reached else 1)
