"""Archives are read to their very end: one that is damaged is never a smaller data set."""

import gzip
import io
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from scripts.robustness.fuzz_samples import PICTURES, WHOLE, archives
from search.data import archives as archive
from search.data import class_folders as folder
from search.data import decoded_cache as decoded
from search.data.archives import read_members
from search.data.source import PLAIN
from search.errors import UserError


def found(path: Path) -> dict:
    return {part: (a.classes, decoded.digest_of(a.images, a.labels)) for part, a in folder.read(path, PLAIN).items()}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def plain_tar() -> bytes:
    return archives()[2]


@pytest.mark.parametrize("number", range(6))
def test_whole_archives_are_read(tmp_path, number):
    assert found(write(tmp_path / "a", archives()[number])) == WHOLE


@pytest.mark.parametrize("blocks", range(1, 45))
def test_a_tar_cut_anywhere_between_its_members_is_refused(tmp_path, blocks):
    with pytest.raises(UserError, match="its end is missing|Header|truncated|damaged archive"):
        found(write(tmp_path / "a", plain_tar()[: 512 * blocks]))


def test_a_flipped_bit_in_a_header_is_refused(tmp_path):
    content = plain_tar()
    for header in range(0, 2 * 512 * len(PICTURES), 1024):
        for place in (0, 6, 100, 124, 136, 148, 156, 257):
            damaged = bytearray(content)
            damaged[header + place] ^= 1
            with pytest.raises(UserError, match="damaged|no archive|no tar"):
                found(write(tmp_path / "a", bytes(damaged)))


@pytest.mark.parametrize("place", [-1, -4, -5, -8])
def test_a_wrong_checksum_after_the_last_byte_is_refused(tmp_path, place):
    damaged = bytearray(archives()[3])
    damaged[place] ^= 1
    with pytest.raises(UserError, match="CRC|length|cannot be read"):
        found(write(tmp_path / "a", bytes(damaged)))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda tar: tar[: 1024 * len(PICTURES)], "empty header"),
        (lambda tar: tar[: 1024 * len(PICTURES) + 512], "its end is missing"),
        (lambda tar: tar + tar, "something follows its end"),
        (lambda tar: tar[:1024] + bytes(512) + tar[1536:], "something follows its end"),
        (lambda tar: gzip.compress(b"no tar, " * 100), "no tar in it"),
    ],
)
def test_the_end_of_a_tar_is_where_it_says(tmp_path, damage, reason):
    with pytest.raises(UserError, match=reason):
        list(read_members(write(tmp_path / "a", damage(plain_tar())), lambda name: False))


def test_a_member_that_stands_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a", "w") as packed:
        for _ in range(2):
            packed.addfile(tarfile.TarInfo("x/1.png"))
    with pytest.raises(UserError, match="'x/1.png' stands in it twice"):
        list(read_members(tmp_path / "a", lambda name: False))


@pytest.mark.parametrize("start", [b"PAR1", b"MATLAB 5.0 MAT-file".ljust(600), b"\x28\xb5\x2f\xfd", b"\x89HDF", b""])
def test_what_is_no_archive_is_not_called_damaged(tmp_path, start):
    with pytest.raises(UserError, match="is no archive that is read here .tar, .* and zip.: turn it into a folder"):
        list(read_members(write(tmp_path / "a", start + bytes(start != b"") * 300), lambda name: False))


def bomb(path: Path, edge: int, count: int) -> Path:
    """A zip of `count` white images in each of two classes, which are far larger than it."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("1", (edge, edge), 1).save(out, "PNG")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for category in "ab":
            for number in range(count):
                packed.writestr(f"{category}/{number}.png", out.getvalue())
    return path


def test_small_archives_of_huge_images_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FREE", 2 << 20)
    path = bomb(tmp_path / "a.zip", 1000, 40)
    limit = max(archive.FREE, archive.MAX_RATIO * path.stat().st_size)
    assert limit < 80_000_000, "what the images have"
    tracemalloc.start()
    with pytest.raises(UserError, match="bytes in memory, refused; --resize makes less"):
        folder.read(path, PLAIN)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < limit + (5 << 20)


def test_small_archives_of_many_bytes_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FREE", 1 << 20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/1.bmp", bytes(4 << 20))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as packed:
        info = tarfile.TarInfo("a/1.bmp")
        info.size = 4 << 20
        packed.addfile(info, io.BytesIO(bytes(info.size)))
    for name in ("a.zip", "a.tar.gz"):
        with pytest.raises(UserError, match="to more than 1,048,576 bytes, refused"):
            list(read_members(tmp_path / name, lambda name: False))
