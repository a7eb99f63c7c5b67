"""Files written whole or not at all: what is on the disk when, and what is left where it goes wrong."""

import os
from pathlib import Path

import pytest

from search import files as whole
from search.cli.values import study_name
from search.errors import UserError
from search.files import (
    LONGEST,
    can_name,
    check_text,
    set_aside,
    shortened,
    temporaries,
    temporary_name,
    write_atomically,
)


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


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", ["x", "é", "数", "𠀀"])
def test_a_name_has_so_many_bytes_whatever_its_characters(tmp_path, character):
    count = LONGEST // len(character.encode())
    assert can_name(character * count) and not can_name(character * (count + 1))
    long = shortened(character * 300)
    assert LONGEST - 4 < len(long.encode()) <= LONGEST and long.startswith(character * 40)
    (tmp_path / f".{long}.safetensors.0123456789abcdef.tmp").touch()
    assert shortened(character * 300) == long != shortened(character * 301)
    assert shortened(character * count) == character * count
    with pytest.raises(UserError, match=f"--name is made of .* at most {LONGEST} bytes"):
        study_name("mnist", 0.9, "extended", character * (count + 1))


@pytest.mark.parametrize("folder", ["x" * 255, "数" * 85, "𠀀" * 63])
def test_the_longest_folder_names_a_study(tmp_path, folder):
    (tmp_path / folder).mkdir()
    assert can_name(study_name(str(tmp_path / folder), 0.123456, "extended"))


def test_arguments_that_are_no_text_are_refused():
    check_text(["search", "数/é", ""])
    with pytest.raises(UserError, match=r"^--results=r\\xff is not UTF-8: rename it"):
        check_text(["search", "--results=r\udcff"])


def test_a_results_path_that_is_not_utf8_is_refused_in_one_line(wavemix, tmp_path):
    path = f"{tmp_path}/r\udcff"
    said = wavemix("train", "mnist", "--config", "{}", "--results", path, code=2)
    assert said.err == f"wavemix: {tmp_path}/r\\xff is not UTF-8: rename it, or reach it by another path\n"
