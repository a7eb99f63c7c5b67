"""Examples that are streamed from shards, for data that no disk or memory here holds.

    imagenet-shards/shards.json     {"classes": ["n01440764", …],
                                     "train": {"train-000000.tar": 1251, …}, "test": {"https://…/val-000000.tar": 500}}

Shards are WebDataset's tar files, each with so many samples of an image (jpg, jpeg, png or webp) and its class's number
(cls); or Parquet files, each with so many rows of an encoded image and its class's number, in columns that "image" and
"label" of `shards.json` name (which are called so where it does not), as data sets on the Hugging Face Hub have them:
their library `datasets` reads these. Names are those of files beside `shards.json`, or URLs of http and https, of
Parquet files also of the Hub (hf://datasets/OWNER/NAME/data/train-00000-of-00294.parquet).

Random access there is none: a process shuffles the shards and then what it reads through a buffer. So it depends on the
number of processes and workers which image is in which step, and the rest of an epoch that was interrupted is drawn
anew.
"""

import importlib
import io
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search.errors import UserError

NAME = "shards.json"
BUFFER = 2000  # samples that are shuffled together
# webdataset hands URLs to a shell, and executes those that begin with pipe:
SAFE = re.compile(r"(https?|hf)://[\w.:-]+/[\w./%~+-]*|[\w][\w./+-]*")
PARQUET = ".parquet"


class Listed(BaseModel):
    """What `shards.json` says."""

    model_config = ConfigDict(extra="forbid")
    classes: tuple[str, ...] = Field(min_length=2)
    train: dict[str, int] = Field(min_length=1)
    test: dict[str, int] = Field(min_length=1)
    image: str = "image"
    label: str = "label"

    @property
    def parquet(self) -> bool:
        return all(name.endswith(PARQUET) for name in (*self.train, *self.test))


class Shards:
    """Shards by URL or path, and how many samples each has. Items are read in the order of the shards.

    `columns`: of Parquet files those of images and labels; None of tar files.
    """

    def __init__(self, sizes: Mapping[str, int], columns: tuple[str, str] | None = None):
        self.sizes, self.columns = dict(sizes), columns

    def __len__(self) -> int:
        return sum(self.sizes.values())

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        """By reading all before it in its shard."""
        return next(self.chosen([number]))[1]

    def chosen(self, numbers: Sequence[int]) -> Iterator[tuple[int, tuple[Any, Any]]]:
        """The samples of these numbers, which ascend, each with its number; shards without any are not opened."""
        wanted, first = list(numbers), 0
        for url, size in self.sizes.items():
            here = [number for number in wanted if first <= number < first + size]
            if here:
                found = 0
                for place, sample in enumerate(islice(self._samples([url]), here[-1] - first + 1), first):
                    if place == here[found]:
                        found += 1
                        yield place, _read(sample)
                if found < len(here):
                    raise ValueError(f"{url} has fewer than {size} samples")
            first += size

    def endless(self, seed: int, part: int, parts: int) -> Iterator[tuple[Any, Any]]:
        """Samples in random order, for ever, of one of `parts` readers: of its own shards where there are enough."""
        rng, urls = random.Random(f"{seed} {part}"), list(self.sizes)
        random.Random(seed).shuffle(urls)  # in one order for all parts
        mine = urls[part::parts] or urls
        while True:
            rng.shuffle(mine)
            found = False
            for sample in self._samples(mine, rng):
                found = True
                yield _read(sample)
            if not found:
                raise ValueError(f"{mine[0]} has no samples")

    def divided(self, share: float, seed: int) -> tuple["Shards", "Shards"]:
        """All but some shards, and these: as few as hold a share of the samples."""
        urls, off = list(self.sizes), 0
        random.Random(seed).shuffle(urls)
        while off < len(urls) and sum(self.sizes[url] for url in urls[:off]) < share * len(self):
            off += 1
        if off >= len(urls):
            raise UserError(f"of {len(urls)} training shards none can be kept for validation: make more of them")
        parted = set(urls[:off])
        kept = {url: size for url, size in self.sizes.items() if url not in parted}
        rest = {url: size for url, size in self.sizes.items() if url in parted}
        return Shards(kept, self.columns), Shards(rest, self.columns)

    def _samples(self, urls: list[str], rng: random.Random | None = None) -> Iterator[tuple[bytes, Any]]:
        return _rows(urls, self.columns, rng) if self.columns else _members(urls, rng)


def _members(urls: list[str], rng: random.Random | None = None) -> Iterator[tuple[bytes, bytes]]:
    webdataset: Any = importlib.import_module("webdataset")  # its types are not told

    stages = [webdataset.SimpleShardList(urls), webdataset.tarfile_to_samples()]
    if rng is not None:
        stages.append(webdataset.shuffle(BUFFER, initial=BUFFER // 2, rng=rng))
    return iter(webdataset.DataPipeline(*stages, webdataset.to_tuple("jpg;jpeg;png;webp", "cls")))


def _rows(urls: list[str], columns: tuple[str, str], rng: random.Random | None = None) -> Iterator[tuple[bytes, Any]]:
    """Of Parquet files, whose images are decoded by `_read`."""
    datasets: Any = importlib.import_module("datasets")

    image, label = columns
    rows = datasets.load_dataset("parquet", data_files=urls, split="train", streaming=True)
    if missing := [name for name in columns if name not in (rows.column_names or ())]:
        raise ValueError(f"{urls[0]} has no column {missing[0]!r}, only {', '.join(rows.column_names or ())}")
    rows = rows.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
    if rng is not None:
        rows = rows.shuffle(seed=rng.getrandbits(32), buffer_size=BUFFER)
    for batch in rows.iter(batch_size=1):  # plain iteration would divide the files among a loader's workers once more
        content = batch[image][0]["bytes"]
        if content is None:
            raise ValueError(f"{urls[0]} names its images and does not hold them")
        yield content, batch[label][0]


def _read(sample: tuple[bytes, Any]) -> tuple[Any, int]:
    from PIL import Image

    image = Image.open(io.BytesIO(sample[0]))
    image.load()
    return image, int(sample[1])


def listed(root: Path) -> tuple[Shards, Shards, tuple[str, ...]]:
    """Training and test shards of a folder, and the classes' names. Raises UserError for what `shards.json` must not
    say, and OSError where it is missing."""
    path = root / NAME
    try:
        found = Listed.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    parts, kinds = [], {name.endswith(PARQUET) for name in (*found.train, *found.test)}
    if len(kinds) > 1:
        raise UserError(f"{path}: shards are tar files or Parquet files, not both")
    for sizes in (found.train, found.test):
        for name, size in sizes.items():
            if not SAFE.fullmatch(name) or ".." in name or size < 1 or (name.startswith("hf:") and not found.parquet):
                raise UserError(f"{path}: {name[:80]!r} is no file beside it and no plain URL, or has no samples")
            if "://" not in name and not (root / name).is_file():
                raise UserError(f"{path}: there is no {name} beside it")
        columns = (found.image, found.label) if found.parquet else None
        parts.append(Shards({n if "://" in n else str(root / n): size for n, size in sizes.items()}, columns))
    return parts[0], parts[1], found.classes
