"""What a record says in words."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def verdict(record) -> str:
    """A confirmation in one line."""
    from search.records.models import counted

    if record.mean is None:
        return f"confirmation failed: {record.reason}"
    parts = [f"{record.parameters:,} parameters", f"test accuracy {record.mean:.2%}"]
    if record.clipped is not None:
        low, high = record.clipped
        parts[-1] += f" (95 % interval {low:.2%} to {high:.2%})"
    parts.append(f"min {record.min:.2%}, max {record.max:.2%}, {counted(record.n)}")
    if record.target is None:
        return f"{record.verdict}: {', '.join(parts)}"
    missed = "" if record.reached else f" missed by {record.target - record.mean:.2%}"
    parts.append(f"target {record.target:.4g}{missed}")
    told = record.judgement
    if told.confidence is not None:
        adjusted = "says nothing" if told.adjusted is None else f"{_floor(told.adjusted)} %"
        looks = " and looks" * (len(record.looks) > 1)
        parts.append(
            f"one-sided confidence {_floor(told.confidence)} %, adjusted for attempt {record.attempt or 1}{looks} "
            f"{adjusted}"
        )
    return f"{told.verdict}{', not confirmed' * (told.verdict == 'reached')}: {', '.join(parts)}"


def _floor(confidence: float) -> str:
    """In per cent, never rounded up to what was not shown."""
    return f"{math.floor(1000 * confidence) / 10:g}"
