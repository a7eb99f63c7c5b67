"""A study and worker processes to break on purpose: what `scripts/robustness/faults.py` is made of."""

import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from optuna.trial import TrialState
from PIL import Image

from search.__main__ import main
from search.data.split import Split
from search.errors import UserError
from search.records.jsonl import read
from search.records.models import Trial
from search.records.results import Results
from search.study import heartbeat
from search.study import joining as worker
from search.study import search as study
from search.study.handle import StudyHandle
from search.study.joining import join
from search.study.search import Search
from search.study.setting import Setting
from search.training import course as training
from search.training.recipe import Recipe

RECIPE = Recipe(epochs=12, batch_size=32, lr=0.03, optimizer="muon")
heartbeat.INTERVAL, heartbeat.GRACE, study.POLL, training.CHECKPOINT_SECONDS = 0.2, 2.0, 0.1, 0.0


def images(root: Path, count: int = 320) -> Path:
    """Four classes of bars under noise: hard enough that the smallest networks miss the target."""
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        label = number % 4
        image = torch.rand(28, 28, generator=generator) * 200
        at = int(torch.randint(4, 24, (1,), generator=generator))
        bar = (slice(at, at + 2), slice(None)) if label % 2 else (slice(None), slice(at, at + 2))
        image[bar] += 55 if label < 2 else -55
        place = root / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.clamp(0, 255).byte().numpy()).save(place / f"{number}.png")
    return root


class Fleet:
    """A study, and worker processes that are forked from this one: they start at once, and die like any other."""

    def __init__(self, name: str, url: str, folder: Path, data: Split):
        self.name, self.url, self.folder, self.data = name, url, folder, data
        self.pids: dict[int, str] = {}
        self.best: list[tuple] = []
        self.kept = str(folder / "kept")
        self.open("a").close()

    def open(self, place: str, **options) -> Search:
        """The study, with the results directory `place`; `options` are those of `Search.open`."""
        setting = Setting(self.data, 0.9, RECIPE, name=self.name, ceiling=1500, validation_count=64, members=1)
        options = {"storage": self.url, "checkpoints": self.kept} | options
        return Search.open(setting, Results(self.folder / place), **options)

    def start(
        self, place: str = "a", trials: int | None = None, before: Callable = lambda: None, finish: bool = True
    ) -> int:
        """A worker with the results directory `place`; its exit code is 2 after a UserError, its message in a file.

        With `trials` it sees first to what dead workers have left, unless it shall not `finish` that.
        """
        pid = os.fork()
        if pid:
            self.pids[pid] = place
            return pid
        code = 0
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            before()
            worker.datasets.load = lambda *_: self.data
            found, results = StudyHandle(self.url, self.name, wait=True), Results(self.folder / place)
            with join(found, None, results, checkpoints=self.kept) as search:
                if trials is not None and finish:
                    search.store.running()
                    time.sleep(heartbeat.GRACE + 0.1)
                search.run(trials=trials)
        except UserError as error:
            (self.folder / f"{os.getpid()}.error").write_text(str(error))
            code = 2
        except BaseException as error:
            (self.folder / f"{os.getpid()}.error").write_text(f"{error!r} {error.__cause__!r}")
            code = 3
        os._exit(code)

    def command(self, place: str = "a") -> int:
        """`wavemix worker` as from a shell: what it prints is its message, its exit code is the command's."""
        pid = os.fork()
        if pid:
            self.pids[pid] = place
            return pid
        code = 3
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            output = os.open(self.folder / f"{os.getpid()}.error", os.O_CREAT | os.O_WRONLY)
            os.dup2(output, 1)
            os.dup2(output, 2)
            worker.datasets.load = lambda *_: self.data
            kept = self.kept
            sys.argv = ["wavemix", "worker", "--study", self.name, "--storage", self.url, "--checkpoints", kept]
            sys.argv += ["--results", str(self.folder / place)]
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)

    def wait(self, pid: int) -> tuple[int, str]:
        """Exit code (negative: a signal's number) and message."""
        _, status = os.waitpid(pid, 0)
        self.pids.pop(pid, None)
        message = self.folder / f"{pid}.error"
        return os.waitstatus_to_exitcode(status), message.read_text() if message.exists() else ""

    def wait_for(self, pid: int, seconds: float) -> tuple[int, str] | None:
        """Its end within so many seconds; None for one that still runs then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return self.wait(pid)
            time.sleep(0.02)
        return None

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.wait(pid)

    def dead(self) -> list[tuple[int, str]]:
        """What has become of workers that ended by themselves."""
        ended = [pid for pid in list(self.pids) if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)]
        return [self.wait(pid) for pid in ended]

    def trials(self) -> list:
        study = StudyHandle(self.url, self.name)
        trials = study.trials()
        study.storage.close()
        return trials

    def look(self) -> None:
        """Remember the best result so far: feasible ones by their parameters, others by their accuracy."""
        done = [t for t in self.trials() if t.state == TrialState.COMPLETE]
        feasible = [t.user_attrs["parameters"] for t in done if t.user_attrs.get("feasible")]
        self.best.append((1, -min(feasible)) if feasible else (0, max((t.value for t in done), default=0.0)))

    def finish(self) -> None:
        """Kill the workers, let one finish what they left, and let each directory complete its records."""
        for pid in list(self.pids):
            self.kill(pid)
        for _ in range(20):
            left = [t for t in self.trials() if not t.state.is_finished()]
            if not left:
                break
            code, message = self.wait(self.start("a", trials=len(left)))
            if code:
                raise RuntimeError(message)
        for place in {"a", "b"}:
            study = StudyHandle(self.url, self.name)
            study.stop()  # the directories are only opened
            study.storage.close()
            self.open(place).close()
        self.look()

    def check(self) -> dict:
        """Faults found, each a count that has to be zero, and what was seen."""
        trials = self.trials()
        records = [r for path in sorted(self.folder.glob("*/*.jsonl")) for r in read(path) if isinstance(r, Trial)]
        told = [t.number for t in trials if "record" in t.user_attrs]
        written = Counter(r.number for r in records)
        trained = Counter(r.config.model_dump_json() for r in records if r.state != "refused")
        others = [t for t in trials if "record" not in t.user_attrs]
        hyperparameters = max((len(t.params) for t in trials), default=0)
        return {
            "trials": len(trials),
            "records": len(records),
            "unfinished": sum(not t.state.is_finished() for t in trials),
            # ended without a record: a second worker's same configuration, or killed before it had one
            "lost": sum("twin" not in t.user_attrs and len(t.params) == hyperparameters for t in others)
            + sum(number not in written for number in told)
            + sum(trials[i].number != i for i in range(len(trials))),
            "counted twice": sum(count > 1 for count in written.values()) + len(written.keys() - set(told)),
            "trained twice": sum(count > 1 for count in trained.values()),
            "best got worse": sum(after < before for before, after in zip(self.best, self.best[1:])),
        }
