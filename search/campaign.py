"""The main jobs as functions: search, confirm, train, audit. The commands of `wavemix` print what these return.

    from search import Goal, campaign

    data = campaign.load("mnist")
    found = campaign.search(data, Goal("mine", 0.99, ceiling=3566), seconds=900, results="runs")
    network = found.load()

All results are in the folder `results`; `Runtime` says where and how the work is done and what it prints.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from search import signals
from search.audit import counts
from search.confirmation.confirm import Finalist, confirm_smallest, finalists
from search.confirmation.confirm import confirm as tested
from search.confirmation.plan import SeedPlan, fresh_seeds
from search.confirmation.retrain import OnEpoch
from search.data import datasets
from search.data.source import Source
from search.data.split import Portion
from search.errors import UserError
from search.outcome import Outcome
from search.records.audits import Audit
from search.records.goal import Goal
from search.records.jsonl import repair
from search.records.models import Confirmation, Trial, numbered
from search.records.results import Results
from search.records.statistics import FIRST
from search.runtime import Runtime
from search.study.events import Event
from search.study.search import Search
from search.study.setting import Setting
from search.study.trial import Unfinished
from search.tasks.task import task_of
from search.training.default_recipe import lengths
from search.training.precision import settled_precision
from search.training.recipe import Recipe, Training
from search.upstream import CEILINGS
from wavemix.config import LiteConfig

OTHERS = 500  # fresh seeds from which on `confirm` takes others than a search


def load(source: Source | str, runtime: Runtime = Runtime()) -> Portion:  # noqa: B008, frozen
    """The training part of a data set, a folder or an archive, after a look at all that a test of it would refuse.

    Says what was read. Raises UserError where it can't be, or has no test part that goes with it.
    """
    data = datasets.load(source, "train", runtime.data_dir)
    for line in datasets.check_test(data, runtime.data_dir):
        runtime.say(line)
    return data


def ceiling_of(data: Portion, goal: Goal) -> int:
    """The number of parameters to stay below, where the goal says none: the published one of its targets, or the task's
    (50,000 classifying); where something else is minimised the larger of the two."""
    published = max(CEILINGS.get((data.name, target), 0) for target in goal.targets)
    own = task_of(data).ceiling
    return max(published, own) if goal.minimise != "parameters" else published or own


def search(
    data: Portion,
    goal: Goal,
    *,
    results: Results | Path | str,
    runtime: Runtime = Runtime(),  # noqa: B008, frozen
    recipe: Recipe | None = None,
    tune: Mapping[str, Sequence] | None = None,
    start: LiteConfig | None = None,
    seconds: float | None = 900.0,
    trials: int | None = None,
    seed: int = 0,
    members: int = 2,
    seeds: int = 10,
    source: str | None = None,
    storage: str | URL | None = None,
    checkpoints: str | None = None,
    rebuild: bool = False,
    listen: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Search the smallest network that reaches the goal, and test it with fresh seeds; of several targets each one's.

    Args:
        goal: `ceiling` None is the published count of the target (see `ceiling_of`).
        recipe: of every trial, by default the data set's, with several numbers of epochs to choose from.
        tune: hyperparameters of the recipe that are searched as well, and their values.
        start: configuration that is tried first.
        seconds: for search and confirmation; the first trial and the first confirmation are finished whatever they
            take. None with `trials`, the number that the study is to have in all.
        seed: of the validation split, the sampler and the trials, 0 to 999.
        members: seeds of a trial: one, and the others where it leaves hope; `seeds`: fresh ones of a confirmation at
            most.
        source: what a worker on another machine loads the data by.
        storage, checkpoints, rebuild, listen: see `search.study.search.Search`.

    Raises UserError for bad input, before anything is trained; KeyboardInterrupt after a signal: the same call goes on.
    """
    began, results = time.monotonic(), _results(results)
    setting = _setting(
        data, goal, recipe, tune or {}, runtime, seed=seed, members=members, records=results.read_known()
    )
    with ExitStack() as held:
        with signals.prompt():
            engine = held.enter_context(
                Search.open(
                    setting,
                    results,
                    start=start,
                    seconds=seconds,
                    source=source,
                    rebuild=rebuild,
                    storage=storage,
                    checkpoints=checkpoints,
                    device=runtime.device,
                    precision=runtime.precision,
                    listen=listen,
                )
            )
            held.enter_context(engine.records.searching())
            held.enter_context(engine.claim.held())
            engine.reopen()
        _begin(engine, listen)
        left = None if seconds is None else seconds - (time.monotonic() - began)
        engine.run(total=trials, seconds=left, confirmation_seeds=min(seeds, FIRST))
        outcome = Outcome(data, goal, results, [], not engine.stopped, setting, engine.study.get_trials(deepcopy=False))
        if engine.stopped:
            return outcome
        deadline = None if seconds is None else began + seconds
        try:
            tests = _confirmed(engine, outcome, SeedPlan.of(fresh_seeds(seeds, seed), deadline), runtime)
        except Unfinished as reason:
            listen(Event("note", str(reason)))
            return replace(outcome, finished=False)
        return replace(outcome, tests=tests)


def _setting(
    data: Portion, goal: Goal, recipe: Recipe | None, tune: Mapping[str, Sequence], runtime: Runtime, **others: Any
) -> Setting:
    """What a search is of: without a `recipe` the data set's, with several numbers of epochs to choose from."""
    ceiling, task = goal.ceiling or ceiling_of(data, goal), task_of(data)
    base = recipe or task.recipe(data, ceiling)
    return Setting(
        data,
        goal.targets,
        base,
        tune=dict(tune) if recipe else {"epochs": lengths(base.epochs)} | dict(tune),
        family=goal.family,
        name=goal.study,
        ceiling=ceiling,
        minimise=goal.minimise,
        limits=goal.limits,
        validation_count=data.validation or task.validation_count(data),
        threshold=goal.validation,
        test=partial(datasets.kind_of_test, data, runtime.data_dir),
        **others,
    )


def _results(results: Results | Path | str) -> Results:
    return results if isinstance(results, Results) else Results(results)


def _begin(engine: Search, listen: Callable[[Event], None]) -> None:
    """Say what there is of the study already, and what it asks of validation images where that is not the usual."""
    setting, past = engine.setting, engine.found.past()
    if setting.asked and setting.gaps:
        score = setting.task.score
        scores = " and ".join(score.shown(aim.threshold) for aim in setting.aims)
        goals = " and ".join(score.goal(target) for target in setting.targets)
        asked = f"{scores} on validation images {'stand' if len(setting.aims) > 1 else 'stands'} for {goals}"
        listen(Event("note", f"{asked}, by networks on record that were validated and tested (--validation-target)"))
    for event in past:
        listen(event)
    if past:
        listen(Event("note", f"resuming study {engine.setting.name}: {len(past)} trials so far"))


def _confirmed(engine: Search, outcome: Outcome, plan: SeedPlan, runtime: Runtime) -> list[Confirmation]:
    """Tests of what the search has found for each target, the lowest first."""
    first = min(len(plan.seeds), FIRST)
    tests = []
    for goal in outcome.goal.each():
        found = [
            Finalist(
                *engine.setting.trained(trial.params),
                engine.pace.confirmation(trial, first),
                engine.found.minimised(trial),
            )
            for trial in engine.found.best(goal.targets[0])
        ]
        try:
            tests += confirm_smallest(
                found,
                outcome.data,
                goal,
                plan,
                outcome.results,
                replace(runtime, obey=engine.obey),
                records=engine.store.shared(outcome.results.read()),
            )
        finally:
            engine.store.shared(outcome.results.read())
    return tests


def recorded(goal: Goal, results: Results) -> Path:
    """The file of the study's records. Raises UserError where there is none."""
    path = results.journal(goal.study)
    if not path.is_file():
        raise UserError(
            f"no records of a study {goal.study} in {results.folder}: search first, or give --name or --results"
        )
    return path


def confirm(
    data: Portion,
    goal: Goal,
    *,
    results: Results | Path | str,
    runtime: Runtime = Runtime(),  # noqa: B008, frozen
    seconds: float | None = None,
    seed: int = 0,
    seeds: int = 10,
) -> Outcome:
    """Test the smallest network that the study of `goal` has recorded for each target, with other seeds than its
    search; where it is not confirmed the next larger one, while there are `seconds`.

    Raises UserError where there is no such study, trial or family.
    """
    results = _results(results)
    path = recorded(goal, results)
    repair(path)
    records = results.read()
    trials = [r for r in records if isinstance(r, Trial) and r.study == goal.study]
    found = {one.targets[0]: finalists(trials, data.label, one.targets[0], seeds) for one in goal.each()}
    for target in [target for target, ready in found.items() if not ready]:
        raise UserError(f"{path} holds no complete trial on {data.label} with target {target:g}: search longer")
    kept = {trial.family for trial in trials}
    if goal.family not in kept:
        raise UserError(f"the study {goal.study} is of the {' and '.join(kept)} family: give --family")
    deadline = None if seconds is None else time.monotonic() + seconds
    plan = SeedPlan.of(fresh_seeds(seeds, seed, OTHERS), deadline)
    tests = []
    for one in goal.each():
        tests += confirm_smallest(found[one.targets[0]], data, one, plan, results, runtime, records=results.read())
    return Outcome(data, goal, results, tests)


def train(
    data: Portion,
    config: LiteConfig,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    results: Results | Path | str,
    runtime: Runtime = Runtime(),  # noqa: B008, frozen
    target: float | None = None,
    name: str = "train",
    on_epoch: OnEpoch | None = None,
) -> Outcome:
    """Train one configuration on all training images and test it once a seed; without a `target` it has no row."""
    goal, results = Goal(name, target, config.family), _results(results)
    results.writable()
    recipe = settled_precision(runtime.precision, config, recipe, data, len(seeds), runtime.device)
    training = Training(config, recipe, data.digest)
    test = tested(training, data, goal, SeedPlan(tuple(seeds)), results, runtime, on_epoch)
    counted = (r for r in numbered(results.read()) if isinstance(r, Confirmation) and r.created == test.created)
    return Outcome(data, goal, results, [next(counted, test)])


def audit(network: str | Path | None = None, input_shape: Sequence[int] = (3, 224, 224)) -> list[Audit]:
    """Count parameters, FLOPs and memory: of what is published, of a checkpoint, or of any network.

    Args:
        network: None for the four published rows; the path of a checkpoint (.pth or .safetensors); or
            "module:callable", which is called without arguments and runs with your rights.
        input_shape: channels, height and width of such a network's image.

    Raises UserError where there is nothing to count.
    """
    if network is None:
        return counts.published()
    if isinstance(network, Path) or ":" not in network or Path(network).exists():
        return [counts.checkpoint(network)]
    return [counts.factory(network, input_shape)]
