"""Every form in which weights are saved loads into every form of the network (see test_upstream_models.py, too)."""

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.optim.swa_utils import AveragedModel

from wavemix import load_checkpoint
from wavemix.checkpoint import read_checkpoint, unwrapped


class Compiled(nn.Module):
    """The names that torch.compile gives, without the seconds that importing it takes."""

    def __init__(self, network):
        super().__init__()
        self._orig_mod = network


class Outer(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def parallel_inside():
    network = small()
    network[0] = nn.DataParallel(network[0])
    return network


FORMS = {
    "plain": small,
    "compiled": lambda: Compiled(small()),
    "parallel": lambda: nn.DataParallel(small()),
    "compiled parallel": lambda: Compiled(nn.DataParallel(small())),
    "parallel compiled": lambda: nn.DataParallel(Compiled(small())),
    "averaged": lambda: AveragedModel(small()),
    "averaged parallel": lambda: AveragedModel(nn.DataParallel(small())),
    "parallel averaged": lambda: nn.DataParallel(AveragedModel(small())),
    "parallel inside": parallel_inside,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("saved", FORMS)
def test_wrapped_or_not_on_either_side(tmp_path, saved, form):
    network, model = FORMS[saved](), FORMS[form]()
    torch.save(network.state_dict(), tmp_path / "a.pth")
    assert load_checkpoint(model, tmp_path / "a.pth") is model
    loaded, wanted = model.state_dict(), network.state_dict()
    names = {name: key for key, name in unwrapped(wanted).items()}
    assert set(names) == {"0.weight", "0.bias", *(f"1.{key}" for key in nn.BatchNorm2d(4).state_dict())}
    assert all(torch.equal(loaded[key], wanted[names[name]]) for key, name in unwrapped(loaded).items())


@pytest.mark.parametrize(
    "around",
    [
        lambda state: {"net": state, "acc": 90.0},
        lambda state: {"model": state, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {"state_dict": state},
        lambda state: {"model_state_dict": state},
        lambda state: {"ema": state, "epoch": 3},
        lambda state: {"model": {"name": "small"}, "ema": {"module": state, "updates": 7}},
        lambda state: {"my weights": state, "epoch": 3},
        lambda state: {"state_dict": {f"model.{key}": tensor for key, tensor in state.items()}},
    ],
)
def test_whatever_is_around_the_state_dict(tmp_path, around):
    network, model = small(), small()
    torch.save(around(network.state_dict()), tmp_path / "a.pth")
    load_checkpoint(model, tmp_path / "a.pth")
    assert torch.equal(model[0].weight, network[0].weight)


def test_an_average_that_goes_on_keeps_its_counter(tmp_path):
    average = AveragedModel(small())
    average.update_parameters(small())
    torch.save(average.state_dict(), tmp_path / "a.pth")
    assert load_checkpoint(AveragedModel(small()), tmp_path / "a.pth").n_averaged == 1


def test_what_was_taken_off_is_known(tmp_path):
    torch.save({"net": Compiled(AveragedModel(small())).state_dict(), "acc": 90.0}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").taken_off == ("net", "_orig_mod", "module", "n_averaged")
    torch.save(small().state_dict(), tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").taken_off == ()


def test_a_child_called_module_is_no_wrapper(tmp_path):
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.module, self.weight = nn.Linear(2, 3), nn.Parameter(torch.randn(7))

    for network in (Wrapper(), nn.DataParallel(Wrapper()), Outer(Wrapper())):
        torch.save(network.state_dict(), tmp_path / "a.pth")
        model = load_checkpoint(Wrapper(), tmp_path / "a.pth")
        inner = getattr(network, "network", network)
        inner = inner.module if isinstance(inner, nn.DataParallel) else inner
        assert torch.equal(model.weight, inner.weight) and torch.equal(model.module.weight, inner.module.weight)


def test_tied_weights(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = nn.Embedding(5, 2), nn.Linear(2, 5, bias=False)
            self.head.weight = self.inner.weight

    network = Tied()
    save_model(network, tmp_path / "a.safetensors")  # says in its header which name it left out
    save_file({"inner.weight": network.inner.weight}, tmp_path / "b.safetensors")
    for name in ("a.safetensors", "b.safetensors"):
        model = load_checkpoint(Tied(), tmp_path / name)
        assert torch.equal(model.inner.weight, network.inner.weight) and model.head.weight is model.inner.weight


def test_other_networks_and_no_networks_are_refused(tmp_path):
    model = small()
    before = model[0].weight.clone()
    torch.save({"net": Compiled(nn.Sequential(nn.Conv2d(3, 5, 3))).state_dict()}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="missing 1.weight.*0.weight is"):
        load_checkpoint(model, tmp_path / "a.pth")
    assert torch.equal(model[0].weight, before)
    endless = {}
    endless["model"] = endless
    for content in (endless, {"generator": small().state_dict(), "critic": small().state_dict()}, {}, {"model": {}}):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(ValueError, match="holds no state dict"):
            load_checkpoint(model, tmp_path / "a.pth")
