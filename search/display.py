"""What a person sees of a search: a live panel on a terminal, plain lines anywhere else."""

import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from wavemix.config import LiteConfig

from .attempt import Event
from .efficiency import deciding
from .listing import Listing
from .recipe import Recipe
from .records import Audit, Confirmation, Record, Trial, numbered
from .safe import line
from .source import Source
from .study import Search
from .terminal import tell

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: list[float], width: int = 40) -> str:
    """The last `width` values as bars between their smallest and largest."""
    values = values[-width:]
    low, high = min(values), max(values)
    span = high - low or 1.0
    return "".join(BARS[int((value - low) / span * (len(BARS) - 1))] for value in values)


def clock(seconds: float) -> str:
    minutes, seconds = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def named(config: LiteConfig, choices: str) -> str:
    """A configuration's name and the choices of its recipe, where it has any."""
    return f"{config.name}, {choices}" if choices else config.name


class Display:
    """Listens to a search's events. `seconds` is the time budget, `ceiling` the parameter count to beat."""

    def __init__(self, console: Console, title: str, target: float, ceiling: int, seconds: float | None):
        self.console, self.title, self.target, self.ceiling, self.seconds = console, title, target, ceiling, seconds
        self.start = time.monotonic()
        self.counts: dict[str, int] = {}
        self.best: Event | None = None
        self.now: Event | None = None
        self.last: list[str] = []
        self.live = Live(self, console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> "Display":
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(self, *problem) -> None:
        if self.live:
            self.live.__exit__(*problem)

    def resume(self, search: Search) -> None:
        """Begin with what the study holds already."""
        for trial in search.recorded():
            state = trial.state.name.lower().replace("fail", "failed")
            self.counts[state] = self.counts.get(state, 0) + 1
        if best := search.feasible()[:1]:
            config = search.plan(best[0].params)[0]
            self.best = Event("done", config=config, number=best[0].number, accuracy=best[0].value, feasible=True)

    def say(self, text: str) -> None:
        """One line that stays."""
        if self.live:
            self.last = [*self.last[-5:], line(text)]
        else:
            tell(f"[{clock(time.monotonic() - self.start)}] {text}")

    def __call__(self, event: Event) -> None:
        if event.kind == "note":
            self.say(event.text)
        elif event.kind == "trial":
            self.now = event
            if not self.live:
                name = named(event.config, event.text)
                self.say(f"trial {event.number}: {name}, {event.config.parameters():,} parameters")
        elif event.kind == "epoch":
            self.now = event
            quarter = max(1, event.epochs // 4)
            if not self.live and (event.epoch % quarter == 0 or event.epoch == event.epochs):
                self.say(f"  epoch {event.epoch}/{event.epochs}: {event.curve[-1]:.2%} validation")
        else:
            self.counts[event.state] = self.counts.get(event.state, 0) + 1
            smaller = self.best is None or event.config.parameters() < self.best.config.parameters()
            if event.feasible and smaller:
                self.best = event
            self.now = None
            accuracy = "" if event.accuracy is None else f" {event.accuracy:.2%}"
            reached = "reaches the target" + ": new incumbent" * smaller
            verdict = reached if event.feasible else event.state
            self.say(
                f"trial {event.number}: {event.config.name}, {event.config.parameters():,} parameters,{accuracy} "
                f"{verdict}" + (f" ({event.text})" if event.text and event.text != event.state else "")
            )

    def __rich__(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        left = "" if self.seconds is None else clock(self.seconds - (time.monotonic() - self.start)) + " left"
        best = (
            f"{self.best.config.parameters():,} parameters, {self.best.accuracy:.2%}  {self.best.config.name}"
            if self.best
            else f"none yet below {self.ceiling:,} parameters"
        )
        table.add_row("incumbent", Text(best, style="bold green" if self.best else "dim"))
        if self.now:
            name = line(named(self.now.config, self.now.text))
            progress = f"trial {self.now.number}  {self.now.config.parameters():,} parameters  {name}"
            table.add_row("running", Text(progress))
            if self.now.curve:
                curve = f"{sparkline(self.now.curve)} {self.now.curve[-1]:.2%}"
                table.add_row("curve", f"{curve}  epoch {self.now.epoch}/{self.now.epochs}")
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items()) or "none"
        table.add_row("trials", counts)
        table.add_row("time", f"{clock(time.monotonic() - self.start)} {left}")
        lines = Text("\n".join(self.last), style="dim")
        title = Text(line(f"{self.title}: {self.target:.4g} accuracy"))
        return Panel(Group(table, lines), title=title, expand=True)


def summary(search: Search) -> Listing:
    """The ten smallest trials that reach the target and the ten misses that came nearest to it."""
    table = Listing(title=f"{search.data.label}, target {search.target:.4g}, {search.family} family")
    for column in ("trial", "configuration", "parameters", "validation", "verdict"):
        right = column in ("trial", "parameters", "validation")
        table.add_column(column, justify="right" if right else "left")
    done = [t for t in search.study.get_trials(deepcopy=False) if t.value is not None and "feasible" in t.user_attrs]
    misses = sorted((t for t in done if not t.user_attrs["feasible"]), key=lambda t: -t.value)
    for trial in sorted(search.feasible()[:10] + misses[:10], key=lambda t: t.user_attrs["parameters"]):
        config, choices = search.plan(trial.params)[0], search.tuning.text(trial.params)
        outcome = "reaches the target" if trial.user_attrs["feasible"] else "misses it"
        name = named(config, choices)
        table.add_row(str(trial.number), name, f"{config.parameters():,}", f"{trial.value:.2%}", outcome)
    return table


def train_command(
    source: Source,
    config: LiteConfig,
    recipe: Recipe,
    seeds: Sequence[int],
    target: float | None,
    data_dir: Path | None = None,
    device: str = "cpu",
    results: Path = Path("results"),
) -> str:
    """The command that trains a configuration again; it needs nothing but the data."""
    # defaults are left out so that a person can read it
    knobs = json.dumps(config.model_dump(mode="json", exclude_defaults=True), separators=(",", ":"))
    steps = json.dumps(recipe.model_dump(mode="json", exclude_defaults=True), separators=(",", ":"))
    command = ["wavemix", "train", *source.words(), "--config", knobs, "--recipe", steps]
    command += ["--seed-list", ",".join(map(str, seeds))] + ([] if target is None else ["--target", f"{target:g}"])
    command += ["--device", device] * (device != "cpu") + (["--data-dir", str(data_dir)] if data_dir else [])
    command += ["--results", str(results)] * (results != Path("results"))
    return shlex.join(command)


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
