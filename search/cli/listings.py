"""Tables and blocks that commands print: of studies, trials, audits and reproductions."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from optuna.trial import FrozenTrial, TrialState
from rich.console import Group
from rich.text import Text

from search.cli.listing import Block, Listing
from search.cli.panel import named
from search.records.models import Audit, Confirmation, Record, Reproduction, Trial, numbered
from search.report.efficiency import deciding
from search.study.handle import StudyHandle
from search.study.setting import Setting
from search.text import line


def standing(study: StudyHandle) -> Group:
    """How a study goes: what `wavemix status` shows."""
    identity, trials = study.identity, study.trials()
    feasible = [t for t in trials if t.state == TrialState.COMPLETE and t.user_attrs.get("feasible")]
    best = min(feasible, key=lambda t: t.user_attrs["parameters"], default=None)
    counts: dict[str, int] = {}
    for trial in trials:
        dropped = trial.state == TrialState.FAIL and "record" not in trial.user_attrs  # untried
        state = "dropped" if dropped else trial.state.name.lower()
        counts[state] = counts.get(state, 0) + 1
    facts = {
        "data": study.source,
        "target": f"{identity['target']:g}",
        "family": identity["family"],
        "state": f"stopped at {study.stopped[:16]}" if study.stopped else "open",
        "trials": ", ".join(f"{count} {state}" for state, count in counts.items()) or "none",
        "smallest feasible": "none yet",
    }
    if best:
        facts["smallest feasible"] = (
            f"{best.user_attrs['parameters']:,} parameters, {best.value:.2%}, trial {best.number}"
        )
    return Group(Block(study.name, facts), _workers(trials))


def _workers(trials: list[FrozenTrial]) -> Listing:
    table = Listing("worker", "running trial", "finished trials", "last sign of life")
    groups: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        if "worker" in trial.user_attrs:
            groups.setdefault(trial.user_attrs["worker"], []).append(trial)
    for worker, group in groups.items():
        running = [str(t.number) for t in group if t.state == TrialState.RUNNING]
        finished = sum(t.state.is_finished() for t in group)
        signs = [t.user_attrs["beat"] for t in group if "beat" in t.user_attrs]
        seconds = (datetime.now(UTC) - datetime.fromisoformat(max(signs))).total_seconds() if signs else None
        ago = "-" if seconds is None else f"{max(0, seconds):.0f} s ago"
        table.add_row(worker, ", ".join(running) or "-", str(finished), ago)
    return table


def summary(setting: Setting, trials: Iterable[FrozenTrial]) -> Listing:
    """The ten smallest trials of a study that reach the target and the ten misses that came nearest to it."""
    table = Listing(title=f"{setting.data.label}, target {setting.target:.4g}, {setting.family} family")
    for column in ("trial", "configuration", "parameters", "validation", "verdict"):
        right = column in ("trial", "parameters", "validation")
        table.add_column(column, justify="right" if right else "left")
    done = [t for t in trials if t.value is not None and "feasible" in t.user_attrs]
    done.sort(key=lambda t: t.user_attrs["parameters"])
    passed = [t for t in done if t.user_attrs["feasible"]]
    misses = sorted((t for t in done if not t.user_attrs["feasible"]), key=lambda t: -t.value)
    for trial in sorted(passed[:10] + misses[:10], key=lambda t: t.user_attrs["parameters"]):
        config, choices = setting.plan(trial.params)[0], setting.tuning.text(trial.params)
        outcome = "reaches the target" if trial.user_attrs["feasible"] else "misses it"
        name = named(config, choices)
        table.add_row(str(trial.number), name, f"{config.parameters():,}", f"{trial.value:.2%}", outcome)
    return table


def audits(rows: Sequence[Audit]) -> Group:
    """Published parameter counts beside ours, the cost of each network, and what there is to say about them."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:,.0f}"

    counts = Listing(title="Parameters")
    for column in ("row", "published", "closed form", "counted", "fvcore", "agree", "reproduced by"):
        words = column in ("row", "agree", "reproduced by")
        counts.add_column(column, justify="left" if words else "right")
    costs = Listing("row", title="Cost of one image (one multiply-accumulate is one FLOP)")
    for column in ("FLOPs", "MACs by torch", "by fvcore", "activation bytes", "GPU bytes"):
        costs.add_column(column, justify="right")
    for row in rows:
        counts.add_row(
            row.row,
            f"{row.published_millions} M" if row.published_millions is not None else number(row.published),
            number(row.closed_form),
            number(row.counted),
            number(row.fvcore),
            "yes" if row.agree else "NO",
            ", ".join(row.upsampling) or "-",
        )
        if row.cost:
            costs.add_row(
                row.row,
                ">= " * bool(row.cost.unsupported) + number(row.cost.flops_total),
                number(row.cost.macs_torch),
                number(row.cost.macs_fvcore),
                number(row.cost.activation_bytes_per_image),
                number(row.cost.peak_gpu_bytes),
            )
    notes = [Text(line(f"{row.row}: {row.note}")) for row in rows if row.note]
    return Group(counts, *[costs] * bool(costs.rows), *notes)


def studies(records: Sequence[Record]) -> Listing:
    """What the records hold, one row a study."""
    table = Listing("study", "data")
    for column in ("target", "trials", "pruned", "smallest feasible", "reached", "confirmed"):
        table.add_column(column, justify="right")
    groups: dict[tuple, list[Trial | Confirmation]] = {}
    for record in numbered(records):
        if isinstance(record, (Trial, Confirmation)):
            groups.setdefault((record.study, record.dataset.label, record.target), []).append(record)
    for (name, label, target), group in groups.items():
        trials = [r for r in group if isinstance(r, Trial)]
        smallest = {"feasible": min((r.parameters for r in trials if r.feasible), default=None)}
        tested = deciding(r for r in group if isinstance(r, Confirmation))
        for verdict in ("reached", "confirmed"):
            smallest[verdict] = min((r.parameters for r in tested if r.verdict == verdict), default=None)
        table.add_row(
            name,
            label,
            "-" if target is None else f"{target:g}",
            str(len(trials)),
            str(sum(r.state == "pruned" for r in trials)),
            *("-" if count is None else f"{count:,}" for count in smallest.values()),
        )
    return table


def comparison(record: Reproduction) -> list[str]:
    """Recorded and new accuracies side by side, seed by seed, and the verdict."""
    lines = [f"{'seed':>9}  recorded       now"]
    for seed, old, new in zip(record.seeds, record.recorded, record.accuracies):
        lines.append(f"{seed:>9}  {old:>8.2%}  {new:>8.2%}")
    if record.mean is None:
        return [*lines, f"not reproduced: {record.reason}"]
    old = sum(record.recorded) / len(record.recorded)
    lines.append(f"{'mean':>9}  {old:>8.2%}  {record.mean:>8.2%}")
    again = "reached again" if record.reached else f"missed by {record.target - record.mean:.2%}"
    return [*lines, f"{'reproduced' if record.reached else 'not reproduced'}: target {record.target:.4g} {again}"]
