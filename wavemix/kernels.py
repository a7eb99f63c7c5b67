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
from pathlib import Path

import torch
from torch import Tensor

LANES = 16  # images side by side in one vector


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there is no C++ compiler (or WAVEMIX_KERNELS=off)."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None or os.environ.get("WAVEMIX_KERNELS") == "off":
        return None
    folder = Path(__file__).parent
    sources, headers = [sorted(folder.glob(pattern)) for pattern in ("*.cpp", "*.h")]
    flags = ["-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-shared", "-fPIC"]
    # -march=native: a cache directory shared between machines must not mix up their processors
    key = "|".join(
        [*(path.read_text() for path in sources + headers), *flags, compiler, platform.machine(), _processor()]
    )
    cache = Path(os.path.expanduser(os.environ.get("WAVEMIX_CACHE") or "~/.cache/wavemix"))
    target = cache / f"kernels-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    try:
        if not target.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                built = Path(scratch) / "kernels.so"
                subprocess.run([compiler, *flags, "-o", built, *sources], check=True, capture_output=True)
                os.replace(built, target)
        _keep_memory()
        # idle threads sleep soon: spinning through a contended machine's time slices costs more than it gains
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
        return ctypes.CDLL(str(target))
    except (OSError, subprocess.CalledProcessError):
        return None


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
        return "".join(sorted({line for line in lines if line.startswith(("flags", "model name"))}))
    except OSError:
        return platform.processor()


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def pointers(tensors: list[Tensor]):
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def fit(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and library() is not None
