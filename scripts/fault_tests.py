"""Break a study's workers, database, disk and clocks on purpose, and count what is lost.

    python scripts/fault_tests.py [--kills 100] [--results results]

Real worker processes train tiny networks on a small synthetic folder of images; PostgreSQL is started for the run where
it is installed. After each fault the study is finished and checked: every trial has ended once, every record stands
once in the files and is valid, no configuration was trained twice, and the best result never got worse. Prints a table
and writes it, with the figures, to RESULTS/faults.md and RESULTS/faults.json. Exit code 1 where anything was lost.
"""

import argparse
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import optuna.storages._rdb.storage as rdb
import torch
from optuna.trial import TrialState
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import postgres

from search import datasets, heartbeat, study, training, worker
from search.environment import device_name
from search.errors import UserError
from search.journal import read
from search.recipe import Recipe
from search.records import Trial
from search.study import Search
from search.worker import Study
from wavemix import kernels

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

    def __init__(self, name: str, url: str, folder: Path, data: datasets.Split):
        self.name, self.url, self.folder, self.data = name, url, folder, data
        self.pids: dict[int, str] = {}
        self.best: list[tuple] = []
        Search(data, 0.9, RECIPE, results=folder / "a", storage=url, name=name, **self.options()).close()

    def options(self) -> dict:
        return {"ceiling": 1500, "validation_count": 64, "members": 1, "checkpoints": str(self.folder / "kept")}

    def start(self, place: str = "a", trials: int | None = None, before=lambda: None) -> int:
        """A worker with the results directory `place`; its exit code is 2 after a UserError, its message in a file."""
        pid = os.fork()
        if pid:
            self.pids[pid] = place
            return pid
        code = 0
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            before()
            worker.datasets.load = lambda *_: self.data
            kept = self.options()["checkpoints"]
            with Study(self.url, self.name).join(None, self.folder / place, kept) as search:
                if trials is not None:
                    search._running()
                    time.sleep(heartbeat.GRACE + 0.1)
                search.run(trials=trials)
        except UserError as error:
            (self.folder / f"{os.getpid()}.error").write_text(str(error))
            code = 2
        except BaseException as error:
            (self.folder / f"{os.getpid()}.error").write_text(f"{error!r} {error.__cause__!r}")
            code = 3
        os._exit(code)

    def wait(self, pid: int) -> tuple[int, str]:
        """Exit code (negative: a signal's number) and message."""
        _, status = os.waitpid(pid, 0)
        self.pids.pop(pid, None)
        message = self.folder / f"{pid}.error"
        return os.waitstatus_to_exitcode(status), message.read_text() if message.exists() else ""

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.wait(pid)

    def dead(self) -> list[tuple[int, str]]:
        """What has become of workers that ended by themselves."""
        ended = [pid for pid in list(self.pids) if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)]
        return [self.wait(pid) for pid in ended]

    def trials(self) -> list:
        study = Study(self.url, self.name)
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
            study = Study(self.url, self.name)
            study.stop()  # the directories are only opened
            study.storage.close()
            Search(
                self.data, 0.9, RECIPE, results=self.folder / place, storage=self.url, name=self.name, **self.options()
            ).close()
        self.look()

    def check(self) -> dict:
        """Faults found, each a count that has to be zero, and what was seen."""
        trials = self.trials()
        records = [r for path in sorted(self.folder.glob("*/*.jsonl")) for r in read(path) if isinstance(r, Trial)]
        told = [t.number for t in trials if "record" in t.user_attrs]
        written = Counter(r.number for r in records)
        trained = Counter(r.config.model_dump_json() for r in records if r.state != "refused")
        others = [t for t in trials if "record" not in t.user_attrs]
        knobs = max((len(t.params) for t in trials), default=0)
        return {
            "trials": len(trials),
            "records": len(records),
            "unfinished": sum(not t.state.is_finished() for t in trials),
            # ended without a record: a second worker's same configuration, or killed before it had one
            "lost": sum("twin" not in t.user_attrs and len(t.params) == knobs for t in others)
            + sum(number not in written for number in told)
            + sum(trials[i].number != i for i in range(len(trials))),
            "counted twice": sum(count > 1 for count in written.values()) + len(written.keys() - set(told)),
            "trained twice": sum(count > 1 for count in trained.values()),
            "best got worse": sum(after < before for before, after in zip(self.best, self.best[1:])),
        }


def kills(fleet: Fleet, count: int) -> dict:
    """kill -9 of a random one of three workers at a random moment, and another in its place."""
    chance, running, restarts = random.Random(0), 0, 0
    for place in "aab":
        fleet.start(place)
    for number in range(count):
        time.sleep(chance.uniform(0.1, 2.4))
        ended = fleet.dead()
        if any(code for code, _ in ended):
            raise RuntimeError(f"a worker ended by itself: {ended}")
        restarts += len(ended)
        victim = chance.choice(sorted(fleet.pids) or [fleet.start("a")])
        place = fleet.pids[victim]
        fleet.kill(victim)
        fleet.start(place)
        for _ in ended:
            fleet.start("a")
        if number % 5 == 0:
            fleet.look()
            running += sum(t.state == TrialState.RUNNING for t in fleet.trials())
    return {"repetitions": count}


def database(fleet: Fleet, server, count: int) -> dict:
    """The database is ended as by a crash under two workers, and started again after a while."""
    for place in "ab":
        fleet.start(place)
    while len({t.user_attrs.get("worker") for t in fleet.trials()}) < 2:  # one that is starting is refused, not patient
        time.sleep(0.2)
    for _ in range(count):
        time.sleep(1.5)
        server.kill()
        time.sleep(0.7)
        server.start()
        fleet.look()
    time.sleep(2)
    ended = fleet.dead()
    lost = [f"{code} {message}" for code, message in ended if code]
    return {"repetitions": count, "workers lost": len(lost), "messages": lost}


def disk(fleet: Fleet) -> dict:
    """The disk is full when a checkpoint is written; then there is room again."""
    kept = fleet.folder / "kept"
    kept.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", kept], capture_output=True)
    limit = mounted.returncode != 0
    refused, other = 0, []
    try:
        for _ in range(3):
            if not limit:
                try:
                    with open(kept / "filler", "wb", buffering=0) as file:
                        while file.write(b"x" * 4096):
                            pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
            code, message = fleet.wait(fleet.start("a", before=small_files if limit else lambda: None))
            refused += code == 2
            other += [] if code == 2 else [f"{code} {message}"]
            (kept / "filler").unlink(missing_ok=True)
            fleet.wait(fleet.start("a", trials=2))
            fleet.look()
        fleet.finish()
    finally:
        if not limit:
            subprocess.run(["umount", "-l", kept], check=False)
    means = "a file size limit" if limit else "a full tmpfs"
    return {"repetitions": 3, "means": means, "not one clear line": 3 - refused, "messages": other}


def small_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))


def clocks(fleet: Fleet) -> dict:
    """Three workers whose clocks are right, a day early and a day late: none may be taken for dead."""

    def skewed(days: int):
        class Skewed(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + timedelta(days=days)

        def apply():
            heartbeat.datetime = rdb.datetime = Skewed

        return apply

    pids = [fleet.start(place, before=skewed(days)) for place, days in (("a", 0), ("a", -1), ("b", 1))]
    seen: Counter = Counter()
    end = time.monotonic() + 12
    while time.monotonic() < end:
        time.sleep(0.3)
        seen.update(t.number for t in fleet.trials() if t.state == TrialState.WAITING)
        fleet.look()
    fleet.kill(pids[1])
    time.sleep(heartbeat.GRACE)
    return {"repetitions": 3, "live trials taken for dead": len(seen)}


def strangers(fleet: Fleet) -> dict:
    """Workers with another version of the code, and with other images, are refused."""

    def other_code():
        worker.code = lambda: "0.0.0 another"

    def other_images():
        object.__setattr__(fleet.data, "digest", "0" * 64)

    ended = [fleet.wait(fleet.start("b", before=change)) for change in (other_code, other_images)]
    accepted = sum(code != 2 for code, _ in ended)
    fleet.wait(fleet.start("a", trials=1))
    return {"repetitions": 2, "strangers accepted": accepted, "messages": [message for _, message in ended]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended, however this is
    torch.set_num_threads(1)
    kernels.library()  # compiled once, before workers are forked
    root = Path(tempfile.mkdtemp(prefix="wavemix-faults-"))
    root.chmod(0o755)
    data = datasets.load(str(images(root / "bars")), "train")
    reason = postgres.missing()
    server = None if reason else postgres.Server(root / "server")
    rows, fleets = [], []

    def run(title: str, kind: str, fault, *arguments) -> None:
        start, folder = time.monotonic(), root / f"fault{len(rows)}"
        folder.mkdir()
        url = server.url if kind == "PostgreSQL" else f"sqlite:///{folder}/study.db"
        fleet = Fleet(f"fault{len(rows)}", url, folder, data)
        fleets.append(fleet)
        row = {"fault": title, "storage": kind, **fault(fleet, *arguments)}
        fleet.finish()
        row |= fleet.check() | {"seconds": round(time.monotonic() - start)}
        rows.append(row)
        print(json.dumps(row), flush=True)

    try:
        shared = "PostgreSQL" if server else "SQLite"
        run("kill -9 of workers at random moments", shared, kills, options.kills)
        run("kill -9 of workers on one SQLite file", "SQLite", kills, max(1, options.kills // 4))
        if server:
            run("crash and restart of the database", shared, database, server, 4)
        run("full disk while a checkpoint is written", "SQLite", disk)
        run("clocks a day early and late", shared, clocks)
        run("another version of the code, other images", shared, strangers)
    finally:
        for pid in [pid for fleet in fleets for pid in list(fleet.pids)]:
            os.kill(pid, signal.SIGKILL)
        if server:
            server.stop()
        shutil.rmtree(root, ignore_errors=True)
    return report(rows, options.results, reason)


ZERO = ("unfinished", "lost", "counted twice", "trained twice", "best got worse", "workers lost", "not one clear line")
ZERO += ("live trials taken for dead", "strangers accepted")


def report(rows: list[dict], results: Path, reason: str) -> int:
    """Write the table and the figures; 1 where a count that has to be zero is not."""
    results.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": device_name(),
        "date": f"{datetime.now():%Y-%m-%d}",
        "without_postgresql": reason,
        "rows": rows,
    }
    columns = ("fault", "storage", "repetitions", "trials", "lost", "counted twice", "trained twice", "best got worse")
    lines = [
        "# Faults",
        "",
        f"`python scripts/fault_tests.py` on {content['machine']}, {content['date']}.",
        "",
        "| " + " | ".join((*columns, "other", "seconds")) + " |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for row in rows:
        other = ", ".join(f"{key}: {row[key]}" for key in ZERO if key in row and key not in columns)
        lines.append(
            "| " + " | ".join(str(value) for value in (*(row[c] for c in columns), other, row["seconds"])) + " |"
        )
    for name, text in (("faults.json", json.dumps(content, indent=1)), ("faults.md", "\n".join(lines))):
        part = results / f"{name}.part"
        part.write_text(text + "\n")
        part.replace(results / name)
    bad = [f"{row['fault']}: {key} {row[key]}" for row in rows for key in ZERO if row.get(key)]
    for line in bad:
        print(line, file=sys.stderr)
    print("\n".join(lines[4:]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
