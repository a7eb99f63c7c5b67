"""Faults of a study's storage and signals, for `faults.py`: each says what was lost, hidden or hung."""

import os
import random
import resource
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import optuna
import sqlalchemy

from scripts.robustness.fleet import Fleet
from search.errors import UserError
from search.study import heartbeat
from search.study.optuna_internals import engine
from search.study.search import Search
from search.study.store import Store

SECONDS = 10.0  # longest time without a word, and to the end after a signal


def asking(fleet: Fleet, count: int) -> dict:
    """kill -9 of a worker at one of the statements by which it takes a trial; how long is the next one kept waiting?"""
    late, unfinished, longest = 0, 0, 0.0

    def patient() -> None:  # as in earnest: no dead worker is given up while this is measured
        heartbeat.GRACE = 60.0

    for number in range(count):
        victim = fleet.start("a", before=lambda at=number: _dies_asking(at))
        fleet.wait(victim)
        start = time.monotonic()
        worker = fleet.start("b", trials=1, before=patient, finish=False)
        ended = fleet.wait_for(worker, 3 * SECONDS)
        longest = max(longest, time.monotonic() - start)
        if ended is None:
            fleet.kill(worker)
        late += ended is None or time.monotonic() - start > SECONDS
        unfinished += ended is not None and ended[0] != 0
        fleet.look()
    return {
        "repetitions": count,
        "kept waiting over 10 s": late,
        "workers lost": unfinished,
        "longest_seconds": round(longest, 1),
    }


def _dies_asking(statement: int) -> None:
    """This process kills itself at so many statements after it has begun to take a trial."""
    take, left = Store.take, [None] * (statement % 30 + 1)

    def before(*_) -> None:
        left.pop()
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def taking(self):
        sqlalchemy.event.listen(engine(self.storage.once), "before_cursor_execute", before)
        return take(self)

    Store.take = taking


def signalled(fleet: Fleet, count: int) -> dict:
    """Ctrl-C, SIGTERM or SIGHUP at a random moment of short trials, every third time more of them right after."""
    chance, found = random.Random(1), Counter()
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    slowest, messages = 0.0, []
    for number in range(count):
        worker, kind = fleet.command(), kinds[number % 3]
        with open(fleet.folder / f"{worker}.error", "ab"):
            pass
        time.sleep(chance.uniform(0.3, 2.5))
        os.kill(worker, kind)
        start, sent = time.monotonic(), {kind}
        for _ in range(chance.randint(1, 3) if number % 3 == 1 else 0):
            time.sleep(chance.uniform(0.0, 0.2))
            sent.add(more := chance.choice(kinds))  # of two that wait, the system delivers the lower number first
            with suppress(ProcessLookupError):
                os.kill(worker, more)
        ended = fleet.wait_for(worker, SECONDS)
        slowest = max(slowest, time.monotonic() - start)
        if ended is None:
            found["signals ignored"] += 1
            fleet.kill(worker)
            continue
        code, text = ended
        if code not in {128 + number for number in sent}:
            found["wrong exit code"] += 1
            messages.append(f"{code} {text[-300:]}")
        found["tracebacks"] += "Traceback" in text or "Exception ignored" in text
        fleet.look()
    counts = {name: found[name] for name in ("signals ignored", "wrong exit code", "tracebacks")}
    return {"repetitions": count, **counts, "slowest_seconds": round(slowest, 1), "messages": messages}


def stopped(fleet: Fleet, count: int) -> dict:
    """SIGSTOP of one of two workers for longer than others wait for its sign of life, then SIGCONT."""
    for _ in range(count):
        workers = [fleet.start("a"), fleet.start("b")]
        time.sleep(1.5)
        os.kill(workers[0], signal.SIGSTOP)
        time.sleep(1.5 * heartbeat.GRACE)
        os.kill(workers[0], signal.SIGCONT)
        time.sleep(1.0)
        for worker in workers:
            fleet.kill(worker)
        fleet.look()
    return {"repetitions": count}


def late(fleet: Fleet, server) -> dict:
    """A worker starts while the database is down."""
    server.kill()
    worker = fleet.start("a", trials=1)
    time.sleep(2.0)
    waits = not fleet.dead()
    server.start()
    code, message = fleet.wait(worker) if waits else (1, "it did not wait")
    return {"repetitions": 1, "workers lost": int(code != 0), "messages": [message] * bool(message)}


def opened(fleet: Fleet, folder: Path, **options) -> Search:
    """The study as its file under `folder` has it."""
    return fleet.open(folder, storage=None, **options)


def told(search: Search) -> dict:
    """All that is known of finished trials, by number."""
    trials = search.study.get_trials(deepcopy=False)
    return {
        t.number: (t.state, t.values, t.params, t.intermediate_values, t.user_attrs.get("record"))
        for t in trials
        if t.state.is_finished()
    }


def databases(fleet: Fleet, count: int) -> dict:
    """A file damaged in many ways is refused in one line, or says what it said; its records bring the study back."""
    fleet.wait(fleet.start("a", trials=8, finish=False))
    source, found, chance, messages = fleet.folder / "a", Counter(), random.Random(2), []
    with opened(fleet, source) as search:
        before = told(search)
    content = (source / "studies" / f"{fleet.name}.db").read_bytes()
    for number in range(count):
        folder = fleet.folder / f"damaged{number}"
        shutil.copytree(source, folder)
        (folder / "studies" / f"{fleet.name}.db").write_bytes(damage(content, number, chance))
        start = time.monotonic()
        try:
            notes = []
            with opened(fleet, folder, listen=lambda event, notes=notes: notes.append(event.text)) as search:
                other = told(search) != before
            said = any("the study itself is not here" in note for note in notes)  # of an empty file
            found["silently other"] += other and not said
            found["said to be lost"] += other and said
            found["unchanged"] += not other
        except UserError as error:
            found["refused"] += 1
            messages.append(str(error)[:120])
            with opened(fleet, folder, rebuild=True) as search:
                again = told(search)
            found["lost"] += len(before.keys() - again.keys()) + sum(
                again[n][:4] != before[n][:4] for n in before.keys() & again.keys()
            )
        except Exception as error:
            found["tracebacks"] += 1
            messages.append(repr(error)[:300])
        found["hung over 10 s"] += time.monotonic() - start > 2 * SECONDS
        shutil.rmtree(folder)
    keys = ("refused", "said to be lost", "unchanged", "silently other", "lost", "tracebacks", "hung over 10 s")
    return {
        "repetitions": count,
        "trials": len(before),
        **{k: found[k] for k in keys},
        "messages": sorted(set(messages)),
    }


def damage(content: bytes, number: int, chance: random.Random) -> bytes:
    """Half of them a flipped bit; the others a page of zeros or of another page, a lost end, noise, or nothing left."""
    changed, pages = bytearray(content), len(content) // 4096
    if number % 2:
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed)
    at = 4096 * chance.randrange(pages)
    match number // 2 % 6:
        case 0:
            changed[at : at + 4096] = bytes(4096)
        case 1:
            other = 4096 * chance.randrange(pages)
            changed[at : at + 4096] = content[other : other + 4096]
        case 2:
            del changed[chance.randrange(len(changed)) :]
        case 3:
            place = chance.randrange(len(changed) - 200)
            changed[place : place + 200] = chance.randbytes(200)
        case 4:
            changed[:100] = chance.randbytes(100)
        case 5:
            changed.clear()
    return bytes(changed)


def deleted(fleet: Fleet, what: str) -> dict:
    """The study's file, its results or the study itself deleted under a worker; the records bring the study back."""
    worker, place = fleet.start("a"), fleet.folder / "a"
    records = place / f"{fleet.name}.jsonl"
    while not records.exists() or records.read_bytes().count(b"\n") < 3:
        time.sleep(0.05)
    kept = records.read_bytes()
    if what == "study":
        optuna.delete_study(study_name=fleet.name, storage=fleet.url)
    elif what == "file":
        for path in (place / "studies").glob("*.db*"):
            path.unlink()
    else:
        shutil.rmtree(place, ignore_errors=True)
    start = time.monotonic()
    ended = fleet.wait_for(worker, SECONDS)
    seconds = time.monotonic() - start
    if ended is None:
        fleet.kill(worker)
    code, message = ended or (None, "it went on")
    if "rebuild" in message:
        written = records.read_bytes() if records.exists() else b""
        records.parent.mkdir(parents=True, exist_ok=True)
        records.write_bytes(written if written.startswith(kept) else kept + written)  # from a copy, that is
        fleet.open(place, rebuild=True).close()
    return {
        "repetitions": 1,
        "not one clear line": int(code != 2 or "\n" in message),
        "hung over 10 s": int(ended is None),
        "slowest_seconds": round(seconds, 1),
        "messages": [message],
    }


def full(fleet: Fleet) -> dict:
    """No file may grow any more under a worker, as on a full disk: one line at once; then there is room again."""
    found, slowest, messages = Counter(), 0.0, []
    for _ in range(3):
        worker = fleet.start("a", before=_no_room)
        start = time.monotonic()
        ended = fleet.wait_for(worker, 2 * SECONDS)
        slowest = max(slowest, time.monotonic() - start)
        if ended is None:
            fleet.kill(worker)
        found["hung over 10 s"] += ended is None or time.monotonic() - start > SECONDS
        found["not one clear line"] += ended is None or ended[0] != 2
        messages += [ended[1]] if ended else []
        fleet.wait(fleet.start("a", trials=1))
        fleet.look()
    keys = ("hung over 10 s", "not one clear line")
    return {"repetitions": 3, **{k: found[k] for k in keys}, "slowest_seconds": round(slowest, 1), "messages": messages}


def _no_room() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, resource.RLIM_INFINITY))
