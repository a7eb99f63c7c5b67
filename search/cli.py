"""The command `wavemix`."""

import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from . import machines, outputs
from .arguments import (
    Checkpoints,
    DataDir,
    DataName,
    Device,
    Family,
    RecipeText,
    Resize,
    Results,
    SkipUnreadable,
    Start,
    TestSplit,
    Threads,
    Tune,
    checked,
    first_line,
    fitted,
    fresh_seeds,
    network_of,
    recipe_of,
    seconds_of,
    seeds_of,
    source_of,
    study_name,
    tune_of,
)
from .conclusion import conclude, resumable, tabulate
from .errors import Unheard, UserError
from .names import check_text
from .terminal import show, tell

if TYPE_CHECKING:
    from .datasets import Split
    from .source import Source

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find the fewest-parameter WaveMix network that reaches a target accuracy, and prove it.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: what is known, and fetching them.")
app.add_typer(data_app, name="data")


def told_version(wanted: bool) -> None:
    if wanted:
        from .environment import code

        tell(f"wavemix {code()}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=told_version, is_eager=True, help="The version, and what tells it.")
    ] = False,
) -> None:
    check_text(sys.argv)


def loaded(source: "Source", data_dir: Path | None) -> "Split":
    """The training part of the data, when it is said what there is and all that testing would refuse is refused."""
    from . import datasets

    split = datasets.load(source, "train", data_dir)
    for line in datasets.check_test(split, data_dir):
        tell(line)
    return split


@app.command()
def search(
    data: DataName,
    target: Annotated[float, typer.Option(help="Accuracy to reach, a fraction: 0.99.")],
    budget: Annotated[str, typer.Option(help="Time for search and confirmation: 90s, 15m, 2h.")] = "15m",
    trials: Annotated[int | None, typer.Option(min=1, help="Trials the study is to have, instead of a time.")] = None,
    family: Family = "extended",
    seed: Annotated[int, typer.Option(min=0, max=999, help="Seed of validation split, sampler and trials.")] = 0,
    members: Annotated[int, typer.Option(min=1, max=64, help="Seeds trained at once in a trial.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, max=64, help="Fresh seeds of the confirmation at most.")] = 10,
    max_parameters: Annotated[
        int | None,
        typer.Option(min=1, help="Count to beat; default: the published one, 50,000 where there is none."),
    ] = None,
    recipe: RecipeText = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of a trial; default: the recipe's.")] = None,
    tune: Tune = None,
    start: Start = None,
    storage: Annotated[str | None, typer.Option(help="Optuna storage URL; default: a file under --results.")] = None,
    checkpoints: Checkpoints = None,
    name: Annotated[str | None, typer.Option(help="Name of the study; default: from data, target, family.")] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make a study that was lost or damaged anew from its records.")
    ] = False,
    resize: Resize = None,
    test_split: TestSplit = None,
    skip_unreadable: SkipUnreadable = False,
    device: Device = "cpu",
    threads: Threads = None,
    data_dir: DataDir = None,
    results: Results = Path("results"),
) -> None:
    """Search the smallest network that reaches TARGET on DATA, confirm it on the test set, print the table.

    The same command goes on where an earlier run stopped, also after `wavemix stop`; `wavemix worker` helps it.
    """
    checked(target, family)
    seconds, choices = None if trials else seconds_of(budget), tune_of(tune)
    import time

    from rich.console import Console

    from .attempt import Unfinished
    from .confirm import Finalist, confirm_smallest
    from .display import Display, summary
    from .journal import read_all
    from .protocol import CEILINGS, VALIDATION
    from .stopping import FIRST
    from .study import Search

    began = time.monotonic()
    source = source_of(data, resize, test_split, skip_unreadable)
    split = loaded(source, data_dir)
    study = study_name(data, target, family, name)
    ceiling = max_parameters or CEILINGS.get((split.name, target)) or 50_000
    plan = recipe_of(recipe, split.name, split.images.shape[-1], ceiling, epochs)
    console = Console()
    display = Display(console, f"{split.label}, {family} family", target, ceiling, seconds)
    attempts = []
    with (
        ExitStack() as locked,
        Search(
            split,
            target,
            plan,
            tune=choices,
            start=fitted(network_of(start, "--start"), split, "--start") if start else None,
            family=family,
            name=study,
            results=results,
            storage=storage,
            seed=seed,
            members=members,
            ceiling=ceiling,
            validation_count=split.validation or VALIDATION.get(split.name, max(1, len(split) // 10)),
            source=str(Path(data).expanduser().resolve()) if split.variant == "folder" else data,
            checkpoints=checkpoints,
            device=device,
            rebuild=rebuild,
            listen=display,
        ) as engine,
    ):
        locked.enter_context(engine.ledger.searching())
        locked.enter_context(engine.claim.held())
        engine.reopen()
        display.resume(engine)
        count = len(engine.recorded())
        with resumable(), display:
            if count:
                display.say(f"going on with study {study}: {count} trials so far")
            elif engine.path.exists():
                display.say(
                    f"{engine.path} has records, but the study itself is not here: a new one starts from them "
                    "(--rebuild takes their trials into it)"
                )
            left = None if seconds is None else seconds - (time.monotonic() - began)
            engine.run(total=trials, seconds=left, confirmation_seeds=min(seeds, FIRST))
            if engine.stopped:
                return
            finalists = [
                Finalist(*engine.plan(t.params), t.user_attrs.get("seconds", 0.0) * engine.growth(min(seeds, FIRST)))
                for t in engine.best()
            ]
            try:
                attempts = confirm_smallest(
                    finalists,
                    split,
                    target,
                    fresh_seeds(seeds, seed),
                    records=engine.shared(read_all(results)),
                    study=study,
                    family=family,
                    results=results,
                    data_dir=data_dir,
                    device=device,
                    seconds=None if seconds is None else seconds - (time.monotonic() - began),
                    say=display.say,
                    obey=engine.obey,
                )
            except Unfinished as reason:
                display.say(str(reason))
                return
            finally:
                engine.shared(read_all(results))
        show(summary(engine))
    if not attempts:
        tell("nothing to confirm: no trial was completed; a larger --budget or more --epochs may help")
    conclude(attempts, source, results, data_dir, device)


@app.command()
def confirm(
    data: DataName,
    target: Annotated[float, typer.Option(help="Accuracy to reach, a fraction: 0.99.")],
    family: Family = "extended",
    seed: Annotated[int, typer.Option(min=0, max=999, help="Seed of the search.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=64, help="Fresh seeds at most, other ones than a search's.")] = 10,
    budget: Annotated[str | None, typer.Option(help="Time after which no further candidate is tried.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study; default: from data, target, family.")] = None,
    resize: Resize = None,
    test_split: TestSplit = None,
    skip_unreadable: SkipUnreadable = False,
    device: Device = "cpu",
    threads: Threads = None,
    data_dir: DataDir = None,
    results: Results = Path("results"),
) -> None:
    """Confirm the smallest network a search recorded, with other seeds; where that fails, the next larger one.

    An attempt ends when it is confirmed, from 5 seeds on, or can't be any more, from 3 seeds on.
    """
    checked(target, family)
    seconds = seconds_of(budget) if budget else None
    from .confirm import confirm_smallest, finalists
    from .journal import read_all, repair
    from .records import Trial

    study = study_name(data, target, family, name)
    path = results / f"{study}.jsonl"
    if not path.is_file():
        raise UserError(f"no records of a study {study} in {results}: search first, or give --name or --results")
    repair(path)
    source = source_of(data, resize, test_split, skip_unreadable)
    split = loaded(source, data_dir)
    records = read_all(results)
    found = finalists([r for r in records if isinstance(r, Trial) and r.study == study], split.label, target, seeds)
    if not found:
        raise UserError(f"{path} holds no complete trial on {split.label} with target {target:g}: search longer")
    kept = {r.family for r in records if isinstance(r, Trial) and r.study == study}
    if family not in kept:
        raise UserError(f"the study {study} is of the {' and '.join(kept)} family: give --family")
    with resumable():
        attempts = confirm_smallest(
            found,
            split,
            target,
            fresh_seeds(seeds, seed, 500),
            records=records,
            study=study,
            family=family,
            results=results,
            data_dir=data_dir,
            device=device,
            seconds=seconds,
            say=tell,
        )
    conclude(attempts, source, results, data_dir, device)


@app.command()
def train(
    data: DataName,
    config: Annotated[str, typer.Option(help="Network configuration, JSON or a file of it.")],
    recipe: RecipeText = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=64, help="How many seeds; default: 1.")] = None,
    seed_list: Annotated[str | None, typer.Option(help="Which seeds, instead of how many: 7,8,9.")] = None,
    target: Annotated[
        float | None, typer.Option(help="Accuracy to judge by; without one the test is no attempt and has no row.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the record file.")] = "train",
    resize: Resize = None,
    test_split: TestSplit = None,
    skip_unreadable: SkipUnreadable = False,
    device: Device = "cpu",
    threads: Threads = None,
    data_dir: DataDir = None,
    results: Results = Path("results"),
) -> None:
    """Train one configuration on all training images and test it once, at the last epoch. Resumable."""
    if target is not None:
        checked(target)
    study = study_name(data, 0.0, "extended", name)
    from .checkpoints import checkpoint_name
    from .confirm import confirm, verdict
    from .journal import read_all
    from .records import counted, numbered

    network = network_of(config, "--config")
    if seeds and seed_list:
        raise UserError("--seeds says how many and --seed-list which: give one of them")
    numbers = seeds_of(seed_list) if seed_list is not None else fresh_seeds(seeds or 1, 0)
    split = loaded(source_of(data, resize, test_split, skip_unreadable), data_dir)
    network = fitted(network, split, "--config")
    plan = recipe_of(recipe, split.name, split.images.shape[-1], network.parameters(), epochs)
    tell(
        f"{network.name}: {network.parameters():,} parameters, {counted(len(numbers))}, {counted(plan.epochs, 'epoch')}"
    )

    def on_epoch(epoch, latest):
        loss = sum(e.train_loss for e in latest) / len(latest)
        tell(f"epoch {epoch}/{plan.epochs}: training loss {loss:.4f}, {latest[0].seconds:.0f} s")

    checkpoint = results / "studies" / f"train-{checkpoint_name(network, plan, numbers, split.digest)}"
    with resumable():
        record = confirm(
            network,
            plan,
            split,
            target,
            numbers,
            study=study,
            family=network.family,
            results=results,
            data_dir=data_dir,
            device=device,
            on_epoch=on_epoch,
            checkpoint=checkpoint,
        )
    tell(verdict(next(r for r in numbered(read_all(results)) if r.created == record.created)))
    tabulate(results)


@app.command()
def reproduce(
    row: Annotated[str, typer.Argument(help="A row of the parameter-efficiency table: mnist-99-extended.")],
    data: Annotated[str | None, typer.Option(help="Where a folder's images are; default: as recorded.")] = None,
    device: Device = "cpu",
    threads: Threads = None,
    data_dir: DataDir = None,
    results: Results = Path("results"),
) -> None:
    """Train a row's network again from its record, same seeds and data. Exit code 1 when it misses the target."""
    from . import reproduction
    from .journal import read_all

    name, original = reproduction.row_of(row, read_all(results))
    with resumable():
        record = reproduction.reproduce(
            name, original, source=data, results=results, data_dir=data_dir, device=device, say=tell
        )
    for line in reproduction.comparison(record):
        tell(line)
    tabulate(results)
    raise typer.Exit(0 if record.reached else 1)


for command in (machines.worker, machines.stop, machines.status):
    app.command()(command)
for command in (outputs.audit, outputs.tables, outputs.plots, outputs.report, outputs.dashboard):
    app.command()(command)


@data_app.command("list")
def data_list() -> None:
    """The data sets that are known by name."""
    from . import datasets

    for name in datasets.names():
        tell(name)


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument()], data_dir: DataDir = None) -> None:
    """Find a data set on this machine or download it; every file's digest is checked."""
    from .fetch import fetch

    tell(f"{name} is in {fetch(name, data_dir)}")


# what Typer raises for arguments of the wrong form; where the class lies depends on Typer's version
MALFORMED = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Run the command; a problem of the user's is one line on standard error and exit code 2.

    Raises KeyboardInterrupt where it is interrupted.
    """
    try:
        code = app(standalone_mode=False)
        if code == 130:  # what Typer makes of an interruption
            raise KeyboardInterrupt
        sys.exit(code)
    except Unheard:
        sys.exit(141)  # as a program that the signal ends
    except UserError as error:
        fail(str(error))
    except MALFORMED as error:
        text, context = error.format_message(), getattr(error, "ctx", None)
        if not text:  # no arguments at all: the help has been printed
            sys.exit(2)
        fail(f"{text} (`{context.command_path} --help` lists what there is)" if context else text)
    except ValidationError as error:
        fail(first_line(error))
    except OSError as error:  # a full disk, say
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def fail(reason: str) -> None:
    from .environment import mask

    with suppress(UserError):  # nobody reads that either
        tell(f"wavemix: {mask(reason)}", err=True)
    sys.exit(2)
