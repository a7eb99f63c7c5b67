"""Loading published and saved weights, without executing anything a file contains."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from .torch_internals import storage_key

# what people put a state dict in, beside epochs and optimizers; the first that is there is taken
CONTAINERS = (
    "state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights", "model_state", "ema",
    "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "params_ema",
)  # fmt: skip
# what DataParallel, DDP and AveragedModel; torch.compile; FSDP; and checkpointing call the module they wrap
WRAPPED = re.compile(r"(?:^|(?<=\.))(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: tensors by the names it gives them, and in `taken_off` what was around them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]  # of a .safetensors file
    taken_off: tuple[str, ...]  # names of containers and of wrapping modules

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors by the names that the network has when nothing wraps it."""
        return {name: self.tensors[key] for key, name in unwrapped(self.tensors).items()}


def unwrapped(keys: Iterable[str]) -> dict[str, str]:
    """Names in a state dict, and what they are without wrapping modules, anywhere in the network.

    A module wraps another where that is its only child, under a name that a wrapper gives it, so that two names never
    become one. An average's counter, `n_averaged`, is left out.
    """
    keys = list(keys)
    children: dict[str, set[str]] = {key[: m.start()]: set() for key in keys for m in WRAPPED.finditer(key)}
    for key in keys:
        for start in [0, *(m.end() for m in re.finditer(r"\.", key))]:
            if key[:start] in children:
                children[key[:start]].add(key[start:].partition(".")[0])
    wrappers = {parent for parent, inside in children.items() if len(inside - {"n_averaged"}) == 1}
    return {
        key: WRAPPED.sub(lambda m: "" if m.string[: m.start()] in wrappers else m[0], key)
        for key in keys
        if not (key.endswith("n_averaged") and key.removesuffix("n_averaged") in wrappers)
    }


def nested(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The same tensors by their names, then, while a single module holds all of them, by its own names for them."""
    for _ in range(9):  # nobody nests deeper
        yield state
        outer = {key.partition(".")[0] for key in state}
        state = {key.partition(".")[2]: tensor for key, tensor in state.items()}
        if len(outer) > 1 or not all(state):
            return


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The state dict in a .safetensors file, or in one of torch.save (read with weights_only).

    A dictionary around it ('state_dict', 'model', 'net', 'ema', ... beside whatever else) is taken off; tensors that
    `save_model` of safetensors wrote once for several names have all of them. Raises ValueError where the file is
    missing, unreadable or holds no state dict.
    """
    path = Path(path)
    metadata: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                content: Any = {key: file.get_tensor(key) for key in file.keys()}
                metadata = file.metadata() or {}
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "weights_only" in str(error):  # PyTorch's advice is to execute what is in it
            reason = "it holds more than tensors, or is damaged"
        elif isinstance(error, LookupError | EOFError):  # of a pickle's first byte, 105 for an "i"
            reason = "it is no file that torch.save writes, or is damaged"
        raise ValueError(f"{path} can't be read as a checkpoint: {reason}") from error
    found = _found(content)
    if found is None:
        raise ValueError(f"{path} holds no state dict (names to tensors)")
    containers, content = found
    tensors = {str(key): tensor for key, tensor in content.items()}
    shared = {other: tensors[kept] for other, kept in metadata.items() if kept in tensors and other not in tensors}
    tensors |= shared
    names = unwrapped(tensors)
    around = {m[1] for key, name in names.items() if key != name for m in WRAPPED.finditer(key)}
    around |= {"n_averaged"} if len(names) < len(tensors) else set()
    return Checkpoint(tensors, metadata, (*containers, *sorted(around)))


def _is_state(content: Any) -> bool:
    return isinstance(content, dict) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def _found(content: Any, depth: int = 3) -> tuple[list[str], dict] | None:
    """The state dict in what was read, after the keys that lead to it: the usual ones, or that of the only one."""
    if _is_state(content):
        return [], content
    if not isinstance(content, dict) or not depth:  # a pickled dictionary may hold itself
        return None
    for name in CONTAINERS:
        if name in content and (inside := _found(content[name], depth - 1)):
            return [name, *inside[0]], inside[1]
    states = [key for key, value in content.items() if _is_state(value)]
    return ([str(states[0])], content[states[0]]) if len(states) == 1 else None


def load_checkpoint(model: nn.Module, path: str | Path) -> nn.Module:
    """Load weights into `model` and return it; nothing is changed where keys or shapes differ (ValueError).

    Either may be wrapped by DataParallel, DDP, `torch.compile` or AveragedModel, in any order, and the file's network
    may be a part of what was saved (all its names begin with 'model.'). An average's counter is kept where both are
    averages of the same form.
    """
    checkpoint = read_checkpoint(path)
    own = {key: tensor for key, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    same = checkpoint.tensors.keys() == own.keys()
    names = {key: key for key in own} if same else unwrapped(own)
    state = checkpoint.tensors if same else checkpoint.state
    state = next((inner for inner in nested(state) if inner.keys() == set(names.values())), state)
    places = {place(own[key]): name for key, name in names.items() if name in state}  # of what the network ties
    found = {key: state.get(name, state.get(places.get(place(own[key]), name))) for key, name in names.items()}
    missing = [f"missing {key}" for key, tensor in found.items() if tensor is None]
    unexpected = [f"unexpected {name}" for name in state if name not in names.values()]
    reshaped = [
        f"{key} is {tuple(tensor.shape)}, not {tuple(own[key].shape)}"
        for key, tensor in found.items()
        if tensor is not None and tensor.shape != own[key].shape
    ]
    shown = missing[:3] + unexpected[:3] + reshaped[:3]
    if shown:
        hidden = len(missing) + len(unexpected) + len(reshaped) - len(shown)
        more = f" and {hidden} more" if hidden else ""
        raise ValueError(f"{path} is not of this network: {'; '.join(shown)}{more}")
    model.load_state_dict(model.state_dict() | found)
    return model


def place(tensor: Tensor) -> tuple:
    """Where a tensor's numbers are: equal for tensors that share all of them."""
    if tensor.layout != torch.strided:  # a sparse one
        return (id(tensor),)
    return storage_key(tensor), tensor.storage_offset(), tensor.shape, tensor.stride()
