"""`wavemix dashboard`: the real optuna-dashboard on a real study, fetched over HTTP."""

import json
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

import optuna
import pytest
from processes import COMMAND, Process

from search.cli.dashboard import guarded, location, server
from search.errors import UserError

pytest.importorskip("optuna_dashboard", reason="needs the extra `dashboard`")


@pytest.fixture
def results(tmp_path) -> Path:
    (tmp_path / "studies").mkdir()
    url = f"sqlite:///{tmp_path / 'studies' / 'toy-90-extended.db'}"
    study = optuna.create_study(storage=url, study_name="toy-90-extended", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return tmp_path


def fetch(url: str, method: str = "GET") -> str:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=60) as answer:
        return answer.read().decode()


def test_it_starts_shows_the_study_changes_nothing_and_stops_with_ctrl_c(results):
    process = Process(COMMAND, "dashboard", "--port", "0", "--results", results)
    try:
        address = process.stdout.readline().split()[0]
        base, _, number = address.partition("/dashboard/studies/")
        assert base.startswith("http://127.0.0.1:") and number.isdigit()
        assert "<html" in fetch(address).lower()
        (study,) = json.loads(fetch(f"{base}/api/studies"))["study_summaries"]
        assert study["study_name"] == "toy-90-extended" and study["study_id"] == int(number)
        trials = json.loads(fetch(f"{base}/api/studies/{number}?after=0"))["trials"]
        assert [trial["state"] for trial in trials] == ["Complete"] * 3
        for method in ("DELETE", "POST", "PUT"):
            with pytest.raises(urllib.error.HTTPError, match="405"):
                fetch(f"{base}/api/studies/{number}", method)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and errors == "stopped\n"


def test_what_is_wrong_is_said_in_one_line(results, monkeypatch):
    url, name = location(None, None, results)
    assert name == "toy-90-extended"
    with pytest.raises(UserError, match="no study mnist in .*: name one of toy-90-extended"):
        location("mnist", None, results)
    with pytest.raises(UserError, match="no study in .*: search first"):
        location(None, None, results / "nowhere")
    with pytest.raises(UserError, match="it holds toy-90-extended"):
        server(url, "other", "127.0.0.1", 0)
    with pytest.raises(UserError, match="no file .*typo.db"):
        server(f"sqlite:///{results / 'typo.db'}", None, "127.0.0.1", 0)
    assert not (results / "typo.db").exists()
    bound, address = server(url, name, "127.0.0.1", 0)
    try:
        with pytest.raises(UserError, match="choose another --port"):
            server(url, name, "127.0.0.1", bound.server_port)
    finally:
        bound.server_close()
    monkeypatch.setitem(sys.modules, "optuna_dashboard._app", None)
    with pytest.raises(UserError, match=r"pip install '\.\[dashboard\]'"):
        server(url, name, "127.0.0.1", 0)


def test_password_is_never_printed(results, wavemix):
    secret = "postgresql+psycopg://me:hunter2@127.0.0.1:1/optuna"
    done = wavemix("dashboard", "x", "--storage", secret, code=2)
    assert "hunter2" not in done.out + done.err and "//***@127" in done.err
    assert len([line for line in done.err.splitlines() if line]) == 1


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", "200"),
        ("localhost:8080", "200"),
        ("127.0.0.1:8080", "200"),
        ("[::1]:8080", "200"),
        ("Tower.example", "200"),
        ("tower.example.:8080", "200"),
        (None, "200"),  # HTTP/1.0
        ("evil.example", "421"),
        ("evil.example:8080", "421"),
        ("localhost.evil.example", "421"),
        ("127.0.0.1.evil.example", "421"),
        ("[::1", "421"),
        ("", "421"),
    ],
)
def test_only_this_servers_own_names_are_answered(host, status):
    """A page from elsewhere whose name was made to mean this machine can't read the studies."""
    seen, begun = [], []
    app = guarded(lambda environ, start: seen.append(environ) or start("200 OK", []) or [b""], {"tower.example"})
    environ = {"REQUEST_METHOD": "GET"} | ({} if host is None else {"HTTP_HOST": host})
    app(environ, lambda said, headers: begun.append(said[:3]))
    assert begun == [status] and len(seen) == (status == "200")
    assert all(each["HTTP_ACCEPT_ENCODING"] == "identity" for each in seen), "optuna-dashboard takes it for granted"
