"""Confirmation: retrain a candidate on the whole training set with fresh seeds and test it once, at the last epoch.

This is the only module that loads the test part of a data set. What is confirmed was chosen on validation images
before; every attempt is recorded, misses too, and nothing is chosen by what the test set says except to go on to the
next larger candidate where one is not confirmed (each further attempt is a further chance to pass by luck:
`search.stopping` adjusts the bound for it, and the table says which attempt a row's test was).
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite

from . import datasets, signals
from .attempt import dataset_of
from .checkpoints import checkpoint_name
from .conclusion import verdict
from .cost import cost
from .datasets import Split
from .environment import environment
from .errors import UserError
from .journal import append, read, repair
from .recipe import Recipe, filled
from .records import Confirmation, Record, Trial, counted, numbered, tested
from .stopping import FIRST, enough, hopeless, looks
from .training import Epoch, Trained, check_fit, evaluate, train
from .weights import Inputs, Training, weights_path


@dataclass(frozen=True)
class Finalist:
    """What a search hands to confirmation; `seconds` is what its first look's seeds are expected to take."""

    config: LiteConfig
    recipe: Recipe
    seconds: float = 0.0


def finalists(records: Sequence[Record], label: str, target: float, seeds: int) -> list[Finalist]:
    """Feasible trials on the data set `label`, fewest parameters first.

    Where there are none, the complete one nearest to the target. Of trials of one configuration and recipe the last
    counts. What a trial took says how long training those of the first look at `seeds` seeds, on all training images,
    will.
    """
    complete: dict[tuple, Trial] = {}
    for record in records:
        if isinstance(record, Trial) and record.state == "complete" and record.accuracy_validation is not None:
            if record.dataset.label == label and record.target == target:
                complete[record.config, json.dumps(filled(record.recipe), sort_keys=True)] = record
    trials = sorted(complete.values(), key=lambda t: t.parameters)
    chosen = [t for t in trials if t.feasible] or sorted(trials, key=lambda t: -t.accuracy_validation)[:1]
    return [
        Finalist(
            t.config,
            Recipe.model_validate(t.recipe),
            max(t.wall_seconds, t.device_seconds)
            * min(seeds, FIRST)
            / len(t.seeds)
            * (1 + (t.dataset.validation_count or 0) / t.dataset.train_count),
        )
        for t in chosen
    ]


def confirm_smallest(
    finalists: Sequence[Finalist],
    data: Split,
    target: float,
    seeds: Sequence[int],
    *,
    records: Sequence[Record],
    study: str,
    family: str,
    results: Path,
    data_dir: Path | None = None,
    device: str = "cpu",
    seconds: float | None = None,
    say: Callable[[str], None] = print,
    obey: Callable[[], None] = lambda: None,
) -> list[Confirmation]:
    """Test the first finalist; while it is not confirmed and `seconds` are left, the next.

    The first is tried whatever the time, up to its first look; more are trained while there is time. An attempt takes
    as many of `seeds` as `search.stopping` asks for. `records` are those of all studies: they say how many attempts the
    threshold has taken. One that this study holds with the same seeds is not repeated, since its result would be the
    same, and one that ended for lack of time is gone on with. `obey` is called after each epoch and may raise, to end
    it for now.
    """
    attempts, planned = [], looks(len(seeds))
    deadline = None if seconds is None else time.monotonic() + seconds
    past = [r for r in numbered(records) if isinstance(r, Confirmation) and r.target == target]
    of = dataset_of(data, None, None).population
    last = max((r.attempt for r in past if (r.dataset.population, r.family) == (of, family)), default=0)
    for finalist in finalists:
        config, recipe = finalist.config, finalist.recipe
        network = tested(config, recipe.model_dump(mode="json"), data.digest)
        here = [r for r in past if r.study == study and r.network == network]
        earlier = next((r for r in reversed(here) if _stands_for(r, seeds, planned)), None)
        late = deadline is not None and time.monotonic() + finalist.seconds > deadline
        if earlier and (late or _ended(earlier, planned)):
            record = earlier
            say(f"{config.name} has been tested with {'these' if _ended(earlier, planned) else 'some of these'} seeds")
        elif attempts and late:
            say(f"no time left to confirm {config.name}: the same command with a larger --budget goes on with it")
            break
        else:
            count = "up to " * (len(planned) > 1) + counted(len(seeds), "fresh seed")
            say(f"confirming {config.name}, {config.parameters():,} parameters: {count}, all training data")
            attempt = earlier.attempt if earlier else last + 1
            last = max(last, attempt)
            name = checkpoint_name(config, recipe, list(seeds), data.digest)
            record = confirm(
                config,
                recipe,
                data,
                target,
                seeds,
                study=study,
                family=family,
                results=results,
                data_dir=data_dir,
                device=device,
                on_epoch=quarterly(recipe.epochs, say, obey),
                checkpoint=results / "studies" / study / f"confirm-{name}",
                planned=planned,
                attempt=attempt,
                deadline=deadline,
                say=say,
            )
        attempts.append(record)
        say(verdict(record))
        if record.verdict == "confirmed":
            break
    return attempts


def _stands_for(record: Confirmation, seeds: Sequence[int], planned: Sequence[int]) -> bool:
    """Whether a test of the same network is one with these seeds: under the same plan, with all of them, or enough."""
    count = len(record.seeds)
    same = record.looks == list(planned) or count == len(seeds) or record.verdict == "confirmed"
    return same and record.seeds == list(seeds[:count])


def _ended(record: Confirmation, planned: Sequence[int]) -> bool:
    """Whether more seeds of the plan would change nothing."""
    images, attempt = record.dataset.test_count, record.attempt or 1
    return record.verdict in ("confirmed", "failed") or enough(
        record.accuracies, record.target, planned, attempt, images
    )


def quarterly(
    epochs: int, say: Callable[[str], None], obey: Callable[[], None] = lambda: None
) -> Callable[[int, list[Epoch]], None]:
    """An `on_epoch` that says the training loss after each quarter of the epochs."""

    def on_epoch(epoch: int, latest: list[Epoch]) -> None:
        obey()
        if epoch % max(1, epochs // 4) == 0 or epoch == epochs:
            loss = sum(e.train_loss for e in latest) / len(latest)
            say(f"  epoch {epoch}/{epochs}: training loss {loss:.4f}")

    return on_epoch


def confirm(
    config: LiteConfig,
    recipe: Recipe,
    data: Split,
    target: float | None,
    seeds: Sequence[int],
    *,
    study: str,
    family: str,
    results: Path,
    data_dir: Path | None = None,
    device: str = "cpu",
    on_epoch: Callable[[int, list[Epoch]], bool | None] | None = None,
    checkpoint: Path | None = None,
    planned: Sequence[int] = (),
    attempt: int | None = None,
    deadline: float | None = None,
    say: Callable[[str], None] = print,
) -> Confirmation:
    """Train one network a seed on all of `data`, test them, append the record and keep the weights.

    `planned` are the numbers of seeds after which `stopping.enough` may end it; without, all seeds are trained at once.
    Seeds that the study has trained before are not trained again (`trained_before` says which count): their weights are
    taken and tested with the others', and the record says so (`reused`).
    """
    repair(results / f"{study}.jsonl")
    training = Training(config, recipe, data.digest, Inputs.of(data))
    path = weights_path(results, study, config)
    known = trained_before(results / f"{study}.jsonl", path, training, seeds, device)
    if known:
        say(f"trained before: seeds {', '.join(map(str, known))}")
    ran = retrain(
        config,
        recipe,
        data,
        target,
        seeds,
        planned=planned or [len(seeds)],
        attempt=attempt or 1,
        deadline=deadline,
        data_dir=data_dir,
        device=device,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
        say=say,
        known=known,
    )
    record = Confirmation.of(
        **ran.fields,
        study=study,
        target=target,
        family=family,
        looks=list(planned),
        attempt=attempt,
        reused=[t.seed for t in ran.trained if known.get(t.seed) is t],
    )
    if record.state == "complete":
        training.save(path, {t.seed: t.state for t in ran.trained if t.seed not in record.reused}, record.created)
    append(results / f"{study}.jsonl", record)
    for path in ran.checkpoints:
        path.unlink(missing_ok=True)
    return record


def trained_before(
    journal: Path, path: Path, training: Training, seeds: Sequence[int], device: str
) -> dict[int, Trained]:
    """Those of `seeds` whose weights at `path` stem from a record in `journal` of the same torch and the same GPU.

    Processors are not told apart: they differ in how sums are rounded, a GPU also in what it computes with.
    """
    states, here = training.load(training.place(path), seeds), environment(device)
    gpu = here.device if device.startswith("cuda") else None
    known: dict[int, Trained] = {}
    for record in read(journal) if states and journal.exists() else []:
        if not isinstance(record, Confirmation) or record.cost is None:
            continue
        if (record.cost.device, record.environment.torch) == (gpu, here.torch):
            for seed, curve in zip(record.seeds, record.curves):
                state = states.get((seed, record.created.isoformat()))
                if state and all(None not in (point.seconds, point.train_loss) for point in curve):
                    epochs = [point.model_dump() for point in curve]
                    known[seed] = Trained(seed=seed, curve=epochs, accuracy=None, stopped=None, seconds=0.0)
                    known[seed].state.update(state)
    return known


@dataclass(frozen=True)
class Retrained:
    """Networks trained on all training images and tested: what a record says of them, and they themselves."""

    fields: dict[str, Any]
    trained: list[Trained]
    checkpoints: list[Path]  # of the batches of seeds; they are kept until there is a record


def retrain(
    config: LiteConfig,
    recipe: Recipe,
    data: Split,
    target: float | None,
    seeds: Sequence[int],
    *,
    planned: Sequence[int],
    attempt: int = 1,
    deadline: float | None = None,
    data_dir: Path | None = None,
    device: str = "cpu",
    on_epoch: Callable[[int, list[Epoch]], bool | None] | None = None,
    checkpoint: Path | None = None,
    say: Callable[[str], None] = print,
    known: Mapping[int, Trained] | None = None,
    test_digest: str | None = None,
) -> Retrained:
    """Train the seeds up to each of the looks `planned` and test them, until they are enough (`search.stopping`).

    After its first look it also ends where the next ones would take until after `deadline` (`time.monotonic`). Seeds
    that are `known` are not trained, and a batch that was trained before an interruption is taken from its checkpoint.

    Raises UserError where the configuration does not fit the images, or the test part is missing, of other
    images or not the one of `test_digest`, before anything is trained, and where the training breaks (a full disk, no
    memory).
    """
    start, known = time.monotonic(), known or {}
    check_fit(config, data)
    trained: list[Trained] = []
    accuracies: list[float] = []
    checkpoints: list[Path] = []
    seconds, stopped = 0.0, None
    with signals.prompt():
        test = datasets.load(data.source, "test", data_dir)
    if test_digest not in (None, test.digest):
        raise UserError(f"the test images of {data.label} are not those of the record: nothing was trained")
    datasets.compare(data, test)
    # before the training, so that whatever its measurement lacks does not show after hours
    network = WaveMixLite(config)
    with _breakage(f"the cost of {config.name} could not be measured"):
        costs = cost(network, tuple(data.images.shape[1:]), device=device)
    for first, last in pairwise([0, *planned]):
        if deadline is not None and first >= FIRST:
            if time.monotonic() + seconds / first * (last - first) > deadline:
                left = counted(planned[-1] - first, "other seed")
                say(f"  no time for {left}: the same command with a larger --budget goes on with them")
                break
        fresh = [seed for seed in seeds[first:last] if seed not in known]
        path = None
        if checkpoint and fresh:
            path = checkpoint.with_name(f"{checkpoint.name}.{first}") if first else checkpoint
            if path.exists():  # the batch was begun before some of it became known
                fresh = list(seeds[first:last])
            elif len(fresh) < last - first:
                path = path.with_name(f"{path.name}-{hashlib.sha256(repr(fresh).encode()).hexdigest()[:8]}")
            checkpoints.append(path)
        batch = {seed: known[seed] for seed in seeds[first:last] if seed not in fresh}
        if fresh:
            with _breakage(f"{config.name} could not be trained"):
                new = train(config, recipe, data, fresh, on_epoch=on_epoch, checkpoint=path, device=device)
            seconds += new[0].seconds
            stopped = new[0].stopped
            batch |= {t.seed: t for t in new}
        members = [batch[seed] for seed in seeds[first:last]]
        trained += members
        if stopped is not None:
            break
        accuracies += evaluate(config, [t.state for t in members], data, test)
        if enough(accuracies, target, planned, attempt, len(test)):
            if hopeless(accuracies, target, planned, attempt, len(test)):
                left = counted(planned[-1] - last, "other seed")
                say(f"  after {last} seeds: the bound can no longer be reached, {left} would not confirm it")
            break
        say(f"  after {last} seeds: not decided yet")  # without the mean: who saw it and stopped would leave no record
    fields = {
        "accuracies": accuracies,
        "config": config,
        "recipe": recipe,
        "dataset": dataset_of(data, None, None, test),
        "seeds": [t.seed for t in trained],
        "parameters": config.parameters(),
        "parameters_counted": sum(p.numel() for p in network.parameters()),
        "curves": [t.curve for t in trained],
        "state": "complete" if stopped is None else "failed",
        "reason": stopped,
        "wall_seconds": time.monotonic() - start,
        "device_seconds": seconds,
        "cost": costs,
        "environment": environment(device),
    }
    return Retrained(fields, trained, checkpoints)


@contextmanager
def _breakage(what: str) -> Iterator[None]:
    """A full disk, a full memory or a device that fails, as a UserError."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        raise UserError(f"{what}: {' '.join(str(error).split())[:300] or type(error).__name__}") from error
