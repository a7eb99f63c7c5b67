"""A PostgreSQL server of the tests' own, in a temporary directory, on a free port of the loopback interface."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PASSWORD = "se:cr/et"
BINARIES = ["/usr/local/bin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)]


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(BINARIES))


def missing() -> str:
    """Why no server can be started here; empty where one can."""
    if not (program("initdb") and program("postgres")):
        return "needs PostgreSQL's initdb and postgres"
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        return "PostgreSQL refuses to run as root, and there is no setpriv"
    return ""


class Server:
    """A running server with an empty database at `url`; `folder` is one that any user can reach."""

    def __init__(self, folder: Path):
        self.folder, self.data, self.process = folder, folder / "data", None
        self.user: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:  # the server's own user must reach its directory through its parents
            self.user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
            os.chown(folder, 65534, 65534)
        word = folder / "word"
        word.write_text(PASSWORD)
        word.chmod(0o644)
        options = [
            "--username",
            "me",
            "--pwfile",
            word,
            "--auth",
            "scram-sha-256",
            "--no-sync",
            "--no-locale",
            "-E",
            "UTF8",
        ]
        self._run(program("initdb"), "-D", self.data, *options)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql+psycopg://me:se%3Acr%2Fet@127.0.0.1:{self.port}/postgres"
        self.start()

    def _run(self, *command) -> None:
        done = subprocess.run([*self.user, *map(str, command)], capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder}
        options |= {"fsync": "off", "shared_buffers": "16MB", "max_connections": 50, "autovacuum": "off"}
        settings = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        with open(self.folder / "log", "ab") as log:
            command = [*self.user, program("postgres"), "-D", str(self.data), *settings]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        import psycopg

        for _ in range(1200):
            try:
                psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
        raise TimeoutError((self.folder / "log").read_text())

    def kill(self) -> None:
        """End it as a crash does: every process at once, without a checkpoint; the next start recovers."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(10)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.kill()
