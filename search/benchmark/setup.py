"""How a training runs on the machines at hand: nothing of it belongs to the recipe."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # as Accelerate calls them
TRACKERS = ("tensorboard", "wandb", "mlflow")


@dataclass(frozen=True)
class Setup:
    """Attributes:

    cpu: not on a GPU, although one is there.
    precision: "fp32", or of the products "bf16" or "fp16"; weights and sums are always of 32 bits, tests too.
    channels_last: images and kernels with the channels innermost.
    compiled: by torch.compile.
    accumulate: parts that a process takes its images of a step in. BatchNorm has the statistics of a part.
    recompute: blocks keep no activations for the backward pass, but compute them again (gradient checkpointing).
    divided: weights and optimizer are divided among the processes (FSDP2); `accelerate launch --use_fsdp` asks for it,
        too.
    workers: processes that decode images for each process that trains; 0: none.
    save_every: seconds between two checkpoints.
    trackers: "tensorboard", "wandb", "mlflow": what the curves are logged to, beside the record.
    logs: the folder of what trackers write.
    """

    cpu: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    compiled: bool = False
    accumulate: int = 1
    recompute: bool = False
    divided: bool = False
    workers: int = 0
    save_every: float = 60.0
    trackers: tuple[str, ...] = ()
    logs: Path = Path("runs/logs")


@dataclass(frozen=True)
class Share:
    """Which of several processes this is, and in how many parts it takes its images of a step."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1
