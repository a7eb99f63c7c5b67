"""What a person sees of a search: a live panel on a terminal, plain lines anywhere else."""

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from search.cli.terminal import tell
from search.study.events import Event
from search.tasks.score import ACCURACY, Score
from search.text import line, span
from wavemix.config import LiteConfig

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: list[float], width: int = 40) -> str:
    """The last `width` values as bars between their smallest and largest."""
    values = values[-width:]
    low, high = min(values), max(values)
    spread = high - low or 1.0
    return "".join(BARS[int((value - low) / spread * (len(BARS) - 1))] for value in values)


def clock(seconds: float) -> str:
    minutes, seconds = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def named(config: LiteConfig, choices: str) -> str:
    """A configuration's name and the choices of its recipe, where it has any."""
    return f"{config.name}, {choices}" if choices else config.name


class Display:
    """Listens to a search's events. `seconds` is the time budget, `ceiling` the number of parameters to stay below,
    `targets` are the scores to reach, the lowest first."""

    def __init__(
        self,
        console: Console,
        title: str,
        targets: Sequence[float],
        ceiling: int,
        seconds: float | None,
        score: Score = ACCURACY,
    ):
        self.score = score
        self.console, self.title, self.ceiling, self.seconds = console, title, ceiling, seconds
        self.targets = targets
        self.start = time.monotonic()
        self.tell = tell
        self.began: tuple[int, float] | None = None  # epoch and time from which the running trial is timed
        self.reported = 0.0  # when its last epoch ended
        self.warned = False
        self.scouts = 0
        self.counts: dict[str, int] = {}
        self.best: dict[float, Event] = {}  # by target
        self.now: Event | None = None
        self.last: list[str] = []
        self.live = (
            Live(self, console=console, refresh_per_second=4) if console.is_terminal and not console.quiet else None
        )

    def __enter__(self) -> "Display":
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(self, *problem) -> None:
        if self.live:
            self.live.__exit__(*problem)

    def _best(self, event: Event) -> list[float]:
        """The targets that it is the smallest for so far."""
        new = [goal for goal in event.reached if goal not in self.best or event.cost < self.best[goal].cost]
        self.best |= dict.fromkeys(new, event)
        return new

    def _reaches(self, event: Event) -> str:
        """What an event says that ends a trial: which targets it reaches, and for which it is the new incumbent."""
        new = self._best(event)
        if not event.reached:
            return event.state
        if len(self.targets) == 1:
            return "reaches the target" + ": new incumbent" * bool(new)
        reached = f"reaches {', '.join(map(self.score.goal, event.reached))}"
        return reached + f": new incumbent for {', '.join(map(self.score.goal, new))}" * bool(new)

    def _incumbent(self, target: float) -> Text:
        best = self.best.get(target)
        if best is None:
            return Text(f"none yet below {self.ceiling:,} parameters", style="dim")
        return Text(f"{best.size}, {self.score.shown(best.accuracy)}  {best.network.name}", style="bold green")

    def _left(self) -> float | None:
        """Seconds until the running trial's last epoch, at its speed since the first one, which compiles on a GPU."""
        event = self.now
        if event is None or self.began is None or not self.began[0] < event.epoch < event.epochs:
            return None
        epoch, began = self.began
        return (self.reported - began) / (event.epoch - epoch) * (event.epochs - event.epoch)

    def _timed(self, event: Event) -> str:
        """Time the running trial by its epochs. A study's first one is finished whatever the budget, which is said."""
        self.now, self.reported = event, time.monotonic()
        if self.began is None:
            self.began = event.epoch, self.reported
        left = self._left()
        if left is None:
            return ""
        late = self.seconds is not None and self.reported - self.start + left > self.seconds
        if late and not self.counts and not self.warned:
            self.warned = True
            self.say(f"the first trial needs {span(left)} more, longer than the budget: it is finished all the same")
        return f", {span(left)} left"

    def say(self, text: str) -> None:
        """One line that stays."""
        if self.live:
            self.last = [*self.last[-5:], line(text)]
        else:
            self.tell(f"[{clock(time.monotonic() - self.start)}] {text}")

    def __call__(self, event: Event) -> None:
        if event.kind == "note":
            self.say(event.text)
        elif event.kind == "past":
            self.counts[event.state] = self.counts.get(event.state, 0) + 1
            self._best(event)
        elif event.kind == "scout":
            self.scouts += 1
        elif event.kind == "trial":
            self.now, self.began = event, None
            if not self.live:
                name = named(event.network, event.text)
                self.say(f"trial {event.number}: {name}, {event.size}")
        elif event.kind == "epoch":
            left = self._timed(event)
            quarter = max(1, event.epochs // 4)
            if not self.live and (event.epoch % quarter == 0 or event.epoch == event.epochs):
                self.say(f"  epoch {event.epoch}/{event.epochs}: {self.score.shown(event.curve[-1])} validation{left}")
        else:
            self.counts[event.state] = self.counts.get(event.state, 0) + 1
            self.now = None
            accuracy = "" if event.accuracy is None else f" {self.score.shown(event.accuracy)}"
            verdict = self._reaches(event)
            self.say(
                f"trial {event.number}: {event.network.name}, {event.size},{accuracy} {verdict}"
                + (f" ({event.text})" if event.text and event.text != event.state else "")
            )

    def __rich__(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        left = "" if self.seconds is None else clock(self.seconds - (time.monotonic() - self.start)) + " left"
        for target in self.targets:
            name = f"{self.score.goal(target)} " * (len(self.targets) > 1)
            table.add_row(f"{name}incumbent", self._incumbent(target))
        if self.now:
            name = line(named(self.now.network, self.now.text))
            progress = f"trial {self.now.number}  {self.now.size}  {name}"
            table.add_row("running", Text(progress))
            if self.now.curve:
                curve = f"{sparkline(self.now.curve)} {self.score.shown(self.now.curve[-1])}"
                rest = self._left()
                told = "" if rest is None else f"  {span(rest)} left"
                table.add_row("curve", f"{curve}  epoch {self.now.epoch}/{self.now.epochs}{told}")
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items()) or "none"
        if self.scouts:
            table.add_row("scouts", f"{self.scouts} trained briefly")
        table.add_row("trials", counts)
        table.add_row("time", f"{clock(time.monotonic() - self.start)} {left}")
        lines = Text("\n".join(self.last), style="dim")
        title = Text(line(f"{self.title}: {', '.join(map(self.score.goal, self.targets))}"))
        return Panel(Group(table, lines), title=title, expand=True)
