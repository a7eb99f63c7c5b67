import io
import os
import subprocess
import sys

import pytest
from candidates import trial

from search.cli import app as cli
from search.cli import terminal
from search.cli.listing import Listing
from search.errors import Unheard, UserError
from search.records.jsonl import append


def listing(rows: int = 1) -> Listing:
    table = Listing("name", "number")
    for number in range(rows):
        table.add_row("a" * 30, str(number))
    return table


def test_what_is_told_is_one_safe_line(capsys):
    terminal.tell("a\x1b[2J\nb")
    terminal.tell("c\rd", err=True)
    written = capsys.readouterr()
    assert written.out == "a\ufffd[2J b\n" and written.err == "c d\n"


def test_a_command_stays_as_it_is(capsys):
    terminal.tell("  wavemix train 'a  b\nc'  \x1b", kept="\n")
    assert capsys.readouterr().out == "  wavemix train 'a  b\nc'  \ufffd\n"


def test_what_goes_wrong_while_a_table_is_made_is_no_fault_of_the_output(capsys):
    class Broken:
        def __rich__(self):
            raise ConnectionError("no route")

    with pytest.raises(ConnectionError):
        terminal.show(Broken())
    terminal.tell("still here")
    assert capsys.readouterr().out == "still here\n"


def test_a_piped_table_is_as_wide_as_it_needs(capsys):
    table = Listing("name", "said")
    table.add_row("n" * 60, "s" * 60)
    terminal.show(table)
    assert "n" * 60 + "  " + "s" * 60 in capsys.readouterr().out


@pytest.fixture
def stdout(monkeypatch):
    """Makes a file descriptor standard output."""
    opened = []

    def replace(descriptor: int):
        opened.append(open(descriptor, "w"))
        monkeypatch.setattr(sys, "stdout", opened[-1])

    yield replace
    monkeypatch.undo()
    for stream in opened:
        stream.close()  # raises where something is left that can't be written


def unread() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("say", [lambda: terminal.tell("x"), lambda: terminal.show(listing())])
def test_a_reader_that_has_gone_ends_the_command_silently(stdout, say):
    stdout(unread())
    with pytest.raises(Unheard):
        say()
    say()  # and nothing is left in the stream that would be tried again


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("say", [lambda: terminal.tell("x"), lambda: terminal.show(listing(500))])
def test_a_full_disk_under_the_output_is_one_line(stdout, say):
    stdout(os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(UserError, match="cannot print: No space left on device"):
        say()


def test_the_exit_code_of_an_unheard_command(stdout, monkeypatch, tmp_path, capfd):
    append(tmp_path / "toy.jsonl", trial(2, 0.95))
    monkeypatch.setattr(sys, "argv", ["wavemix", "status", "--results", str(tmp_path)])
    stdout(unread())
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 141 and capfd.readouterr().err == ""


@pytest.mark.parametrize("arguments", ["", "--help", "--version", "search --help", "data list --help"])
def test_help_that_nobody_reads_ends_like_any_other_output(arguments):
    writing = unread()
    command = [sys.executable, "-m", "search", *arguments.split()]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 141 and done.stderr == ""


def test_an_error_that_nobody_reads_ends_the_command_as_one_that_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["wavemix", "status", "--results", str(tmp_path / "none")])
    with open(unread(), "w") as stream, pytest.raises(SystemExit) as end:
        monkeypatch.setattr(sys, "stderr", stream)
        cli.main()
    assert end.value.code == 2


def test_names_that_the_output_can_not_encode_are_printed_all_the_same(monkeypatch):
    latin = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", latin)
    terminal.open_streams()
    terminal.tell("ä, 漢")
    assert latin.buffer.getvalue() == b"\\xe4, \\u6f22\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_become_the_null_device(tmp_path, closed):
    """A file that is opened then must not get the number of a closed stream, nor what is printed."""
    code = (
        "import os, sys; from search.cli.terminal import open_streams, show, tell; open_streams(); "
        f"file = open({str(tmp_path / 'file')!r}, 'w'); assert file.fileno() > 2; "
        "tell('x'); tell('x', err=True); os.write(1, b'y'); os.write(2, b'y'); print(sys.stdin.read()); "
        "assert not sys.stdout.isatty(); file.write('done')"
    )
    command = f'exec {sys.executable} -c "$CODE" {closed}'
    done = subprocess.run(["bash", "-c", command], env=os.environ | {"CODE": code}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "done" and "Traceback" not in done.stderr
