"""What is seen of a training: its epochs, and where it is."""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel


class Epoch(BaseModel):
    """One epoch of a curve: mean loss of the training images, score of the validation images, learning rate at its
    end, seconds."""

    phase: int
    epoch: int  # of the phase, from 1
    loss: float
    score: float | None
    lr: float
    seconds: float


@dataclass(frozen=True)
class Moment:
    """What is seen of a training after a step (`ended` None) or an epoch. Phases count from 0; `epoch` and `step` are
    those that have been done."""

    phase: int
    phases: int
    epoch: int
    epochs: int
    step: int
    steps: int
    ended: Epoch | None = None


Watch = Callable[[Moment], None]
