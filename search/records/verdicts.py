"""What a test says in words."""

import math

from search.records.models import Confirmation, counted
from search.text import goal, percent, points


def verdict(record: Confirmation) -> str:
    """A confirmation in one line."""
    if record.mean is None:
        return f"confirmation failed: {record.reason}"
    size = f"{record.parameters:,} parameters, test accuracy {accuracy_of(record)}"
    if record.target is None:
        return f"{record.verdict}: {size}"
    missed = "" if record.reached else f" missed by {points(record.target - record.mean)}"
    sure = f", confidence {confidence_of(record)}" if record.judgement.confidence is not None else ""
    return f"{verdict_of(record)}: {size}, target {goal(record.target)}{missed}{sure}"


def verdict_of(record: Confirmation) -> str:
    """The word for it; of one that is only reached also what it is not."""
    return "reached, not confirmed" if record.verdict == "reached" else record.verdict


def accuracy_of(record: Confirmation) -> str:
    """The mean with its interval, the extremes and the number of seeds."""
    interval = ""
    if record.clipped is not None:
        low, high = record.clipped
        interval = f" (95 % interval {percent(low)} to {percent(high)})"
    return (
        f"{percent(record.mean)}{interval}, min {percent(record.min)}, max {percent(record.max)}, {counted(record.n)}"
    )


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
