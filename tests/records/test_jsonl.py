"""Files of records: torn lines, full disks, several writers, damaged and hostile content."""

import hashlib
import json
import logging
import multiprocessing
import os
import random
from pathlib import Path

import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import trial

from search.errors import UserError
from search.records import jsonl as journal
from search.records.jsonl import append, read, read_all, repair


@pytest.mark.parametrize("cut", [1, 7, 200, -2])
def test_a_torn_line_is_named_then_moved_aside_and_nothing_else_is_lost(tmp_path, cut, caplog):
    path = tmp_path / "a.jsonl"
    first, second, third = trial(seeds=[1]), trial(seeds=[2]), trial(seeds=[3])
    append(path, first)
    line = second.model_dump_json().encode()
    with open(path, "ab") as stream:
        stream.write(line[:cut])
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: cut off"):
        read(path)
    with caplog.at_level(logging.WARNING):
        append(path, third)
    assert read(path) == [first, third]
    assert (tmp_path / "a.jsonl.torn").read_bytes() == line[:cut] + b"\n"
    assert "moved aside to a.jsonl.torn" in caplog.text


def test_a_record_that_lacks_only_its_line_end_is_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(trial().model_dump_json().encode())
    append(path, trial())
    assert len(read(path)) == 2 and not (tmp_path / "a.jsonl.torn").exists()


def test_empty_lines_count_for_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    line = trial().model_dump_json().encode() + b"\n"
    path.write_bytes(b"\n" + line + b" \t\r\n" + line + b"\n\n")
    assert len(read(path)) == 2
    path.write_bytes(line + b"\n{}\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 3: not a valid record"):
        read(path)


def test_a_long_torn_line_is_moved_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, trial())
    tail = b"x" * 200_000
    with open(path, "ab") as stream:
        stream.write(tail)
    repair(path)
    assert len(read(path)) == 1
    assert (tmp_path / "a.jsonl.torn").read_bytes() == tail + b"\n"
    repair(path)
    repair(tmp_path / "missing.jsonl")
    assert not (tmp_path / "missing.jsonl").exists()


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    append(path, trial())
    before = path.read_bytes()
    write = journal.os.write
    monkeypatch.setattr(journal.os, "write", lambda file, line: write(file, line[:10]))
    with pytest.raises(UserError, match="no space left"):
        append(path, trial())
    assert path.read_bytes() == before


def test_a_line_ends_with_its_checksum(tmp_path):
    path, record = tmp_path / "a.jsonl", trial()
    append(path, record)
    plain = record.model_dump_json().encode()
    checksum = hashlib.sha256(plain).hexdigest()[:16].encode()
    assert path.read_bytes() == plain[:-1] + b',"checksum":"' + checksum + b'"}\n'


def test_a_line_whose_checksum_does_not_fit_is_said_and_left_out(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    for seed in (1, 2, 3):
        append(path, trial(seeds=[seed]))
    first, second, third = path.read_bytes().splitlines()
    for other in (
        second.replace(b'"seeds":[2]', b'"seeds":[5]'),
        second.replace(b'"kind"', b'"kin'),
        second[:-4] + b'x"}',
        second[:-20] + third[-20:],
        second + b" " + third,
    ):
        path.write_bytes(b"\n".join((first, other, third)) + b"\r\n")
        caplog.clear()
        assert [record.seeds for record in read(path)] == [[1], [3]]
        assert caplog.messages == [f"{path}, line 2: damaged (its checksum does not fit), so this record is left out"]


def test_older_lines_have_no_checksum(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    old = trial(seeds=[1])
    path.write_bytes(old.model_dump_json().encode() + b"\n")
    append(path, trial(seeds=[2]))
    assert [record.seeds for record in read(path)] == [[1], [2]] and not caplog.messages


def test_a_tail_that_is_damaged_is_moved_aside(tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, trial(seeds=[1]))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-1].replace(b'"seeds":[1]', b'"seeds":[7]'))
    repair(path)
    assert path.read_bytes() == whole and b'"seeds":[7]' in (tmp_path / "a.jsonl.torn").read_bytes()
    path.write_bytes(whole[:-1])
    repair(path)
    assert path.read_bytes() == whole, "it lacked only its line end"


def test_no_damaged_byte_changes_a_record_unnoticed(tmp_path, caplog):
    path, chance = tmp_path / "a.jsonl", random.Random(0)
    for seed in (1, 2, 3):
        append(path, trial(seeds=[seed]))
    written, whole = read(path), path.read_bytes()
    for _ in range(200):
        content = bytearray(whole)
        content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        caplog.clear()
        try:
            found = read(path)
        except UserError as error:
            assert "line" in str(error)
        else:
            assert found == written or (caplog.messages and all(record in written for record in found))


def _append_many(path: Path, seed: int) -> None:
    for n in range(20):
        append(path, trial(seeds=[seed * 100 + n]))


def test_writers_do_not_mix_their_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(record.seeds[0] for record in read(path)) == sorted(s * 100 + n for s in range(3) for n in range(20))


# ------------------------------------------------------------------------------------------------------ bad files


def test_files_that_are_not_there_or_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="no results directory"):
        read_all(tmp_path / "none")
    with pytest.raises(UserError, match="cannot write"):
        append(tmp_path, trial())
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(UserError, match="cannot read .*x.jsonl: it is no regular file"):
        read_all(tmp_path)
    for write in (lambda path: append(path, trial()), repair):
        with pytest.raises(UserError, match="cannot write to .*x.jsonl: it is no regular file"):
            write(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").unlink()
    (tmp_path / "x.jsonl").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="it is no regular file"):
        read_all(tmp_path)
    (tmp_path / "x.jsonl").unlink()
    append(tmp_path / "elsewhere", trial())
    (tmp_path / "x.jsonl").symlink_to(tmp_path / "elsewhere")
    assert len(read_all(tmp_path)) == 1, "a link to a file is a file"


def test_read_all_takes_files_in_order_of_name(tmp_path):
    append(tmp_path / "b.jsonl", trial(seeds=[2]))
    append(tmp_path / "a.jsonl", trial(seeds=[1]))
    append(tmp_path / "studies" / "c.jsonl", trial(seeds=[3]))
    assert [record.seeds for record in read_all(tmp_path)] == [[1], [2]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "another version"),
        ({"kind": "poem"}, "poem"),
        ({"parameters": 1}, "closed form"),
        ({"surprise": 1}, "surprise"),
        ({"state": "happy"}, "state"),
    ],
)
def test_a_bad_line_is_named(tmp_path, change, message):
    path = tmp_path / "a.jsonl"
    append(path, trial())
    bad = json.loads(trial().model_dump_json()) | change
    path.write_bytes(path.read_bytes() + json.dumps(bad).encode() + b"\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: .*" + message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


VALID = trial().model_dump_json().encode()


@st.composite
def damaged(draw):
    """A valid line with some bytes replaced, removed or put in."""
    line = bytearray(VALID)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(line) - 1))
        line[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(line)


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
trees = st.recursive(
    leaves,
    lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=6), t, max_size=3),
    max_leaves=6,
)
replaced = st.builds(
    lambda key, value: json.dumps(json.loads(VALID) | {key: value}).encode(),
    st.sampled_from(sorted(json.loads(VALID))),
    trees,
)


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | damaged() | replaced, st.booleans())
def test_whatever_a_file_holds_only_usererror_is_raised(tmp_path, content, ended):
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(content + b"\n" * ended)
    try:
        found = read(path)
    except UserError as error:
        assert "fuzz.jsonl, line" in str(error) and "\n" not in str(error)
    else:
        assert all(record.schema_version == 1 for record in found)
    append(path, trial())  # and appending never fails for what stands above


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"9" * 10_000, b'{"kind":"trial","parameters":' + b"9" * 5000 + b"}"]
)
def test_hostile_numbers_and_nesting(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content + b"\n")
    with pytest.raises(UserError):
        read(path)
