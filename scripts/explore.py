"""Train named configurations on training images, judge them on validation images and record them, without a search.

    python scripts/explore.py fashion-mnist 64 '{"in_channels": 1, "final_dim": 8, "depth": 5, "stride": [2, 1]}'
    python scripts/explore.py cifar10-jpeg 24 CONFIGURATION [CONFIGURATION ...] --recipe '{"lr": 0.02}' --seeds 3

Each one is a `Trial` of the study `explored-DATASET`. One that the records hold is not repeated, and one that was cut
off goes on from its checkpoint. `wavemix search` starts warm from these records. The test part is never read.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from side_by_side import ROOT

from search import datasets
from search.arguments import network_of
from search.attempt import dataset_of, trial_of
from search.checkpoints import checkpoint_name
from search.datasets import split_validation
from search.errors import UserError
from search.protocol import CEILINGS, VALIDATION
from search.recipe import Recipe, default_recipe
from search.records import Trial, append, read, repair
from search.training import Epoch, train


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=VALIDATION)
    parser.add_argument("epochs", type=int)
    parser.add_argument("configurations", nargs="+", metavar="CONFIGURATION", help="JSON, or a file of it")
    parser.add_argument("--recipe", default="{}", help="JSON of what differs from the default recipe")
    parser.add_argument("--seeds", type=int, default=1, help="trained at once")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    study, seeds = f"explored-{options.data}", list(range(options.seeds))
    training, validation = split_validation(
        datasets.load(options.data, "train", options.data_dir), VALIDATION[options.data], 0
    )
    default = default_recipe(options.data, training.images.shape[-1], options.epochs)
    recipe = Recipe.model_validate(default.model_dump() | json.loads(options.recipe))
    path = options.results / f"{study}.jsonl"
    repair(path)
    done = [r for r in read(path) if isinstance(r, Trial)] if path.exists() else []
    for config in [network_of(text, "CONFIGURATION") for text in options.configurations]:
        title = f"{config.name}, {config.parameters():,} parameters"
        plan = recipe.model_dump(mode="json")
        if any((r.config, r.recipe, r.seeds) == (config, plan, seeds) for r in done):
            print(f"{title}: already recorded", flush=True)
            continue

        def on_epoch(epoch: int, latest: list[Epoch], title: str = title) -> None:
            accuracy, loss = (
                sum(values) / len(latest) for values in zip(*((e.accuracy, e.train_loss) for e in latest))
            )
            print(f"{title}, epoch {epoch}: loss {loss:.4f}, {accuracy:.2%}, {latest[0].seconds:.0f} s", flush=True)

        checkpoint = path.parent / "studies" / checkpoint_name(config, recipe, seeds, training.digest)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        results = train(
            config, recipe, training, seeds, validation=validation, on_epoch=on_epoch, checkpoint=checkpoint
        )
        trial = trial_of(
            config,
            recipe,
            results,
            study=study,
            number=len(done),
            dataset=dataset_of(training, validation, 0),
            target=min(target for name, target in CEILINGS if name == options.data),
            family=config.family,
            seeds=seeds,
            state="complete" if results[0].stopped is None else "failed",
            reason=results[0].stopped,
            wall_seconds=time.monotonic() - start,
        )
        append(path, trial)
        done.append(trial)
        checkpoint.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (UserError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
