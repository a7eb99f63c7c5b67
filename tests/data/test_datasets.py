"""Readers, folders, archives and what they say about bad input."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pictures import _image, _tree
from PIL import Image

from search.data import archives as archive
from search.data import catalogue
from search.data import class_folders as folder
from search.data import decoded_cache as decoded
from search.data.catalogue import CLASSES, Official, names
from search.data.datasets import CIFAR10_CLASSES, load
from search.data.formats import read_cifar_binary, read_cifar_python, read_idx, unpickle_arrays, unzip_idx, write_idx
from search.data.source import File
from search.data.split import Split, split_validation
from search.errors import UserError

MNIST_TRAIN = "d18cfd466eb143ac"  # first digits of the split's digest
MNIST_TEST = "a0863a96c44e5666"


# --- real data


def test_mnist_is_the_official_data(data_dir: Path) -> None:
    train, test = load("mnist", "train", data_dir), load("mnist", "test", data_dir)
    assert train.images.shape == (60_000, 1, 28, 28) and test.images.shape == (10_000, 1, 28, 28)
    assert (train.label, train.part, train.variant, train.classes) == (
        "MNIST",
        "train",
        "official",
        tuple("0123456789"),
    )
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9] and test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert train.labels.bincount()[:3].tolist() == [5923, 6742, 5958]
    assert train.digest.startswith(MNIST_TRAIN) and test.digest.startswith(MNIST_TEST)
    assert int(train.images[0, 0, 5, 12]) == 3  # the first stroke of the first five: rows and columns are right


def test_fashion_mnist_is_the_official_data(data_dir: Path) -> None:
    train, test = load("fashion-mnist", "train", data_dir), load("fashion-mnist", "test", data_dir)
    assert train.labels.bincount().tolist() == [6000] * 10 and test.labels.bincount().tolist() == [1000] * 10
    assert train.digest.startswith("1f243a60b4b748a4") and train.classes[9] == "Ankle boot"
    assert train.label == "Fashion-MNIST"


def test_jpeg_copy_of_cifar10_says_so_and_is_cached(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load("cifar10-jpeg", "test", data_dir)
    assert (first.label, first.variant) == ("CIFAR-10 (JPEG copy)", "jpeg")
    assert first.images.shape == (10_000, 3, 32, 32) and first.labels.bincount().tolist() == [1000] * 10
    assert first.classes == CIFAR10_CLASSES
    monkeypatch.setattr(folder, "read", lambda *_: pytest.fail("decoded a second time"))
    assert load("cifar10-jpeg", "test", data_dir).digest == first.digest
    red, _, blue = first.images[first.labels == CIFAR10_CLASSES.index("airplane")].float().mean((0, 2, 3))
    assert blue > red  # planes fly in the sky: channels are in order red, green, blue


# --- splits


def _split(count: int = 20) -> Split:
    images = torch.arange(count * 4, dtype=torch.uint8).view(count, 1, 2, 2)
    return Split("x", "X", "train", images, torch.arange(count) % 3, ("a", "b", "c"), "folder")


@given(count=st.integers(1, 19), seed=st.integers(0, 2**31))
@settings(max_examples=examples(50))
def test_validation_and_training_images_make_up_the_split(count: int, seed: int) -> None:
    split = _split()
    train, validation = split_validation(split, count, seed)
    assert len(validation) == count and len(train) == 20 - count
    assert validation.part == "train"
    together = torch.cat([train.images, validation.images])[:, 0, 0, 0]
    assert sorted(together.tolist()) == split.images[:, 0, 0, 0].tolist()
    for piece in (train, validation):
        assert torch.equal(piece.labels, (piece.images[:, 0, 0, 0].long() // 4) % 3)
    assert split_validation(split, count, seed)[1].digest == validation.digest


def test_another_seed_gives_another_validation_set() -> None:
    digests = {split_validation(_split(), 5, seed)[1].digest for seed in range(5)}
    assert len(digests) > 1


@pytest.mark.parametrize("count", [0, -1, 20, 21])
def test_validation_needs_a_sensible_count(count: int) -> None:
    with pytest.raises(UserError, match="choose 1 to 19"):
        split_validation(_split(), count, 0)


def test_digest_depends_on_images_and_labels() -> None:
    split = _split()
    expected = hashlib.sha256(split.images.numpy().tobytes() + split.labels.numpy().tobytes()).hexdigest()
    assert split.digest == expected
    with pytest.raises(ValueError):
        Split("x", "X", "train", split.images.float(), split.labels, ("a",), "folder")
    with pytest.raises(ValueError):
        Split("x", "X", "train", split.images, split.labels[:3], ("a",), "folder")


# --- formats


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)))
def test_idx_round_trip(array: np.ndarray) -> None:
    data = write_idx(array)
    assert np.array_equal(read_idx(data, "x"), array)
    assert unzip_idx(gzip.compress(data), "x") == data and unzip_idx(data, "x") == data


@given(hnp.arrays(np.uint8, (2, 3, 3)), st.data())
@settings(max_examples=examples(100))
def test_damaged_idx_is_refused_or_read_never_crashes(array: np.ndarray, data: st.DataObject) -> None:
    content = bytearray(write_idx(array))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert read_idx(content, "x").nbytes <= len(content)
    except UserError as error:
        assert str(error).startswith("x: ") and "\n" not in str(error)


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=examples(100))
def test_foreign_bytes_as_idx(noise: bytes, zipped: bool) -> None:
    packed = gzip.compress(noise) if zipped else b"\x1f\x8b" + noise
    for read in (lambda: read_idx(noise, "x"), lambda: unzip_idx(packed, "x")):
        try:
            read()
        except UserError as error:
            assert str(error).startswith("x: ")


def test_truncated_or_overlong_gzip_is_refused() -> None:
    data = write_idx(np.zeros((3, 4, 4), np.uint8))
    packed = gzip.compress(data)
    with pytest.raises(UserError, match="damaged gzip"):
        unzip_idx(packed[:-9], "x")
    with pytest.raises(UserError, match="more bytes than its header"):
        unzip_idx(gzip.compress(data + b"!"), "x")
    with pytest.raises(UserError, match="its header announces"):
        read_idx(unzip_idx(gzip.compress(data[:-1]), "x"), "x")


def test_gzip_bomb_is_not_unzipped() -> None:
    bomb = gzip.compress(write_idx(np.zeros(10, np.uint8)) + bytes(300 << 20), compresslevel=1)
    tracemalloc.start()
    with pytest.raises(UserError, match="more bytes than its header"):
        unzip_idx(bomb, "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


@given(images=hnp.arrays(np.uint8, (3, 3, 32, 32)), labels=hnp.arrays(np.uint8, 3, elements=st.integers(0, 9)))
@settings(max_examples=examples(20))
def test_cifar_binary_round_trip(images: np.ndarray, labels: np.ndarray) -> None:
    data = b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))
    read_images, read_labels = read_cifar_binary(data, "x")
    assert np.array_equal(read_images, images) and np.array_equal(read_labels, labels)


@given(st.one_of(st.binary(max_size=100), st.integers(0, 3 * 3073).map(bytes), st.binary(min_size=3073, max_size=3073)))
@settings(max_examples=examples(200))
def test_foreign_bytes_as_cifar(data: bytes) -> None:
    try:
        images, labels = read_cifar_binary(data, "x")
        assert len(data) == 3073 * len(images) and labels.max() <= 9
    except UserError as error:
        assert str(error).startswith("x: ")


def _python_batch(images: np.ndarray, labels: list[int]) -> bytes:
    """As Python 2 pickled them: byte strings for keys."""
    return pickle.dumps({b"data": images.reshape(len(images), -1), b"labels": labels, b"batch_label": b"x"}, 3)


def test_python_batches_give_what_binary_ones_give() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    labels = [3, 1, 9, 0]
    read_images, read_labels = read_cifar_python(_python_batch(images, labels), "x")
    assert np.array_equal(read_images, images) and read_labels.tolist() == labels


def test_python_2_pickles_are_read() -> None:
    """A Python 2 pickle, opcode by opcode: its strings are BINSTRINGs, which Python 3 does not write."""
    raw = bytes(range(6))
    content = (
        b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff"
        b"\xff\xffK\x00tb\x89U\x06" + raw + b"tbs."
    )
    array = unpickle_arrays(content, "x")[b"data"]
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]] and array.dtype == np.uint8


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.float32, np.int64, np.dtype(">i4")]),
        hnp.array_shapes(max_dims=3, max_side=4),
    ),
    st.integers(3, 4),
    st.booleans(),
)
def test_pickled_arrays_come_back(array: np.ndarray, protocol: int, fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    (back,) = unpickle_arrays(pickle.dumps([array], protocol), "x")
    assert back.dtype == array.dtype and back.tobytes() == array.tobytes()


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    malicious = [pickle.dumps(_Runs(target), protocol) for protocol in range(5)]
    malicious += [
        b"cos\nsystem\n(S'touch " + str(target).encode() + b"'\ntR.",
        b"cnumpy.core.multiarray\nexec\n(S'1'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x13core._internal.eval\x93.",
    ]
    for data in malicious:
        with pytest.raises(UserError, match="refused"):
            unpickle_arrays(data, "x")
    assert not target.exists()
    pickle.loads(malicious[0])  # the first does run where nothing guards against it
    assert target.exists()


def test_pickles_that_do_not_fit_are_refused() -> None:
    array = np.zeros((2, 3072), np.uint8)
    good = pickle.dumps(array, 3)
    nested: list = []
    for _ in range(40):
        nested = [nested, nested]
    for data, text in [
        (good.replace(b"K\x02M\x00\x0c", b"K\x03M\x00\x0c"), "does not fit"),
        (pickle.dumps(np.array([object()] * 2), 3), "refused|not admitted"),
        (good[:-20], "not a pickle"),
        (pickle.dumps(nested), "nested too deeply"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "memo place"),  # would allocate 32 GiB
        (b"\x80\x02P1\n.", "PERSID is refused"),
    ]:
        with pytest.raises(UserError, match=text):
            unpickle_arrays(data, "x")
    for batch in (
        {b"data": array},
        {b"data": array, b"labels": [1]},
        {b"data": array, b"labels": [1, 10]},
        {b"data": array, b"labels": ["a", "b"]},
        [1],
        {b"data": 1, b"labels": [2]},
        None,
    ):
        with pytest.raises(UserError, match="not a batch of CIFAR-10"):
            read_cifar_python(pickle.dumps(batch, 3), "x")


# --- official archives, made small


def _official(monkeypatch: pytest.MonkeyPatch, name: str, *layouts: tuple[File, ...]) -> None:
    known = catalogue.OFFICIAL[name]
    monkeypatch.setitem(catalogue.OFFICIAL, name, Official(name, known.label, layouts, known.folders, ()))


def _tar(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as archive_file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive_file.addfile(info, io.BytesIO(content))
    return _md5(path)


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def cifar() -> list[tuple[np.ndarray, list[int]]]:
    """Six tiny batches: five of training, one of test images."""
    rng = np.random.default_rng(1)
    return [(rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 4).tolist()) for _ in range(6)]


def test_every_layout_of_cifar10_gives_the_same_images(
    tmp_path: Path, cifar: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    stems = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
    binary = {
        f"cifar-10-batches-bin/{stem}.bin": b"".join(
            bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True)
        )
        for stem, (images, labels) in zip(stems, cifar, strict=True)
    }
    python = {f"cifar-10-batches-py/{stem}": _python_batch(*batch) for stem, batch in zip(stems, cifar, strict=True)}
    places = [tmp_path / name for name in ("binary", "python", "folder")]
    for place in places:
        place.mkdir()
    for name, content in python.items():
        path = places[2] / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    _official(
        monkeypatch,
        "cifar10",
        (File("cifar-10-binary.tar.gz", _tar(places[0] / "cifar-10-binary.tar.gz", binary)),),
        (File("cifar-10-python.tar.gz", _tar(places[1] / "cifar-10-python.tar.gz", python)),),
        tuple(
            File(stem, _md5(places[2] / "cifar-10-batches-py" / stem), "test" if "test" in stem else "train")
            for stem in stems
        ),
    )
    expected = np.concatenate([images for images, _ in cifar[:5]])
    for place in places:
        train, test = load("cifar10", "train", place), load("cifar10", "test", place)
        assert np.array_equal(train.images.numpy(), expected) and len(test) == 4
        assert train.labels.tolist() == sum((labels for _, labels in cifar[:5]), [])
        assert (train.label, train.variant, train.classes[3]) == ("CIFAR-10", "official", "cat")
    with (places[0] / "cifar-10-binary.tar.gz").open("ab") as stream:
        stream.write(b"!")
    with pytest.raises(UserError, match=r"cifar-10-binary\.tar\.gz: MD5"):
        load("cifar10", "train", places[0])


def test_emnist_is_turned_upright_and_letters_count_from_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(2).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    path = tmp_path / "EMNIST" / "raw" / "gzip.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive_file:
        for part in ("train", "test"):
            for name, array in (
                ("images-idx3", images.transpose(0, 2, 1)),
                ("labels-idx1", np.array([1, 26, 5], np.uint8)),
            ):
                archive_file.writestr(
                    f"gzip/emnist-letters-{part}-{name}-ubyte.gz",
                    gzip.compress(write_idx(np.ascontiguousarray(array))),
                )
    for name in ("emnist-letters", "emnist-digits"):
        _official(monkeypatch, name, (File("gzip.zip", _md5(path)),))
    split = load("emnist-letters", "test", tmp_path)
    assert np.array_equal(split.images[:, 0].numpy(), images)
    assert split.labels.tolist() == [0, 25, 4] and split.classes[25] == "z"
    with pytest.raises(UserError, match="lacks gzip/emnist-digits"):
        load("emnist-digits", "train", tmp_path)


def test_class_counts_of_emnist() -> None:
    counts = {name.removeprefix("emnist-"): len(set(CLASSES[name])) for name in names() if "emnist" in name}
    assert counts == {"balanced": 47, "byclass": 62, "bymerge": 47, "digits": 10, "letters": 26, "mnist": 10}


# --- folders and archives of images


@pytest.fixture
def files() -> dict[str, bytes]:
    return {
        "train/cat/b.png": _image(20),
        "train/cat/a.png": _image(10),
        "train/dog/a.png": _image(30),
        "train/ant/x.PNG": _image(40),
        "test/dog/t.png": _image(50),
        "test/cat/t.png": _image(51),
        "test/ant/t.png": _image(52),
        "notes.txt": b"no image",
        "train/.hidden/a.png": b"",
        "train/dog/._a.png": b"",
        "extra/eel/a.png": _image(60),
    }


def test_folder_and_archives_give_the_same_split(tmp_path: Path, files: dict[str, bytes]) -> None:
    root = _tree(tmp_path / "pets", files)
    sources = [str(root)]
    for suffix, mode in ((".tar.xz", "w:xz"), (".tar.gz", "w:gz"), (".tar", "w")):
        with tarfile.open(tmp_path / f"pets{suffix}", mode) as packed:
            packed.add(root, "." if suffix == ".tar" else "pets")
        sources.append(str(tmp_path / f"pets{suffix}"))
    with zipfile.ZipFile(tmp_path / "pets.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    sources.append(str(tmp_path / "pets.zip"))
    for source in sources:
        train, test = load(source, "train"), load(source, "test")
        assert (train.label, train.variant, train.classes) == ("pets", "folder", ("ant", "cat", "dog"))
        assert train.images.shape == (4, 3, 4, 6)
        assert train.images[:, :, 0, 0].tolist() == [[40, 80, 120], [10, 20, 30], [20, 40, 60], [30, 60, 90]]
        assert train.labels.tolist() == [0, 1, 1, 2]
        assert test.labels.tolist() == [0, 1, 2] and test.classes == train.classes
        assert train.digest == load(sources[0], "train").digest
        told = "left out: extra/, notes.txt beside the class folders, 1 hidden (train/.hidden)"
        assert [line.replace("pets/", "") for line in train.told] == [told]


def test_classes_without_parts_are_the_training_part(tmp_path: Path) -> None:
    root = _tree(
        tmp_path / "x",
        {"a/1.png": _image(1, mode="L"), "b/1.png": _image(2, mode="1"), "b/2.png": _image(3, mode="L")},
    )
    split = load(str(root), "train")
    assert split.images.shape == (3, 1, 4, 6) and split.images[:, 0, 0, 0].tolist() == [1, 255, 3]
    with pytest.raises(UserError, match="no test part"):
        load(str(root), "test")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("x/a/1.png", _image(1))
        packed.writestr("x/b/1.png", _image(1))
    assert load(str(tmp_path / "x.zip"), "train").classes == ("a", "b")
    with pytest.raises(UserError, match="no test part"):
        load(str(tmp_path / "x.zip"), "test")


def test_grey_images_among_coloured_ones(tmp_path: Path) -> None:
    root = _tree(tmp_path, {"a/1.png": _image(7, mode="L"), "b/1.png": _image(2), "b/2.png": _image(9, mode="RGBA")})
    assert load(str(root), "train").images[:, :, 0, 0].tolist() == [[7, 7, 7], [2, 4, 6], [9, 18, 27]]


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_folder_of_palettes_of_greys_has_one_channel(tmp_path: Path, suffix: str) -> None:
    for number, name in enumerate(["a/1", "a/2", "b/1", "b/2"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        grey = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) * 3 + 50 * number)
        grey.convert("RGB").quantize(16).save(tmp_path / f"{name}.{suffix}")
    images = load(str(tmp_path), "train").images
    assert images.shape == (4, 1, 4, 4)
    assert images[1].flatten().tolist() == [50 + 3 * step for step in range(16)]


def _truncated() -> bytes:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()[:-60]


def _transparent() -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", (6, 4), (1, 2, 3, 128)).save(stream, "PNG")
    return stream.getvalue()


def _deep() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 6), 1000, np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def _huge() -> bytes:
    """A PNG of 5,000 x 5,000 pixels in a few bytes."""
    good = bytearray(_image(0, mode="L"))
    import zlib

    header = b"IHDR" + (5_000).to_bytes(4, "big") * 2 + good[24:29]
    return bytes(good[:12]) + header + zlib.crc32(header).to_bytes(4, "big") + bytes(good[33:])


@pytest.mark.parametrize(
    ("odd", "content", "text"),
    [
        ("b/odd.png", _image(1, (6, 5)), r"b/odd\.png is 6 x 5, others are 6 x 4"),
        (
            "a/0.png",
            _image(1, (9, 9)),
            r"a/0\.png is 9 x 9, others are 6 x 4",
        ),  # the first one is the odd one
        ("b/odd.png", b"not an image", r"b/odd\.png: unreadable image"),
        ("b/odd.png", b"", r"b/odd\.png: unreadable image"),
        ("b/odd.jpg", _truncated(), r"b/odd\.jpg: unreadable image"),
        ("b/odd.png", _transparent(), "transparent"),
        ("b/odd.png", _deep(), "16 bits a channel"),
        ("b/odd.png", _huge(), "5000 x 5000 pixels"),
        ("b/odd.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n", "unreadable image"),
        ("b/deeper/odd.png", _image(1), "folder"),
        ("b/odd\nname.png", b"no image", "unreadable image"),
    ],
)
def test_odd_images_are_named(tmp_path: Path, odd: str, content: bytes, text: str) -> None:
    good = {f"{category}/{n}.png": _image(n) for category in "ab" for n in range(1, 4)}
    root = _tree(tmp_path / "x", {**good, odd: content})
    with pytest.raises(UserError, match=text) as caught:
        load(str(root), "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tree", "part", "text"),
    [
        ({}, "train", "no train images"),
        ({"a/1.txt": b""}, "train", r"a/1\.txt: its suffix, \.txt, is none of an image"),
        ({"a/1.png": _image(1)}, "train", "only one class, 'a'"),
        ({"train/a/1.png": _image(1), "train/b/1.png": _image(1)}, "test", "no test part"),
        ({"test/a/1.png": _image(1), "test/b/1.png": _image(1)}, "train", "no train images"),
        (
            {"train/a/1.png": _image(1), "train/b/1.png": _image(1), "test/z/1.png": _image(1)},
            "test",
            "class 'z'",
        ),
        (
            {"train/a/1.png": _image(1), "train/b/1.png": _image(1), "test/a/1.png": _image(1)},
            "test",
            "class 'b' has training images and no test images",
        ),
    ],
)
def test_folders_that_are_no_data_set(tmp_path: Path, tree: dict, part: str, text: str) -> None:
    root = _tree(tmp_path / "x", tree)
    root.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=text):
        load(str(root), part)  # type: ignore[arg-type]


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown data set 'mnits' \(did you mean mnist\?\); known: mnist, fashion"):
        load("mnits", "train")
    with pytest.raises(UserError, match="no such folder or archive"):
        load(str(tmp_path / "missing"), "train")
    with pytest.raises(UserError, match="unknown data set"):
        load("x" * 5000, "train")
    with pytest.raises(UserError, match="'val' is neither"):
        load("mnist", "val")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="cifar10-jpeg cannot be downloaded"):
        load("cifar10-jpeg", "train", tmp_path)


# --- archives with intent


def _tar_bytes(*members: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packed:
        for info in members:
            packed.addfile(info, io.BytesIO(bytes(info.size)) if info.isreg() else None)
    return stream.getvalue()


def _info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (_tar_bytes(_info("../a/1.png")), "leads out"),
        (_tar_bytes(_info("/a/1.png")), "leads out"),
        (_tar_bytes(_info("a/../../1.png")), "leads out"),
        (_tar_bytes(_info("a/1.png", tarfile.SYMTYPE, "/etc/passwd")), "link or a device"),
        (_tar_bytes(_info("a/1.png", tarfile.LNKTYPE, "b/1.png")), "link or a device"),
        (_tar_bytes(_info("a/1.png", tarfile.FIFOTYPE)), "link or a device"),
        (_tar_bytes(_info("a/1.png", size=1000))[:600], "damaged archive .*unexpected end of data"),
        (b"PK\x03\x04 not a zip", "damaged archive"),
        (b"\x1f\x8b not a gzip", "cannot be read|damaged archive"),
        (b"\xfd7zXZ\0 not xz", "damaged archive"),
        (b"BZh9 not bz2", "cannot be read|damaged archive"),
        (b"", "no archive that is read here"),
        (b"anything", "no archive that is read here"),
    ],
)
def test_bad_archives_are_refused(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(UserError, match=text) as caught:
        load(str(path), "train")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_tar_header_of_negative_size_does_not_loop(tmp_path: Path) -> None:
    """CVE-2025-8194: tarfile then goes back in the file for ever."""
    info = _info("a/1.png")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xf0\x00"  # size -4096 in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "x.tar"
    path.write_bytes(_tar_bytes(_info("a/0.png", size=8192))[: 9216 - 512] + bytes(header) + bytes(2048))
    with pytest.raises(UserError):
        list(archive.read_members(path, lambda name: False))


def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tar.xz"
    with tarfile.open(path, "w:xz") as packed:
        for name in ("a/big.bin", "a/1.png"):
            info = _info(name, size=1 << 20)
            packed.addfile(info, io.BytesIO(bytes(info.size)))
    assert [name for name, _ in archive.read_members(path, lambda name: False)] == ["a/big.bin", "a/1.png"]
    with pytest.raises(UserError, match="more than 1,000 are refused"):
        list(archive.read_members(path, lambda name: True, max_member=1000))
    monkeypatch.setattr(archive, "MAX_MEMBERS", 1)
    with pytest.raises(UserError, match="more than 1 members"):
        list(archive.read_members(path, lambda name: False))
    monkeypatch.setattr(archive, "MAX_TOTAL", 100_000)  # skipped content counts as well
    with pytest.raises(UserError, match="more than 100,000 bytes"):
        list(archive.read_members(path, lambda name: False))
    zipped = tmp_path / "x.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/1.png", bytes(1 << 20))
    with pytest.raises(UserError, match="more than 100,000 bytes"):
        list(archive.read_members(zipped, lambda name: False))
    monkeypatch.setattr(folder, "MAX_DECODED", 100)
    with pytest.raises(UserError, match="more than 100 bytes"):
        load(str(_tree(tmp_path / "y", {"a/1.png": _image(1), "b/1.png": _image(1)})), "train")


@given(st.data())
@settings(max_examples=examples(200))
def test_damaged_archives_never_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    suffix = data.draw(st.sampled_from(["", "gz", "xz", "zip"]))
    stream = io.BytesIO()
    if suffix == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("a/1.png", _image(1))
            packed.writestr("b/1.png", _image(2))
    else:
        with tarfile.open(fileobj=stream, mode=f"w:{suffix}") as packed:
            for name in ("a/1.png", "b/" + "long" * 40 + ".png"):
                info = _info(name, size=len(_image(1)))
                packed.addfile(info, io.BytesIO(_image(1)))
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        assert load(str(path), "train").images.shape[1:] == (3, 4, 6)
    except UserError as error:
        assert "\n" not in str(error)


# --- the cache of decoded images


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is worth caching, in a cache of its own."""
    monkeypatch.setenv("WAVEMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded, "FEWEST", 4)
    return _tree(
        tmp_path / "x",
        {f"{part}/{category}/{n}.png": _image(n) for part in ("train", "test") for category in "ab" for n in range(4)},
    )


def test_cache_is_used_and_follows_changes(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(str(many), "train")
    kept = many.parent / "cache" / "decoded"
    assert sorted("-train-" in file.name for file in kept.iterdir()) == [False, True]
    with monkeypatch.context() as patch:
        patch.setattr(folder, "read", lambda *_: pytest.fail("decoded although it was cached"))
        again = load(str(many), "train")
    assert again.digest == first.digest and again.classes == first.classes
    assert load(str(many), "test").part == "test" and len(list(kept.iterdir())) == 2
    (many / "train" / "a" / "0.png").write_bytes(_image(77))
    changed = load(str(many), "train")
    assert changed.images[0, 0, 0, 0] == 77 and changed.digest != first.digest
    assert len(list(kept.iterdir())) == 2  # the files of the former state are gone


def test_a_cache_never_answers_for_other_files(many: Path) -> None:
    """Whatever their times and sizes: images that change places, another one of the same size, a copy elsewhere."""
    first = load(str(many), "train")
    one, other = many / "train/a/0.png", many / "train/b/1.png"
    times = one.stat().st_mtime_ns, other.stat().st_mtime_ns
    one.rename(many / "spare"), other.rename(one), (many / "spare").rename(other)
    for path, time in zip((one, other), times):
        os.utime(path, ns=(time, time))
    swapped = load(str(many), "train")
    assert swapped.images[:, 0, 0, 0].tolist() == [1, 1, 2, 3, 0, 0, 2, 3] and swapped.digest != first.digest
    content, state = bytearray(one.read_bytes()), one.stat()
    one.write_bytes(_image(9))
    assert one.stat().st_size == len(content)
    os.utime(one, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert load(str(many), "train").images[0, 0, 0, 0] == 9


def test_an_archives_cache_goes_by_its_content(many: Path) -> None:
    path = many.parent / "x.tar"
    for value in (3, 4):
        with tarfile.open(path, "w") as packed:
            for name in ("train/a/1", "train/a/2", "train/b/1", "test/a/1", "test/b/1"):
                info = _info(f"{name}.png", size=len(_image(value)))
                packed.addfile(info, io.BytesIO(_image(value)))
        os.utime(path, (1, 1))
        assert load(str(path), "train").images.unique().tolist() == [value, 2 * value, 3 * value]


def test_damaged_cache_is_built_again(many: Path) -> None:
    first = load(str(many), "train")
    file = next((many.parent / "cache" / "decoded").glob("*-train-*"))
    for damage in (b"", b"x" * 100, file.read_bytes()[:-1] + b"\x07"):
        file.write_bytes(damage)
        assert load(str(many), "train").digest == first.digest


def test_without_a_cache_it_works_all_the_same(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = many.parent / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("WAVEMIX_CACHE", str(blocked / "cache"))
    assert len(load(str(many), "train")) == 8
