"""The compiled CPU kernels: built once from the .cpp files beside this one, kept in the cache directory, called by
ctypes. Without a C++ compiler, or with WAVEMIX_KERNELS=off, there are none and everything runs as plain PyTorch.
"""

import ctypes
import functools
import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

# images side by side in one vector: as many as the processor's vectors hold floats. GCC keeps wider ones in memory,
# which is ten times as slow
LANES = {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 4)
# the strict -std=c++17 would keep GCC from fusing multiplications and additions
FLAGS = ["-std=gnu++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC"]
FLAGS += [f"-DLANES={LANES}"]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there is no C++ compiler (or WAVEMIX_KERNELS=off)."""
    compilers = [found for found in map(shutil.which, ("g++", "clang++")) if found]
    if not compilers or os.environ.get("WAVEMIX_KERNELS") == "off":
        return None
    problems = []
    for compiler, parallel in itertools.product(compilers, (["-fopenmp"], [])):  # Apple's clang has no OpenMP
        try:
            kernels = _built([compiler, *FLAGS, *parallel])
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").splitlines()
            problems.append(next((line for line in said if "error" in line), f"{compiler} failed"))
        except OSError as error:
            problems.append(str(error))
        else:
            if not parallel:
                warnings.warn(f"compiled kernels on one thread only: {problems[-1]}", stacklevel=2)
            _keep_memory()
            return kernels
    warnings.warn(f"no compiled kernels, so a CPU trains several times slower: {problems[0]}", stacklevel=2)
    return None


def _built(command: list[str]) -> ctypes.CDLL:
    """The kernels as this compiler makes them, from the cache where they are there; from a place that nothing is left
    of where the cache can't be written. Raises CalledProcessError or OSError."""
    folder = Path(__file__).parent
    sources, headers = [sorted(folder.glob(pattern)) for pattern in ("*.cpp", "*.h")]
    # -march=native: a cache directory shared between machines must not mix up their processors
    key = "|".join([*(path.read_text() for path in sources + headers), *command, platform.machine(), _processor()])
    target = cache_dir() / f"kernels-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if target.exists():
        return ctypes.CDLL(str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=target.parent)
    except OSError:
        scratch, target = tempfile.TemporaryDirectory(), None
    with scratch as place:
        built = Path(place) / "kernels.so"
        objects = [built.with_name(f"{path.name}.o") for path in sources]

        def make(output: Path, *inputs: Path | str) -> None:
            subprocess.run([*command, "-o", output, *inputs], check=True, capture_output=True)

        with ThreadPoolExecutor() as pool:  # somebody is waiting for it
            list(pool.map(lambda source, output: make(output, "-c", source), sources, objects))
        make(built, *objects)
        if target is not None:
            os.replace(built, target)
        return ctypes.CDLL(str(target or built))


def cache_dir() -> Path:
    """The directory for what is made once and kept: `WAVEMIX_CACHE`, default `~/.cache/wavemix`."""
    named = os.path.expanduser(os.environ.get("WAVEMIX_CACHE") or "~/.cache/wavemix")
    if named.startswith("~"):  # there is no home
        named = os.path.join(tempfile.gettempdir(), f"wavemix-{os.getuid()}")
    return Path(named)


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


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def pointers(tensors: list[Tensor]):
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def fit(x: Tensor) -> bool:
    """Whether the kernels take the map x: vectors lie at multiples of their size, as in PyTorch's own memory."""
    floats = x.device.type == "cpu" and x.dtype == torch.float32 and x.data_ptr() % (4 * LANES) == 0
    return floats and library() is not None
