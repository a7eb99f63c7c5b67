"""Fixtures shared by all tests: no test touches the user's cache or data directories."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import examples  # noqa: F401, the profiles
import postgres
import pytest
from hypothesis import settings
from PIL import Image

settings.load_profile("any machine")  # unless --hypothesis-profile names another


def pytest_configure(config: pytest.Config) -> None:
    """One cache for the whole run, however many work on it: kernels are compiled, real archives decoded once."""
    os.environ.pop("WAVEMIX_DATA", None)
    os.environ.pop("MPLBACKEND", None)  # tests import matplotlib themselves
    if not hasattr(config, "workerinput"):  # else it is inherited
        os.environ["WAVEMIX_CACHE"] = tempfile.mkdtemp(prefix="wavemix-")
        config.add_cleanup(partial(shutil.rmtree, os.environ["WAVEMIX_CACHE"], ignore_errors=True))


def pytest_collection_finish() -> None:
    """What the tests have in common is imported, by those processes that run tests: not by one that hands them out.

    It stays: the garbage collector need not look at it again, which takes it a quarter of a second each time that a
    measurement of memory asks for it.
    """
    import cheap_searches  # noqa: F401, it changes what searches do

    import search.cli.audit
    import search.cli.benchmark
    import search.cli.data
    import search.cli.export
    import search.cli.launch
    import search.cli.run
    import search.cli.show
    import search.cli.use
    import search.cli.workers  # noqa: F401, the commands

    gc.collect()
    gc.freeze()


@pytest.fixture
def ended(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Runs a program in this process, which spares it seconds of imports; it has to end with the exit code `code`.

    What it has printed is returned: `out` and `err`.
    """

    from search import signals

    def run(program: Callable[[], object], *arguments: object, code: int = 0):
        monkeypatch.setattr(sys, "argv", ["wavemix", *map(str, arguments)])
        capsys.readouterr()
        handlers, hook = {number: signal.getsignal(number) for number in signals.ENDING}, sys.unraisablehook
        try:
            with pytest.raises(SystemExit) as end:
                program()
        finally:  # Ctrl-C ends the tests
            for number, handler in handlers.items():
                signal.signal(number, handler)
            sys.unraisablehook = hook
        written = capsys.readouterr()
        assert (end.value.code or 0) == code, written.err
        return written

    return run


@pytest.fixture
def wavemix(ended: Callable) -> Callable:
    """The command, in this process: `wavemix("tables", "--check", code=1).err`."""
    from search.__main__ import main

    return partial(ended, main)


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A real PostgreSQL. Its one database outlives a test, whose studies have names of their own, therefore."""
    if reason := postgres.missing():
        pytest.skip(reason)
    place = Path(tempfile.mkdtemp(prefix="wavemix-"))
    place.chmod(0o755)
    running = postgres.Server(place / "server")
    yield running
    running.stop()
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def timm():
    """timm with our models, on a CPU build of torch as well."""
    import torchvision_operators

    torchvision_operators.define()
    timm = pytest.importorskip("timm")
    import wavemix.timm_models  # noqa: F401

    return timm


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Images of bars in class folders, a training and a test part."""
    from bars import bars

    root = tmp_path_factory.mktemp("images") / "bars"
    for part, count, seed in (("train", 320, 0), ("test", 96, 1)):
        split = bars(count, seed)
        for number, (image, label) in enumerate(zip(split.images, split.labels.tolist())):
            place = root / part / split.classes[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(place / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data: WAVEMIX_TEST_DATA, or a `shared/data` directory beside the checkout; else skips."""
    named = os.environ.get("WAVEMIX_TEST_DATA")
    if named:
        if not Path(named).is_dir():
            pytest.fail(f"WAVEMIX_TEST_DATA, {named}, is no directory")
        return Path(named)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not beside.is_dir():
        pytest.skip("needs real data: set WAVEMIX_TEST_DATA to a directory with mnist/, fashion-mnist/, …")
    return beside
