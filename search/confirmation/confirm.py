"""Confirmation: the smallest network that a search found, tested with fresh seeds until it is confirmed.

What is confirmed was chosen on validation images before; every attempt is recorded, misses too, and nothing is chosen
by what the test set says except to go on to the next larger candidate where one is not confirmed (each further attempt
is a further chance to pass by luck: `search.records.statistics` adjusts the bound for it, and the table says which
attempt a row's test was).
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from search.confirmation.plan import SeedPlan
from search.confirmation.retrain import OnEpoch, retrain
from search.data.split import Portion
from search.errors import present
from search.records.costs import Minimised, size_shown
from search.records.environment import environment
from search.records.goal import Goal
from search.records.jsonl import Record, append, read, repair
from search.records.making import dataset_of
from search.records.models import Confirmation, Trial, at_each_target, counted, numbered
from search.records.results import Results
from search.records.statistics import FIRST
from search.records.verdicts import verdict
from search.records.weights import Inputs, WeightsFile
from search.runtime import Runtime
from search.training.outcome import Epoch, Trained
from search.training.precision import settled_precision
from search.training.recipe import Recipe, Training, filled
from wavemix.config import LiteConfig


@dataclass(frozen=True)
class Finalist:
    """What a search hands to confirmation; `seconds` is what its first look's seeds are expected to take, `minimised`
    what the search made small, where that is not the parameters."""

    config: LiteConfig
    recipe: Recipe
    seconds: float = 0.0
    minimised: Minimised | None = None


def finalists(records: Sequence[Record], label: str, target: float, seeds: int) -> list[Finalist]:
    """Feasible trials on the data set `label`, first those with the least of what their search minimised.

    Where there are none, the complete one nearest to the target. Of trials of one configuration and recipe, in whatever
    precision, the last counts. What a trial took says how long training those of the first look at `seeds` seeds, on
    all training images, will.
    """
    complete: dict[tuple, Trial] = {}
    for record in at_each_target(records):
        if isinstance(record, Trial) and record.state == "complete" and record.accuracy_validation is not None:
            if record.dataset.label == label and record.target == target:
                recipe = filled(record.recipe) | {"precision": None}
                complete[record.config, json.dumps(recipe, sort_keys=True)] = record
    trials = sorted(complete.values(), key=lambda t: t.objective)
    chosen = [t for t in trials if t.feasible] or sorted(trials, key=lambda t: -present(t.accuracy_validation))[:1]
    return [
        Finalist(
            t.config,
            Recipe.model_validate({name: value for name, value in t.recipe.items() if name != "precision"}),
            max(t.wall_seconds, t.device_seconds)
            * min(seeds, FIRST)
            / len(t.seeds)
            * (1 + (t.dataset.validation_count or 0) / t.dataset.train_count),
            t.minimised,
        )
        for t in chosen
    ]


def confirm_smallest(
    finalists: Sequence[Finalist],
    data: Portion,
    goal: Goal,
    plan: SeedPlan,
    results: Results,
    runtime: Runtime,
    *,
    records: Sequence[Record],
) -> list[Confirmation]:
    """Test the first finalist; while it is not confirmed and the plan's deadline has not passed, the next.

    The first is tried whatever the time, up to its first look; more are trained while there is time. `records` are
    those of all studies: they say how many attempts the threshold has taken. A test that the study of `goal` holds with
    the same seeds is not repeated, since its result would be the same, and one that ended for lack of time is gone on
    with.
    """
    attempts, say = [], runtime.say
    past = [r for r in numbered(records) if isinstance(r, Confirmation) and r.target == goal.aim]
    of = dataset_of(data, None, None).population
    last = max((r.attempt or 1 for r in past if (r.dataset.population, r.family) == (of, goal.family)), default=0)
    for finalist in finalists:
        recipe = settled_precision(
            runtime.precision, finalist.config, finalist.recipe, data, min(len(plan.seeds), FIRST), runtime.device
        )
        training = Training(finalist.config, recipe, data.digest)
        here = [r for r in past if r.study == goal.study and r.network == training.identity]
        earlier = next((r for r in reversed(here) if _stands_for(r, plan)), None)
        late = plan.deadline is not None and time.monotonic() + finalist.seconds > plan.deadline
        name, ended = training.config.name, earlier is not None and _ended(earlier, plan)
        if earlier and (late or ended):
            record = earlier
            say(f"{name} has been tested with {'these' if ended else 'some of these'} seeds")
        elif attempts and late:
            say(f"no time left to confirm {name}: the same command with a larger --budget tests it")
            break
        else:
            count = "up to " * (len(plan.looks) > 1) + counted(len(plan.seeds), "fresh seed")
            size = size_shown(training.config.parameters(), finalist.minimised)
            say(f"confirming {name}, {size}: {count}, all training data")
            attempt = last + 1 if earlier is None else earlier.attempt or 1
            last = max(last, attempt)
            record = confirm(
                training, data, goal, plan.numbered(attempt), results, runtime, minimised=finalist.minimised
            )
        attempts.append(record)
        say(verdict(record))
        if record.verdict == "confirmed":
            break
    return attempts


def _stands_for(record: Confirmation, plan: SeedPlan) -> bool:
    """Whether a test of the same network is one with these seeds: under the same plan, with all of them, or enough."""
    count = len(record.seeds)
    same = record.looks == list(plan.looks) or count == len(plan.seeds) or record.verdict == "confirmed"
    return same and record.seeds == list(plan.seeds[:count])


def _ended(record: Confirmation, plan: SeedPlan) -> bool:
    """Whether more seeds of the plan would change nothing."""
    return record.verdict in ("confirmed", "failed") or plan.numbered(record.attempt or 1).enough(
        record.accuracies, record.target, record.dataset.test_count, record.score
    )


def confirm(
    training: Training,
    data: Portion,
    goal: Goal,
    plan: SeedPlan,
    results: Results,
    runtime: Runtime,
    on_epoch: OnEpoch | None = None,
    minimised: Minimised | None = None,
) -> Confirmation:
    """Train one network a seed on all of `data`, test them, append the record and keep the weights.

    Seeds that the study has trained before are not trained again (`trained_before` says which count): their weights are
    taken and tested with the others', and the record says so (`reused`).
    """
    journal = results.journal(goal.study)
    repair(journal)
    weights = WeightsFile.of(results.weights, goal.study, training, Inputs.of(data))
    stored = trained_before(results, goal.study, weights, plan.seeds, runtime.device)
    known = stored
    if training.config.views != "one":  # how many views of an image are judged changes nothing of a training
        once = replace(training, config=training.config.seen_once)
        same = WeightsFile.of(results.weights, goal.study, once, weights.inputs)
        known = trained_before(results, goal.study, same, plan.seeds, runtime.device) | stored
    if known:
        runtime.say(f"trained before: seeds {', '.join(map(str, known))}")
    ran = retrain(
        training,
        data,
        goal.aim,
        plan,
        runtime,
        checkpoint=results.study(goal.study) / f"confirm-{training.checkpoint_name(plan.seeds)}",
        on_epoch=on_epoch,
        known=known,
    )
    record = Confirmation.of(
        **ran.fields,
        study=goal.study,
        target=goal.aim,
        family=goal.family,
        minimised=minimised,
        looks=list(plan.looks),
        attempt=plan.attempt,
        reused=[t.seed for t in ran.trained if known.get(t.seed) is t],
    )
    if record.state == "complete":
        weights.save({t.seed: t.state for t in ran.trained if stored.get(t.seed) is not t}, record.created)
    append(journal, record)
    for path in ran.checkpoints:
        path.unlink(missing_ok=True)
    return record


def trained_before(
    results: Results, study: str, weights: WeightsFile, seeds: Sequence[int], device: str
) -> dict[int, Trained]:
    """Those of `seeds` whose weights stem from a record of the study, made with the same torch and the same GPU.

    Processors are not told apart: they differ in how sums are rounded, a GPU also in what it computes with.
    """
    states, here, journal = weights.load(seeds), environment(device), results.journal(study)
    gpu = here.device if device.startswith("cuda") else None
    known: dict[int, Trained] = {}
    for record in read(journal) if states and journal.exists() else []:
        if not isinstance(record, Confirmation) or record.cost is None:
            continue
        if (record.cost.device, record.environment.torch) == (gpu, here.torch):
            for seed, curve in zip(record.seeds, record.curves):
                state = states.get((seed, record.created.isoformat()))
                if state and all(None not in (point.seconds, point.train_loss) for point in curve):
                    epochs = [Epoch.model_validate(point.model_dump()) for point in curve]
                    known[seed] = Trained(seed=seed, curve=epochs, accuracy=None, stopped=None, seconds=0.0)
                    known[seed].state.update(state)
    return known
