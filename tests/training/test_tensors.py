"""Files of tensors: what was written is read, and whatever else is refused."""

import hashlib
import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from search.training.tensors import Damaged, read, write

TENSORS = {
    "flat": torch.randn(3, 4),
    "half": torch.randn(5).to(torch.bfloat16),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 2),
    "mask": torch.tensor([True, False]),
}
HEADER = {"of": "é", "seeds": "[1, 2]"}


def test_what_was_written_is_read(tmp_path):
    path = write(tmp_path / "w", TENSORS | {"turned": TENSORS["flat"].T}, HEADER)
    header, tensors = read(path)
    assert header == HEADER and tensors.keys() == TENSORS.keys() | {"turned"}
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor)
    assert torch.equal(tensors["turned"], TENSORS["flat"].T)
    again = write(tmp_path / "again", tensors, {**header, "sha256": "of something else"})
    assert read(again)[0] == HEADER


def test_the_digest_is_what_its_description_says(tmp_path):
    write(tmp_path / "w", {"b": torch.arange(3), "a": torch.ones(1, 2)}, {"y": "1", "x": "2"})
    content = (tmp_path / "w").read_bytes()
    stated = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["sha256"]
    named = [[["x", "2"], ["y", "1"]], [["a", "torch.float32", [1, 2]], ["b", "torch.int64", [3]]]]
    data = np.ones(2, "<f4").tobytes() + np.arange(3, dtype="<i8").tobytes()
    assert stated == hashlib.sha256(json.dumps(named).encode() + data).hexdigest()


def test_no_changed_bit_goes_unnoticed(tmp_path):
    """Or it changes nothing: a blank that is another blank."""
    whole, chance = write(tmp_path / "w", TENSORS, HEADER).read_bytes(), random.Random(0)
    path, refused = tmp_path / "damaged", 0
    for bit in chance.sample(range(8 * len(whole)), 600):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            header, tensors = read(path)
        except Damaged as error:
            assert str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert header == HEADER and tensors.keys() == TENSORS.keys()
            assert all(t.dtype == TENSORS[n].dtype and torch.equal(t, TENSORS[n]) for n, t in tensors.items())
    assert refused > 550


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, -1])
def test_files_that_are_cut_off_are_damaged(tmp_path, size):
    path = write(tmp_path / "w", TENSORS, HEADER)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(Damaged):
        read(path)


def test_files_from_before_the_digest_are_known_by_their_header(tmp_path):
    save_file(TENSORS, tmp_path / "w", HEADER)
    assert read(tmp_path / "w", (*HEADER, "digest"))[0] == HEADER
    with pytest.raises(Damaged, match="its digest is missing"):
        read(tmp_path / "w", ["seeds"])


def test_a_file_that_cannot_be_read_is_not_damaged(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(OSError):
            read(path)
