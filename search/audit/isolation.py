"""Counting in a process of its own, with limits: a network that hangs or dies takes nothing else with it.

The factory that makes a network is the user's code and runs with the user's rights. The limits are against accidents,
a download that hangs or a layer that takes all memory, and are no wall against code that means harm.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

GIB = 2**30
START = 120  # seconds that Python and PyTorch may take to start


@dataclass(frozen=True)
class Limits:
    seconds: float = 120  # for each network
    memory: int = 8 * GIB  # bytes that the process may hold, PyTorch among them


class Died(Exception):
    """The process has ended, or was ended, without an answer; the message says how."""


class Worker:
    """A process that answers one request after another, started when it is first asked. Close it at the end."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.process: subprocess.Popen[bytes] | None = None
        self.answered = 0

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer. Raises Died; the next request is then asked of a new process."""
        try:
            process = self.process or self._started()
            assert process.stdin
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it has died: reading says how
            answer = self._line(process, self.limits.seconds)
        except BaseException:
            self.close()
            raise
        self.answered += 1
        return answer

    def close(self) -> None:
        """End the process and all that it has started."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
        self.process, self.answered = None, 0

    def _started(self) -> subprocess.Popen[bytes]:
        # as here: a factory that can be imported here can be imported there
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "search.audit.worker", str(self.limits.seconds), str(self.limits.memory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        self._line(self.process, START)
        return self.process

    def _line(self, process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
        """The next line that it writes, as JSON."""
        assert process.stdout
        end, text = time.monotonic() + seconds, b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise Died(f"no answer within {seconds:g} s")
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                code = process.wait()
                raise Died(f"the process ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}")
            text += part
        return json.loads(text)
