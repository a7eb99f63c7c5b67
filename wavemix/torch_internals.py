"""All that the project uses of PyTorch without a promise that it stays: another version may rename or change it.

Nothing else imports or reads such a part. tests/wavemix/test_torch_internals.py says which one a version has changed.
"""

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["OpOverload", "TorchDispatchMode", "storage_key", "tree_leaves", "watched"]


def watched() -> bool:
    """Whether something needs to see operators: tracing, compiling, functional transforms, modes, forward gradients."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return True
    # the stub of torch._C leaves this module out
    if torch._C._functorch.peek_interpreter_stack():  # pyright: ignore[reportAttributeAccessIssue]
        return True
    return bool(torch._C._len_torch_dispatch_stack() or forward_ad._current_level >= 0)


def storage_key(tensor: Tensor) -> int:
    """Equal for tensors that share their memory, also where that is empty; another one may have it when it is freed."""
    return tensor.untyped_storage()._cdata
