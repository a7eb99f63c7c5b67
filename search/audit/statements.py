"""Auditing a manifest: each network is made and counted in a process with limits, and what is stated of it is judged.

The verdicts are those of `search.records.figures`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from search.audit.isolation import Died, Limits, Worker
from search.audit.manifest import Entry
from search.records.audits import Statement


def statements(
    entries: Sequence[Entry],
    manifest: Path | str,
    limits: Limits | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Statement]:
    """A record of each entry of `manifest`, in order. `progress` is called with each name before it is counted."""
    worker = Worker(limits or Limits())
    try:
        rows = []
        for entry in entries:
            if progress:
                progress(entry.name)
            rows.append(_statement(entry, Path(manifest).name, worker))
        return rows
    finally:
        worker.close()


def _statement(entry: Entry, manifest: str, worker: Worker) -> Statement:
    request = {"factory": entry.factory, "arguments": entry.arguments, "input": entry.input}
    used = worker.answered > 0
    answer: dict[str, Any]
    try:
        answer = worker.ask(request)
        if "reason" in answer and used:  # perhaps for what earlier networks have left there
            worker.close()
            answer = worker.ask(request)
    except Died as died:
        answer = {"reason": str(died)}
    return Statement(
        manifest=manifest,
        row=entry.name,
        source=entry.source,
        factory=entry.factory,
        arguments=entry.arguments,
        input_shape=list(entry.input),
        parameters=entry.parameters,
        work=entry.flops,
        **answer,
    )
