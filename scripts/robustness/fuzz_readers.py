"""Fuzz everything that reads what others wrote: each input is accepted or refused by a documented error, in time.

    python -m scripts.robustness.fuzz_readers            # a hundred thousand inputs and more, about five minutes
    python -m scripts.robustness.fuzz_readers --only zip --count 500
    python -m scripts.robustness.fuzz_readers --only zip --input /tmp/fuzz-zip-17  # one that failed, with its traceback

Inputs are damaged samples: bytes overwritten, cut, doubled and spliced, JSON values exchanged for awkward ones, and
archives and images made to harm. Every reader runs in its own process with its memory limited, so that a crash of
compiled code is seen and said too. Inputs that fail are kept in the directory for temporary files.
"""

import argparse
import base64
import functools
import io
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch

from scripts.benchmarks.harness import print_table, record
from scripts.robustness.fuzz_samples import (
    CONFIG,
    WHOLE,
    archived,
    archives,
    awkward,
    cache,
    checkpoints,
    cifar_python,
    damaged,
    flawed,
    idx,
    images,
    png,
    record_lines,
    saved,
    text,
    weights,
    whole_checkpoints,
    whole_weights,
)
from search.audit import counts as audit
from search.cli import app as cli
from search.cli import values as arguments
from search.data import class_folders as folder
from search.data import decoded_cache as decoded
from search.data import formats, pixels
from search.data.source import PLAIN
from search.errors import UserError
from search.records import jsonl as journal
from search.records.weights import networks
from search.report import tables
from search.training.checkpoint import State
from search.training.optimizer import Optimizer
from search.training.recipe import Recipe
from wavemix import LiteConfig, WaveMixLite, load_checkpoint
from wavemix.stack import Stack

SECONDS = 10.0  # processor time; an input that takes longer hangs
MEMORY = 3 << 30  # bytes a reader's process may have beyond what importing took
RECIPE = Recipe(epochs=2)


class TooLong(BaseException):
    """An input was not done in SECONDS; no reader may catch it."""


# ------------------------------------------------------------------------------------------------------ readers


@dataclass(frozen=True)
class Reader:
    """What is fuzzed: how an input is made and read, which errors are documented, and how many inputs a run takes."""

    samples: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]
    count: int
    make: Callable[[random.Random, list[bytes]], bytes] = damaged
    documented: tuple[type[BaseException], ...] = (UserError,)


def read_file(read: Callable[[Path], object], name: str) -> Callable[[bytes, Path], object]:
    def through_file(data: bytes, scratch: Path) -> object:
        (scratch / name).write_bytes(data)
        return read(scratch / name)

    return through_file


def read_archive(path: Path) -> None:
    folder.read(path, PLAIN)


def read_whole(path: Path) -> None:
    """A damaged archive that is accepted has the images of the whole one, all of them, of the same classes."""
    for part, arrays in folder.read(path, PLAIN).items():
        images, labels, classes = arrays[:3]
        assert (classes, decoded.digest_of(images, labels)) == WHOLE[part], "read as something else"


def read_image(data: bytes, _: Path) -> object:
    return pixels.read(data)


def read_tree(data: bytes, scratch: Path) -> object:
    """A folder whose entries are named by the lines of `data`."""
    root = Path(tempfile.mkdtemp(dir=scratch))
    for line in data.split(b"\n")[:12]:
        name, _, kind = line.partition(b"|")
        path = os.path.normpath(os.fsencode(root) + b"/" + name.replace(b"\0", b""))
        if not path.startswith(os.fsencode(root) + b"/") or len(path) > 200:
            continue
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if kind == b"dir":
                os.mkdir(path)
            elif kind == b"link":
                os.symlink("/nowhere", path)
            else:
                with open(path, "wb") as stream:
                    stream.write(b"" if kind == b"empty" else png())
        except OSError:  # the name is a folder already, or a file where a folder should be
            continue
    return folder.read(root, PLAIN)


def read_config(data: bytes, scratch: Path) -> object:
    (scratch / "config.json").write_bytes(data)
    config = arguments.validated(LiteConfig, str(scratch / "config.json"), "--config")
    assert isinstance(config.name, str) and config.parameters() > 0
    try:
        config.check_image_size(28, 28)
    except ValueError:  # documented: the images do not fit
        pass
    return config


def read_recipe(data: bytes, scratch: Path) -> object:
    (scratch / "recipe.json").write_bytes(data)
    return arguments.validated(Recipe, str(scratch / "recipe.json"), "--recipe").model_dump_json()


def argument(data: bytes) -> str:
    """As the system hands over an argument: it can't hold a zero byte."""
    return data.replace(b"\0", b"").decode("utf-8", "surrogateescape")


def read_options(data: bytes, _: Path) -> object:
    value, reader = argument(data), len(data) % 4
    if reader == 0:
        assert 0 < arguments.seconds_of(value) < float("inf")
    elif reader == 1:
        assert all(seed >= 0 for seed in arguments.seeds_of(value))
    elif reader == 2:
        assert "/" not in arguments.study_name(value, 0.9, "extended")
    else:
        arguments.validated(LiteConfig, value, "--config")


COMMANDS = (
    ["search", "/nowhere/x", "--target", "VALUE"], ["search", "VALUE?", "--target", "0.9"],
    ["search", "/nowhere/x", "--target", "0.9", "--budget", "VALUE"], ["confirm", "/nowhere/x", "--target", "VALUE"],
    ["train", "/nowhere/x", "--config", "VALUE"], ["train", "/nowhere/x", "--config", "{}", "--seed-list", "VALUE"],
    ["train", "/nowhere/x", "--config", "{}", "--recipe", "VALUE"], ["tables", "--results", "/nowhere/VALUE"],
    ["reproduce", "VALUE", "--results", "EMPTY"], ["status", "--results", "/nowhere/VALUE"], ["VALUE"],
    ["confirm", "x", "--target", "0.9", "--name", "VALUE", "--results", "EMPTY"], ["data", "fetch", "?VALUE"],
    ["audit", "--input", "VALUE", "--factory", "no:thing"], ["audit", "--checkpoint", "/nowhere/VALUE"],
)  # fmt: skip


def read_command(data: bytes, scratch: Path) -> object:
    """A command line with `data` for one of its values; refused is exit code 2 and a message."""
    value = argument(data[1:])
    template = COMMANDS[(data or b"\0")[0] % len(COMMANDS)]
    words = [word.replace("VALUE", value).replace("EMPTY", str(scratch)) for word in template]
    out, errors, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["wavemix", *words]
    try:
        with redirect_stdout(out), redirect_stderr(errors):
            cli.main()
    except SystemExit as end:
        if end.code == 2:
            raise UserError(errors.getvalue()) from None
        assert end.code in (0, 1, None), f"exit code {end.code}"
    finally:
        sys.argv = argv


def resume(path: Path) -> dict:
    """What a training goes on from; a checkpoint that has been set aside is refused."""
    stack = Stack(CONFIG, [1, 2])
    state = State(stack, Optimizer(stack, RECIPE), stack.flat.detach().clone(), [[], []])
    state.resume(path, {"a": 1})
    if not path.exists():
        raise UserError("set aside")
    assert len(state.curves[0]) == len(state.curves[1]) and state.optimizer.count >= 0
    tensors = {name: tensor.detach() for name, tensor in state.tensors().items()}
    return tensors | {"count": state.optimizer.count, "seconds": state.seconds, "curves": state.curves}


def trained(path: Path) -> dict:
    """Everything in a file of weights, and what it is of."""
    return {
        f"{seed}/{name}": value
        for seed, network in networks(path).items()
        for name, value in network.state_dict().items()
    }


def unchanged(read: Callable[[Path], dict], samples: Callable[[], list[bytes]], name: str) -> Reader:
    """A reader whose damaged inputs are refused, or read as one of the samples: nothing else may come out."""

    @functools.cache
    def originals() -> list[dict]:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            return [read_file(read, name)(sample, Path(scratch)) for sample in samples()]

    def checked(path: Path) -> None:
        found = read(path)
        assert any(same(found, original) for original in originals()), "read as something else"

    return Reader(samples, read_file(checked, name), 2_000)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        for key, value in one.items()
    )


OPTIONS = [b"90s", b"15m", b"0.5h", b"1e2s", b"3", b"7,8,9", b"1000003", b"my images", b"mnist", b"{}", b'{"depth": 3}',
           b"0.99", b"3,224,224", b"--help", b"-x"]  # fmt: skip
TREES = [
    b"train/a/1.png\ntrain/b/1.png", b"a/1.png\nb/1.png\nb/c.png|empty", b"a/1.png\nb|link\nb/x.png|link\nb/2.png",
    b"train|dir\ntest/a/1.png", b"a/b/c.png\nb/1.png", b".hidden/1.png\na/.x.png\na/1.PNG\n\xff\xfe/1.png",
]  # fmt: skip
READERS = {
    "idx": Reader(idx, lambda data, _: formats.read_idx(formats.unzip_idx(data, "f"), "f"), 20_000),
    "cifar-binary": Reader(
        lambda: [bytes(3073), bytes(2 * 3073)], lambda data, _: formats.read_cifar_binary(data, "f"), 10_000
    ),
    "cifar-python": Reader(cifar_python, lambda data, _: formats.read_cifar_python(data, "f"), 20_000),
    "image": Reader(images, read_image, 10_000),
    "folder": Reader(lambda: TREES, read_tree, 2_000),
    "tar": Reader(lambda: archived("tar"), read_file(read_archive, "a.tar"), 6_000),
    "zip": Reader(lambda: archived("zip"), read_file(read_archive, "a.zip"), 6_000),
    "damaged archives": Reader(archives, read_file(read_whole, "a"), 150, flawed),
    "records": Reader(record_lines, read_file(journal.read, "r.jsonl"), 15_000, lambda r, s: awkward(r, s) + b"\n"),
    "tables": Reader(
        record_lines, read_file(lambda path: tables.rendered(journal.read(path)), "r.jsonl"), 400,
        lambda r, s: awkward(r, s) + b"\n",
    ),
    "config": Reader(lambda: [CONFIG.model_dump_json().encode(), b"{}"], read_config, 15_000, awkward),
    "recipe": Reader(lambda: [RECIPE.model_dump_json().encode()], read_recipe, 15_000, awkward),
    "options": Reader(lambda: OPTIONS, read_options, 15_000, text),
    "commands": Reader(lambda: OPTIONS, read_command, 1_000, lambda r, s: bytes([r.randrange(256)]) + text(r, s)),
    "checkpoint": Reader(checkpoints, read_file(resume, "c.checkpoint"), 5_000),
    "whole-checkpoint": unchanged(resume, whole_checkpoints, "c.checkpoint"),
    "whole-weights": unchanged(trained, whole_weights, "w.safetensors"),
    "weights": Reader(
        weights,
        read_file(lambda path: load_checkpoint(WaveMixLite(CONFIG), path), "w.safetensors"), 4_000,
        documented=(ValueError,),
    ),
    "torch.save": Reader(
        saved,
        read_file(lambda path: load_checkpoint(WaveMixLite(CONFIG), path), "w.pth"), 4_000,
        documented=(ValueError,),
    ),
    "audit": Reader(lambda: weights() + saved(), read_file(audit.checkpoint, "w.pth"), 500),
    "cache": Reader(cache, read_file(decoded._read, "d.safetensors"), 6_000),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------ running


@contextmanager
def in_time() -> Iterator[None]:
    """Raise TooLong after SECONDS of processor time, or ten times as long by the clock: the machine may be shared."""

    def late(*_):
        raise TooLong(f"not done after {SECONDS:g} s")

    timers = ((signal.SIGPROF, signal.ITIMER_PROF, SECONDS), (signal.SIGALRM, signal.ITIMER_REAL, 10 * SECONDS))
    before = [signal.signal(number, late) for number, *_ in timers]
    for _, timer, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def failure(name: str, data: bytes, scratch: Path) -> tuple[bool, dict | None]:
    """Give `data` to a reader: whether it was accepted, and what is wrong with the way it ended."""
    try:
        with in_time():
            READERS[name].read(data, scratch)
    except READERS[name].documented as error:
        if not str(error) or isinstance(error, UserError) and "\n" in str(error):
            return False, {"error": f"no message in one line: {error!r}", "trace": ""}
        return False, None
    except (Exception, TooLong) as error:
        trace = "".join(traceback.format_exception(error))[-3000:]
        return False, {"error": f"{type(error).__name__}: {error}"[:200], "trace": trace}
    return True, None


def fuzz(name: str, count: int, seed: int = 0, at: mmap.mmap | None = None) -> dict:
    """`count` inputs to a reader: how many were accepted and refused, failures, the slowest (processor seconds).

    The input at hand is left in `at`: its number, its length and itself.
    """
    torch.manual_seed(seed)
    samples = READERS[name].samples()
    found = {"inputs": count, "accepted": 0, "refused": 0, "slowest": 0.0, "failures": []}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(count):
            data = READERS[name].make(random.Random(f"{seed} {name} {number}"), samples)
            if at is not None:
                at[: 16 + len(data)] = struct.pack("qq", number, len(data)) + data
            start = time.process_time()
            accepted, problem = failure(name, data, Path(scratch))
            found["slowest"] = max(found["slowest"], time.process_time() - start)
            found["accepted"] += accepted
            found["refused"] += not accepted and problem is None
            if problem:
                found["failures"].append({"input": number, "data": base64.b64encode(data).decode(), **problem})
    return found


def apart(name: str, count: int, seed: int) -> dict:
    """`fuzz` in a process of its own with limited memory; its death is a failure at the input it was at."""
    at, (reading, writing) = mmap.mmap(-1, 64 << 20), os.pipe()
    start = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
            if pages is not None:
                # compiled decoders complain on standard error by themselves
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                limit = pages * resource.getpagesize() + MEMORY
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            with os.fdopen(writing, "w") as stream:
                json.dump(fuzz(name, count, seed, at=at), stream)
        except BaseException:
            traceback.print_exc()
            os._exit(70)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        answer = stream.read()
    _, status, usage = os.wait4(child, 0)
    if answer and status == 0:
        found = json.loads(answer)
    else:
        number, length = struct.unpack("qq", at[:16])
        data = base64.b64encode(at[16 : 16 + length]).decode()
        ended = {"input": number, "data": data, "error": f"the process ended with status {status}"}
        found = {"inputs": number + 1, "accepted": 0, "refused": 0, "slowest": 0.0, "failures": [ended]}
    unit = 1 if sys.platform == "darwin" else 1024
    return found | {"seconds": time.perf_counter() - start, "peak_bytes": max(0, usage.ru_maxrss - before) * unit}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=READERS, help="one reader")
    parser.add_argument("--count", type=int, help="inputs a reader; default: as planned, in all more than 100,000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input", type=Path, help="only the input in this file, for --only, with its traceback")
    parser.add_argument("--output", type=Path, help="append a record here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.input is not None:
        if not options.only:
            parser.error("--input needs --only")
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            accepted, problem = failure(options.only, options.input.read_bytes(), Path(scratch))
        print(problem["trace"] or problem["error"] if problem else "accepted" if accepted else "refused")
        return 1 if problem else 0
    results = {}
    for name in [options.only] if options.only else READERS:
        results[name] = found = apart(name, options.count or READERS[name].count, options.seed)
        for problem in found["failures"][:3]:
            kept = Path(tempfile.gettempdir()) / f"fuzz-{name}-{problem['input']}"
            kept.write_bytes(base64.b64decode(problem["data"]))
            print(f"{name}, {kept}: {problem['error']}", file=sys.stderr)
    rows = [
        [name, f"{r['inputs']:,}", f"{r['accepted']:,}", f"{r['refused']:,}", len(r["failures"]),
         f"{1000 * r['slowest']:.0f}", f"{r['peak_bytes'] / 2**20:.0f}", f"{r['seconds']:.0f}"]
        for name, r in results.items()
    ]  # fmt: skip
    total, failures = sum(r["inputs"] for r in results.values()), sum(len(r["failures"]) for r in results.values())
    header = ["reader", "inputs", "accepted", "refused", "failures", "slowest, ms", "memory, MiB", "s"]
    print_table(
        f"{total:,} inputs, {failures} failures, {sum(r['seconds'] for r in results.values()):.0f} s", header, rows
    )
    if options.output:
        kept = {name: {k: v if k != "failures" else len(v) for k, v in r.items()} for name, r in results.items()}
        record(
            options.output,
            name=f"fuzzed {options.only or 'readers'}: inputs that ended in a crash, a hang or an undocumented error",
            unit=f"of {total:,} inputs",
            ours=failures,
            better="lower",
            repetitions=1,
            details={"seed": options.seed, "readers": kept},
        )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
