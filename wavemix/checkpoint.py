"""Loading published and saved weights, without executing anything a file contains."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file, or in one of torch.save (read with weights_only).

    A {'state_dict': ...} or {'model': ...} around it and DataParallel's 'module.' prefixes are taken off.
    Raises ValueError where the file is missing, unreadable or holds no state dict.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "weights_only" in str(error):  # PyTorch's advice is to execute what is in it
            reason = "it holds more than tensors, or is damaged"
        elif isinstance(error, LookupError | EOFError):  # of a pickle's first byte, 105 for an "i"
            reason = "it is no file that torch.save writes, or is damaged"
        raise ValueError(f"{path} can't be read as a checkpoint: {reason}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict (names to tensors)")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def load_checkpoint(model: nn.Module, path: str | Path) -> nn.Module:
    """Load weights into `model` and return it; nothing is changed where keys or shapes differ (ValueError)."""
    state, own = read_checkpoint(path), model.state_dict()
    missing = [f"missing {key}" for key in own if key not in state]
    unexpected = [f"unexpected {key}" for key in state if key not in own]
    reshaped = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    shown = missing[:3] + unexpected[:3] + reshaped[:3]
    if shown:
        hidden = len(missing) + len(unexpected) + len(reshaped) - len(shown)
        more = f" and {hidden} more" if hidden else ""
        raise ValueError(f"{path} is not of this network: {'; '.join(shown)}{more}")
    model.load_state_dict(state)
    return model
