"""What is taken for an image of which part and class, what is left out, and what is said about it."""

import os
import unicodedata
import zipfile
from pathlib import Path

import pytest
from pictures import _image, _tree

from search.data.datasets import check_test, load
from search.data.entries import contents_of
from search.data.source import Reading, Source
from search.data.split import split_validation
from search.errors import UserError

SKIP = Reading(skip_unreadable=True)


def tree(root: Path, classes: str = "ab", parts: tuple[str, ...] = ("train", "test"), **more: bytes) -> Path:
    """Three images a class of each part, all different, and `more` files ("/" is "__" in their names)."""
    files = {
        f"{part}/{category}/{number}.png": _image(40 * at + 7 * number + ord(category) - 97)
        for at, part in enumerate(parts) for category in classes for number in range(3)
    }  # fmt: skip
    return _tree(root, files | {name.replace("__", "/"): content for name, content in more.items()})


def zipped(root: Path, path: Path, separator: str = "/") -> Path:
    """The same in an archive, with its folders as entries."""
    with zipfile.ZipFile(path, "w") as packed:
        for place in sorted(root.rglob("*")):
            info = zipfile.ZipInfo("x")
            info.filename = str(place.relative_to(root)).replace("/", separator) + separator * place.is_dir()
            packed.writestr(info, b"" if place.is_dir() else place.read_bytes())
    return path


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize(
    ("name", "reason", "left"),
    [
        ("train/b/x.avif", r"train/b/x\.avif: its suffix, \.avif, is none of an image", "1 that can't be read"),
        ("train/b/x", r"train/b/x: its name has no image's suffix", "1 that can't be read"),
        ("train/b/x.png", r"train/b/x\.png: unreadable image", "1 that can't be read"),
        ("test/b/x.png", r"test/b/x\.png: unreadable image", "1 that can't be read"),
        ("train/x.png", r"train/x\.png: it lies in no class folder", "1 that can't be read"),
        ("train/c/", "class 'c' has no training images", "class folders without images (c)"),
        ("test/c/", "class 'c' has test images and no training images", "class folders without images (c)"),
    ],
)
def test_what_cannot_be_read_is_named_or_left_out_when_asked(tmp_path, archived, name, reason, left):
    root = tree(tmp_path / "x")
    if name.endswith("/"):
        (root / name).mkdir()
    else:
        (root / name).write_bytes(b"no image")
    place = str(zipped(root, tmp_path / "x.zip") if archived else root)
    for part in ("train", "test"):
        with pytest.raises(UserError, match=reason):
            load(place, part)
    split = load(Source(place, SKIP), "train")
    assert split.labels.tolist() == [0, 0, 0, 1, 1, 1] and left in split.told[0]
    assert split.skipped == ("can't be read" in left)


def test_links_to_nothing_and_pipes_are_named(tmp_path):
    root = tree(tmp_path / "x")
    (root / "train/b/9.png").symlink_to("../../.git/annex/objects/9.png")
    with pytest.raises(UserError, match=r"train/b/9\.png: it is a link to nothing"):
        load(str(root), "train")
    (root / "train/b/9.png").unlink()
    os.mkfifo(root / "train/a/pipe.png")
    with pytest.raises(UserError, match=r"train/a/pipe\.png: it is no plain file"):
        load(str(root), "train")


def test_all_entries_that_cannot_be_read_are_counted(tmp_path):
    root = tree(tmp_path / "x", **{f"train__b__{number}.heic": b"" for number in range(19)})
    with pytest.raises(UserError, match="one of 19 entries that can't be read"):
        load(str(root), "train")
    assert load(Source(str(root), SKIP), "train").skipped == 19


def test_what_systems_leave_behind_is_no_entry_and_hidden_files_are_counted(tmp_path):
    junk = ["Thumbs.db", "train/.DS_Store", "train/a/.DS_Store", "train/a/._1.png", "train/a/desktop.ini"]
    root = tree(tmp_path / "x", **{name.replace("/", "__"): b"" for name in junk})
    assert load(str(root), "train").told == ()
    (root / "train/a/.secret.png").write_bytes(_image(1))
    assert load(str(root), "train").told == ("left out: 1 hidden (train/a/.secret.png)",)


def test_empty_classes_that_are_none_of_the_other_parts_go(tmp_path):
    root = tree(tmp_path / "x", "abc")
    for path in (root / "train/c").iterdir():
        path.unlink()
    for reading in (Reading(), SKIP):
        with pytest.raises(UserError, match="class 'c' has"):
            load(Source(str(root), reading), "train")


@pytest.mark.parametrize("train", ["Train", "TRAIN", "training"])
@pytest.mark.parametrize("test", ["Test", "testing"])
def test_parts_have_other_names(tmp_path, train, test):
    root = tree(tmp_path / "x", parts=(train, test))
    assert len(load(str(root), "train")) == 6 and load(str(root), "test").classes == ("a", "b")
    (root / "train").mkdir(exist_ok=True)
    if train != "TRAIN" or os.path.realpath(root / "train") != os.path.realpath(root / train):
        with pytest.raises(UserError, match="could be its train part"):
            load(str(root), "train")


def test_a_class_may_be_called_train(tmp_path):
    root = _tree(tmp_path / "x", {f"{name}/1.png": _image(n) for n, name in enumerate(("car", "plane", "train"))})
    assert load(str(root), "train").classes == ("car", "plane", "train")
    flat = _tree(tmp_path / "y", {f"{part}/{n}.png": _image(n) for part in ("train", "test") for n in range(3)})
    with pytest.raises(UserError, match="there are no class folders in test/ and train/"):
        load(str(flat), "train")


def test_both_normal_forms_of_a_name_are_one_class(tmp_path):
    root = tree(tmp_path / "x", "a")
    for part, form in (("train", "NFD"), ("test", "NFC")):
        (root / part / "a").rename(root / part / unicodedata.normalize(form, "café"))
        _tree(root, {f"{part}/tea/1.png": _image(90 + len(part))})
    assert load(str(root), "test").classes == ("caf\u00e9", "tea")
    assert load(str(zipped(root, tmp_path / "x.zip")), "train").classes == ("caf\u00e9", "tea")


@pytest.mark.parametrize("names", [("[a]", "a b"), ("a\nb", "-x"), ("日本", "é'\"")])
def test_classes_of_any_name(tmp_path, names):
    parts = ("train", 0), ("test", 9)
    root = _tree(tmp_path, {f"{part}/{c}/1.png": _image(n + more) for part, more in parts for n, c in enumerate(names)})
    assert load(str(root), "train").classes == tuple(sorted(names))


def test_names_that_are_not_utf_8_are_refused(tmp_path):
    root = tree(tmp_path / "x")
    os.rename(root / "train/b", os.fsencode(root / "train") + b"/\xff")
    with pytest.raises(UserError, match=r"'\\udcff' is not named in UTF-8"):
        load(str(root), "train")


def test_windows_archives_are_read(tmp_path):
    root = tree(tmp_path / "x")
    path = zipped(root, tmp_path / "x.zip", "\\")
    assert load(str(path), "test").digest == load(str(root), "test").digest


def test_archives_lie_in_folders(tmp_path):
    root = tree(tmp_path / "x" / "home" / "pets").parents[1]
    _tree(root, {"home/README.txt": b"pets"})
    (root / "home" / "pets" / "LICENSE").write_bytes(b"free")
    split = load(str(zipped(root, tmp_path / "x.zip")), "train")
    assert len(split) == 6 and split.told == ("left out: LICENSE, README.txt beside the class folders",)


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_a_validation_part_is_used_as_one(tmp_path, name):
    root = tree(tmp_path / "x", parts=("train", "test", name))
    split = load(str(root), "train")
    assert (len(split), split.validation) == (12, 6)
    assert split.told == (f"6 images are for validation, those of {name}/",)
    train, validation = split_validation(split, 5, 0)
    alone = tree(tmp_path / "y")
    assert train.digest == load(str(alone), "train").digest and len(validation) == 6
    assert validation.images[:, 0, 0, 0].tolist() == [80, 87, 94, 81, 88, 95]
    (root / name / "b" / "0.png").unlink()
    for path in (root / name / "b").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="class 'b' has training images and no validation images"):
        load(str(root), "train")


@pytest.mark.parametrize("archived", [False, True])
def test_a_test_part_is_split_off_by_content(tmp_path, archived):
    files = {f"{c}/{n}.png": _image(20 * n + "ab".index(c)) for c in "ab" for n in range(10)}
    root = _tree(tmp_path / "x", files | {"a/twin.png": _image(40)})
    place = str(zipped(root, tmp_path / "x.zip") if archived else root)
    with pytest.raises(UserError, match="or split one off by --test-split 0.2"):
        load(place, "test")
    source = Source(place, Reading(test_split=0.3))
    train, test = load(source, "train"), load(source, "test")
    assert len(train) + len(test) == 21 and test.labels.bincount().tolist() in ([3, 3], [4, 3])
    lines = check_test(train)
    assert not any("warning" in line for line in lines), "no image is on both sides"
    assert any("0.3 of each class, are split off as the test part" in line for line in lines)
    # other names and sizes don't change which images they are
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        path.rename(path.with_name(f"renamed{number:02}.png"))
    small = load(Source(str(root), Reading(test_split=0.3, resize=(2, 3))), "test")
    assert sorted(small.images[:, 0, 0, 0].tolist()) == sorted(test.images[:, 0, 0, 0].tolist())
    with pytest.raises(UserError, match="leaves class 'a' no training images"):
        load(Source(str(root), Reading(test_split=0.99)), "train")
    with pytest.raises(UserError, match="it has a test part, test/: leave --test-split out"):
        load(Source(str(tree(tmp_path / "y")), Reading(test_split=0.3)), "train")


def test_images_of_several_sizes_are_resized(tmp_path):
    root = tree(tmp_path / "x")
    (root / "test/b/9.png").write_bytes(_image(200, (9, 3)))
    with pytest.raises(UserError, match=r"test/b/9\.png is 9 x 3, others are 6 x 4; .* --resize 4,6"):
        load(str(root), "train")
    source = Source(str(root), Reading(resize=(4, 6)))
    train, test = load(source, "train"), load(source, "test")
    assert test.images.shape == (7, 3, 4, 6) and train.label == "x 6x4"
    assert train.images[:, 0, 0, 0].tolist() == load(str(tree(tmp_path / "y")), "train").images[:, 0, 0, 0].tolist()


def test_channels_are_those_of_all_parts(tmp_path):
    root = _tree(tmp_path / "x", {f"train/{c}/1.png": _image(n, mode="L") for n, c in enumerate("ab")})
    _tree(root, {"test/a/1.png": _image(9), "test/b/1.png": _image(8, mode="L")})
    assert load(str(root), "train").images.shape[1] == load(str(root), "test").images.shape[1] == 3


def test_what_a_confirmation_would_refuse_is_found_before(tmp_path):
    root = tree(tmp_path / "x")
    (line,) = check_test(load(str(root), "train"))
    assert line == "x: 6 training and 6 test images of 2 classes, 6 x 4 pixels, colour"
    (root / "test/a/same.png").write_bytes((root / "train/a/0.png").read_bytes())
    assert check_test(load(str(root), "train"))[1:] == ["warning: 1 of the 7 test images are training images, too"]
    (root / "test/a/broken.png").write_bytes(_image(3)[:-40])
    with pytest.raises(UserError, match=r"test/a/broken\.png: unreadable"):
        load(str(root), "train")
    for path in (root / "test").rglob("*.png"):
        path.unlink()
    _tree(root, {f"test/{c}/1.png": (root / f"train/{c}/1.png").read_bytes() for c in "ab"})
    with pytest.raises(UserError, match="all test images of x are training images, too"):
        check_test(load(str(root), "train"))


def test_only_folders_are_read_in_other_ways():
    with pytest.raises(UserError, match="mnist is read as it is"):
        load(Source("mnist", Reading(resize=(8, 8))), "train")


def test_a_look_at_a_folder_goes_no_deeper_than_it_must(tmp_path):
    root = tree(tmp_path / "x")
    (root / "other" / "deep").mkdir(parents=True)
    (root / "other" / "deep").chmod(0)
    assert contents_of(root).aside == {"other/"}
