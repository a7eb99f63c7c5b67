"""How well trained networks know their training images: the same accuracy as of a test, without augmentation.

    python -m scripts.experiments.training_fit cifar10-jpeg results/weights/cifar10-jpeg-90-*.safetensors

Beside the test accuracy it says whether a network overfits or underfits, which a training loss under mixup, smoothed
labels and cutout does not. Of every seed, on IMAGES training images, evenly spaced; appended to few-images/fit.jsonl.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open

from scripts.benchmarks.harness import ROOT, ended, positive, print_table
from search.data import datasets
from search.data.catalogue import names
from search.data.split import Split
from search.errors import UserError
from search.records.environment import environment
from search.records.weights import networks
from search.training.evaluate import evaluate
from search.training.images import spread


def fit(path: Path, training: Split, count: int) -> dict:
    """What is recorded of the weights at `path`. Raises UserError where other images trained them."""
    trained = networks(path)
    with safe_open(path, "pt") as file:
        header = file.metadata()
    if header.get("digest", training.digest) != training.digest:  # older files have none
        raise UserError(f"{path} was not trained on the training images of {training.label}")
    index = spread(len(training), count)
    part = replace(training, images=training.images[index], labels=training.labels[index])
    config = next(iter(trained.values())).config
    states = [network.state_dict() for network in trained.values()]
    return {
        "weights": path.name,
        "parameters": config.parameters(),
        "recipe": json.loads(header["recipe"]),
        "seeds": list(trained),
        "images": len(part),
        "accuracies": evaluate(config, states, training, part),
        "environment": environment("cpu").model_dump(mode="json"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", choices=names())
    parser.add_argument("weights", nargs="+", type=Path, metavar="WEIGHTS")
    parser.add_argument("--images", type=positive, default=2000, help="how many of the training images")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "results" / "records" / "apart" / "few-images" / "fit.jsonl",
        help="append lines here",
    )
    options = parser.parse_args()
    training = datasets.load(options.data, "train", options.data_dir)
    rows = []
    for path in options.weights:
        line = fit(path, training, options.images)
        mean = sum(line["accuracies"]) / len(line["accuracies"])
        rows.append([line["weights"], f"{line['parameters']:,}", f"{len(line['seeds'])}", f"{100 * mean:.2f}%"])
        with open(options.output, "a") as file:
            file.write(json.dumps(line) + "\n")
    title = f"{training.label}: training images that the networks know, mean of the seeds"
    print_table(title, ["weights", "parameters", "seeds", "accuracy"], rows)


if __name__ == "__main__":
    raise SystemExit(ended(main))
