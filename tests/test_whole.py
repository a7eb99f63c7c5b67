"""Files written whole or not at all: what is on the disk when, and what is left where it goes wrong."""

import os
from pathlib import Path

import pytest

from search import whole
from search.whole import set_aside, temporaries, temporary_name, write_atomically


def test_content_and_name_reach_the_disk_before_it_returns(tmp_path, monkeypatch):
    path, calls = tmp_path / "a", []

    def fsync(file):
        synced = Path(os.readlink(f"/proc/self/fd/{file}"))
        calls.append(("sync", "folder" if synced == tmp_path else synced.read_bytes()))

    replace = os.replace
    monkeypatch.setattr(whole.os, "fsync", fsync)
    monkeypatch.setattr(whole.os, "replace", lambda *paths: calls.append("replace") or replace(*paths))
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    assert write_atomically(path, b"new") == path
    assert calls == [("sync", b"new"), "replace", ("sync", "folder")]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_where_it_goes_wrong_the_old_is_there_and_nothing_else(tmp_path, monkeypatch, step):
    path = write_atomically(tmp_path / "a", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole.os, step, full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_temporary_names_are_nobody_elses(tmp_path, monkeypatch):
    """Process ids are the same in two containers that write to one directory."""
    path = tmp_path / "[a]*"
    monkeypatch.setattr(os, "getpid", lambda: 1)
    names = [temporary_name(path) for _ in range(100)]
    assert len(set(names)) == 100
    for name in names[:2]:
        name.touch()
    temporary_name(tmp_path / "[a]*b").touch()
    assert sorted(temporaries(path)) == sorted(names[:2])


def test_a_file_set_aside_is_said_once(tmp_path, caplog):
    (tmp_path / "a").write_bytes(b"x")
    for _ in range(2):  # as by two processes that have found it
        set_aside(tmp_path / "a", "is damaged")
    assert caplog.messages == [f"{tmp_path / 'a'} is damaged; moved to a.damaged"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.damaged"]


def test_others_may_read_what_is_written(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    assert write_atomically(tmp_path / "a", b"").stat().st_mode == (tmp_path / "plain").stat().st_mode
