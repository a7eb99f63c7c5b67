"""Reproduction: a row of the parameter-efficiency table trained again from its record."""

from collections.abc import Callable
from pathlib import Path

from . import datasets
from .checkpoints import checkpoint_name
from .confirm import quarterly, retrain
from .efficiency import winners
from .errors import UserError
from .journal import append
from .recipe import Recipe
from .records import Confirmation, Record, Reproduction, counted
from .source import PLAIN, Source
from .storage import writable


def row_of(name: str, records: list[Record]) -> tuple[str, Confirmation]:
    """A row and its confirmation by the row's name, or by the name of the one study behind it. Else UserError."""
    rows = {row: run for row, run in winners(records).items() if run.mean is not None}
    found = [row for row, run in rows.items() if name in (row, run.study)]
    if name in rows:
        found = [name]
    if len(found) != 1:
        known = ", ".join(rows) or "none: nothing has been tested yet"
        problem = f"there is no row {name!r}" if not found else f"the study {name} stands in {len(found)} rows"
        raise UserError(f"{problem}; rows with a confirmed or tested network: {known}")
    return found[0], rows[found[0]]


def reproduce(
    row: str,
    original: Confirmation,
    *,
    source: str | None = None,
    results: Path,
    data_dir: Path | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> Reproduction:
    """Train the network of `original` again: same configuration, recipe and seeds, on data of the same digest.

    `source` is where they are loaded from, left out where the record says.

    The record is appended to `results/reproductions.jsonl`; `reached` says whether the mean reached the target again.
    Raises UserError where the data differ from those of the record.
    """
    writable(results)
    where = Source(source or original.dataset.name, original.dataset.reading or PLAIN)
    data = datasets.load(where, "train", data_dir)
    for line in data.told:
        say(line)
    if data.digest != original.dataset.digest:
        raise UserError(
            f"the training images of {data.label} are not those of the record (digest {data.digest[:12]}, recorded "
            f"{original.dataset.digest[:12]}): name the original ones with --data, or their directory with --data-dir"
        )
    recipe, seeds = Recipe.model_validate(original.recipe), original.seeds
    size = f"{original.parameters:,} parameters"
    say(f"{row}: {original.config.name}, {size}, {counted(len(seeds))}, {counted(recipe.epochs, 'epoch')}")
    checkpoint = results / "studies" / f"reproduce-{checkpoint_name(original.config, recipe, seeds, data.digest)}"
    on_epoch = quarterly(recipe.epochs, say)
    ran = retrain(
        original.config,
        recipe,
        data,
        original.target,
        seeds,
        planned=[len(seeds)],
        data_dir=data_dir,
        device=device,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
        say=say,
        test_digest=original.dataset.test_digest,
    )
    record = Reproduction.of(
        **ran.fields,
        study=original.study,
        target=original.target,
        family=original.family,
        row=row,
        reproduces=original.created,
        recorded=original.accuracies,
    )
    append(results / "reproductions.jsonl", record)
    for path in ran.checkpoints:
        path.unlink(missing_ok=True)
    return record


def comparison(record: Reproduction) -> list[str]:
    """Recorded and new accuracies side by side, seed by seed, and the verdict."""
    lines = [f"{'seed':>9}  recorded       now"]
    for seed, old, new in zip(record.seeds, record.recorded, record.accuracies):
        lines.append(f"{seed:>9}  {old:>8.2%}  {new:>8.2%}")
    if record.mean is None:
        return [*lines, f"not reproduced: {record.reason}"]
    old = sum(record.recorded) / len(record.recorded)
    lines.append(f"{'mean':>9}  {old:>8.2%}  {record.mean:>8.2%}")
    again = "reached again" if record.reached else f"missed by {record.target - record.mean:.2%}"
    return [*lines, f"{'reproduced' if record.reached else 'not reproduced'}: target {record.target:.4g} {again}"]
