"""Train named configurations on training images, judge them on validation images and record them, without a search.

    python -m scripts.experiments.explore fashion-mnist 64 '{"in_channels": 1, "final_dim": 8, "depth": 5}'
    python -m scripts.experiments.explore cifar10-jpeg 24 CONFIGURATION [...] --recipe '{"lr": 0.02}' --seeds 3

Each one is a `Trial` of the study `explored-DATASET`, or of the one named; `wavemix confirm --name` tests the smallest
of a study that reached its target. One that the records hold is not repeated, and one that was cut off goes on from
its checkpoint. `wavemix search` starts warm from these records. The test part is never read. With --images, few are
trained on and all others judge, once, after the last epoch: what a recipe does against overfitting shows in minutes.
These accuracies compare with each other alone: such records are in a folder apart, records/apart/few-images.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from scripts.benchmarks.harness import RECORDS, ended, positive
from search.cli.options import device_of
from search.cli.values import fitted, network_of, source_of, study_name, target_of, validated
from search.data.split import Portion
from search.errors import UserError
from search.exploration import Exploration
from search.tasks.task import Task
from search.training.outcome import Epoch
from search.training.recipe import Recipe
from search.upstream import CEILINGS


def recipe_of(changes: str, task: Task, data: Portion, epochs: int, parameters: int) -> Recipe:
    """The default recipe with these changes, JSON. Raises UserError."""
    try:
        changed = task.recipe(data, parameters).model_dump() | {"epochs": epochs} | json.loads(changes)
    except (ValueError, TypeError) as error:
        raise UserError(f'--recipe is JSON such as {{"lr": 0.02}}, not {changes!r}') from error
    return validated(Recipe, json.dumps(changed), "--recipe")


def target_for(options: argparse.Namespace) -> float:
    """The one given, by default the data set's lowest in the table. Raises UserError."""
    lowest = min((target for name, target in CEILINGS if name == options.data), default=None)
    if options.target is None and lowest is None:
        raise UserError(f"--target: {options.data} has none in the table")
    return lowest if options.target is None else target_of(options.target, options.task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="a data set's name; of other tasks also a folder")
    parser.add_argument("epochs", type=positive)
    parser.add_argument("configurations", nargs="+", metavar="CONFIGURATION", help="JSON, or a file of it")
    parser.add_argument("--recipe", default="{}", help="JSON of what differs from the default recipe")
    parser.add_argument("--seeds", type=positive, default=1, help="trained at once")
    parser.add_argument("--images", type=int, help="train on so many only, judge on all others after the last epoch")
    parser.add_argument("--task", default="classification", help="segmentation or super-resolution, with --target")
    parser.add_argument("--scale", type=int, help="of super-resolution")
    parser.add_argument("--test-set", help="of super-resolution: the one that decides")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument(
        "--results",
        type=Path,
        help="default: results/records/explorations, with --images results/records/apart/few-images",
    )
    parser.add_argument("--name", help="of the study the records belong to; default: explored-DATA")
    parser.add_argument("--target", help="score; default: the data set's lowest in the table")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--threads", type=positive, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    configs = [network_of(text, "CONFIGURATION") for text in options.configurations]
    target = target_for(options)
    source = source_of(options.data, None, None, False, options.task, options.scale, options.test_set)
    study = study_name(options.data, target, "extended", options.name or f"explored-{options.data}")
    device = device_of(options.device)
    results = options.results or RECORDS / ("apart/few-images" if options.images else "explorations")
    course = Exploration(study, source, target, options.data_dir, results, device, options.images)
    configs = [fitted(config, course.training, "CONFIGURATION") for config in configs]
    task, score = course.task, course.task.score
    plans = [(c, recipe_of(options.recipe, task, course.training, options.epochs, c.parameters())) for c in configs]
    for plan in plans:
        task.check(*plan, course.training)
    seeds = list(range(options.seeds))
    for config, recipe in plans:
        title = f"{config.name}, {config.parameters():,} parameters"
        if course.recorded(config, recipe, seeds):
            print(f"{title}: already recorded", flush=True)

        def on_epoch(epoch: int, latest: list[Epoch], title: str = title) -> None:
            loss = sum(e.train_loss for e in latest) / len(latest)
            mean = None if latest[0].accuracy is None else sum(e.accuracy for e in latest) / len(latest)
            reached = "" if mean is None else f"{score.shown(mean)}, "
            print(f"{title}, epoch {epoch}: loss {loss:.4f}, {reached}{latest[0].seconds:.0f} s", flush=True)

        trial = course.run(config, recipe, seeds, on_epoch=on_epoch)
        print(f"{title}: {score.shown(trial.accuracy_validation)}", flush=True)


if __name__ == "__main__":
    sys.exit(ended(main))
