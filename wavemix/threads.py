"""How many threads this process may use, and how PyTorch's wait for one another.

The kernels have threads of their own (threads.cpp). PyTorch's are OpenMP's: by default they spin for milliseconds after
each operation, on a core that the kernels' threads or another process could use.
"""

import os
import sys
from pathlib import Path

SPINS = "10000"  # looks of a waiting OpenMP thread before it sleeps: tens of microseconds


def settle() -> None:
    """Have OpenMP wait briefly, on as many threads as are `allowed`: what it reads from the environment when PyTorch is
    loaded. Nothing that the user has set is changed, and nothing once PyTorch is there."""
    if "torch" in sys.modules:
        return
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ["GOMP_SPINCOUNT"] = SPINS
    if quota() < cpus():
        os.environ.setdefault("OMP_NUM_THREADS", str(allowed()))


def limit(count: int) -> None:
    """Use `count` threads at most from now on, and in the processes that this one starts."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def allowed() -> int:
    """Threads this process may use at once, at least 1: its CPU affinity, a container's quota, `OMP_NUM_THREADS`.

    A quota (cgroup v2, `cpu.max`) of 1.5 CPUs gives 1: a second thread would be held back half of the time, and the
    first with it.
    """
    count = cpus()
    named = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if named.isdigit() and int(named):
        count = min(count, int(named))
    return max(1, int(min(count, quota())))


def cpus() -> int:
    """CPUs that the system may run this process on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(group: str | None = None, root: Path = Path("/sys/fs/cgroup")) -> float:
    """CPUs that this process's control group and those above it leave it (cgroup v2); infinite without a limit."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines() if group is None else [f"0::{group}"]
        path = root / next(line[3:] for line in lines if line.startswith("0::")).strip("/")
    except (OSError, StopIteration):
        return float("inf")
    least = float("inf")
    for folder in [path, *path.parents]:
        try:
            most, period = (folder / "cpu.max").read_text().split()
            least = min(least, int(most) / int(period)) if most != "max" else least
        except (OSError, ValueError):
            pass
        if folder == root:
            break
    return least
