"""Parameter efficiency: which network stands in a row of the table, and what the row says of it."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from search.errors import UserError, present
from search.published.figures import Peer, peers
from search.records.jsonl import Record
from search.records.models import Confirmation, base_label, label, numbered
from search.report.typeset import NOT_RUN, WORK, frame_of, with_minimised, work
from search.tasks.score import ACCURACY, Score
from search.training.recipe import filled
from search.upstream import PUBLISHED, Published
from wavemix.config import LiteConfig

FAMILIES = ("published", "extended")


def parameter_efficiency(records: Iterable[Record], task: str = "classification") -> pd.DataFrame:
    """Fewest parameters at each accuracy: for every threshold the published network as reproduced here, and of each
    family the smallest confirmed network and, in a row of its own, a smaller one that only reached the target.

    Where nothing was confirmed the smallest that reached it stands there, where nothing did the nearest. "Attempt" is
    the number of the test among those of its data, target and family (`numbered`), for which "Adjusted confidence" is
    adjusted (see `search.records.statistics`). Thresholds upstream does not publish follow the published ones. At the
    end, other authors' networks with their own figures.
    """
    runs = [r for r in records if isinstance(r, Confirmation) and r.config.task == task]
    rows = [row for row, _ in rows_of(runs, task)]
    return frame_of(rows, with_minimised(rows, EFFICIENCY))


def winners(records: Iterable[Record], task: str = "classification") -> dict[str, Confirmation]:
    """The confirmation behind every row of `parameter_efficiency` that has one, by the row's name; in the order of the
    task's table, those of other tasks last."""
    return {row["Row"]: run for row, run in rows_of(records, task) if run is not None}


Row = tuple[dict[str, Any], Confirmation | None]


def rows_of(records: Iterable[Record], task: str = "classification") -> list[Row]:
    """The rows of a task's table, each with the confirmation behind it."""
    runs = [r for r in numbered(records) if isinstance(r, Confirmation) and r.target is not None]
    groups: dict[tuple[str, float], list[Confirmation]] = {}
    names = _names(runs)
    for run in runs:
        groups.setdefault((names[run.dataset.population], round(present(run.target), 9)), []).append(run)
    rows = []
    for row in PUBLISHED if task == "classification" else ():
        variants = [
            key
            for key in sorted(groups)
            if key[1] == row.target and base_label(label(groups[key][0].dataset)) == row.label
        ]
        for key in variants or [(row.label, row.target)]:
            rows += _threshold(key, groups.pop(key, []), row)
    for key in sorted(groups):
        rows += _threshold(key, groups[key], None)
    return rows + [(_peer(peer), None) for peer in peers() if peer.target is not None and peer.task == task]


def _peer(peer: Peer) -> dict[str, Any]:
    """Another author's network: a row of the block of its own."""
    target = present(peer.target)
    row = next((row for row in PUBLISHED if (row.label, 100 * row.target) == (peer.data, target)), None)
    exact = row is not None and peer.parameters_are == "exact"
    return {
        "Row": f"{_stem(peer.data, target / 100)}-peer-{words(peer.network)}",
        "Task": f"{target:g} % in {peer.data} (peers)",
        "Model": peer.network,
        "Family": "peer",
        "Parameters": peer.parameters,
        "Published parameters": row and row.parameters,
        "Ratio": peer.parameters / row.parameters if row and exact else None,
        "Accuracy": round(peer.figure / 100, 6),
        "Data set": peer.data,
        "Origin": origin(peer),
    }


def origin(peer: Peer) -> str:
    """What is known of where a peer's figures are from."""
    return "; ".join(filter(None, (peer.bounds, peer.chosen, peer.source, f"source {peer.read}")))


def _names(runs: Iterable[Confirmation]) -> dict[tuple, str]:
    """What the data sets are called; folders of one name but other images by their digests as well."""
    populations = {run.dataset.population: label(run.dataset) for run in runs}
    shared = {name for name, count in Counter(populations.values()).items() if count > 1}
    return {
        of: name.replace("(folder)", f"(folder {of[2][:8]})") if name in shared else name
        for of, name in populations.items()
    }


EFFICIENCY = (
    "Row", "Task", "Model", "Family", "Verdict", "Parameters", "Published parameters", "Ratio", "Maps", "Epochs",
    "Accuracy", "95 % low", "95 % high", "Min", "Max", "Seeds", "Confidence", "Adjusted confidence", "Attempt", *WORK,
    "MACs by torch", "Activation bytes", "GPU bytes", "Data set", "Study", "Origin",
)  # fmt: skip


def deciding(runs: Iterable[Confirmation]) -> list[Confirmation]:
    """For each network, recipe and images the run that decides: the one planned for most seeds, the latest of several.

    So a test with more seeds replaces one with fewer, whichever way it ends; the same seeds again replace nothing.
    """
    chosen: dict[tuple, Confirmation] = {}
    trained: set[tuple] = set()
    for run in sorted(runs, key=lambda run: run.created):
        if run.training not in trained and run.state == "complete":
            trained.add(run.training)
            before = chosen.get(run.network)
            if before is None or _planned(run) >= _planned(before):
                chosen[run.network] = run
    return list(chosen.values())


def _planned(run: Confirmation) -> int:
    return max(run.looks, default=run.n)


def words(name: str) -> str:
    """A name as the names of rows have it."""
    return re.sub(r"[\W_]+", "-", name.lower()).strip("-")


def _stem(name: str, target: float, score: Score = ACCURACY) -> str:
    """What the names of a threshold's rows begin with."""
    return f"{words(name)}-{score.tag(target)}"


def _threshold(key: tuple[str, float], runs: list[Confirmation], row: Published | None) -> list[Row]:
    name, target = key
    score = runs[0].score if runs else ACCURACY
    stem = _stem(name, target, score)
    common: dict[str, Any] = {
        "Task": f"{score.goal(target)} in {name}",
        "Data set": label(runs[0].dataset) if runs else name,
    }
    rows: list[Row] = []
    if row is not None:
        common["Published parameters"] = row.parameters
        again = [run for run in runs if row.is_of(run.config)]
        runs = [run for run in runs if not row.is_of(run.config)]
        stated = {
            "Row": f"{stem}-upstream", **common,
            "Model": f"{row.model} (upstream's)", "Family": "published", "Parameters": row.parameters,
        }  # fmt: skip
        # of the best configuration (strides and interpolation are not published) the latest run with most seeds:
        # recipes improve, and a reproduction is a statement about the network, not about the first recipe
        whole = [run for run in again if run.state == "complete"] or again
        best = max(whole, key=lambda run: run.mean or 0, default=None)
        same = [run for run in whole if best is not None and run.config == best.config]
        last = max(same, key=lambda run: (_planned(run), run.created), default=None)
        result = _result(last, row) if last else {"Accuracy": NOT_RUN, "Ratio": 1.0}
        if last:  # the count says nothing about strides, nor which interpolation it was
            stated["Model"] += f": {last.config.name}"
        rows.append(({**stated, **result}, last))
    for family in FAMILIES:
        cells = {"Row": f"{stem}-{family}", **common, "Family": family}
        tried = [run for run in runs if run.family == family]
        if not tried:
            if row is not None:
                rows.append(({**cells, "Model": NOT_RUN}, None))
            continue
        best = smallest(tried)
        rows.append(({**cells, "Model": best.config.name, **_result(best, row)}, best))
        reached = [run for run in deciding(tried) if run.verdict == "reached" and run.parameters < best.parameters]
        if best.verdict == "confirmed" and reached:
            less = smallest(reached)
            cells["Row"] += "-reached"
            rows.append(({**cells, "Model": less.config.name, **_result(less, row)}, less))
    return rows


def smallest(tried: Sequence[Confirmation], by: str = "parameters") -> Confirmation:
    """The smallest network that the run that decides has confirmed; where there is none, the smallest that reached the
    target; where there is none either, the one with the best mean.

    `tried` is not empty; trainings that broke count only where there is nothing else. `by` is what is to be small: the
    parameters, or the "objective" of the study that all of them are of.
    """
    runs = deciding(tried) or tried
    for verdict in ("confirmed", "reached"):
        if found := [run for run in runs if run.verdict == verdict]:
            return min(found, key=lambda run: (getattr(run, by), run.created))
    return max(runs, key=lambda run: (run.mean or 0, -getattr(run, by)))


def maps(config: LiteConfig) -> str:
    """The size of the maps in the blocks, relative to the image's: 'full', 'half', 'quarter', ..."""
    factor = config.downscale
    return {1: "full", 2: "half", 4: "quarter"}.get(factor, f"1/{factor}")


def _result(run: Confirmation, row: Published | None) -> dict[str, Any]:
    low, high = run.clipped or (None, None)
    told, number = run.judgement, run.score.number

    def floor(sure: float | None) -> float | None:  # never rounded up to 1
        return None if sure is None else math.floor(1e4 * sure) / 1e4

    return {
        "Verdict": run.verdict,
        "Parameters": run.parameters,
        "Minimised": run.minimised and run.minimised.shown,
        "Ratio": run.parameters / row.parameters if row else None,
        "Maps": maps(run.config),
        "Epochs": filled(run.recipe)["epochs"],
        "Accuracy": number(run.mean),
        "95 % low": number(low),
        "95 % high": number(high),
        "Min": number(run.min),
        "Max": number(run.max),
        "Seeds": run.n,
        "Confidence": floor(told.confidence),
        "Adjusted confidence": floor(told.adjusted),
        "Attempt": run.attempt,
        **work(run.cost),
        "MACs by torch": run.cost and run.cost.macs_torch,
        "Activation bytes": run.cost and run.cost.activation_bytes_per_image,
        "GPU bytes": run.cost and run.cost.peak_gpu_bytes,
        "Study": run.study,
    }


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
