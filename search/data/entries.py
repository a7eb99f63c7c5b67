"""Which files of a folder or archive are images, of which part and class, and what is left out of it.

Class folders lie in the folder itself, or in its parts `train/`, `test/` and `val/`; classes are the training part's.
"""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from search.data import pixels
from search.data.archives import read_members
from search.errors import UserError, present

PARTS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
# What systems and editors leave behind: nobody misses it.
JUNK = {
    ".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", ".gitkeep", ".gitignore",
    ".keep", ".git", ".nomedia", ".directory", ".picasa.ini", ".ipynb_checkpoints", ".cache", ".idea", ".vscode",
}  # fmt: skip
LAYOUT = "images must lie in <class>/, or in train/<class>/ and test/<class>/"


@dataclass(frozen=True)
class Entry:
    """A file or folder by its path in the whole; `problem` says why it can't be read, `path` is where (or None)."""

    name: str
    folder: bool = False
    problem: str = ""
    path: Path | None = None


@dataclass(frozen=True)
class ImageFile:
    """One image: its class, what errors call it, and where it is read; None in an archive."""

    category: str
    name: str
    path: Path | None = None


@dataclass(frozen=True)
class Contents:
    """The images of a folder or archive, `where`, by part ("train", "validation", "test"), ordered by class and name.

    Attributes:
        folders: part -> what its folder is called; "" where there are no parts, and all is for training.
        categories: part -> the names of its class folders, also of empty ones.
        unreadable: (name, reason) of what can't be read as an image.
        aside: what lies beside the class folders.
        hidden: files and folders whose names begin with a dot.
    """

    where: str
    parts: dict[str, list[ImageFile]] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    categories: dict[str, set[str]] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    aside: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)

    @property
    def images(self) -> list[ImageFile]:
        return [image for images in self.parts.values() for image in images]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({image.category for image in self.parts["train"]}))

    def without(self, unreadable: Sequence[tuple[str, str]]) -> "Contents":
        """These contents, when some of its images turn out to be unreadable."""
        gone = {name for name, _ in unreadable}
        parts = {part: [image for image in images if image.name not in gone] for part, images in self.parts.items()}
        return replace(self, parts=parts, unreadable=[*self.unreadable, *unreadable])

    def check(self, skip: bool) -> None:
        """Raise UserError for what is no data set; with `skip`, not for entries that can't be read or empty classes."""
        if self.unreadable and not skip:
            name, reason = self.unreadable[0]
            more = f" (one of {len(self.unreadable)} entries that can't be read)" if len(self.unreadable) > 1 else ""
            raise UserError(f"{self.where}: {name}: {reason}{more}; --skip-unreadable leaves them out")
        classes = set(self.classes)
        if not classes:
            suffixes = ", ".join(pixels.SUFFIXES[:3])
            raise UserError(f"{self.where}: no train images found; {LAYOUT} and end in {suffixes}, …")
        for part, images in self.parts.items():
            filled, kind = {image.category for image in images}, {"train": "training"}.get(part, part)
            if part == "train" and not skip and (empty := sorted(self.categories[part] - filled)):
                raise UserError(
                    f"{self.where}: class {empty[0]!r} has no training images: put some into its folder, remove it, "
                    "or leave it out by --skip-unreadable"
                )
            if strange := sorted((filled if skip else self.categories[part]) - classes):
                raise UserError(f"{self.where}: class {strange[0]!r} has {kind} images and no training images")
            if missing := sorted(classes - filled):
                raise UserError(
                    f"{self.where}: class {missing[0]!r} has training images and no {kind} images: put some into "
                    f"{self.folders[part]}/{missing[0]}/, an accuracy without them would be of the other classes alone"
                )
        if len(classes) < 2:
            raise UserError(f"{self.where}: only one class, {min(classes)!r}; a data set needs two class folders")

    @property
    def left_out(self) -> str:
        """What is not read, in one line; nothing where all of it is."""
        parts = []
        if self.unreadable:
            names = [name for name, _ in self.unreadable]
            parts.append(f"{len(names):,} that can't be read ({_some(names)})")
        if empty := sorted(set().union(*self.categories.values()) - set(self.classes)):
            parts.append(f"class folders without images ({_some(empty)})")
        if self.aside:
            parts.append(f"{_some(sorted(self.aside))} beside the class folders")
        if self.hidden:
            parts.append(f"{len(self.hidden):,} hidden ({_some(sorted(self.hidden))})")
        return f"left out: {', '.join(parts)}" if parts else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(name if name.isprintable() else repr(name) for name in names[:3]) + ", …" * (len(names) > 3)


def contents_of(path: Path) -> Contents:
    """What a folder or archive holds. Raises UserError where it can't be listed, or is laid out in no known way."""
    if path.is_file():
        names = (name for name, _ in read_members(path, lambda name: False))
        return _arranged((Entry(name.rstrip("/"), name.endswith("/")) for name in names), str(path), wrapped=True)
    try:
        return _arranged(_walked(path), str(path))
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read ({error.strerror})") from error


def _walked(root: Path) -> Iterator[Entry]:
    """The entries of a folder, as deep as class folders may lie: beside parts nothing is looked into."""
    tops = _scanned(root, "")
    yield from tops
    tops = [top for top in tops if top.folder and not _passed_over(top.name)]
    inside = {top.name: _scanned(present(top.path), f"{top.name}/") for top in tops if top.name.casefold() in PARTS}
    parts = any(entry.folder for entries in inside.values() for entry in entries)
    for top in tops:
        if not parts or top.name in inside:
            entries = inside.get(top.name) or _scanned(present(top.path), f"{top.name}/")
            yield from entries
            for entry in entries:
                if parts and entry.folder and not _passed_over(entry.name.rpartition("/")[2]):
                    yield from _scanned(present(entry.path), f"{entry.name}/")


def _scanned(folder: Path, prefix: str) -> list[Entry]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            problem = ""
            if not entry.is_dir() and not entry.is_file():
                problem = "it is a link to nothing" if entry.is_symlink() else "it is no plain file"
            found.append(Entry(prefix + entry.name, entry.is_dir(), problem, Path(entry.path)))
    return sorted(found, key=lambda entry: entry.name)


def _passed_over(word: str) -> bool:
    return word.startswith(".") or word.casefold() in JUNK


Kept = list[tuple[list[str], Entry]]  # entries, with the words of their paths


def _arranged(entries: Iterable[Entry], where: str, wrapped: bool = False) -> Contents:
    """`wrapped`: all of it may lie in one more folder, as in most archives."""
    contents, kept = Contents(where), []
    for entry in entries:
        words = entry.name.split("/")
        passed = [number for number, word in enumerate(words) if _passed_over(word)]
        if not passed:
            kept.append((words, entry))
        elif not any(word.casefold() in JUNK or word.startswith("._") for word in words):
            contents.hidden.add("/".join(words[: passed[0] + 1]))
    while wrapped and (inner := _unwrapped(kept)):
        kept = inner
    named = _named(kept, where)
    contents.folders.update({part: top for top, part in named.items()} or {"train": ""})
    for part in sorted(contents.folders, key=["train", "validation", "test"].index):
        contents.parts[part], contents.categories[part] = [], set()
    for words, entry in kept:
        if not named:
            _put(contents, "train", words, entry)
        elif words[0] not in named:
            contents.aside.add(words[0] + "/" * (entry.folder or len(words) > 1))
        elif words[1:]:
            _put(contents, named[words[0]], words[1:], entry)
    for part in [part for part in contents.parts if part != "train" and not contents.categories[part]]:
        del contents.parts[part]  # an empty folder
    for images in contents.parts.values():
        images.sort(key=lambda image: (image.category, image.name))
    contents.parts.setdefault("train", [])
    return contents


def _unwrapped(kept: Kept) -> Kept:
    """Without the one folder that holds all class folders or parts; nothing where there is no such folder."""
    tops = {words[0] for words, entry in kept if entry.folder or words[1:]}
    deep = any(words[2:] or entry.folder and words[1:] for words, entry in kept)
    if len(tops) != 1 or not deep or next(iter(tops)).casefold() in PARTS:
        return []
    return [(words[1:] or words, entry) for words, entry in kept if not (entry.folder and words[1:] == [])]


def _named(kept: Kept, where: str) -> dict[str, str]:
    """The folders that are parts, and which; none where class folders lie in the whole."""
    deep: dict[str, bool] = {}  # the folders at the top: whether there are folders in them
    for words, entry in kept:
        if entry.folder or words[1:]:
            inside = bool(words[2:]) or entry.folder and bool(words[1:])
            deep[words[0]] = deep.get(words[0], False) or inside
    named = {top: PARTS[top.casefold()] for top in sorted(deep) if top.casefold() in PARTS}
    if named and not any(deep[top] for top in named):
        if len(named) == 1 and len(deep) > 1:  # a class: pictures of trains, say
            return {}
        raise UserError(f"{where}: there are no class folders in {' and '.join(f'{top}/' for top in named)}; {LAYOUT}")
    for top, part in named.items():
        if twin := next((other for other in named if other != top and named[other] == part), None):
            raise UserError(f"{where}: both {top}/ and {twin}/ could be its {part} part; rename or remove one")
    return named


def _put(contents: Contents, part: str, words: list[str], entry: Entry) -> None:
    """Sort an entry of a part in; `words` lead from the part to it."""
    category, *inner = (unicodedata.normalize("NFC", word) for word in words)
    is_image = entry.name.lower().endswith(pixels.SUFFIXES)
    if not inner and not entry.folder:
        if entry.problem or is_image:
            contents.unreadable.append((entry.name, entry.problem or f"it lies in no class folder; {LAYOUT}"))
        else:
            contents.aside.add(entry.name)
        return
    if len(inner) > 1 or inner and entry.folder:
        raise UserError(
            f"{contents.where}: {'/'.join(words[:2])} is a folder inside the class folder {category!r}: images must "
            "lie directly in class folders; name the folder which holds these"
        )
    try:
        category.encode()
    except UnicodeEncodeError:
        raise UserError(f"{contents.where}: the class folder {category!r} is not named in UTF-8; rename it") from None
    contents.categories[part].add(category)
    if entry.problem or inner and not is_image:
        suffix = os.path.splitext(entry.name)[1]
        what = f"its suffix, {suffix}, is none of an image" if suffix else "its name has no image's suffix"
        reason = entry.problem or f"{what} that is read ({', '.join(pixels.SUFFIXES)})"
        contents.unreadable.append((entry.name, reason))
    elif inner:
        contents.parts[part].append(ImageFile(category, entry.name, entry.path))
