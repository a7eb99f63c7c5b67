"""How much training a fixed network needs to reach its threshold: a plain recipe beside ours.

    python -m scripts.benchmarks.recipes mnist [--least N] [--most N] [--data-dir DIR]
    python -m scripts.benchmarks.recipes mnist --recipes ours adamw sgd ... --epochs 8

The networks are the published ones. A length of training is tried with three seeds on the training part; it reaches the
threshold when the mean accuracy on the validation part at the last epoch does. Ours is tried at growing lengths, from
--least epochs on, until one does or --most are passed; plain at five times that length, and where it does reach the
threshold then, at two times and at that length itself. MACs are three forward passes' multiply-accumulates for each
image (forward, and two products backward); those of smaller images count as smaller. Each training is a `Trial` of the
study `recipes-DATASET`, and one that the records hold is not repeated, so that a run that was cut off goes on. Nothing
here sees the test part.

With --epochs, recipes are compared at these lengths; those other than ours and plain change one thing of ours.
"""

import argparse
import sys
from pathlib import Path

from scripts.benchmarks.harness import ROOT, print_table, record
from search.data.source import Source
from search.exploration import Exploration
from search.records.models import Trial
from search.records.results import Results
from search.space.work import multiply_accumulates
from search.training.default_recipe import default_recipe
from search.training.images import reduced
from search.training.recipe import Recipe
from wavemix.config import LiteConfig

HALF = {"stride": (2, 1)}  # feature maps of half the images' height and width
TASKS = {
    "mnist": (LiteConfig(in_channels=1, final_dim=8, depth=10, ff_channel=8, upsampling="bilinear", **HALF), 0.99),
    "fashion-mnist": (LiteConfig(in_channels=1, final_dim=8, depth=5, ff_channel=8, upsampling="deconv", **HALF), 0.9),
    "cifar10-jpeg": (LiteConfig(final_dim=32, depth=7, ff_channel=32, upsampling="bilinear", **HALF), 0.8),
}
LENGTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128)  # epochs
LONGER = (5, 2, 1)  # plain: lengths in those of ours, the longest first
SEEDS = [0, 1, 2]
PLAIN = Recipe(optimizer="adamw", lr=0.01, weight_decay=0.01, beta2=0.999, warmup=0.3, anneal="cosine", average=0)
CHANGES = {
    "ours": {},
    "adamw": {"optimizer": "adamw"},
    "sgd": {"optimizer": "sgd", "lr": 0.5},
    "linear": {"anneal": "linear"},
    "no average": {"average": 0.0},
    "longer average": {"average": 0.06},
    "label smoothing": {"label_smoothing": 0.1},
    "full size": {"progressive": 0.0},
    "scaled branches": {"branch": 0.5},
    "no augmentation": {"shift": 0.0, "rotate": 0.0, "scale": 0.0, "flip": False},
    "no decay": {"weight_decay": 0.0},
    "no shift": {"shift": 0.0},
    "warmup 0.25": {"warmup": 0.25},
}


def recipe_of(name: str, data: str, pixels: int, epochs: int) -> Recipe:
    if name == "plain":
        return PLAIN.model_copy(update={"epochs": epochs})
    return default_recipe(data, pixels, epochs).model_copy(update=CHANGES[name])


def flops(config: LiteConfig, recipe: Recipe, split, small) -> float:
    """Of one seed's training."""
    low = round(recipe.progressive * recipe.epochs)
    images = len(split) // recipe.batch_size * recipe.batch_size
    each = [multiply_accumulates(config, *part.images.shape[2:]) for part in (split, small)]
    return 3.0 * images * (each[0] * (recipe.epochs - low) + each[1] * low)


class Recipes(Exploration):
    """The trainings of one published network, a recipe and a length each."""

    def __init__(self, data: str, data_dir: Path | None, results: Path):
        self.data, (self.config, target) = data, TASKS[data]
        super().__init__(f"recipes-{data}", Source(data), target, data_dir, results)
        self.small = reduced(self.training, self.config)

    def train(self, name: str, epochs: int) -> Trial:
        recipe = recipe_of(name, self.data, self.training.images.shape[-1], epochs)
        trial = self.run(self.config, recipe, SEEDS)
        print(f"{name}, {epochs} epochs: {trial.accuracy_validation:.2%}, {trial.device_seconds:.0f} s", flush=True)
        return trial

    def work(self, trial: Trial) -> float:
        return flops(self.config, Recipe.model_validate(trial.recipe), self.training, self.small)

    def shortest(self, lengths: list[int]) -> tuple[Trial, bool]:
        """Ours at the first length that reaches the threshold, or at the last one and False."""
        for epochs in lengths:
            trial = self.train("ours", epochs)
            if trial.accuracy_validation >= self.target:
                return trial, True
        return trial, False

    def plain(self, epochs: int) -> tuple[Trial, bool]:
        """Plain at the least multiple of `epochs` that reaches the threshold, or at the greatest one and False."""
        found = None
        for factor in LONGER:
            trial = self.train("plain", factor * epochs)
            if trial.accuracy_validation < self.target:
                return found or (trial, False)
            found = trial, True
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=TASKS)
    parser.add_argument("--recipes", nargs="+", choices=["plain", *CHANGES], default=["ours", "plain"], help="compared")
    parser.add_argument("--epochs", type=int, nargs="+", help="these lengths, all of them")
    parser.add_argument("--least", type=int, default=LENGTHS[0], help="epochs that ours begins with")
    parser.add_argument("--most", type=int, default=48, help="epochs after which ours is given up")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    options = parser.parse_args()
    lengths = [epochs for epochs in LENGTHS if options.least <= epochs <= options.most]
    if not lengths:
        parser.error(f"none of the lengths {', '.join(map(str, LENGTHS))} lies between --least and --most")
    course = Recipes(options.data, options.data_dir, options.results)
    rows = []
    if options.epochs:
        for name in options.recipes:
            for epochs in options.epochs:
                trial = course.train(name, epochs)
                low, high = min(trial.accuracies), max(trial.accuracies)
                rows.append(
                    [name, epochs, f"{trial.accuracy_validation:.2%}", f"{low:.2%}", f"{high:.2%}",
                     f"{course.work(trial) / 1e12:.2f}", f"{trial.device_seconds:.0f}"]
                )  # fmt: skip
        print_table(
            f"{course.config.name}, 3 seeds: accuracy on validation images at the last epoch",
            ["recipe", "epochs", "mean", "lowest", "highest", "TMAC a seed", "seconds, 3 seeds"],
            rows,
        )
        return 0
    found = {"ours": course.shortest(lengths)}
    if found["ours"][1]:
        found["plain"] = course.plain(found["ours"][0].recipe["epochs"])
    for name, (trial, reached) in found.items():
        rows.append(
            [name, ("" if reached else "> ") + str(trial.recipe["epochs"]), f"{trial.accuracy_validation:.2%}",
             f"{course.work(trial) / 1e12:.2f}", f"{trial.device_seconds:.0f}"]
        )  # fmt: skip
    print_table(
        f"{course.config.name} to {course.target:.0%} on validation images, 3 seeds",
        ["recipe", "epochs", "mean", "TMAC a seed", "seconds, 3 seeds"],
        rows,
    )
    if "plain" in found:
        ours, plain = found["ours"][0], found["plain"][0]
        details = {
            name: {"epochs": trial.recipe["epochs"], "accuracy": trial.accuracy_validation, "reached": reached}
            for name, (trial, reached) in found.items()
        }
        benchmarks = Results(options.results).journal("benchmarks")
        named = f"{course.config.parameters():,} parameters to {course.target:.0%} on {options.data}"
        for what, unit, values in [
            ("MACs", "TMAC", [course.work(trial) / 1e12 for trial in (ours, plain)]),
            ("seconds", "s", [trial.device_seconds for trial in (ours, plain)]),
        ]:
            record(
                benchmarks, "cpu", details, name=f"{what} of training {named}", unit=unit,
                ours=values[0], peers={"plain (AdamW, one cycle)": values[1]}, better="lower", repetitions=len(SEEDS),
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
