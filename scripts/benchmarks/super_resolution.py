"""Super-resolution beside FSRCNN at equal training: same recipe, patches, seeds and validation images.

    python -m scripts.benchmarks.super_resolution DATA [--epochs 8] [--repetitions 3] [--scale 2] [--recipe JSON]

FSRCNN(56, 12, 4) is Dong et al.'s ("Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016): 12,464
weights, and biases and PReLU's slopes beside them. It gets what ours has and its paper does not: the bicubic
enlargement to add to, a last layer that begins at 0; and the better of two learning rates. FSRCNN-s, (32, 5, 1), stands
beside a smaller network of ours. A repetition is a seed; what counts is the mean PSNR gained over bicubic enlargement
on validation images, after the last epoch. No test set is read.
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from scripts.benchmarks.harness import arguments, ended, positive, print_table, record, spread
from scripts.experiments.explore import recipe_of
from search.cli.options import device_of
from search.data import datasets
from search.data.source import Reading, Source
from search.data.split import Portion, split_validation
from search.errors import present
from search.tasks.pixel_task import pictures
from search.tasks.super_resolution import TASK, SuperResolution, yardstick
from search.training.recipe import Recipe
from wavemix.config import LiteConfig
from wavemix.heads import bicubic

RATES = 0.01, 0.003  # of FSRCNN, the better counts; ours has the recipe's
PEERS = {"FSRCNN": (56, 12, 4), "FSRCNN-s": (32, 5, 1)}  # width, inner width, inner layers
COMMON = {
    "in_channels": 1, "mult": 1, "bias": "needed", "activation": "relu", "stem_activation": True,
    "norm": "scale",
}  # fmt: skip
OURS = {  # those of records/searches/set5-2x*.jsonl of about the peer's size
    "FSRCNN": COMMON | {"final_dim": 32, "depth": 4, "ff_channel": 8, "upsampling": "deconv", "shared": 1},
    "FSRCNN-s": COMMON | {"final_dim": 16, "depth": 3, "ff_channel": 16, "upsampling": "depthwise"},
}


class FSRCNN(nn.Module):
    """Images (N, 1, H, W) -> (N, 1, scale H, scale W)."""

    def __init__(self, width: int, inner: int, layers: int, scale: int):
        super().__init__()
        steps: list[nn.Module] = [nn.Conv2d(1, width, 5, padding=2), nn.PReLU(width)]
        steps += [nn.Conv2d(width, inner, 1), nn.PReLU(inner)]
        for _ in range(layers):
            steps += [nn.Conv2d(inner, inner, 3, padding=1), nn.PReLU(inner)]
        steps += [nn.Conv2d(inner, width, 1), nn.PReLU(width)]
        for step in steps:
            if isinstance(step, nn.Conv2d):
                nn.init.kaiming_normal_(step.weight)
                nn.init.zeros_(step.bias)
        last = nn.ConvTranspose2d(width, 1, 9, scale, padding=4, output_padding=scale - 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.steps, self.scale = nn.Sequential(*steps, last), scale

    def forward(self, images: Tensor) -> Tensor:
        return self.steps(images) + bicubic(images, self.scale)


class Peers(SuperResolution):
    """Super-resolution whose networks are FSRCNNs, whatever the configuration."""

    def __init__(self, sizes: tuple[int, int, int], scale: int):
        self.sizes_of, self.scale = sizes, scale

    def network(self, config: LiteConfig) -> nn.Module:
        return FSRCNN(*self.sizes_of, self.scale)


def weights(network: nn.Module) -> tuple[int, int]:
    """Parameters, and those that the paper counts: without biases and slopes."""
    counted = [parameter.numel() for parameter in network.parameters() if parameter.dim() > 1]
    return sum(parameter.numel() for parameter in network.parameters()), sum(counted)


def reached(
    task: SuperResolution, config: LiteConfig, recipe: Recipe, split: tuple[Portion, Portion], seeds: int, device: str
) -> list[float]:
    """PSNR in dB on the validation images, of each seed."""
    training, validation = split
    trained = task.train(config, recipe, training, range(seeds), validation=validation, device=device)
    return [present(member.curve[-1].accuracy) for member in trained]


def main() -> None:
    parser: argparse.ArgumentParser = arguments(__doc__.splitlines()[0], repetitions=3, seconds=0)
    parser.add_argument("data", help="a folder of images, as for `wavemix search --task super-resolution`")
    parser.add_argument("--epochs", type=positive, default=8)
    parser.add_argument("--recipe", default="{}", help="JSON of what differs from the default recipe")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--test-set", help="of several the one that would decide")
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = device_of(options.device or "cpu")
    reading = Reading(task="super-resolution", scale=options.scale, test_set=options.test_set)
    data = datasets.load(Source(options.data, reading), "train", options.data_dir)
    split = split_validation(data, TASK.validation_count(data), 0)
    (plain, _), rows = yardstick(pictures(split[1])), []
    for peer, sizes in PEERS.items():
        head = {"task": "super-resolution", "scale": options.scale, "activation": True}
        config = LiteConfig.model_validate(OURS[peer] | {"head": head})
        recipe = recipe_of(options.recipe, TASK, data, options.epochs, config.parameters())
        found = {"ours": reached(TASK, config, recipe, split, options.repetitions, device)}
        other = Peers(sizes, options.scale)
        for rate in RATES:
            slower = recipe.model_copy(update={"lr": rate})
            found[f"{peer} at {rate:g}"] = reached(other, config, slower, split, options.repetitions, device)
        found = {name: [decibels - plain for decibels in values] for name, values in found.items()}
        means = {name: statistics.mean(values) for name, values in found.items()}
        best = max((name for name in means if name != "ours"), key=means.__getitem__)
        parameters, counted = weights(other.network(config))
        rows.append([f"ours, {config.parameters():,}", f"{means['ours']:.3f} dB", ""])
        rows += [
            [
                f"{name}, {parameters:,} ({counted:,} weights)",
                f"{means[name]:.3f} dB",
                f"{means['ours'] / means[name]:.3f}",
            ]
            for name in means
            if name != "ours"
        ]
        record(
            options.output,
            device,
            {
                "network": config.name,
                "parameters": config.parameters(),
                "peer_parameters": parameters,
                "peer_weights": counted,
                "epochs": options.epochs,
                "validation_images": len(split[1]),
                "rate": best,
                "spread": spread(found),
            },
            name=f"super-resolution {options.scale}x beside {peer}: PSNR gained over bicubic at equal training",
            unit="dB",
            ours=means["ours"],
            peers={peer: means[best]},
            repetitions=options.repetitions,
        )
    print_table(
        f"PSNR gained over bicubic enlargement, {options.epochs} epochs, {options.repetitions} seeds",
        ["network", "validation images", "ours / it"],
        rows,
    )


if __name__ == "__main__":
    sys.exit(ended(main))
