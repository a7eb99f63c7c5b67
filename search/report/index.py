"""The index of the networks in the tables of thresholds, and a card of each: for programs, and for readers.

Like the tables they hold what the records and the files of weights say, and nothing else.
"""

import hashlib
import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, field_serializer

from search.data.source import TaskName
from search.errors import UserError
from search.files import shortened
from search.records.environment import Model
from search.records.jsonl import Record
from search.records.models import Confirmation, label
from search.records.verdicts import measure
from search.records.weights import Header, file_of
from search.report.efficiency import winners
from search.tasks.score import ACCURACY, SCORES, Score
from search.text import line, markdown
from search.training.recipe import filled
from wavemix.config import LiteConfig

NAME, CARDS = "index.json", "cards"
LICENCE = "MIT"  # of the weights; the images they were trained on have their own
MARK = "<!-- written by `wavemix tables` -->"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Weights(Model):
    """A file of weights; `seeds` are those of the test, of which it may hold more."""

    file: Annotated[str, Field(pattern=r"^\w[\w.+-]*\.safetensors$", max_length=255)]
    sha256: Digest  # of the file's bytes
    seeds: list[int]


class Images(Model):
    """What a network was trained and tested on; digests are of the images and labels, SHA-256."""

    name: str
    label: str
    shape: tuple[int, int, int] | None  # channels, height, width
    train_digest: str
    test_digest: str | None


class Entry(Model):
    """One row of a table; shares are between 0 and 1, a PSNR is in dB."""

    row: str
    study: str
    task: TaskName = "classification"
    target: float
    family: str
    verdict: str
    configuration: LiteConfig
    recipe: dict[str, Any]
    data: Images
    parameters: int
    macs: int | None  # multiply-accumulates of convolutions and matrix products, one image
    flops: int | None  # two for each of those, and all other operations
    measure: str = ACCURACY.name  # what the score is: accuracy, mIoU or PSNR
    # on the test images, mean over seeds; indices of classifiers alone had other names
    score: Annotated[float, Field(validation_alias=AliasChoices("score", "accuracy"))]
    interval: tuple[float, float] | None  # 95 %, of that mean
    # by seed, in the order of `seeds`
    scores: Annotated[list[float], Field(validation_alias=AliasChoices("scores", "accuracies"))]
    beside: dict[str, float] = {}  # other measures, means over seeds
    seeds: list[int]
    weights: Weights | None  # None: not here
    licence: str

    @property
    def judged(self) -> Score:
        """What its networks are judged by."""
        return SCORES[self.task]

    @field_serializer("configuration")
    def _short(self, configuration: LiteConfig) -> dict[str, Any]:
        """Without defaults: a later version has more of them."""
        return configuration.model_dump(mode="json", exclude_defaults=True)


def entries(records: Sequence[Record], weights: Path) -> list[Entry]:
    """An entry for each row that has been tested, in the table's order; `weights` is the folder of their files."""
    tested = [(row, run) for row, run in winners(records).items() if run.mean is not None]
    return [entry_of(row, run, file_of(run, weights)) for row, run in tested]


def entry_of(row: str, run: Confirmation, path: Path | None) -> Entry:
    """That of a row, its test and the file of its weights. Raises UserError where the file can't be read."""
    try:
        weights = path and Weights(file=path.name, sha256=sha256(path), seeds=run.seeds)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    header = Header.read(path) if path else None
    data = run.dataset
    return Entry(
        row=row,
        study=run.study,
        task=run.config.task,
        target=run.target or 0.0,
        family=run.family,
        verdict=run.verdict,
        configuration=run.config,
        recipe=dict(run.recipe),
        data=Images(
            name=Path(data.name).name if data.variant == "folder" else data.name,  # no folder of the user's
            label=label(data),
            shape=header.inputs.shape if header and header.inputs else None,
            train_digest=data.digest,
            test_digest=data.test_digest,
        ),
        parameters=run.parameters,
        macs=run.cost and run.cost.macs,
        flops=run.cost and run.cost.flops_total,
        measure=run.score.name,
        score=run.mean or 0.0,
        interval=run.clipped,
        scores=run.accuracies,
        beside={name: math.fsum(values) / len(values) for name, values in run.beside.items() if values},
        seeds=run.seeds,
        weights=weights,
        licence=LICENCE,
    )


def sha256(path: Path) -> str:
    """Of a file's bytes, hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rendered(found: Sequence[Entry]) -> dict[str, str]:
    """File -> content of the index and the cards, by their paths in a directory of results; nothing without rows."""
    if not found:
        return {}
    cards = {f"{CARDS}/{shortened(entry.row)}.md": card(entry) for entry in found}
    return {NAME: written(found), **cards}


def written(found: Sequence[Entry]) -> str:
    """Entries as the text of an index."""
    return json.dumps([entry.model_dump(mode="json") for entry in found], indent=1, ensure_ascii=False) + "\n"


def is_card(path: Path) -> bool:
    """Whether `rendered` has made this file."""
    try:
        return MARK in path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


# how a card speaks of a task: Hugging Face's name of it, what a network is, and what its output is called
PIPELINES = {
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "super-resolution": "image-to-image",
}
NETWORKS = {
    "classification": "A classifier of",
    "segmentation": "A network for the segmentation of",
    "super-resolution": "Super-resolution, tested on",
}
USES = {
    "classification": [
        "scores = network(images)  # images: floats between 0 and 1, (N, channels, height, width)",
        "names = [network.classes[k] for k in scores.argmax(1)]",
    ],
    "segmentation": [
        "scores = network(images)  # images: floats between 0 and 1, (N, channels, height, width), of any size",
        "labels = scores.argmax(1)  # (N, height, width): numbers of network.classes, shown in network.colours",
    ],
    "super-resolution": [
        "larger = network(images)  # images: floats between 0 and 1, (N, 1 or 3, height, width), of any size",
    ],
}
SAID = {
    "classification": [
        "- It is about these test images. Images of another kind or source may be classified worse.",
    ],
    "segmentation": [
        "- mIoU is the mean over classes of intersection over union, of one confusion matrix over all test images, at",
        "  the labels' full size, single scale. Images of another kind or source may be segmented worse.",
    ],
    "super-resolution": [
        "- PSNR is of the luma Y of BT.601, 8 bits, the scale's pixels shaved off every border; the low resolution is",
        "  made by bicubic reduction with antialiasing. Images that were made small otherwise may be enlarged worse.",
    ],
}


def card(entry: Entry) -> str:
    """A network's card in Markdown, with the front matter that Hugging Face reads."""
    name, file = markdown(entry.data.label), entry.weights.file if entry.weights else "….safetensors"
    pipeline, score = PIPELINES[entry.task], entry.judged
    copy = ["- The images are a copy of CIFAR-10 that was compressed again: this is not CIFAR-10."]
    return "\n".join(
        [
            "---",
            "license: mit",
            "library_name: wavemix-search",
            f"pipeline_tag: {pipeline}",
            f"tags: [wavemix, {pipeline}, parameter-efficiency]",
            "---",
            MARK,
            f"# WaveMix with {entry.parameters:,} parameters: {name}, {score.shown(entry.score)}",
            "",
            f"{NETWORKS[entry.task]} {name}, `{entry.configuration.name}`, trained and tested by WaveMix Search.",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {what} | {said} |" for what, said in _facts(entry, name).items()),
            "",
            "## Use",
            "",
            "```python",
            "import wavemix",
            "",
            f"network = wavemix.load({json.dumps(file)})",
            *USES[entry.task],
            "```",
            "",
            f"    wavemix predict {file} image.png",
            f"    wavemix evaluate {file} --data {shlex.quote(line(entry.data.name))}",
            "",
            f"## What the {score.name} says",
            "",
            "- It is the mean over seeds on the test images, at the last epoch: they chose neither epoch nor seed.",
            "- *Confirmed*: the lower one-sided 95 % bound of that mean, adjusted for attempts and looks, reaches the",
            "  target. *Reached*: the mean does, the bound does not. *Missed*: neither does.",
            *SAID[entry.task],
            *(copy if "JPEG" in entry.data.label else []),
            "",
            "The network is WaveMix (Jeevan et al., arXiv 2205.14375). The images have licences of their own.",
            "",
        ]
    )


def _facts(entry: Entry, name: str) -> dict[str, str]:
    """The rows of a card's table; `name` is that of the data."""
    score = entry.judged
    ends = " to ".join(map(score.shown, entry.interval or ()))
    low_high = f" (95 % interval {ends})" if ends else ""
    count = f"{len(entry.seeds)} seed" + "s" * (len(entry.seeds) != 1)
    epochs, digests = markdown(filled(entry.recipe)["epochs"]), (entry.data.train_digest, entry.data.test_digest)
    shape = entry.data.shape
    return {
        "verdict": f"{markdown(entry.verdict)} at {score.goal(entry.target)}, {markdown(entry.family)} family",
        f"test {score.name}": f"{score.shown(entry.score)}{low_high}, {count}, last epoch",
        **{markdown(what): measure(what, value) for what, value in entry.beside.items()},
        "parameters": f"{entry.parameters:,}",
        "MACs, one image": "not measured"
        if entry.macs is None
        else f"{entry.macs:,} of convolutions and matrix products",
        "FLOPs, one image": "not measured"
        if entry.flops is None
        else f"{entry.flops:,}, two a MAC and all other operations",
        "images": "not stated"
        if shape is None
        else "{} x {} x {} (channels, height, width)".format(*shape)
        + ("" if entry.task == "classification" else " to count operations; any size will do"),
        "trained on": f"{name}, {epochs} epochs; SHA-256 {markdown(digests[0])}"
        if entry.task != "super-resolution"
        else f"{epochs} epochs; SHA-256 {markdown(digests[0])}",
        "tested on": f"its test images; SHA-256 {markdown(digests[1])}",
        "weights": f"`{entry.weights.file}`, SHA-256 `{entry.weights.sha256}`" if entry.weights else "not here",
        "licence": markdown(entry.licence),
    }
