"""Break a study's workers, database, disk and clocks on purpose, and count what is lost.

    python -m scripts.robustness.faults [--kills 100] [--only WORD] [--results results]

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

import torch
from optuna.trial import TrialState

from scripts.robustness import storage_faults
from scripts.robustness.fleet import Fleet, images

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import postgres

from search.data import datasets
from search.files import write_atomically
from search.records.environment import device_name
from search.records.results import Results
from search.study import heartbeat
from search.study import joining as worker
from search.study.optuna_internals import rdb
from wavemix import kernels


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
    parser.add_argument("--kills", type=int, default=100, help="other faults are repeated in proportion")
    parser.add_argument("--only", default="", help="faults whose names hold this word")
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

    def some(count: int) -> int:
        return max(1, round(count * options.kills / 100))

    def run(title: str, kind: str, fault, *arguments) -> None:
        if options.only not in title:
            return
        start, folder = time.monotonic(), root / f"fault{len(rows)}"
        folder.mkdir()
        name = f"fault{len(rows)}"
        own = Results(folder / "a").database(name).render_as_string()
        fleet = Fleet(name, server.url if kind == "PostgreSQL" else own, folder, data)
        fleets.append(fleet)
        row = {"fault": title, "storage": kind, **fault(fleet, *arguments)}
        fleet.finish()
        found = fleet.check() | {"seconds": round(time.monotonic() - start)}
        row |= {key: row.get(key, 0) + value if key == "lost" else value for key, value in found.items()}
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
        run("kill -9 while a trial is being taken", shared, storage_faults.asking, some(30))
        run("signals at random moments of short trials", shared, storage_faults.signalled, some(40))
        run("a worker stopped for longer than it is waited for", shared, storage_faults.stopped, some(5))
        run("no room for the database", "SQLite", storage_faults.full)
        run("damaged databases", "SQLite", storage_faults.databases, some(60))
        run("the study's file deleted under a worker", "SQLite", storage_faults.deleted, "file")
        run("the results deleted under a worker", "SQLite", storage_faults.deleted, "results")
        if server:
            run("a worker that starts while the database is down", shared, storage_faults.late, server)
            run("the results deleted under a worker", shared, storage_faults.deleted, "results")
            run("the study deleted under a worker", shared, storage_faults.deleted, "study")
    finally:
        for pid in [pid for fleet in fleets for pid in list(fleet.pids)]:
            os.kill(pid, signal.SIGKILL)
        if server:
            server.stop()
        shutil.rmtree(root, ignore_errors=True)
    return report(rows, options.results, reason)


ZERO = ("unfinished", "lost", "counted twice", "trained twice", "best got worse", "workers lost", "not one clear line")
ZERO += ("live trials taken for dead", "strangers accepted", "kept waiting over 10 s", "signals ignored")
ZERO += ("wrong exit code", "tracebacks", "silently other", "hung over 10 s")


def report(rows: list[dict], results: Path, reason: str) -> int:
    """Write the table and the figures; 1 where a count that has to be zero is not."""
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
        f"`python -m scripts.robustness.faults` on {content['machine']}, {content['date']}.",
        "",
        "| " + " | ".join((*columns, "other", "seconds")) + " |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for row in rows:
        other = ", ".join(f"{key}: {row[key]}" for key in ZERO if key in row and key not in columns)
        lines.append(
            "| " + " | ".join(str(value) for value in (*(row[c] for c in columns), other, row["seconds"])) + " |"
        )
    for name, text in (("records/faults.json", json.dumps(content, indent=1)), ("pages/faults.md", "\n".join(lines))):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(results / name, (text + "\n").encode())
    bad = [f"{row['fault']}: {key} {row[key]}" for row in rows for key in ZERO if row.get(key)]
    for line in bad:
        print(line, file=sys.stderr)
    print("\n".join(lines[4:]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
