"""Counting the operators of a training step: the forward pass in training mode, and the backward pass.

Counted as in `flops.py`, and beside that:

- A product's backward pass has one product for each factor that needs a gradient, so a convolution or linear layer
  costs twice its forward pass there; a layer that sees images or frozen features alone, once. Sums of biases' gradients
  are not counted, as biases are not.
- BatchNorm costs five for each element forward, as its statistics are computed, and eight backward; other
  normalisations five and eight. An activation's derivative and its product with the gradient count two, ReLU's one,
  softmax's four; pooling one for each element of the gradient, interpolation its taps.
- A gradient that is added to another, as where a module is used twice, counts one for each element.
- What depends on weights alone is computed at every step and counts here.

The loss and the optimizer are no part of it: the gradient of each output is given, and weights stay as they are.
"""

from bisect import bisect_right
from typing import Any

import torch
from torch import Tensor, nn

from search.audit.flops import Counting, Formula, inputs, named, names_of_running, outputs, separate_operators
from wavemix.torch_internals import backward_node, next_node, tree_leaves


def _convolution(args: tuple, result: Any) -> float:
    gradient, x, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
    grid = x if transposed else gradient
    products = grid.shape[0] * weight.numel() * grid[0, 0].numel()
    return products * (wanted[0] + wanted[1])


PRODUCTS = {"convolution_backward": ("conv", _convolution)}
FORMULAS: dict[str, Formula] = {
    **named("native_batch_norm native_batch_norm_legit cudnn_batch_norm batch_norm_with_update", inputs(5)),
    **named("native_layer_norm native_group_norm", inputs(5)),
    **named("native_batch_norm_backward cudnn_batch_norm_backward batch_norm_backward", inputs(8)),
    **named("native_layer_norm_backward native_group_norm_backward", inputs(8)),
    **named("gelu_backward silu_backward sigmoid_backward tanh_backward elu_backward softplus_backward", inputs(2)),
    **named("hardswish_backward hardsigmoid_backward mish_backward leaky_relu_backward prelu_backward", inputs(2)),
    **named("threshold_backward hardtanh_backward native_dropout_backward", inputs()),
    **named("safe_softmax", outputs(5)),
    **named("softmax_backward_data log_softmax_backward_data", inputs(4)),
    **named("max_pool2d_with_indices_backward max_pool3d_with_indices_backward", inputs()),
    **named("adaptive_max_pool2d_backward adaptive_max_pool3d_backward", inputs()),
    **named("avg_pool2d_backward avg_pool3d_backward adaptive_avg_pool2d_backward", outputs()),
    **named("upsample_nearest1d_backward upsample_nearest2d_backward upsample_nearest3d_backward", inputs()),
    "upsample_linear1d_backward": inputs(2),
    "upsample_bilinear2d_backward": inputs(4),
    "upsample_trilinear3d_backward": inputs(8),
    "upsample_bicubic2d_backward": inputs(16),
    **named("unfold_backward embedding_dense_backward", inputs()),
}
COPIES = set("slice_backward select_backward bernoulli new_empty_strided constant_pad_nd_backward".split())


class Training(Counting):
    """Counts a training step; backward work belongs to the module that ran when its operator's gradient was noted.

    Autograd numbers what it notes, so each module that runs has some intervals of numbers.
    """

    products = Counting.products | PRODUCTS
    formulas = Counting.formulas | FORMULAS
    copies = Counting.copies | COPIES

    def __init__(self, network: nn.Module):
        self.starts: list[int] = [0]
        self.places: list[str] = [""]
        self.owners: dict[int, str] = {}
        for name, child in network.named_modules():
            for parameter in child.parameters(recurse=False):
                self.owners.setdefault(id(parameter), name)
        super().__init__([], names_of_running(network, self._entered))

    def _entered(self, name: str) -> None:
        self.starts.append(next_node())
        self.places.append(name)

    def place(self) -> str:
        node = backward_node()
        if node is None:
            return self.running[-1]
        if isinstance(weight := getattr(node, "variable", None), Tensor):  # where its gradients are added up
            return self.owners.get(id(weight), "")
        return self.places[bisect_right(self.starts, node._sequence_nr()) - 1]


def trained(network: nn.Module, images: Tensor) -> Counting:
    """The count of a training step of `network`, which is somebody's copy: it gets hooks and gradients."""
    counting = Training(network)
    with separate_operators(), torch.enable_grad():
        with counting:
            results = [leaf for leaf in tree_leaves(network.train()(images)) if isinstance(leaf, Tensor)]
        learnt = [result for result in results if result.requires_grad]
        gradients = [torch.ones_like(result) for result in learnt]
        with counting:
            torch.autograd.backward(learnt, gradients)
    return counting
