"""`wavemix push` and `wavemix pull` against a server on the loopback interface that speaks the Hub's protocol."""

import base64
import hashlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import wavemix as package
from search.report.index import Entry

pytest.importorskip("huggingface_hub")
COMMIT = "a" * 40
ROW = "bars-folder-30-published"


class Hub(http.server.ThreadingHTTPServer):
    """Keeps what is committed to it; `token` is the one it wants."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.token = "hf_right"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self.answer({"error": "no"}, 401)
        if self.path == "/api/repos/create":
            made = json.loads(body)
            name = f"{made['organization']}/{made['name']}"
            self.server.repositories.setdefault(name, {})
            return self.answer({"url": f"{self.server.address}/{name}"})
        _, _, _, owner, name, what, _ = self.path.split("/")
        if what == "preupload":
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repositories[f"{owner}/{name}"][line["value"]["path"]] = content
        self.answer(
            {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.server.address}/{owner}/{name}/commit/{COMMIT}"}
        )

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            name = self.path.removeprefix("/api/models/").partition("?")[0]
            if name not in self.server.repositories:
                return self.answer({"error": "no"}, 404, {"X-Error-Code": "RepoNotFound"})
            return self.answer({"id": name, "sha": COMMIT})
        _, owner, name, *rest = self.path.split("/")
        files = self.server.repositories.get(f"{owner}/{name}")
        if files is None or rest[-1] not in files:
            missing = "RepoNotFound" if files is None else "EntryNotFound"
            return self.answer({"error": "no"}, 404, {"X-Error-Code": missing})
        content = files[rest[-1]]
        self.answer(content, headers={"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def answer(self, content: dict | bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", server.token)
    monkeypatch.setattr("search.records.results.PUBLISHED", tmp_path / "none")
    yield server
    server.shutdown()
    server.server_close()


def test_what_is_pushed_is_pulled_whole_and_loads(hub, results, tmp_path, wavemix):
    assert (
        f"pushed {ROW}: {hub.address}/me/bars/commit/" in wavemix("push", "mine", "me/bars", "--results", results).out
    )
    files = hub.repositories["me/bars"]
    (entry,) = [Entry.model_validate(one) for one in json.loads(files["index.json"])]
    assert set(files) == {"README.md", "index.json", entry.weights.file} and entry.row == ROW
    assert files[entry.weights.file] == (results / "weights" / entry.weights.file).read_bytes()
    assert f"SHA-256 `{hashlib.sha256(files[entry.weights.file]).hexdigest()}`" in files["README.md"].decode()
    said = wavemix("pull", "me/bars", "--results", tmp_path / "mine").out
    path = next(Path(tmp_path).glob("mine/pulled/*/*.safetensors"))
    assert str(path) in said and sorted(p.name for p in path.parent.iterdir()) == sorted(files)
    assert package.load(path, results=tmp_path).classes == ("a", "b", "c", "d")
    path.write_bytes(b"damaged since")
    assert wavemix("pull", "me/bars", "--results", tmp_path / "mine").out == said, "and again, which mends it"
    assert path.read_bytes() == files[entry.weights.file] and len(list(path.parent.parent.iterdir())) == 1


@pytest.mark.parametrize("damage", ["weights", "other network", "index", "path", "missing"])
def test_what_is_not_as_the_index_says_leaves_nothing(hub, results, tmp_path, wavemix, damage):
    wavemix("push", ROW, "me/bars", "--results", results)
    files = hub.repositories["me/bars"]
    (entry,) = json.loads(files["index.json"])
    name, message = entry["weights"]["file"], "SHA-256 differs"
    if damage == "weights":
        files[name] = files[name][:-1] + b"x"
    elif damage == "other network":
        entry["configuration"]["depth"], message = 3, "holds other networks than"
    elif damage == "index":
        del entry["parameters"]
        message = "is not one that `wavemix push` writes (0.parameters: Field required)"
    elif damage == "path":
        entry["weights"]["file"], message = "../../x.safetensors", "is not one that `wavemix push` writes"
    else:
        del files[name]
        message = "lacks a file that `wavemix push` uploads"
    files["index.json"] = json.dumps([entry]).encode()
    said = wavemix("pull", "me/bars", "--results", tmp_path / "mine", code=2).err
    assert message in said and said.count("\n") == 1
    assert [p for p in (tmp_path / "mine").rglob("*") if p.is_file()] == []


def test_each_thing_that_is_missing_is_one_line(hub, results, tmp_path, wavemix, monkeypatch):
    def said(*arguments) -> str:
        line = wavemix(*arguments, "--results", results, code=2).err
        assert line.startswith("wavemix: ") and line.count("\n") == 1
        return line

    assert "there is no such repository, or it is private" in said("pull", "me/nothing")
    assert "a repository is OWNER/NAME" in said("pull", "me/../x")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    line = said("push", "mine", "me/bars")
    assert "the token is missing or refused" in line and "hf_wrong" not in line
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "run `hf auth login`, or set HF_TOKEN" in said("push", "mine", "me/bars")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 can't be reached" in said("pull", "me/bars")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_any")
    assert "http://127.0.0.1:9 can't be reached" in said("push", "mine", "me/bars")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install '.[hub]'" in said("pull", "me/bars") and "pip install '.[hub]'" in said(
        "push", "mine", "me/bars"
    )


def test_what_stands_in_no_row_is_not_pushed(hub, results, tmp_path, wavemix):
    path = next((results / "weights").iterdir())
    said = wavemix("push", path, "me/bars", "--results", tmp_path, code=2).err
    assert "stands in no row of the table" in said and not hub.repositories
