"""Reproduction: a row of the parameter-efficiency table trained again from its record."""

from search.confirmation.plan import SeedPlan
from search.confirmation.retrain import retrain
from search.data import datasets
from search.data.source import PLAIN, Source
from search.errors import UserError
from search.records.models import Confirmation, Reproduction, counted
from search.records.results import Results
from search.runtime import Runtime
from search.training.precision import AUTO, settled_precision
from search.training.recipe import Recipe, Training


def reproduce(
    row: str, original: Confirmation, results: Results, runtime: Runtime, source: str | None = None
) -> Reproduction:
    """Train the network of `original` again: same configuration, recipe and seeds, on data of the same digest.

    `source` is where they are loaded from, left out where the record says. With the precision
    "auto" it is the record's.

    The record is appended to the "reproductions" of `results`; `reached` says whether the mean reached the target
    again. Raises UserError where the data differ from those of the record.
    """
    results.writable()
    where = Source(source or original.dataset.name, original.dataset.reading or PLAIN)
    data = datasets.load(where, "train", runtime.data_dir)
    for line in data.told:
        runtime.say(line)
    if data.digest != original.dataset.digest:
        raise UserError(
            f"the training images of {data.label} are not those of the record (digest {data.digest[:12]}, recorded "
            f"{original.dataset.digest[:12]}): name the original ones with --data, or their directory with --data-dir"
        )
    recipe, seeds = Recipe.model_validate(original.recipe), original.seeds
    asked = recipe.precision if runtime.precision == AUTO else runtime.precision
    recipe = settled_precision(asked, original.config, recipe, data, len(seeds), runtime.device)
    training = Training(original.config, recipe, data.digest)
    epochs = training.recipe.epochs
    size = f"{original.parameters:,} parameters"
    runtime.say(f"{row}: {original.config.name}, {size}, {counted(len(seeds))}, {counted(epochs, 'epoch')}")
    ran = retrain(
        training,
        data,
        original.target,
        SeedPlan(tuple(seeds)),
        runtime,
        checkpoint=results.study("reproductions") / training.checkpoint_name(seeds),
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
    results.append("reproductions", record)
    for path in ran.checkpoints:
        path.unlink(missing_ok=True)
    return record
