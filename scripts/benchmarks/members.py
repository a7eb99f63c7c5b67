"""Many networks at once: K MNIST networks of about 2,000 parameters in one `Stack` beside one after another.

    python -m scripts.benchmarks.members [--output FILE]

A training step is forward, backward and optimizer step on each member's own batch. One after another means K stacks
of one member, and K plain `WaveMixLite` modules with torch's AdamW, each doing its step in turn. Throughput counts
the images of all members.
"""

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.benchmarks.harness import arguments, devices, medians, print_table, record, spread, time_alternately
from search.training.optimizer import Optimizer
from search.training.recipe import Recipe
from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite
from wavemix.stack import Precision, Stack, to_lanes

TOGETHER, SINGLY, PLAIN = "one stack", "stacks of one member", "plain modules"


def stack_step(
    config: LiteConfig, seeds: list[int], images: Tensor, labels: Tensor, device: str, precision: Precision = "float32"
) -> Callable:
    """images (K, N, I, H, W), labels (K, N)."""
    stack, x = Stack(config, seeds, device, precision), to_lanes(images)
    optimizer = Optimizer(stack, Recipe(optimizer="adamw"))

    def step() -> Tensor:
        stack.flat.grad = None
        logits, _ = stack(x)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(len(seeds), -1).mean(1)
        loss.sum().backward()
        optimizer.step(stack.flat.grad, *optimizer.factors(1e-3))
        return loss.detach()

    return step


def plain_step(config: LiteConfig, seed: int, images: Tensor, labels: Tensor, device: str) -> Callable:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = WaveMixLite(config).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def contenders(config: LiteConfig, members: int, batch: int, size: int, device: str) -> dict[str, Callable]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(members, batch, config.in_channels, size, size, generator=generator).to(device)
    labels = torch.randint(config.num_classes, (members, batch), generator=generator).to(device)
    each = [slice(k, k + 1) for k in range(members)]
    together = stack_step(config, list(range(members)), images, labels, device)
    singly = [stack_step(config, [k], images[at], labels[at], device) for k, at in enumerate(each)]
    plain = [plain_step(config, k, images[k], labels[k], device) for k in range(members)]
    first = together(), torch.cat([step() for step in singly]), torch.stack([step() for step in plain])
    if not (torch.allclose(first[0], first[1], atol=1e-4) and torch.allclose(first[0], first[2], atol=1e-3)):
        raise SystemExit(f"error: the losses of the first step differ: {[loss.tolist() for loss in first]}")
    return {
        TOGETHER: together,
        SINGLY: lambda: [step() for step in singly],
        PLAIN: lambda: [step() for step in plain],
    }


def run(options, config: LiteConfig, device: str) -> None:
    rows = []
    for members in options.members:
        steps = contenders(config, members, options.batch, options.size, device)
        samples = time_alternately(steps, options.repetitions, options.seconds, device)
        rate = {name: members * options.batch / seconds for name, seconds in medians(samples).items()}
        ours = rate.pop(TOGETHER)
        cells = [cell for peer in (SINGLY, PLAIN) for cell in (f"{rate[peer]:,.0f}", f"{ours / rate[peer]:.2f}x")]
        rows.append([f"K={members}", f"{ours:,.0f}", *cells])
        record(
            options.output, device, {"config": config.name, "batch": options.batch, "spread_seconds": spread(samples)},
            name=f"training {members} networks of {config.parameters():,} parameters together", unit="images/s",
            ours=ours, peers=rate, better="higher", repetitions=options.repetitions,
        )  # fmt: skip
    print_table(
        f"training, {config.name}, {config.parameters():,} parameters, batch {options.batch} a member, {device} "
        f"({torch.get_num_threads()} threads): images/s of all members",
        ["members", TOGETHER, SINGLY, "ratio", PLAIN, "ratio"],
        rows,
    )


def main() -> int:
    parser = arguments(__doc__.splitlines()[0], repetitions=7, seconds=1.0)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--batch", type=int, default=64, help="images a member and step, a multiple of 16")
    parser.add_argument("--size", type=int, default=28, help="height and width of the images")
    parser.add_argument("--depth", type=int, default=5, help="5 gives 1,996 parameters")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = LiteConfig(in_channels=1, final_dim=8, depth=options.depth, mult=2)
    for device in devices(options):
        run(options, config, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
