"""Signals that end a command: none is lost, the work ends where it can be gone on with, further ones do no harm."""

import signal
import sys
import time
import weakref

import pytest
import torch

from search import signals
from search.__main__ import main
from search.cli import app as cli
from search.cli.endings import resumable
from search.data.split import Split
from search.training import train as training
from search.training.recipe import Recipe
from wavemix.config import LiteConfig

ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture(autouse=True)
def _heard():
    """However the tests were started: nohup has SIGHUP ignored, a shell's background SIGINT."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def installed(monkeypatch):
    handlers = {number: signal.getsignal(number) for number in signals.ENDING}
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    signals.install()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signals.received = None


def test_a_deferred_signal_comes_up_where_it_is_checked_for(installed, capfd):
    reached = []
    with pytest.raises(KeyboardInterrupt):
        with signals.deferred():
            signal.raise_signal(signal.SIGTERM)
            reached.append("it is only remembered")
            signals.check()
            reached.append("never")
    assert reached == ["it is only remembered"] and signals.code() == 143
    for _ in range(3):
        signal.raise_signal(signal.SIGINT)  # ends nothing twice
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "wavemix: ending after this step" and "it is ending already" in said[1] and len(said) == 2
    assert signals.code() == 143, "the first one counts"


def test_one_that_nobody_checked_for_comes_up_at_the_end(installed):
    with pytest.raises(KeyboardInterrupt), signals.deferred():
        signal.raise_signal(signal.SIGINT)


def test_elsewhere_and_where_images_are_read_it_comes_up_at_once(installed):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signals.install()
    with pytest.raises(KeyboardInterrupt), signals.deferred(), signals.prompt():
        signal.raise_signal(signal.SIGINT)
        pytest.fail("too late")


def test_one_that_python_drops_is_remembered_without_a_traceback(installed, capfd):
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert reference() is None and "KeyboardInterrupt" not in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        signals.check()


def test_what_a_process_was_started_to_ignore_stays_ignored(installed):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    signals.install()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_exit_codes_tell_the_signal(ended, monkeypatch, number, code):
    def command():
        with resumable():
            signal.raise_signal(number)
            signal.raise_signal(number)
            signals.sleep(60)

    monkeypatch.setattr(cli, "main", command)
    said = ended(main, code=code).err
    assert "Interrupted. Everything up to the last checkpoint is kept. Resume with:" in said and "Traceback" not in said
    monkeypatch.setattr(cli, "main", lambda: signal.raise_signal(number))
    assert ended(main, code=code).err == "interrupted\n"


def test_a_closed_terminal_is_no_error_of_its_own(ended, monkeypatch):
    def command():
        with resumable():
            signal.raise_signal(signal.SIGHUP)
            raise OSError(5, "Input/output error")  # what writing to it gives

    monkeypatch.setattr(cli, "main", command)
    ended(main, code=129)


def test_a_wait_ends_within_a_moment(installed):
    signals.received = signal.SIGTERM
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        signals.sleep(60)
    assert time.monotonic() - start < 1


def test_a_training_ends_within_a_batch(installed, monkeypatch):
    data = Split(
        "toy", "Toy", "train", torch.zeros(256, 1, 8, 8, dtype=torch.uint8), torch.zeros(256).long(), ("a", "b"), "x"
    )
    steps, step = [], training.Step.__call__

    def counted(self, *arguments):
        steps.append(1)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(training.Step, "__call__", counted)
    config = LiteConfig(in_channels=1, num_classes=2, final_dim=8, depth=1, stride=[1, 1])
    with pytest.raises(KeyboardInterrupt), signals.deferred():
        training.train(config, Recipe(epochs=3, batch_size=32), data, [0])
    assert len(steps) == 2
