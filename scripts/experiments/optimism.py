"""What a figure gains where the best epoch is reported, or the mean of batches: writes `results/pages/optimism.md`.

    python -m scripts.experiments.optimism [--results DIR] [--check]
    python -m scripts.experiments.optimism --test DATA_DIR

The first part is of every recorded curve of a trial, on its validation images; the test set is not looked at. The
second is of stored networks: `--test` classifies the test images once more with the first seed of each of up to 10,000
parameters, as its confirmation did at its last epoch, and writes what came out to `records/batch-means.json`, from
where the page takes it. `--check` only compares the page with the records; exit code 1 where they differ.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scripts.benchmarks.harness import ROOT, ended
from search.errors import UserError
from search.files import write_atomically
from search.records.jsonl import Record, read
from search.records.models import Trial, label
from search.records.results import Results

PAGE, MEANS = Path("pages/optimism.md"), Path("records/batch-means.json")
BATCH = 512  # upstream's
LARGEST = 10_000  # parameters of a network that is tested once more: minutes on one core


class Curve(NamedTuple):
    """The accuracies of one seed after each epoch, and what they are of."""

    data: str
    accuracies: tuple[float, ...]
    images: int  # that they are of

    @property
    def gain(self) -> float:
        """The best epoch's accuracy less the last one's, in points of a per cent."""
        return 100 * (max(self.accuracies) - self.accuracies[-1])

    @property
    def half(self) -> "Curve":
        """The same training, had it ended half-way, where the learning rate is high."""
        return self._replace(accuracies=self.accuracies[: len(self.accuracies) // 2])


def curves(records: Iterable[Record]) -> list[Curve]:
    """Of all completed trials the seeds that were judged after every epoch, two epochs or more."""
    found = []
    for trial in records:
        # of an mIoU and of decibels a point is another thing, and has another standard error
        if not isinstance(trial, Trial) or trial.state != "complete" or trial.config.task != "classification":
            continue
        for curve in trial.curves:
            values = tuple(point.accuracy for point in curve if point.accuracy is not None)
            if len(values) == len(curve) > 1:
                found.append(Curve(label(trial.dataset), values, trial.dataset.validation_count))
    return found


def few(results: Path) -> list[Record]:
    """Trainings on few images, judged on all others; `fit.jsonl` beside them holds no records of that kind."""
    folder = results / "records/apart/few-images"
    return [record for path in sorted(folder.glob("*.jsonl")) if path.stem != "fit" for record in read(path)]


def claims(records: Iterable[Record]) -> tuple[int, int, int]:
    """How many completed trials have curves, how many reach their target at the last epoch, and by each seed's best."""
    last = best = total = 0
    for trial in records:
        mine = curves([trial])
        if isinstance(trial, Trial) and mine:
            total += 1
            last += float(np.mean([curve.accuracies[-1] for curve in mine])) >= trial.target
            best += float(np.mean([max(curve.accuracies) for curve in mine])) >= trial.target
    return total, last, best


def line(name: str, of: Sequence[Curve]) -> str:
    """A row of the page's table."""
    gains = np.array([curve.gain for curve in of])
    error = np.mean([100 * np.sqrt(c.accuracies[-1] * (1 - c.accuracies[-1]) / c.images) for c in of])
    share = np.mean(gains > 0)
    cells = (
        name, f"{len(of)}", f"{100 * share:.0f} %", f"{gains.mean():.2f}", f"{np.median(gains):.2f}",
        f"{np.quantile(gains, 0.95):.2f}", f"{gains.max():.2f}", f"{error:.2f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


HEAD = """\
| curves of | number | best is not the last | mean | median | 95 % below | largest | standard error |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


TEXT = """\
# What the best epoch would have claimed

**On average {gain:.2f} points of accuracy more than the last epoch, where the learning rate ends at zero, and
{half:.2f} where a training is judged half-way.** Upstream reports the best epoch on the test set
(`wavemix audit --protocol`). We test once, at the last epoch, and look at no test image before. What the other way
would add can be measured on validation images, whose accuracy is recorded after every epoch.

**The figures below are no evidence for any network.** They say how far a figure that was chosen in this way lies above
one that was not. They are written from the records by `python -m scripts.experiments.optimism`; with `--check` it
compares.

## Best epoch less last epoch

The same seed and the same images, in points of a per cent. Standard error: of an accuracy on that many images, as a
scale.

{head}
{groups}

Of {trials} trials {last} reach their target with the mean of their last epochs, {best} with the mean of their seeds'
best ones.

## Half-way through a training

Our trainings end with a learning rate of zero, so their last epochs hardly differ. Upstream's rate is constant until
nothing improves for a number of epochs. Nearer to that are the first halves of the {count} curves of 12 epochs or more:

{head}
{halves}
"""
MEANS_TEXT = """
## Mean of batch means

Upstream averages over batches, where a smaller last one weighs as much. Here the test images are classified by
{count} stored networks (the first seed of each of up to {largest:,} parameters), in the order of the file and in
batches of {batch}, the last of {rest}. The mean of the batches is {low:+.2f} to {high:+.2f} points from the accuracy,
{mean:+.2f} on average: which way depends on the images that come last in the file.

| data set | networks | mean difference | smallest | largest |
| --- | ---: | ---: | ---: | ---: |
{rows}
"""
LENGTHS = {"up to 11 epochs": (2, 11), "12 to 23 epochs": (12, 23), "24 epochs and more": (24, 10**9)}


def page(records: Sequence[Record], apart: Sequence[Record], means: Sequence[dict]) -> str:
    """The page as Markdown."""
    main, other = curves(records), curves(apart)
    if not main:
        raise UserError("the records hold no curve of a trial")
    long = [curve for curve in main if len(curve.accuracies) >= 12]
    halves = [curve.half for curve in long]
    groups = {"all": main} | {name: [c for c in main if c.data == name] for name in sorted({c.data for c in main})}
    groups |= {name: [c for c in main if low <= len(c.accuracies) <= high] for name, (low, high) in LENGTHS.items()}
    groups |= {"few training images": other}
    trials, last, best = claims(records)
    text = TEXT.format(
        gain=np.mean([curve.gain for curve in main]),
        half=np.mean([curve.gain for curve in halves]) if halves else 0,
        head=HEAD,
        groups="\n".join(line(name, group) for name, group in groups.items() if group),
        trials=trials,
        last=last,
        best=best,
        count=len(long),
        halves="\n".join([line("first half of the training", halves), line("whole training", long)] if long else []),
    )
    return text + (_means(means) if means else "")


def _means(rows: Sequence[dict]) -> str:
    gains = [100 * (row["mean_of_batches"] - row["accuracy"]) for row in rows]
    lines = []
    for name in sorted({row["data"] for row in rows}):
        mine = [gain for gain, row in zip(gains, rows) if row["data"] == name]
        lines.append(f"| {name} | {len(mine)} | {np.mean(mine):+.3f} | {min(mine):+.3f} | {max(mine):+.3f} |")
    return MEANS_TEXT.format(
        count=len(rows), largest=LARGEST, batch=BATCH, rest=rows[0]["images"] % BATCH, low=min(gains), high=max(gains),
        mean=np.mean(gains), rows="\n".join(lines),
    )  # fmt: skip


def tested(results: Path, data_dir: Path) -> list[dict]:
    """Both accuracies of the first seed of every stored network of up to `LARGEST` parameters, on its test images."""
    import torch

    from search.data.datasets import load
    from search.metrics.upstream import mean_of_batches
    from search.records.weights import inputs, networks

    names = {"MNIST": "mnist", "Fashion-MNIST": "fashion-mnist", "CIFAR-10 (JPEG copy)": "cifar10-jpeg"}
    parts, rows = {}, []
    for path in sorted((results / "weights").glob("*.safetensors")):
        given, (seed, network) = inputs(path), next(iter(networks(path).items()))
        if network.config.parameters() > LARGEST:
            continue
        if given.data not in parts:
            parts[given.data] = load(names[given.data], "test", data_dir)
        part = parts[given.data]
        with torch.inference_mode():
            scores = torch.cat([network(given.prepared(batch)) for batch in part.images.split(BATCH)])
        right = (scores.argmax(1) == part.labels).double()
        both = {"accuracy": float(right.mean()), "mean_of_batches": mean_of_batches(right, BATCH)}
        rows.append({"data": given.data, "weights": path.stem, "seed": seed, "images": len(right), **both})
        print(f"{path.stem} {seed}: {both['accuracy']:.4f} {both['mean_of_batches']:.5f}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--check", action="store_true", help="only compare the page with the records")
    parser.add_argument("--test", type=Path, metavar="DATA_DIR", help="classify test images with stored networks")
    options = parser.parse_args()
    results, means = options.results, options.results / MEANS
    if options.test:
        rows = tested(results, options.test)
        write_atomically(means, (json.dumps(rows, indent=1) + "\n").encode())
    rows = json.loads(means.read_text()) if means.is_file() else []
    text, place = page(Results(results).read(), few(results), rows), results / PAGE
    if options.check:
        if not place.is_file() or place.read_text(encoding="utf-8") != text:
            print(f"{place} differs from what the records say: run `python -m scripts.experiments.optimism`")
            sys.exit(1)
        return
    place.parent.mkdir(exist_ok=True)
    write_atomically(place, text.encode())
    print(text)


if __name__ == "__main__":
    sys.exit(ended(main))
