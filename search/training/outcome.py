"""What a training gives."""

from pydantic import BaseModel, PrivateAttr
from torch import Tensor


class Epoch(BaseModel):
    """One epoch of one member. `accuracy` is on the validation images (None without), `seconds` since the start."""

    epoch: int
    train_loss: float
    accuracy: float | None
    seconds: float


class Trained(BaseModel):
    """One member after training. `stopped` is None, 'pruned' or 'nan: ...'; `accuracy` is the last epoch's."""

    seed: int
    curve: list[Epoch]
    accuracy: float | None
    stopped: str | None
    seconds: float
    _state: dict[str, Tensor] = PrivateAttr(default_factory=dict)

    @property
    def state(self) -> dict[str, Tensor]:
        """Averaged weights and BatchNorm statistics: the state dict of `WaveMixLite(config)`."""
        return self._state
