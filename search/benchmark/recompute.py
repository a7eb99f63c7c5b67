"""Gradient checkpointing: blocks whose activations are computed again when the gradient needs them."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

NORMS = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm


def recomputed(network: nn.Module) -> None:
    """Have the network's blocks (`layers`) do so. Outputs, gradients and running statistics stay what they were."""
    for layer in getattr(network, "layers", ()):
        again = partial(_contexts, [module for module in layer.modules() if isinstance(module, NORMS)])
        layer.forward = partial(_forward, layer, layer.forward, again)


def _forward(layer: nn.Module, forward: Any, contexts: Any, *arguments: Any) -> Any:
    if not layer.training:
        return forward(*arguments)
    return checkpoint(forward, *arguments, use_reentrant=False, context_fn=contexts)


def _contexts(norms: list[nn.Module]) -> tuple[Any, Any]:
    return nullcontext(), _at_rest(norms)


@contextmanager
def _at_rest(norms: list[Any]) -> Iterator[None]:
    """Running statistics have seen this batch."""
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before):
            norm.momentum, norm.num_batches_tracked = momentum, count
