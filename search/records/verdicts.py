"""What a test says in words."""

import math

from search.records.models import Confirmation, counted
from search.tasks.score import MEAN_IOU, PSNR


def verdict(record: Confirmation) -> str:
    """A confirmation in one line."""
    if record.mean is None:
        return f"confirmation failed: {record.reason}"
    size = f"{record.size}, test {record.score.name} {accuracy_of(record)}"
    if record.target is None:
        return f"{record.verdict}: {size}"
    missed = "" if record.reached else f" missed by {record.score.difference(record.target - record.mean)}"
    sure = f", confidence {confidence_of(record)}" if record.judgement.confidence is not None else ""
    return f"{verdict_of(record)}: {size}, target {record.score.goal(record.target)}{missed}{sure}"


def verdict_of(record: Confirmation) -> str:
    """The word for it; of one that is only reached also what it is not."""
    return "reached, not confirmed" if record.verdict == "reached" else record.verdict


def accuracy_of(record: Confirmation) -> str:
    """The mean with its interval, the extremes and the number of seeds."""
    interval, shown = "", record.score.shown
    if record.clipped is not None:
        low, high = record.clipped
        interval = f" (95 % interval {shown(low)} to {shown(high)})"
    return f"{shown(record.mean)}{interval}, min {shown(record.min)}, max {shown(record.max)}, {counted(record.n)}"


def confidence_of(record: Confirmation) -> str:
    """How sure it is that the mean over many seeds reaches the target."""
    told = record.judgement
    if told.confidence is None:
        return "one seed says nothing about others"
    looks = " and looks" * (len(record.looks) > 1)
    adjusted = "none is left" if told.adjusted is None else f"{_floor(told.adjusted)} %"
    return f"{_floor(told.confidence)} % one-sided; adjusted for attempt {record.attempt or 1}{looks}: {adjusted}"


def _floor(confidence: float) -> str:
    """In per cent, never rounded up to what was not shown."""
    return f"{math.floor(1000 * confidence) / 10:g}"


def beside(record: Confirmation) -> dict[str, str]:
    """The other measures by name, each the mean over seeds: a PSNR in dB, an SSIM as it is, others in per cent."""
    return {name: measure(name, math.fsum(values) / max(1, len(values))) for name, values in record.beside.items()}


def measure(name: str, value: float) -> str:
    """One of them, as its name says that it is written."""
    like = PSNR if name.startswith("PSNR") else MEAN_IOU
    return f"{value:.4f}" if name.startswith("SSIM") else like.shown(value)
