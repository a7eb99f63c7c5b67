"""Processes of their own that start within milliseconds: a server that has imported torch and the program forks them.

What is about the start itself (imports, exit, an environment that libraries read when they are loaded) has to be a
`subprocess` instead.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading

import cheap_searches  # noqa: F401, a forked process imports this file

COMMAND = "from search.__main__ import main; main()"  # what `python -m search` runs

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["search.cli.run", "search.campaign", "search.audit.counts", "search.report.tables", "search.study.joining"]
)


class Process:
    """`program`, source text or the name of a script ("scripts.import_graph"), with these arguments.

    In this process's folder and environment, with what is given of it here.

    As with `subprocess.Popen`: pid, returncode, stdout (a text stream), send_signal, poll, kill, communicate, which
    returns (output, errors). What goes to standard error is kept apart and is complete when the process has ended.
    """

    def __init__(self, program: str, *arguments: object, **environment: str):
        reader, writer = _SERVER.Pipe(duplex=False)
        self._errors = tempfile.NamedTemporaryFile("r")
        given = (program, [str(a) for a in arguments], os.environ | environment, os.getcwd(), writer, self._errors.name)
        self._process = _SERVER.Process(target=_run, args=given)
        self._process.start()
        writer.close()
        self.pid = self._process.pid
        self.stdout = os.fdopen(os.dup(reader.fileno()), "r")
        reader.close()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """The rest of the output, and all errors. It is killed, so that its return code is -9, after `timeout` s."""
        late = threading.Timer(timeout, self.kill)
        late.start()
        output = self.stdout.read()
        self._process.join()
        late.cancel()
        return output, self._errors.read()


def done(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """The same, run to its end: returncode, stdout and stderr."""
    process = Process(program, *arguments, **environment)
    output, errors = process.communicate()
    return subprocess.CompletedProcess([program, *arguments], process.returncode, output, errors)


def _run(program: str, arguments: list[str], environment: dict, folder: str, output, errors: str) -> None:
    """In the forked process."""
    os.dup2(output.fileno(), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_APPEND), 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # what the server's were is gone
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server, or who started it, may ignore it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if program.startswith("scripts."):
        sys.argv = [program, *arguments]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["wavemix", *arguments]
        exec(program, {"__name__": "__main__"})
