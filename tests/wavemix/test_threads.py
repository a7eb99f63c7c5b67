"""How many threads a process may use, and that the kernels' own ones do all the work, once."""

import ctypes
import os
import sys
import threading

import pytest
import torch

from wavemix import kernels, speeds, threads
from wavemix.config import LiteConfig
from wavemix.kernels import LANES
from wavemix.stack import Stack, to_lanes

SMALL = LiteConfig(in_channels=1, final_dim=8, depth=3, mult=1, upsampling="bilinear", num_classes=3)
needs_kernels = pytest.mark.usefixtures("compiled")


@pytest.fixture
def compiled():
    if kernels.library() is None:
        pytest.skip("no compiled kernels")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def group(root, path: str, limit: str | None) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    if limit is not None:
        (folder / "cpu.max").write_text(limit)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"": None, "a": None}, float("inf")),
        ({"": None, "a": "max 100000"}, float("inf")),
        ({"a": "150000 100000"}, 1.5),
        ({"a": "400000 100000", "a/b": "max 100000", "a/b/c": "50000 100000"}, 0.5),
        ({"a": "100000 100000", "a/b": "800000 100000"}, 1.0),  # the one above is narrower
        ({"a": "nonsense"}, float("inf")),
    ],
)
def test_quota_is_the_narrowest_of_the_groups_above(tmp_path, limits, expected):
    for path, limit in limits.items():
        group(tmp_path, path, limit)
    assert threads.quota("/" + max(limits, key=len), tmp_path) == expected


@pytest.mark.parametrize(
    ("cpus", "quota", "named", "expected"),
    [
        (64, float("inf"), None, 64),
        (64, 1.0, None, 1),
        (64, 1.9, None, 1),
        (64, 0.5, None, 1),
        (2, 8.0, None, 2),
        (8, float("inf"), "3", 3),
        (8, float("inf"), "3,2", 3),  # one number a nesting level
        (2, float("inf"), "16", 2),
        (4, float("inf"), "", 4),
        (4, float("inf"), "0", 4),
    ],
)
def test_allowed(monkeypatch, cpus, quota, named, expected):
    monkeypatch.setattr(threads, "cpus", lambda: cpus)
    monkeypatch.setattr(threads, "quota", lambda: quota)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if named is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", named)
    assert threads.allowed() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_allowed_follows_the_affinity(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert threads.allowed() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_settled_before_pytorch_is_loaded(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    threads.settle()
    assert "GOMP_SPINCOUNT" not in os.environ  # it is loaded here
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(threads, "cpus", lambda: 8)
    monkeypatch.setattr(threads, "quota", lambda: 2.5)
    threads.settle()
    assert os.environ["GOMP_SPINCOUNT"] == threads.SPINS and os.environ["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    threads.settle()
    assert "GOMP_SPINCOUNT" not in os.environ and os.environ["OMP_NUM_THREADS"] == "5"  # the user's own


def test_limit(monkeypatch, two_threads):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads.limit(1)
    assert torch.get_num_threads() == 1 and os.environ["OMP_NUM_THREADS"] == "1"


@needs_kernels
def test_kernels_have_no_openmp():
    """Its threads spin against one another where a core is shared."""
    file = kernels.library()._name
    with open(file, "rb") as library:
        assert b"GOMP_" not in library.read()


def logits(stack: Stack, seed: int) -> torch.Tensor:
    images = to_lanes(torch.randn(1, 8 * LANES, 1, 16, 16, generator=torch.Generator().manual_seed(seed)))
    with torch.no_grad():
        return stack(images)[0]


@needs_kernels
def test_calls_from_several_threads_at_once(two_threads):
    stacks = [Stack(SMALL, [seed]) for seed in range(4)]
    expected, found = [logits(stack, seed) for seed, stack in enumerate(stacks)], [None] * 4

    def work(k: int) -> None:
        found[k] = [logits(stacks[k], k) for _ in range(30)]

    started = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert all(torch.equal(one, expected[k]) for k in range(4) for one in found[k])


def copied(count: int, groups: int) -> bool:
    """Whether a batch that `count` threads load has every image."""
    pixels = torch.arange(groups * LANES).to(torch.uint8).reshape(-1, 1, 1, 1)
    out = torch.full((groups, 1, 1, 1, LANES), -1.0)
    tensors = (pixels, torch.arange(groups * LANES), None, torch.zeros(1), torch.full((1,), 1 / 255), out)
    kernels.threaded(count).load_batch(*map(kernels.pointer, tensors), *map(ctypes.c_int, (groups, 1, 1, 1, 0)))
    return out.flatten().round().int().tolist() == pixels.flatten().tolist()


@needs_kernels
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("groups", [1, 2, 7, 64])
def test_every_group_is_worked_on_once(count, groups):
    assert all(copied(count, groups) for _ in range(20))


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_threads_of_its_own():
    assert copied(2, 64)
    child = os.fork()
    if child == 0:
        os._exit(0 if copied(2, 64) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_measured_is_kept(monkeypatch, tmp_path):
    clock, runs = iter(range(1000)), []

    def step(name, seconds):
        def run():
            runs.append(name)
            for _ in range(seconds - 1):
                next(clock)

        return run

    monkeypatch.setattr(kernels, "kernel_dir", lambda: tmp_path)
    monkeypatch.setattr(speeds.time, "process_time", lambda: float(next(clock)))
    slow, fast = step("slow", 20), step("fast", 2)
    assert speeds.kernels_win(64, "a", fast, slow) and not speeds.kernels_win(64, "b", slow, fast)
    assert runs == ["fast", "slow"] * 4 + ["slow", "fast"] * 4
    assert speeds.kernels_win(64, "a", slow, fast) and len(runs) == 16  # known
    assert speeds.kernels_win(64, "c", slow, step("level", 19))  # no clear difference
    assert speeds.kernels_win(8, "d", slow, fast) and len(runs) == 24  # small networks are not measured
    (tmp_path / "speeds.json").write_text('{"not": "ours"')
    assert not speeds.kernels_win(64, "b", slow, fast)


@needs_kernels
def test_where_pytorch_is_faster_it_trains(monkeypatch):
    stack = Stack(LiteConfig(in_channels=1, final_dim=32, depth=1, mult=1, upsampling="deconv", num_classes=3), [0, 1])
    images = to_lanes(torch.randn(2, LANES, 1, 8, 8))
    monkeypatch.setattr("wavemix.stack.kernels_win", lambda *_: True)
    assert stack.in_kernels(1, 8, 8)
    ours = torch.autograd.grad(stack(images)[0].square().sum(), stack.flat)[0]
    stack.known.clear()
    monkeypatch.setattr("wavemix.stack.kernels_win", lambda *_: False)
    assert not stack.in_kernels(1, 8, 8)
    monkeypatch.setattr(stack, "_operations", None)  # not to be called
    theirs = torch.autograd.grad(stack(images)[0].square().sum(), stack.flat)[0]
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
