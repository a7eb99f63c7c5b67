"""Searches and confirmations, from one list of options: what the tests change differs from test to test."""

from pathlib import Path

from search.confirmation import confirm as confirmation
from search.confirmation.plan import SeedPlan
from search.data.split import Split
from search.records.goal import Goal
from search.records.models import Confirmation
from search.records.results import Results
from search.runtime import Runtime
from search.study.search import Search
from search.study.setting import Setting
from search.training.recipe import Recipe, Training
from wavemix import LiteConfig

OF_THE_SETTING = (
    "tune", "family", "name", "seed", "members", "ceiling", "minimise", "limits", "validation_count",
    "threshold", "records",
)  # fmt: skip


def search(data: Split, target: float, recipe: Recipe, results: Path, **options) -> Search:
    """A search; `options` are those of `Setting` and of `Search.open`."""
    setting = {name: options.pop(name) for name in OF_THE_SETTING if name in options}
    return Search.open(Setting(data, target, recipe, **setting), Results(results), **options)


def confirm(
    config: LiteConfig,
    recipe: Recipe,
    data: Split,
    target: float | None,
    seeds: list[int],
    *,
    study: str,
    family: str,
    results: Path,
    looks: tuple[int, ...] = (),
    on_epoch=None,
    **runtime,
) -> Confirmation:
    """A test of one configuration with these seeds; `runtime` are options of `Runtime`."""
    training, goal = Training(config, recipe, data.digest), Goal(study, target, family)
    plan, runtime = SeedPlan(tuple(seeds), looks), Runtime(**{"say": lambda line: None} | runtime)
    return confirmation.confirm(training, data, goal, plan, Results(results), runtime, on_epoch)
