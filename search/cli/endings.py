"""How a command ends: with what was found, or interrupted with the command that resumes."""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import signals
from search.cli.terminal import show, tell
from search.errors import UserError, present

if TYPE_CHECKING:
    from search.cli.listing import Listing
    from search.data.source import Source
    from search.outcome import Outcome
    from search.records.models import Confirmation
    from search.runtime import Runtime


@contextmanager
def resumable() -> Iterator[None]:
    """Turns an interruption into the command that resumes and the signal's exit code.

    Signals only come up in the block where it checks for them (see `search.signals`).
    """
    from search.records.environment import command_line

    try:
        with signals.deferred():
            yield
    except KeyboardInterrupt:
        with suppress(UserError):  # the terminal may have been closed
            kept = "Interrupted. Everything up to the last checkpoint is kept. Resume with:"
            tell(f"{kept} {command_line(sys.argv)}", err=True, kept="\n")
        sys.exit(signals.code())


def conclude(outcome: "Outcome", source: "Source", runtime: "Runtime", as_json: bool = False) -> None:
    """The result in about ten lines, and the tables written anew."""
    front = outcome.front
    if as_json:
        facts = [_facts(outcome, test, source, runtime) for test in front]
        study = {"study": outcome.goal.study}
        several = study | {"front": facts}
        one = facts[0] if facts else study | {"verdict": None}
        tell(json.dumps(several if _several(outcome) else one))
    elif not front:
        tell("nothing to confirm: no trial was completed; a larger --budget or fewer --epochs may help")
    else:
        if _several(outcome):
            show(_front(outcome))
        for test in front:
            for line in _lines(outcome, test, source, runtime):
                tell(line, kept="\n")
    tabulate(outcome.results.folder, quiet=as_json)


def _several(outcome: "Outcome") -> bool:
    return outcome.goal.target is not None and len(outcome.goal.targets) > 1


def _front(outcome: "Outcome") -> "Listing":
    """Of several targets what was found for each, a row a target."""
    from search.cli.listing import Listing
    from search.records.costs import cost_shown
    from search.records.verdicts import verdict_of

    front = outcome.front
    table = Listing(title=f"{outcome.data.label}, {outcome.goal.family} family")
    others = dict.fromkeys(test.minimised.name for test in front if test.minimised)  # of a study one, or none
    for column in ("target", *others, "parameters", front[0].score.name, "95 % interval", "seeds", "adjusted"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for test in front:
        shown = test.score.shown
        size = [cost_shown(test.minimised.name, test.minimised.value)] if test.minimised else []
        low_high = " to ".join(map(shown, test.clipped)) if test.clipped else "-"
        mean = "-" if test.mean is None else shown(test.mean)
        sure = test.judgement.adjusted if test.state == "complete" else None
        table.add_row(
            test.score.goal(present(test.target)), *size, f"{test.parameters:,}", mean, low_high,
            str(test.n), "-" if sure is None else f"{math.floor(1000 * sure) / 10:g} %", verdict_of(test),
        )  # fmt: skip
    return table


def _facts(outcome: "Outcome", best: "Confirmation", source: "Source", runtime: "Runtime") -> dict[str, Any]:
    """A result as JSON has it; accuracies and mean IoUs are fractions, a PSNR is in dB."""
    return {
        "study": outcome.goal.study,
        "verdict": best.verdict,
        "target": best.target,
        "family": best.family,
        "parameters": best.parameters,
        "minimised": best.minimised and best.minimised.model_dump(),
        "config": best.config.model_dump(mode="json", exclude_defaults=True),
        "recipe": best.recipe,
        "score": best.score.name,
        "accuracy": best.mean,
        "beside": best.beside,
        "interval": best.clipped,
        "seeds": best.seeds,
        "confidence": best.judgement.confidence if best.target is not None else None,
        "adjusted_confidence": best.judgement.adjusted if best.target is not None else None,
        "weights": str(outcome.weights_of(best)) if best.state == "complete" else None,
        "retrain": _retrain(outcome, best, source, runtime),
    }


def _lines(outcome: "Outcome", best: "Confirmation", source: "Source", runtime: "Runtime") -> list[str]:
    from search.records.verdicts import accuracy_of, beside, confidence_of, verdict_of

    data = outcome.data
    target = "" if best.target is None else f" at {best.score.goal(best.target)}, {best.family} family"
    facts = {"network": f"{best.config.name}, {best.size}"}
    if best.state == "complete":
        facts[best.score.name] = f"{accuracy_of(best)}, test images, last epoch"
    if best.state == "complete" and best.target is not None:
        facts["confidence"] = confidence_of(best)
        facts |= _beside(outcome, best)
    if best.beside:
        facts["beside"] = ", ".join(f"{name} {shown}" for name, shown in beside(best).items())
    facts["retrain"] = _retrain(outcome, best, source, runtime)
    if best.state == "complete":
        path = outcome.weights_of(best)
        facts["weights"] = str(path)
        facts["load"] = f"import wavemix; network = wavemix.load({json.dumps(str(path))}, seed={best.seeds[0]})"
    return [f"{data.label}{target}: {verdict_of(best)}", *(f"  {name:<11} {fact}" for name, fact in facts.items())]


def _beside(outcome: "Outcome", best: "Confirmation") -> dict[str, str]:
    """The published count, and the smallest networks that other studies of the kind have confirmed and reached."""
    from search.records.models import Confirmation, numbered
    from search.report.efficiency import deciding
    from search.upstream import CEILINGS

    of = best.minimised and best.minimised.name
    count = None if of else CEILINGS.get((best.dataset.name, best.target or 0.0))
    others = deciding(
        r
        for r in numbered(outcome.results.read_known())
        if isinstance(r, Confirmation)
        and (r.dataset.label, r.target, r.family) == (best.dataset.label, best.target, best.family)
        and r.study != outcome.goal.study
        and (of is None or (r.minimised and r.minimised.name) == of)
    )
    found = []
    for verdict in ("confirmed", "reached"):
        those = [r for r in others if r.verdict == verdict]
        if those:
            smallest = min(those, key=lambda r: r.objective if of else r.parameters)
            size = smallest.minimised.shown if of and smallest.minimised else f"{smallest.parameters:,}"
            found.append(f"{size} {verdict}")
    published = {"published": f"{count:,} parameters"} if count else {}
    return published | ({"on record": ", ".join(found)} if found else {})


def _retrain(outcome: "Outcome", best: "Confirmation", source: "Source", runtime: "Runtime") -> str:
    from search.records.commands import train_command
    from search.training.recipe import Recipe

    recipe, folder = Recipe.model_validate(best.recipe), outcome.results.folder
    where = runtime.data_dir, runtime.device, folder
    return train_command(source, best.config, recipe, best.seeds, best.target, *where)


def tabulate(results: Path, quiet: bool = False) -> None:
    """Write the tables anew, as every command does that adds a test to the records."""
    from search.report import tables

    for path in tables.write(results):
        if not quiet:
            tell(f"wrote {path}", level=-1)
