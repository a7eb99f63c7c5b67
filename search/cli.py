"""The command `wavemix`."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ValidationError

from .errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find the fewest-parameter WaveMix network that reaches a target accuracy, and prove it.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: what is known, and fetching them.")
app.add_typer(data_app, name="data")

DataName = Annotated[
    str, typer.Argument(help="A data set's name (see `wavemix data list`) or a folder of class folders.")
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", envvar="WAVEMIX_DATA", help="Where data files lie.")]
Results = Annotated[Path, typer.Option("--results", help="Directory of records, tables and weights.")]


def seconds_of(budget: str) -> float:
    """'90s', '15m', '2h' or '1d' as seconds. Raises UserError for anything else."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(budget[-1:])
    try:
        value = float(budget[:-1]) * (unit or 0)
    except ValueError:
        value = 0
    if not unit or not 0 < value < float("inf"):
        raise UserError(f"--budget is a time such as 90s, 15m or 2h, not {budget!r}")
    return value


def validated(kind: type[BaseModel], text: str, option: str) -> BaseModel:
    """A model from JSON given on the command line, or from the file of that name."""
    if not text.lstrip().startswith("{"):
        try:
            text = Path(text).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{option} takes JSON or a file with JSON; {text!r} can't be read") from error
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{option}: {first_line(error)}") from error


def first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place + ': ' if place else ''}{first['msg']}"


def seeds_of(text: str) -> list[int]:
    """'3' is three seeds counted up, '7,8' is these two."""
    from .confirm import FRESH

    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds is a number of seeds or a list such as 7,8,9, not {text!r}") from error
    if len(numbers) == 1 and 0 < numbers[0] <= 64:
        return [FRESH + n for n in range(numbers[0])]
    if min(numbers) < 0 or len(set(numbers)) != len(numbers) or not 0 < len(numbers) <= 64:
        raise UserError(f"--seeds is a number from 1 to 64, or a list of different seeds, not {text!r}")
    return numbers


def short_name(data: str) -> str:
    return Path(data).resolve().name if "/" in data or Path(data).is_dir() else data


@app.command()
def search(
    data: DataName,
    target: Annotated[float, typer.Option(help="Accuracy to reach, a fraction: 0.99.")],
    budget: Annotated[str, typer.Option(help="Time for search and confirmation: 90s, 15m, 2h.")] = "15m",
    trials: Annotated[int | None, typer.Option(min=1, help="Stop after so many trials instead.")] = None,
    family: Annotated[str, typer.Option(help="'extended' or 'published' (upstream's knobs only).")] = "extended",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the validation split, the sampler and the trials.")] = 0,
    members: Annotated[int, typer.Option(min=1, max=64, help="Seeds trained at once in a trial.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, max=64, help="Fresh seeds of the confirmation.")] = 3,
    max_parameters: Annotated[
        int | None, typer.Option(min=1, help="Count to beat; default: the published one.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Training recipe, JSON or a file of it.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of a trial; default: the recipe's.")] = None,
    storage: Annotated[str | None, typer.Option(help="Optuna storage URL; default: a file under --results.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study; default: from data, target, family.")] = None,
    data_dir: DataDir = None,
    results: Results = Path("results"),
) -> None:
    """Search the smallest network that reaches TARGET on DATA, confirm it on the test set, print the table.

    The same command goes on where an earlier run of it stopped.
    """
    if not 0 < target < 1:
        raise UserError(f"--target is a fraction between 0 and 1, not {target:g}: 0.99 means 99 %")
    if family not in ("published", "extended"):
        raise UserError(f"--family is 'published' or 'extended', not {family!r}")
    seconds = None if trials else seconds_of(budget)
    import time

    from rich.console import Console

    from . import datasets
    from .confirm import FRESH
    from .display import Display
    from .recipe import Recipe, default_recipe
    from .study import CEILINGS, VALIDATION, Search, winner_command

    start = time.monotonic()
    split = datasets.load(data, "train", data_dir)
    plan = validated(Recipe, recipe, "--recipe") if recipe else default_recipe(split.name, split.images.shape[-1])
    if epochs:
        plan = plan.model_copy(update={"epochs": epochs})
    ceiling = max_parameters or CEILINGS.get((split.name, target)) or 50_000
    study = name or f"{short_name(data)}-{target * 100:g}-{family}"
    console = Console()
    display = Display(console, f"{split.label}, {family} family", target, ceiling, seconds)
    engine = Search(
        split,
        target,
        plan,
        family=family,
        name=study,
        results=results,
        storage=storage,
        seed=seed,
        members=members,
        ceiling=ceiling,
        validation_count=VALIDATION.get(split.name, len(split) // 10),
        listen=display,
    )
    count = sum(trial.state.is_finished() for trial in engine.study.get_trials(deepcopy=False))
    confirmations = []
    try:
        with display:
            if count:
                display.say(f"going on with study {study}: {count} trials so far")
            left = None if seconds is None else seconds - (time.monotonic() - start)
            engine.run(trials=trials, seconds=left, confirmation_seeds=seeds)
            confirmations = _confirm(engine, display, seeds, FRESH + seed * 1000, data_dir, start, seconds)
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    _summary(console, engine, confirmations)
    if confirmations:
        best = next((c for c in confirmations if c.confirmed), confirmations[0])
        command = winner_command(data, best.config, plan, best.seeds, results)
        typer.echo(f"reproduce it with:\n  {command}")
    from . import tables

    for path in tables.write(results):
        typer.echo(f"wrote {path}")


def _confirm(engine, display, seeds: int, first: int, data_dir, start: float, seconds: float | None) -> list:
    """Confirm the smallest candidate; after a failure the next larger one, while there is time."""
    import time

    from .confirm import confirm
    from .records import Confirmation, read

    past = [r for r in read(engine.path) if isinstance(r, Confirmation)] if engine.path.exists() else []
    done = []
    for trial in engine.best():
        config = engine.space.build(trial.params)
        fresh = list(range(first, first + seeds))
        earlier = [
            r for r in past if r.config == config and r.seeds == fresh and r.recipe == engine.recipe.model_dump()
        ]
        if earlier:
            done.append(earlier[-1])
            if earlier[-1].confirmed:
                break
            continue
        cost = trial.user_attrs.get("seconds", 0) * seeds / len(engine.seeds) * len(engine.data) / len(engine.train)
        if done and seconds is not None and time.monotonic() - start + cost > seconds:
            break
        display.say(
            f"confirming {config.name}, {config.parameters():,} parameters: {seeds} fresh seeds, all training data"
        )

        def on_epoch(epoch, latest, config=config):
            loss = sum(e.train_loss for e in latest) / len(latest)
            if epoch % max(1, engine.recipe.epochs // 4) == 0:
                display.say(f"  epoch {epoch}/{engine.recipe.epochs}: training loss {loss:.4f}")

        record = confirm(
            config,
            engine.recipe,
            engine.data,
            engine.target,
            fresh,
            study=engine.name,
            family=engine.family,
            results=engine.results,
            data_dir=data_dir,
            on_epoch=on_epoch,
            checkpoint=engine.folder / f"confirm-{config.name}.checkpoint",
        )
        done.append(record)
        display.say(_verdict(record))
        if record.confirmed:
            break
    return done


def _verdict(record) -> str:
    if record.mean is None:
        return f"confirmation failed: {record.reason}"
    interval = (
        "" if record.interval is None else f" (95 % interval {record.interval[0]:.2%} to {record.interval[1]:.2%})"
    )
    verdict = "confirmed" if record.confirmed else "not confirmed"
    return (
        f"{verdict}: {record.parameters:,} parameters, test accuracy {record.mean:.2%}{interval}, "
        f"min {record.min:.2%}, max {record.max:.2%}, {record.n} seeds; target {record.target:.4g}"
    )


def _summary(console, engine, confirmations) -> None:
    """The trials that came nearest, and the verdicts."""
    from rich.table import Table

    table = Table(title=f"{engine.data.label}, target {engine.target:.4g}, {engine.family} family")
    for column in ("trial", "configuration", "parameters", "validation", "verdict"):
        table.add_column(column, justify="right" if column in ("trial", "parameters", "validation") else "left")
    done = [t for t in engine.study.get_trials(deepcopy=False) if t.value is not None]
    for trial in sorted(done, key=lambda t: t.user_attrs["parameters"])[:20]:
        config = engine.space.build(trial.params)
        verdict = "reaches the target" if trial.user_attrs.get("feasible") else "misses it"
        table.add_row(str(trial.number), config.name, f"{config.parameters():,}", f"{trial.value:.2%}", verdict)
    console.print(table)
    for record in confirmations:
        typer.echo(_verdict(record))
    if not confirmations:
        typer.echo("nothing to confirm: no trial was completed; give it more time with a larger --budget")


@app.command()
def train(
    data: DataName,
    config: Annotated[str, typer.Option(help="Network configuration, JSON or a file of it.")],
    recipe: Annotated[str | None, typer.Option(help="Training recipe, JSON or a file of it.")] = None,
    seeds: Annotated[str, typer.Option(help="How many seeds, or which: 3, or 7,8,9.")] = "1",
    target: Annotated[float, typer.Option(help="Accuracy the record is judged by.")] = 0.99,
    name: Annotated[str, typer.Option(help="Name of the record file.")] = "train",
    data_dir: DataDir = None,
    results: Results = Path("results"),
) -> None:
    """Train one configuration on all training images and test it once, at the last epoch. Resumable."""
    if not 0 < target < 1:
        raise UserError(f"--target is a fraction between 0 and 1, not {target:g}: 0.99 means 99 %")
    import hashlib

    from wavemix.config import LiteConfig

    from . import datasets
    from .confirm import confirm
    from .recipe import Recipe, default_recipe

    network = validated(LiteConfig, config, "--config")
    split = datasets.load(data, "train", data_dir)
    plan = validated(Recipe, recipe, "--recipe") if recipe else default_recipe(split.name, split.images.shape[-1])
    numbers = seeds_of(seeds)
    typer.echo(f"{network.name}: {network.parameters():,} parameters, {len(numbers)} seeds, {plan.epochs} epochs")

    def on_epoch(epoch, latest):
        loss = sum(e.train_loss for e in latest) / len(latest)
        typer.echo(f"epoch {epoch}/{plan.epochs}: training loss {loss:.4f}, {latest[0].seconds:.0f} s")

    identity = json.dumps([network.model_dump(mode="json"), plan.model_dump(mode="json"), numbers], sort_keys=True)
    try:
        record = confirm(
            network,
            plan,
            split,
            target,
            numbers,
            study=name,
            family=network.family,
            results=results,
            data_dir=data_dir,
            on_epoch=on_epoch,
            checkpoint=results / "studies" / f"train-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.checkpoint",
        )
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from the last checkpoint", err=True)
        raise typer.Exit(130) from None
    typer.echo(_verdict(record))


@app.command()
def audit(
    saved_models: Annotated[
        bool, typer.Option("--saved-models", help="Also every configuration upstream states.")
    ] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="Count a checkpoint instead.")] = None,
    factory: Annotated[str | None, typer.Option(help="Count any network instead: module:callable.")] = None,
    input: Annotated[str, typer.Option(help="Its input: channels,height,width.")] = "3,224,224",
    record: Annotated[Path | None, typer.Option(help="Append the audit's records to this file.")] = None,
) -> None:
    """Published parameter counts against closed form, count and fvcore; FLOPs and memory. Exit code 1 on a mismatch."""
    from . import audit as auditing
    from .records import append

    if factory:
        try:
            shape = tuple(int(part) for part in input.split(","))
            if len(shape) != 3 or min(shape) < 1:
                raise ValueError
        except ValueError:
            raise UserError(f"--input is channels,height,width such as 3,224,224, not {input!r}") from None
        rows = [auditing.factory(factory, shape)]
    elif checkpoint:
        rows = [auditing.checkpoint(checkpoint)]
    else:
        rows = auditing.published()
        if saved_models:
            rows += auditing.saved_models(progress=lambda row: typer.echo(f"  {row}", err=True))
    _print_audit(rows)
    for row in rows:
        if record:
            append(record, row)
    if not all(row.agree for row in rows):
        typer.echo("the counts of at least one row differ", err=True)
        raise typer.Exit(1)


def _print_audit(rows) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Parameters and cost (one multiply-accumulate is one FLOP; bytes an image)")
    for column in ("row", "published", "closed form", "counted", "fvcore", "agree", "reproduced by", "FLOPs"):
        table.add_column(
            column, justify="left" if column in ("row", "agree", "reproduced by") else "right", overflow="fold"
        )
    table.add_column("activations", justify="right")
    table.add_column("GPU memory", justify="right")

    def number(value):
        return "-" if value is None else f"{value:,.0f}"

    for row in rows:
        published = f"{row.published_millions} M" if row.published_millions is not None else number(row.published)
        cost = row.cost
        table.add_row(
            row.row,
            published,
            number(row.closed_form),
            number(row.counted),
            number(row.fvcore),
            "yes" if row.agree else "NO",
            ", ".join(row.upsampling) or "-",
            number(cost and cost.flops_total),
            number(cost and cost.activation_bytes_per_image),
            number(cost and cost.peak_gpu_bytes),
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@app.command()
def tables(
    check: Annotated[
        bool, typer.Option("--check", help="Only compare; exit code 1 when a committed table differs.")
    ] = False,
    results: Results = Path("results"),
) -> None:
    """Regenerate the tables (Markdown, CSV, LaTeX) from the records."""
    from . import tables as writing

    if check:
        different = writing.check(results)
        for path in different:
            typer.echo(f"{path} differs from what the records say: run `wavemix tables`", err=True)
        raise typer.Exit(1 if different else 0)
    for path in writing.write(results):
        typer.echo(f"wrote {path}")


@app.command()
def status(results: Results = Path("results")) -> None:
    """What the records hold, study by study."""
    from rich.console import Console
    from rich.table import Table

    from .records import Confirmation, Trial, read_all

    table = Table()
    for column in ("study", "data", "target", "trials", "pruned", "smallest feasible", "confirmed"):
        table.add_column(column)
    studies: dict[str, list] = {}
    for record in read_all(results):
        if isinstance(record, (Trial, Confirmation)):
            studies.setdefault(record.study, []).append(record)
    for name, records in studies.items():
        trials = [r for r in records if isinstance(r, Trial)]
        reached = [r.parameters for r in trials if r.state == "complete" and r.accuracy_validation >= r.target]
        confirmed = [r.parameters for r in records if isinstance(r, Confirmation) and r.confirmed]
        table.add_row(
            name,
            records[0].dataset.label,
            f"{records[0].target:g}",
            str(len(trials)),
            str(sum(r.state == "pruned" for r in trials)),
            f"{min(reached):,}" if reached else "-",
            f"{min(confirmed):,}" if confirmed else "-",
        )
    Console().print(table)


@app.command()
def plots(results: Results = Path("results")) -> None:
    """Draw the records as PNG and SVG: frontier, anytime curve, importance of the knobs, learning curves."""
    from . import plots as drawing

    written = drawing.write(results)
    for path in written:
        typer.echo(f"wrote {path}")
    if not written:
        typer.echo("nothing to draw: the records hold no completed trial and no confirmation")


@app.command()
def report(results: Results = Path("results")) -> None:
    """Write report.html: all that the records say, in one file that a browser opens without a network."""
    from . import report as writing

    typer.echo(f"wrote {writing.write(results)}")


@data_app.command("list")
def data_list() -> None:
    """The data sets that are known by name."""
    from . import datasets

    for name in datasets.names():
        typer.echo(name)


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument()], data_dir: DataDir = None) -> None:
    """Find a data set on this machine or download it; every file's digest is checked."""
    from .fetch import fetch

    typer.echo(f"{name} is in {fetch(name, data_dir)}")


def main() -> None:
    """Run the command; a problem of the user's is one line on standard error and exit code 2."""
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        app()
    except UserError as error:
        typer.echo(f"wavemix: {error}", err=True)
        sys.exit(2)
    except ValidationError as error:
        typer.echo(f"wavemix: {first_line(error)}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
