"""Is training with products of bfloat16 harmless? Three networks, one a data set, trained with them and in float32.

    nice -n 5 python -m scripts.experiments.precision [--seeds 3] [--data-dir DIR]

Trainings are short. They differ in the precision alone and are judged on validation images; the test part is never
read. Each is done once and recorded in results/records/apart/precision, one seed after another, so that what there is
so far compares; one that was cut off goes on from its checkpoint. Then the table in pages/precision.md is written from
the records: --table writes it alone, --check compares.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from scripts.benchmarks.harness import RECORDS, ROOT, ended, positive
from search.data.source import Source
from search.errors import UserError
from search.exploration import Exploration
from search.records.jsonl import Record, read
from search.records.models import Trial, label
from search.training.default_recipe import default_recipe
from search.training.outcome import Epoch
from search.training.recipe import filled
from wavemix.config import LiteConfig
from wavemix.stack import bfloat16_lacks

# data set: network, epochs, target (what it is does not matter here)
PLANS = {
    "mnist": (LiteConfig(in_channels=1, final_dim=24, depth=5, upsampling="bilinear", stride=(2, 1)), 4, 0.99),
    "fashion-mnist": (LiteConfig(in_channels=1, final_dim=56, depth=6, upsampling="bilinear", stride=(2, 1)), 3, 0.9),
    "cifar10-jpeg": (LiteConfig(final_dim=64, depth=6, upsampling="deconv", stride=(2, 1)), 3, 0.9),
}
PRECISIONS = "float32", "bfloat16"
FOLDER = RECORDS / "apart" / "precision"
PAGE = ROOT / "results" / "pages" / "precision.md"


def train(data: str, seed: int, options: argparse.Namespace) -> None:
    """A data set's network in both precisions."""
    config, epochs, target = PLANS[data]
    course = Exploration(f"precision-{data}", Source(data), target, options.data_dir, options.records)
    recipe = default_recipe(data, course.training.images.shape[-1], options.epochs or epochs, config.parameters())
    for precision in PRECISIONS:
        title = f"{data}, seed {seed}, {precision}"

        def on_epoch(epoch: int, latest: list[Epoch], title: str = title) -> None:
            print(f"{title}, epoch {epoch}: {latest[0].accuracy:.2%}, {latest[0].seconds:.0f} s", flush=True)

        trial = course.run(config, recipe.model_copy(update={"precision": precision}), [seed], on_epoch=on_epoch)
        print(f"{title}: {trial.accuracy_validation:.2%}", flush=True)


TEXT = """\
# Is bfloat16 harmless?

With `--precision auto` networks of 10,000 parameters or more train with products of bfloat16 where the processor has
units for them (AVX512-BF16) and that is faster. Sums, BatchNorm's statistics, losses, weights and the optimizer stay
float32, and every accuracy is measured in float32. These networks were trained both ways, from the same weights, on the
same images in the same order.

| network | epochs | float32 | bfloat16 | difference | its 95 % interval |
| --- | ---: | --- | --- | ---: | --- |
{rows}

Accuracies are of validation images, at the last epoch, of each seed; the difference is bfloat16 less float32, in
points, by seeds in pairs (Student's t). **The trainings are short**: how far long ones drift apart is not shown.
Machine: {machine}. Written from [the records](../records/apart/precision/) by
`python -m scripts.experiments.precision`; with `--check` it compares.
"""


def row(trials: list[Trial]) -> str:
    """A line of the table: one network's trials."""
    found: dict[str, dict[int, float]] = {precision: {} for precision in PRECISIONS}
    for trial in trials:
        found[filled(trial.recipe).get("precision", "float32")][trial.seeds[0]] = trial.accuracies[0] or 0.0
    wide, narrow = found.values()
    seeds = sorted(wide.keys() & narrow.keys())
    gaps = np.array([100 * (narrow[seed] - wide[seed]) for seed in seeds])
    interval = "-"
    if len(gaps) > 1:
        half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
        interval = f"{gaps.mean() - half:+.2f} to {gaps.mean() + half:+.2f}"
    first = trials[0]
    cells = (
        f"{label(first.dataset)}: {first.config.name}, {first.parameters:,}",
        f"{filled(first.recipe)['epochs']}",
        *(", ".join(f"{100 * accuracies[seed]:.2f}" for seed in seeds) + " %" for accuracies in (wide, narrow)),
        f"{gaps.mean():+.2f}",
        interval,
    )
    return f"| {' | '.join(cells)} |"


def page(records: list[Record]) -> str:
    groups: dict[tuple, list[Trial]] = defaultdict(list)
    for trial in records:
        if isinstance(trial, Trial) and trial.state == "complete":
            key = filled(trial.recipe) | {"precision": None}
            groups[trial.study, trial.config.name, str(sorted(key.items(), key=str))].append(trial)
    # a network whose other precision is not there yet has no line
    rows = [row(group) for group in groups.values() if len({t.recipe.get("precision") for t in group}) > 1]
    if not rows:
        raise UserError("the records hold no network trained in both precisions")
    machines = {record.environment.device for group in groups.values() for record in group}
    return TEXT.format(rows="\n".join(rows), machine=", ".join(sorted(machines)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=PLANS, nargs="+", default=list(PLANS))
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--epochs", type=positive, help="default: 3 or 4, as planned")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--records", type=Path, default=FOLDER)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument(
        "--check", action="store_true", help="train nothing, say whether the page is that of the records"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not (options.table or options.check):
        for data, (config, *_) in PLANS.items():
            if data in options.data and (lacking := bfloat16_lacks(config)):
                raise UserError(f"no bfloat16 here: {lacking}")
        for seed in range(options.seeds):
            for data in options.data:
                train(data, seed, options)
    text = page([record for path in sorted(options.records.glob("*.jsonl")) for record in read(path)])
    if not options.check:
        options.page.write_text(text)
    elif options.page.read_text() != text:
        raise UserError(f"{options.page} is not what the records say: run this without --check")


if __name__ == "__main__":
    sys.exit(ended(main))
