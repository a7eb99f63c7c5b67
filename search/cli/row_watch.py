"""What a person sees of a row's training: a bar on a terminal, plain lines anywhere else."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from search.benchmark.moments import Moment
from search.cli.terminal import tell
from search.tasks.score import Score
from search.text import span

QUIET = 30.0  # seconds between two lines within an epoch


class RowWatch:
    """Told of each step and epoch. Time left is said of the epoch, and of the phase where it has no patience."""

    def __init__(self, console: Console, score: Score, patient: list[bool]):
        """`patient`: of each phase whether it may end before its last epoch."""
        self.score, self.patient = score, patient
        self.began: tuple[int, float] | None = None  # step and time from which this epoch's steps are timed
        self.told = time.monotonic()
        self.bar = None
        if console.is_terminal and not console.quiet:
            self.bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"), console=console
            )
            self.line = self.bar.add_task("", total=1, left="")

    def __enter__(self) -> "RowWatch":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *problem) -> None:
        if self.bar:
            self.bar.stop()

    def __call__(self, moment: Moment) -> None:
        now = time.monotonic()
        if moment.ended is not None:
            epoch = moment.ended
            score = "" if epoch.score is None else f", validation {self.score.name} {self.score.shown(epoch.score)}"
            left = self._phase_left(moment, epoch.seconds)
            self._say(f"{self._place(moment, epoch.epoch)}: loss {epoch.loss:.4f}{score}, {epoch.seconds:.0f} s{left}")
            self.began, self.told = None, now
            return
        if self.began is None:
            self.began = moment.step, now
        done = moment.step - self.began[0]
        left = f"{span((now - self.began[1]) / done * (moment.steps - moment.step))} left in this epoch" if done else ""
        place = self._place(moment, moment.epoch + 1)
        if self.bar:
            self.bar.update(self.line, description=place, completed=moment.step, total=moment.steps, left=left)
        elif now - self.told > QUIET:
            self.told = now
            self._say(f"{place}: step {moment.step}/{moment.steps}" + (left and f", {left}"))

    def _place(self, moment: Moment, epoch: int) -> str:
        phase = f"phase {moment.phase + 1}/{moment.phases}, " if moment.phases > 1 else ""
        most = "at most " if self.patient[moment.phase] else ""
        return f"{phase}epoch {epoch} of {most}{moment.epochs}"

    def _phase_left(self, moment: Moment, seconds: float) -> str:
        rest = moment.epochs - moment.epoch
        return f", {span(seconds * rest)} left" if rest and not self.patient[moment.phase] else ""

    def _say(self, text: str) -> None:
        if self.bar:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            tell(text, level=0)
