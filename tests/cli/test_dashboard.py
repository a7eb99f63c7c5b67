"""`wavemix dashboard`: the real optuna-dashboard on a real study, fetched over HTTP."""

import json
import signal
import sqlite3
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from processes import COMMAND, Process
from toys import Training, engine

from search.cli.dashboard import guarded, location, server
from search.errors import UserError
from search.study.search import Search
from search.study.view import View

pytest.importorskip("optuna_dashboard", reason="needs the extra `dashboard`")


@pytest.fixture
def results(tmp_path) -> Path:
    (tmp_path / "studies").mkdir()
    url = f"sqlite:///{tmp_path / 'studies' / 'toy-90-extended.db'}"
    study = optuna.create_study(storage=url, study_name="toy-90-extended", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return tmp_path


FEASIBLE = 1382  # parameters that reach the search's target


@pytest.fixture
def searched(tmp_path, monkeypatch) -> Iterator[tuple[Search, str]]:
    """A search with trials of every kind, and the address of its study in the API of a dashboard that runs."""
    training = Training(monkeypatch, lambda config, epoch: "nan: a loss" if len(training.configs) == 5 else None)
    with engine(tmp_path) as search:
        search.run(trials=5)
        put_in(search, 1000, 1100)
        search.run(trials=1)  # prunes it, as its curve tells against it
        put_in(search, 2000, 3000)
        search.run(trials=1)  # refuses it, as a smaller one is feasible
        smallest = search.found.feasible()[0].user_attrs["parameters"]
        put_in(search, FEASIBLE, smallest)  # it waits
        bound, address = server(*location(None, None, tmp_path), "127.0.0.1", 0)
        threading.Thread(target=bound.serve_forever, daemon=True).start()
        try:
            yield search, address.replace("/dashboard/", "/api/")
        finally:
            bound.shutdown()
            bound.server_close()


def put_in(search: Search, least: int, most: int) -> None:
    """Let a configuration with so many parameters be the next one tried."""
    space = search.setting.space
    fitting = (c for c in space.configurations(0, most) if c.parameters() >= least and c.upsampling != "deconv")
    search.study.enqueue_trial(space.hyperparameters_of(next(fitting)))


def view(*trials: FrozenTrial) -> View:
    """Of a study that needs an accuracy of 0.9, with these trials."""
    storage = InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="toy", direction="maximize")
    study.set_user_attr("identity", {"target": 0.9, "validation": 0})
    study.add_trials(trials)
    return View(storage)


def finished(accuracy: float, state: TrialState = TrialState.COMPLETE, **attributes) -> FrozenTrial:
    return create_trial(state=state, value=accuracy, user_attrs=attributes)


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
        assert study["directions"] == ["maximize"], "a study of another program is shown as it is"
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


def test_the_parameters_are_minimised_among_the_feasible_trials(searched):
    search, address = searched
    stored, threshold = search.study.get_trials(), search.setting.threshold
    with closing(sqlite3.connect(search.results.database("toy").database)) as database:
        before = list(database.iterdump())
        study = json.loads(fetch(f"{address}?after=0"))
        (summary,) = json.loads(fetch(address.rpartition("/")[0]))["study_summaries"]
        header, *rows = fetch(address.replace("/api/studies/", "/csv/")).splitlines()
        assert json.loads(fetch(f"{address}/param_importances"))["param_importances"]
        assert list(database.iterdump()) == before
    assert study["directions"] == summary["directions"] == ["minimize"]
    assert study["objective_names"] == ["parameters"]
    assert header.startswith("Number,State,parameters,") and len(rows) == len(stored)
    assert {"key": "validation accuracy to reach", "value": str(threshold)} in study["user_attrs"]
    assert {"key": "validation accuracy", "sortable": True} in study["union_user_attrs"]
    seen = set()
    for trial, shown in zip(stored, study["trials"], strict=True):
        attributes = {attribute["key"]: attribute["value"] for attribute in shown["user_attrs"]}
        assert not {"record", "seal"} & attributes.keys()
        assert shown["state"].upper() == trial.state.name
        assert {point["step"]: point["value"] for point in shown["intermediate_values"]} == trial.intermediate_values
        feasible = trial.user_attrs.get("feasible", False)
        seen.add((shown["state"], trial.value is not None, feasible))
        if trial.value is None:
            assert "values" not in shown and shown["constraints"] == []
            continue
        assert shown["values"] == [trial.user_attrs["parameters"]]
        assert float(attributes["validation accuracy"]) == trial.value
        assert shown["constraints"] == [pytest.approx(threshold - trial.value)]
        assert (shown["constraints"][0] <= 0) == feasible
    measured = {("Complete", True, True), ("Complete", True, False), ("Pruned", True, False)}
    assert seen == measured | {("Pruned", False, False), ("Fail", False, False), ("Waiting", False, False)}
    (best,) = study["best_trials"]
    assert best["number"] == search.found.feasible()[0].number
    complete = [trial["values"][0] for trial in study["trials"] if trial["state"] == "Complete"]
    assert best["values"][0] > min(complete), "the smallest network misses the target"


def test_the_page_follows_the_search(searched):
    search, address = searched
    before = json.loads(fetch(address))["best_trials"][0]
    search.run(trials=1)
    smallest = search.found.feasible()[0]
    assert smallest.number > before["number"]
    until = time.monotonic() + 60
    while True:  # the dashboard keeps the trials for seconds
        study = json.loads(fetch(address))
        if study["trials"][smallest.number]["state"] == "Complete" or time.monotonic() > until:
            break
        time.sleep(0.2)
    assert study["best_trials"] == [study["trials"][smallest.number]]
    assert study["best_trials"][0]["values"] == [smallest.user_attrs["parameters"]] < before["values"]


def test_an_accuracy_that_just_reaches_the_target_is_feasible_and_the_first_of_equals_is_best():
    shown = view(
        finished(0.89, parameters=100, feasible=False),
        finished(0.9, parameters=200, feasible=True),
        finished(0.95, parameters=200, feasible=True),
        finished(0.99, parameters=300, feasible=True),
        finished(0.99, TrialState.PRUNED, parameters=50),
        finished(0.99),  # by another program: nobody knows its parameters
    )
    study = optuna.load_study(study_name="toy", storage=shown)
    assert study.metric_names == ["parameters"] and study.direction == optuna.study.StudyDirection.MINIMIZE
    assert [t.value for t in study.trials] == [100, 200, 200, 300, 50, float("inf")]
    constraints = [t.constraints["0"] for t in study.trials]
    assert constraints[:4] == pytest.approx([0.01, 0, -0.05, -0.09])
    assert constraints[1] <= 0 < min(constraints[4:]), "a pruned trial is not feasible, whatever its last accuracy"
    assert study.best_trial.number == 1
    assert shown.get_trial(study.trials[3]._trial_id).value == 300
    with pytest.raises(KeyError):
        shown.get_trial(99)


def test_without_a_feasible_trial_the_nearest_miss_is_shown():
    shown = view(finished(0.5, parameters=100, feasible=False), finished(0.8, parameters=200, feasible=False))
    number = shown.get_study_id_from_name("toy")
    assert shown.get_best_trial(number).number == 1
    with pytest.raises(ValueError, match="No feasible"):
        optuna.load_study(study_name="toy", storage=shown).best_trial  # noqa: B018
    with pytest.raises(ValueError):
        view().get_best_trial(number)


def test_nothing_can_be_written_through_the_view():
    shown = view()
    writes = {name for name in BaseStorage.__abstractmethods__ if name.startswith(("create", "delete", "set"))}
    assert len(writes) == 10
    for name in writes:
        with pytest.raises(UserError, match="read only"):
            getattr(shown, name)(0, "key", value=1)


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
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
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
