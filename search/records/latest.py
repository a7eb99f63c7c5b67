"""Which of several records of one thing stands."""

from collections.abc import Callable, Iterable
from typing import Any


def latest(records: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, Any]:
    """The last record made for every key, in the order in which the keys first come."""
    found: dict[Any, Any] = {}
    for record in records:
        of = key(record)
        if of not in found or record.created >= found[of].created:
            found[of] = record
    return found
