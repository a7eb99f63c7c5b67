"""How the kernels are built: with which compilers, where, and what is said where they can't be."""

import os
import shutil
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from wavemix import kernels


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
