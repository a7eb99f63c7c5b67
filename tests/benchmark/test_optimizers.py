"""Steps of the optimizers that PyTorch lacks."""

import torch
from toy_rows import PHASES

from search.benchmark.optimizers import optimizer_of
from search.benchmark.recipe import Phase
from search.training.optimizer import orthogonal

LION = {"optimizer": "lion", "lr": 0.1, "decay": 0.5, "beta1": 0.9, "beta2": 0.99, "epochs": 1}


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Flatten(), torch.nn.Linear(3, 4))


def stepped(phase: dict, gradients: list[float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Kernel and bias before and after steps along a gradient that is a number times a fixed tensor."""
    net = network()
    conv = net[0]
    kernel, bias = conv.weight.detach().clone(), conv.bias.detach().clone()
    optimizer = optimizer_of(net, Phase.model_validate(phase))
    for factor in gradients:
        conv.weight.grad, conv.bias.grad = factor * kernel.sign() * 0.5, torch.full_like(bias, factor)
        optimizer.step()
    return kernel, conv.weight.detach(), bias, conv.bias.detach()


def test_lion_steps_by_the_sign_of_its_mean():
    kernel, after, bias, shifted = stepped(LION, [1.0])
    assert torch.allclose(after, kernel * (1 - 0.1 * 0.5) - 0.1 * kernel.sign(), atol=1e-6)
    assert torch.allclose(shifted, bias - 0.1)  # vectors do not decay
    # momentum 0.01 after the first step: 0.9 * 0.01 - 0.1 * 0.05 is still positive, 0.9 * 0.01 - 0.1 * 0.1 is not
    assert torch.allclose(stepped(LION, [1.0, -0.05])[3], bias - 0.2)
    assert torch.allclose(stepped(LION, [1.0, -0.1])[3], bias, atol=1e-6)


def test_muon_orthogonalises_kernels_and_steps_vectors_as_adam():
    phase = LION | {"optimizer": "muon", "decay": 0.0, "beta2": 0.999}
    kernel, after, bias, shifted = stepped(phase, [1.0])
    matrix = kernel.sign().flatten(1)[None]
    assert torch.allclose(after, kernel - 0.1 * orthogonal(matrix)[0].view_as(kernel), atol=1e-3)
    assert torch.allclose(shifted, bias - 0.1, atol=1e-6)


def test_sgd_and_adamw_are_pytorchs():
    kinds = [type(optimizer_of(network(), Phase.model_validate(phase))) for phase in PHASES]
    assert kinds == [torch.optim.AdamW, torch.optim.SGD]
