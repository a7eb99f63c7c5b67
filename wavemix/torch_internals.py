"""All that the project uses of PyTorch without a promise that it stays: another version may rename or change it.

Nothing else imports or reads such a part. tests/wavemix/test_torch_internals.py says which one a version has changed.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd import forward_ad
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = [
    "OpOverload", "TorchDispatchMode", "allocations", "backward_node", "next_node", "storage_key", "tree_leaves",
    "watched",
]  # fmt: skip


def watched() -> bool:
    """Whether something needs to see operators: tracing, compiling, functional transforms, modes, forward gradients."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return True
    # the stub of torch._C leaves this module out
    if torch._C._functorch.peek_interpreter_stack():  # pyright: ignore[reportAttributeAccessIssue]
        return True
    return bool(torch._C._len_torch_dispatch_stack() or forward_ad._current_level >= 0)


def next_node() -> int:
    """The number that the next operator gets which autograd notes in this thread (`backward_node` has them)."""
    return torch.autograd._get_sequence_nr()


def backward_node() -> Any:
    """What autograd works on now: a node with `_sequence_nr()`; None outside of a backward pass."""
    return torch._C._current_autograd_node()


def allocations(run: Callable[[], object]) -> list[int]:
    """Bytes that PyTorch's CPU allocator gave out while `run` ran, and took back (below zero), in order."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    found: list[Any] = profiler.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    memory = [event for event in found if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(memory, key=lambda event: event.start_ns())]


def storage_key(tensor: Tensor) -> int:
    """Equal for tensors that share their memory, also where that is empty; another one may have it when it is freed."""
    return tensor.untyped_storage()._cdata
