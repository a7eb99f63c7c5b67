"""How the kernels are built: with which compilers, where, and what is said where they can't be."""

import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest
import torch

from wavemix import cache as caching
from wavemix import kernels
from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite
from wavemix.stack import Stack, operations, to_lanes


@pytest.fixture
def compilers(tmp_path, monkeypatch):
    """A folder of stand-ins for compilers, the only ones there are, and a cache of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("WAVEMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WAVEMIX_KERNELS", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(kernels.ctypes, "CDLL", lambda path: Path(path).read_text() if path else None)
    monkeypatch.setattr(kernels, "_keep_memory", lambda: None)
    kernels.library.cache_clear()
    yield folder
    kernels.library.cache_clear()


def compiler(folder: Path, name: str, fails: str = "") -> None:
    """One that writes its arguments, without folders, as what it has built, and fails where `fails` is among them."""
    program = folder / name
    program.write_text(
        f"#!{sys.executable} -S\nimport sys\n"
        f"if {fails!r} and {fails!r} in sys.argv: sys.exit('x.h:1: error: no {fails}')\n"
        "open(sys.argv[sys.argv.index('-o') + 1], 'w').write(' '.join(a.split('/')[-1] for a in sys.argv))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_the_next_compiler_is_tried(compilers):
    compiler(compilers, "g++", fails="-O3")
    compiler(compilers, "clang++")
    assert "clang++ -std=gnu++17" in kernels.library()


def libraries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.so"))


def again() -> str:
    """What another process would load."""
    kernels.library.cache_clear()
    return kernels.library()


def test_what_was_built_is_kept_and_found(compilers, tmp_path):
    compiler(compilers, "g++")
    first = kernels.library()
    kept = tmp_path / "cache"
    assert "-pthread" in first and sorted(path.suffix for path in kept.iterdir()) == [".lock", ".so"]
    assert kept.stat().st_mode & 0o777 == 0o700 and libraries(kept)[0].stat().st_mode & 0o777 == 0o600
    compiler(compilers, "g++", fails="-O3")
    assert again() == first


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
        lambda path: path.chmod(0o666),
        lambda path: path.rename(path.with_suffix(".mine")) and path.symlink_to(path.with_suffix(".mine")),
    ],
    ids=["cut off", "empty", "changed", "open to others", "a link"],
)
def test_a_library_that_is_not_whole_or_not_ones_own_is_built_again(compilers, tmp_path, damage):
    compiler(compilers, "g++")
    first = kernels.library()
    (path,) = libraries(tmp_path)
    whole = path.read_bytes()
    damage(path)
    assert again() == first
    assert libraries(tmp_path) == [path] and path.read_bytes() == whole and not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_library_that_cannot_be_loaded_is_built_again(compilers, tmp_path, monkeypatch):
    """One of a container with another C library, say, that shares the home directory."""
    compiler(compilers, "g++")
    first = kernels.library()
    load, refused = kernels.ctypes.CDLL, []

    def refuse(path):
        if not refused:
            refused.append(path)
            raise OSError("version `GLIBC_2.99' not found")
        return load(path)

    monkeypatch.setattr(kernels.ctypes, "CDLL", refuse)
    assert again() == first and refused == [str(path) for path in libraries(tmp_path)]


def test_nobody_else_can_plant_a_library(compilers, tmp_path, monkeypatch):
    """Neither in a directory that others can write in, or whose place they can take, nor in one of theirs."""
    compiler(compilers, "g++")
    first, user, cache = kernels.library(), os.getuid(), tmp_path / "cache"
    within, temporary = cache / f"kernels-{user}", tmp_path / f"wavemix-{user}"
    for mode, place in ((0o700, cache), (0o755, within), (0o1777, within), (0o777, temporary)):
        cache.chmod(mode)
        assert kernels.kernel_dir() == place and place.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o755)
    within.chmod(0o770)
    assert kernels.kernel_dir() == temporary, "it may hold what others have written"
    (planted,) = libraries(cache)
    planted.write_text("planted")
    for module in (caching, kernels):
        monkeypatch.setattr(module, "USER", user + 1)
    for place in (cache / f"kernels-{user + 1}", tmp_path / f"wavemix-{user + 1}"):
        place.mkdir(mode=0o700)
        shutil.copy(planted, place)
    fresh = kernels.kernel_dir()
    assert fresh not in (place, *cache.iterdir()) and fresh == kernels.kernel_dir() and not fresh.stat().st_mode & 0o077
    assert again() == first
    monkeypatch.setenv("WAVEMIX_CACHE", "~nobody-of-this-name/cache")
    assert caching.cache_dir() == fresh


def test_what_torch_compiles_is_not_planted_either(compilers, tmp_path, monkeypatch):
    monkeypatch.setattr(operations.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(operations.shutil, "which", lambda name: name)
    monkeypatch.setattr(operations.sysconfig, "get_paths", lambda: {"include": tmp_path})
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: os.environ["TORCHINDUCTOR_CACHE_DIR"])
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "named")
    assert operations._compiled.__wrapped__(print) == "named"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    assert operations._compiled.__wrapped__(print) == str(tmp_path / "cache" / "inductor")


def test_a_link_in_the_place_of_the_directory_is_not_followed(compilers, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "cache").mkdir(mode=0o755)
    (tmp_path / "cache" / f"kernels-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    assert kernels.kernel_dir() == tmp_path / f"wavemix-{os.getuid()}"


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


def test_a_disk_that_is_full_costs_only_the_time_to_build_again(compilers, tmp_path, monkeypatch):
    compiler(compilers, "g++")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert "g++" in kernels.library() and libraries(tmp_path) == []


def test_processes_that_start_together_build_once(compilers, tmp_path):
    compiler(compilers, "g++")
    context = multiprocessing.get_context("fork")
    starts = [context.Process(target=kernels.library) for _ in range(3)]
    with (compilers / "g++").open("a") as program:
        program.write(f"open({str(tmp_path / 'linked')!r}, 'a').write('x' * ('-c' not in sys.argv))\n")
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert [start.exitcode for start in starts] == [0, 0, 0] and (tmp_path / "linked").read_text() == "x"


def test_cache_without_a_home(monkeypatch, tmp_path):
    monkeypatch.delenv("WAVEMIX_CACHE")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert caching.cache_dir().is_absolute() and str(os.getuid()) in caching.cache_dir().name


@pytest.mark.skipif(kernels.LANES == 4, reason="nothing is narrower")
def test_narrower_vectors_compute_the_same():
    """Four numbers a vector, what any processor holds, in a process of its own; compiled in a third of the time."""
    program = "import sys, pytest; from wavemix import kernels; kernels.FLAGS[1] = '-O1'; sys.exit(pytest.main())"
    file = Path(__file__).with_name("test_stack.py")
    command = [
        sys.executable,
        "-c",
        program,
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "equals_module and not without_kernels",
        file,
    ]
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
    stack.known[len(stack.flat), 32 // kernels.LANES, 3, 16, 16, kernels.LANES] = True  # not by what would be measured

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
