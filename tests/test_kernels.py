"""How the kernels are built: with which compilers, where, and what is said where they can't be."""

import os
import shutil
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from wavemix import kernels
from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite
from wavemix.stack import Stack, to_lanes


@pytest.fixture
def compilers(tmp_path, monkeypatch):
    """A folder of stand-ins for compilers, the only ones there are, and a cache of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("WAVEMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WAVEMIX_KERNELS", raising=False)
    monkeypatch.setattr(kernels.ctypes, "CDLL", lambda path: Path(path).read_text() if path else None)
    monkeypatch.setattr(kernels, "_keep_memory", lambda: None)
    kernels.library.cache_clear()
    yield folder
    kernels.library.cache_clear()


def compiler(folder: Path, name: str, fails: str = "") -> None:
    """One that writes its arguments as what it has built, and fails where `fails` is among them."""
    program = folder / name
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"if {fails!r} and {fails!r} in sys.argv: sys.exit('x.h:1: error: no {fails}')\n"
        "open(sys.argv[sys.argv.index('-o') + 1], 'w').write(' '.join(sys.argv))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_the_next_compiler_is_tried_then_without_openmp(compilers):
    compiler(compilers, "g++", fails="-O3")
    compiler(compilers, "clang++", fails="-fopenmp")
    with pytest.warns(UserWarning, match="on one thread only: x.h:1: error: no -fopenmp"):
        built = kernels.library()
    assert "clang++ -std=gnu++17" in built and "-fopenmp" not in built


def test_what_was_built_is_kept_and_found(compilers, tmp_path):
    compiler(compilers, "g++")
    first = kernels.library()
    assert "-fopenmp" in first and [path.suffix for path in (tmp_path / "cache").iterdir()] == [".so"]
    compiler(compilers, "g++", fails="-O3")
    kernels.library.cache_clear()
    assert kernels.library() == first


def test_compilers_that_all_fail_are_named_once(compilers):
    compiler(compilers, "g++", fails="-O3")
    with pytest.warns(UserWarning, match="several times slower: x.h:1: error: no -O3"):
        assert kernels.library() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernels.library() is None
        kernels.library.cache_clear()
        (compilers / "g++").unlink()
        assert kernels.library() is None, "without a compiler there is nothing to say"


def test_a_cache_that_cannot_be_written_is_done_without(compilers, tmp_path, monkeypatch):
    compiler(compilers, "g++")
    (tmp_path / "cache").write_text("no folder")
    assert "g++" in kernels.library()


def test_cache_without_a_home(monkeypatch):
    monkeypatch.delenv("WAVEMIX_CACHE")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert kernels.cache_dir().is_absolute() and str(os.getuid()) in kernels.cache_dir().name


def test_this_machines_compiler_builds_them_for_several_threads():
    """A directive that OpenMP refuses would leave one thread, and nothing would be wrong but the speed."""
    program = shutil.which("g++") or shutil.which("clang++")
    if program is None:
        pytest.skip("no C++ compiler")
    command = [program, *kernels.FLAGS, "-fopenmp", "-Werror=unknown-pragmas", "-fsyntax-only"]
    sources = sorted(Path(kernels.__file__).parent.glob("*.cpp"))
    done = subprocess.run([*command, *sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(kernels.LANES == 4, reason="nothing is narrower")
def test_narrower_vectors_compute_the_same():
    """Four numbers a vector, what any processor holds, in a process of its own."""
    file = Path(__file__).with_name("test_stack.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "equals_module", file]
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr  # it is 5 where no test was found


@pytest.mark.parametrize("upsampling", ["deconv", "bilinear"])
def test_they_are_faster_than_pytorch(upsampling):
    """Vectors that lie in memory instead of registers are right, too, and ten times as slow."""
    if kernels.library() is None:
        pytest.skip("no kernels")
    config = LiteConfig(final_dim=32, depth=3, mult=2, ff_channel=32, upsampling=upsampling)
    stack, plain = Stack(config, [0]), WaveMixLite(config)
    images, target = torch.randn(1, 32, 3, 16, 16), torch.arange(32) % 10

    def seconds(logits, weights) -> float:
        start = time.process_time()  # what else a machine is busy with does not count
        torch.autograd.grad(torch.nn.functional.cross_entropy(logits(), target), weights)
        return time.process_time() - start

    taken = [
        (
            seconds(lambda: stack(to_lanes(images))[0][0], [stack.flat]),
            seconds(lambda: plain(images[0]), list(plain.parameters())),
        )
        for _ in range(10)
    ]
    ours, theirs = map(min, zip(*taken))
    assert ours < 1.2 * theirs, f"{1000 * ours:.1f} ms, PyTorch {1000 * theirs:.1f} ms"
