"""The compiled CPU kernels: built once from the .cpp files beside this one, kept in the cache directory, called by
ctypes. Without a C++ compiler, or with WAVEMIX_KERNELS=off, there are none and everything runs as plain PyTorch.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from ..cache import USER, cache_dir, own, private, temporary

# images side by side in one vector: as many as the processor's vectors hold floats. GCC keeps wider ones in memory,
# which is ten times as slow
LANES = {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 4)
# the strict -std=c++17 would keep GCC from fusing multiplications and additions
FLAGS = ["-std=gnu++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC"]
FLAGS += ["-pthread", f"-DLANES={LANES}"]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there is no C++ compiler (or WAVEMIX_KERNELS=off)."""
    compilers = [found for found in map(shutil.which, ("g++", "clang++")) if found]
    if not compilers or os.environ.get("WAVEMIX_KERNELS") == "off":
        return None
    problems = []
    for compiler in compilers:
        try:
            kernels = _built([compiler, *FLAGS])
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").splitlines()
            problems.append(next((line for line in said if "error" in line), f"{compiler} failed"))
        except OSError as error:
            problems.append(str(error))
        else:
            _keep_memory()
            return kernels
    warnings.warn(f"no compiled kernels, so a CPU trains several times slower: {problems[0]}", stacklevel=2)
    return None


def loaded() -> ctypes.CDLL:
    """The compiled kernels, for code that only runs where there are some (see `fit`). Raises RuntimeError without."""
    kernels = library()
    if kernels is None:
        raise RuntimeError("there are no compiled kernels: this must not be called without them")
    return kernels


def compiled() -> bool:
    """Whether nobody has to wait for a compiler: the kernels are there, or there is no compiler."""
    compilers = [found for found in map(shutil.which, ("g++", "clang++")) if found]
    if not compilers or os.environ.get("WAVEMIX_KERNELS") == "off":
        return True
    return any(_kept(kernel_dir(), f"kernels-{digest([compiler, *FLAGS])}") for compiler in compilers)


def threaded(count: int | None = None) -> ctypes.CDLL | None:
    """The kernels, on `count` threads when this thread calls them; None means as many as PyTorch's."""
    kernels = library()
    if kernels is not None:
        kernels.threads(torch.get_num_threads() if count is None else count)
    return kernels


def _built(command: list[str]) -> ctypes.CDLL:
    """The kernels as this compiler makes them: those that are kept, or built anew; from a place that nothing is left of
    where they can't be kept. Raises CalledProcessError or OSError."""
    sources, name, kept = sorted(Path(__file__).parent.glob("*.cpp")), f"kernels-{digest(command)}", kernel_dir()
    if (found := _kept(kept, name)) is not None:
        return found
    with _alone(kept), tempfile.TemporaryDirectory() as place:
        if (found := _kept(kept, name)) is not None:  # another process has built them meanwhile
            return found
        built = Path(place) / "kernels.so"
        objects = [built.with_name(f"{path.name}.o") for path in sources]

        def make(output: Path, *inputs: Path | str) -> None:
            subprocess.run([*command, "-o", output, *inputs], check=True, capture_output=True)

        with ThreadPoolExecutor() as pool:  # somebody is waiting for it
            list(pool.map(lambda source, output: make(output, "-c", source), sources, objects))
        make(built, *objects)
        with suppress(OSError):  # a full disk
            content = built.read_bytes()
            part = kept / f"{name}.part"
            part.write_bytes(content)
            part.chmod(0o600)
            part.replace(kept / f"{name}-{_digest(content)}.so")
        found = _kept(kept, name)
        return ctypes.CDLL(str(built)) if found is None else found


def digest(command: list[str] = FLAGS) -> str:
    """What tells these kernels, built by `command` for this processor, from others."""
    folder = Path(__file__).parent
    sources = [path.read_text() for pattern in ("*.cpp", "*.h") for path in sorted(folder.glob(pattern))]
    # -march=native: a cache directory shared between machines must not mix up their processors
    key = "|".join([*sources, *command, platform.machine(), _processor()])
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _kept(folder: Path, name: str) -> ctypes.CDLL | None:
    """The library of this name in `folder` that is whole, by the digest that its file's name ends in, and this user's.

    Others are removed: loading a library that was cut off ends the process.
    """
    for path in folder.glob(f"{name}-*.so"):
        with suppress(OSError):
            if own(path) and path.stem == f"{name}-{_digest(path.read_bytes())}":
                return ctypes.CDLL(str(path))
        with suppress(OSError):
            path.unlink()
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time, so that they are compiled once; not where nothing can be written."""
    lock = FileLock(folder / "kernels.lock")
    with suppress(OSError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def kernel_dir() -> Path:
    """The directory for compiled kernels and what is measured of them: this user's alone, since they are executed.

    It is `cache_dir`, one in it where others may look into that, or one for temporary files.
    """
    cache = cache_dir()
    return private(cache) or private(cache / f"kernels-{USER}") or temporary()


def _keep_memory() -> None:
    """Have glibc keep freed memory instead of giving it back: a step frees and takes the same feature maps again, and
    fresh memory costs a page fault every four kilobytes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**26)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(option, value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "".join(sorted({line for line in lines if line.startswith(("flags", "model name", "Features", "CPU "))}))
    except OSError:
        return platform.processor()


def bfloat16() -> bool:
    """Whether the kernels multiply bfloat16: where the processor has AVX512-BF16 and the compiler knows it."""
    kernels = library()
    return kernels is not None and bool(kernels.multiplies_bfloat16())


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def pointers(tensors: list[Tensor]):
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def fit(x: Tensor) -> bool:
    """Whether the kernels take the map x: vectors lie at multiples of their size, as in PyTorch's own memory."""
    floats = x.device.type == "cpu" and x.dtype == torch.float32 and x.data_ptr() % (4 * LANES) == 0
    return floats and library() is not None
