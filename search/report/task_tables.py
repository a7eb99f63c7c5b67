"""Tables of segmentation and super-resolution: the networks of each threshold, other measures beside the score."""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import pandas as pd

from search.data.source import TaskName
from search.published.figures import Peer, peers
from search.records.jsonl import Record
from search.records.models import Confirmation
from search.report.efficiency import origin, rows_of, words
from search.report.typeset import WORK, frame_of
from search.tasks.score import SCORES, Decibels, Share

HEAD = ("Row", "Task", "Model", "Family", "Verdict", "Parameters", "Maps", "Epochs")
SPREAD = ("95 % low", "95 % high", "Min", "Max", "Seeds", "Confidence", "Adjusted confidence", "Attempt")
TAIL = (*WORK, "MACs by torch", "Activation bytes", "GPU bytes", "Data set", "Study", "Origin")


def of_task(records: Iterable[Record], task: TaskName) -> pd.DataFrame:
    """The rows of a task as `parameter_efficiency` has those of classification; a column is named after the score, the
    other measures are means over seeds. Other authors' networks follow. Nothing where no network was tested.
    """
    runs = [r for r in records if isinstance(r, Confirmation) and r.config.task == task]
    score, rows, names = SCORES[task], list[dict[str, Any]](), dict[str, None]()
    for cells, run in rows_of(runs, task):
        rows.append({**cells, score.name: cells.get("Accuracy")})
        for name, values in (run.beside if run else {}).items():
            if values:
                names[name] = None
                rows[-1][name] = _cell(name, math.fsum(values) / len(values))
    rows += [_peer(peer) for peer in peers() if rows and peer.task == task]
    return frame_of(rows, (*HEAD, score.name, *SPREAD, *(name for name in names if name != score.name), *TAIL))


segmentation = partial(of_task, task="segmentation")
super_resolution = partial(of_task, task="super-resolution")


def _peer(peer: Peer) -> dict[str, Any]:
    """Another author's network, with its own figure."""
    score = SCORES[peer.task]
    return {
        "Row": f"peer-{words(peer.network)}",
        "Task": f"{peer.data} (peers)",
        "Model": peer.network,
        "Family": "peer",
        "Parameters": peer.parameters,
        score.name: score.number(peer.figure if score.unit == "dB" else round(peer.figure / 100, 6)),
        "Data set": peer.data,
        "Origin": origin(peer),
    }


def _cell(name: str, mean: float) -> float:
    """A measure as its name says it is meant: a PSNR in dB, an SSIM as it is, others in per cent."""
    return Decibels(mean) if name.startswith("PSNR") else mean if name.startswith("SSIM") else Share(mean)
