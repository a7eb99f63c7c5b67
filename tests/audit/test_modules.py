"""Sums of modules are the network's totals, forward and in training, and training is what torch counts."""

import csv
import io
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from search.audit.cost import cost
from search.audit.modules import COLUMNS, modules
from wavemix import WaveMixLite


class Tied(nn.Module):
    """A layer that is used twice, weights that two layers share, a frozen stem, work of its own."""

    def __init__(self):
        super().__init__()
        self.stem, self.twice, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.one, self.other = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.other.weight = self.one.weight
        self.stem.requires_grad_(False)

    def forward(self, x):
        x = self.norm(F.relu(self.twice(F.relu(self.twice(self.stem(x))))) * 2)
        return self.other(self.one(x.mean((2, 3))))


NETWORKS = {
    "shared blocks": lambda: WaveMixLite(final_dim=8, depth=3, shared=1),
    "transposed": lambda: WaveMixLite(final_dim=8, depth=2, upsampling="deconv", level=2),
    "bilinear, SiLU, db2": lambda: WaveMixLite(
        final_dim=8, depth=2, upsampling="bilinear", activation="silu", wavelet="db2"
    ),
    "tied": Tied,
    "grouped": lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)),
    "attention": lambda: nn.Sequential(
        nn.Flatten(2), nn.Linear(256, 32), nn.TransformerEncoderLayer(32, 2, 16, batch_first=True)
    ),
}


def built(name: str) -> nn.Module:
    network = NETWORKS[name]()
    network(torch.randn(2, 3, 16, 16))
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_sums_are_the_totals(name):
    network = built(name)
    found, whole = modules(network, (3, 16, 16), batch=2), cost(network, (3, 16, 16), batch=2)
    total = found.total
    assert total.parameters == whole.parameters and total.activation_bytes == whole.activation_bytes
    assert (total.macs, total.flops) == (2 * whole.macs, 2 * whole.flops_total)
    assert found.unmeasured == {} and found.uncounted == {}
    for depth in (None, 0, 1, 2):
        rows = found.to_depth(depth)
        for column in COLUMNS:
            assert sum(getattr(row, column) for row in rows) == getattr(total, column), (depth, column)
    (alone,) = found.to_depth(0)
    assert alone.name == "" and alone.macs == total.macs


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "grouped"])
def test_training_is_what_torch_counts(name):
    """Groups apart: torch's counter takes the gradient of their weights for that of whole ones."""
    network = built(name).train()
    total = modules(network, (3, 16, 16), batch=2).total
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(2, 3, 16, 16)).sum().backward()
    assert total.training_macs == counter.get_total_flops() / 2


def test_backward_costs_what_it_should_where_it_should():
    rows = {row.name: row for row in modules(built("tied"), (3, 16, 16), batch=2).rows}
    pixels = 2 * 16 * 16
    assert rows["stem"].macs == rows["stem"].training_macs == pixels * 27 * 8  # frozen: no gradient at all
    # forward twice; the weights' gradient twice, and once that of the input, as the stem needs none
    assert rows["twice"].macs == 2 * pixels * 64 and rows["twice"].training_macs == 5 * pixels * 64
    assert rows["one"].parameters == 64 and rows["other"].parameters == 0
    assert rows["norm"].training_flops == (5 + 8) * pixels * 8
    grouped = modules(built("grouped"), (3, 16, 16), batch=2).rows[1]
    assert grouped.training_macs == 2 * grouped.macs == 2 * (2 * 14 * 14 * 6 * 9)


def test_what_cannot_be_trained_is_counted_forward():
    network = nn.Sequential(nn.Conv2d(3, 4, 16), nn.BatchNorm2d(4))  # one number a channel: no statistics
    found = modules(network, (3, 16, 16))
    assert found.total.macs == 768 * 4 and found.total.training_macs is None
    assert "more than 1 value" in found.unmeasured["training"]


ROW = "99 % in MNIST: WaveMix Lite-8/10"


def test_the_command(wavemix, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ("audit", "modules", "--row", ROW, "--depth", "1")
    shown = wavemix(*arguments, "--published", "3566", "--published-flops", "0.88 M", code=1).out
    assert "published parameters: agree" in shown and "MACs stated as FLOPs" in shown and "layers" in shown
    found = json.loads(wavemix(*arguments, "--json", "--sort", "macs", "--batch", "2").out)
    assert found["total"]["parameters"] == 3566 == sum(row["parameters"] for row in found["modules"])
    assert [row["macs"] for row in found["modules"]] == sorted((r["macs"] for r in found["modules"]), reverse=True)
    *rows, total = csv.DictReader(io.StringIO(wavemix(*arguments, "--csv").out))
    assert sum(int(row["Training MACs"]) for row in rows) == int(total["Training MACs"])
    assert total["lower_bound"] == "False" and total["MACs share"] == "1.0"
    assert "lower" not in wavemix(*arguments, "--md").out and r"\begin{tabular}" in wavemix(*arguments, "--latex").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modules"], "one of --factory, --checkpoint and --row"),
        (["modules", "--row", "x"], "there is no row 'x'"),
        (["modules", "--row", ROW, "--sort", "x"], "--sort is one of parameters"),
        (["modules", "--row", ROW, "--json", "--csv"], "exclude each other"),
        (["modules", "--row", ROW, "--published", "x"], "--published: 'x' is no figure"),
        (["modules", "--factory", "torch.nn:Identity", "--input", "3,x"], "--input is channels,height,width"),
        (["speed", "--row", ROW, "--batch", "0"], "--batch is a number of images"),
        (["speed", "--row", ROW, "--dtype", "int8"], "--dtype is float32"),
        (["--strict", "modules", "--row", ROW], "options stand behind the command"),
        (["manifest", "/nowhere.csv"], "/nowhere.csv can't be read"),
        (["--dtype", "int8"], "--dtype is one of"),
    ],
)
def test_bad_input_is_one_line(wavemix, arguments, message):
    said = wavemix("audit", *arguments, code=2).err
    assert said.startswith("wavemix: ") and message in said and said.count("\n") == 1
