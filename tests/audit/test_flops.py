"""Small networks whose multiply-accumulates were counted by hand: images of 3 x 16 x 16 unless a shape is given."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune, rnn
from torch.utils.checkpoint import checkpoint

from search.audit.cost import cost, count_flops, run
from search.audit.modules import modules

SHAPE = (3, 16, 16)


class Net(nn.Module):
    """forward(x) = function(self, x), with modules or parameters by name."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, torch.Tensor) else part)

    def forward(self, x):
        return self.function(self, x)


def conv(inputs=3, outputs=8):
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


CONV = 256 * 8 * 27  # what it costs


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


def rows(x):
    """An image as a sequence: 16 rows of 48 numbers."""
    return x.permute(0, 2, 1, 3).flatten(2)


def packed(net, x):
    sequence = rnn.pack_padded_sequence(rows(x), [10] * len(x), batch_first=True)
    return rnn.pad_packed_sequence(net.part(sequence)[0], batch_first=True)[0]


def tokens(layer):
    """16 tokens of 16 numbers from patches of 4 x 4, then `layer`."""
    return Net(lambda n, x: n.part(n.patch(x).flatten(2).transpose(1, 2)), patch=nn.Conv2d(3, 16, 4, 4), part=layer)


PATCH = 16 * 16 * 48


class Attends(nn.MultiheadAttention):
    def __init__(self, weights):
        super().__init__(16, 2, batch_first=True)
        self.weights = weights

    def forward(self, x):
        return super().forward(x, x, x, need_weights=self.weights)[0]


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        return F.conv2d(x, weight)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class Deeper(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        return Product.apply(x, weight) * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@dataclasses.dataclass
class Output:
    logits: torch.Tensor


def gradient_of(net, x):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(net.part(x).sum(), x)[0]


class Written(nn.Module):
    """Writes the image into a buffer and works on that."""

    def __init__(self):
        super().__init__()
        self.register_buffer("held", torch.zeros(1, 3, 16, 16))

    def forward(self, x):
        self.held.copy_(x[:1])
        return self.held * 2


def sdpa(**options):
    return Net(lambda n, x: F.scaled_dot_product_attention(x, x, x, **options))


def mask(kind):
    def attend(net, x):
        seen = torch.ones(16, 16, device=x.device).tril()
        return F.scaled_dot_product_attention(x, x, x, attn_mask=seen.to(kind))

    return Net(attend)


def rand(*shape, **options):
    return torch.randn(shape, **options)


# name: network, FLOPs by operator, and MACs that torch's counter sees where they are others
TABLE = {
    "convolution": (conv, {"conv": CONV}),
    "its bias is free": (lambda: nn.Conv2d(3, 8, 3), {"conv": 14 * 14 * 8 * 27}),
    "strided": (lambda: nn.Conv2d(3, 8, 5, 2, 2), {"conv": 8 * 8 * 8 * 75}),
    "dilated": (lambda: nn.Conv2d(3, 8, 3, dilation=2), {"conv": 12 * 12 * 8 * 27}),
    "grouped": (lambda: nn.Conv2d(3, 6, 3, groups=3, padding=1), {"conv": 256 * 6 * 9}),
    "separable": (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.Conv2d(3, 8, 1)),
        {"conv": 256 * 3 * 9 + 256 * 3 * 8},
    ),
    "padding same": (lambda: nn.Conv2d(3, 8, 3, padding="same"), {"conv": CONV}),
    "same, even kernel": (lambda: nn.Conv2d(3, 8, 4, padding="same", dilation=2), {"conv": 256 * 8 * 48}),
    "padding valid": (lambda: nn.Conv2d(3, 8, 3, padding="valid"), {"conv": 14 * 14 * 8 * 27}),
    "reflected": (lambda: nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), {"conv": CONV}),
    "circular": (lambda: nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"), {"conv": CONV}),
    "transposed": (lambda: nn.ConvTranspose2d(3, 6, 4, 2, 1), {"conv": 256 * 3 * 6 * 16}),
    "transposed, grouped, dilated": (
        lambda: nn.ConvTranspose2d(3, 6, 3, 2, dilation=2, groups=3),
        {"conv": 256 * 3 * 2 * 9},
    ),
    "one dimension": (lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 5)), {"conv": 252 * 4 * 15}),
    "transposed in one": (lambda: nn.Sequential(nn.Flatten(2), nn.ConvTranspose1d(3, 4, 3)), {"conv": 256 * 3 * 4 * 3}),
    "three dimensions": (
        lambda: nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 4, 3)),
        {"conv": 1 * 14 * 14 * 4 * 27},
    ),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 10)), {"linear": 7680}),
    "linear on every row": (lambda: nn.Linear(16, 5), {"linear": 48 * 16 * 5}),
    "matrices from both sides": (
        lambda: Net(lambda n, x: n.a.T @ n.part(x) @ n.a, part=nn.Conv2d(3, 8, 1), a=rand(16, 16)),
        {"conv": 256 * 3 * 8, "matmul": 2 * 8 * 16 * 16 * 16},
    ),
    "matrix from the right": (lambda: Net(lambda n, x: x @ n.w, w=rand(16, 4)), {"matmul": 48 * 16 * 4}),
    "matrices for every image": (
        lambda: Net(lambda n, x: x @ n.w, w=rand(5, 1, 1, 16, 16)),
        {"matmul": 5 * 3 * 16 * 16 * 16},
    ),
    "matrix and vector": (lambda: Net(lambda n, x: x @ n.w, w=rand(16)), {"matmul": 48 * 16}, 0),
    "vector and matrix": (lambda: Net(lambda n, x: n.w @ x[0, 0], w=rand(16)), {"matmul": 16 * 16}),
    "two vectors": (lambda: Net(lambda n, x: x[0].flatten() @ n.w, w=rand(768)), {"matmul": 768}, 0),
    "baddbmm": (lambda: Net(lambda n, x: torch.baddbmm(x[:, 0], x[:, 1], x[:, 2])), {"matmul": 16**3}),
    "addmm": (lambda: Net(lambda n, x: torch.addmm(x[0, 0], x[0, 1], x[0, 2])), {"matmul": 16**3}),
    "einsum, 1x1 convolution": (
        lambda: Net(lambda n, x: torch.einsum("bchw,cd->bdhw", x, n.w), w=rand(3, 8)),
        {"matmul": 256 * 3 * 8},
    ),
    "einsum, pairs of rows": (
        lambda: Net(lambda n, x: torch.einsum("bchw,bcvw->bchv", x, x)),
        {"matmul": 3 * 16 * 16 * 16},
    ),
    "einsum, outer product": (
        lambda: Net(lambda n, x: torch.einsum("bc,bd->bcd", x[..., 0, 0], x[..., 0, 1])),
        {"mul": 9},
    ),
    "attention": (sdpa, {"scaled_dot_product_attention": 2 * 3 * 16 * 16 * 16}),
    "causal attention": (lambda: sdpa(is_causal=True), {"scaled_dot_product_attention": 2 * 3 * 16 * 16 * 16}),
    "attention, added mask": (lambda: mask(torch.float), {"scaled_dot_product_attention": 2 * 3 * 16 * 16 * 16}),
    "attention, boolean mask": (lambda: mask(torch.bool), {"scaled_dot_product_attention": 2 * 3 * 16 * 16 * 16}),
    "attention, other widths": (
        lambda: Net(lambda n, x: F.scaled_dot_product_attention(x, x[:, :, :10], x[:, :, :10, :4])),
        {"scaled_dot_product_attention": 3 * 16 * 10 * (16 + 4)},
    ),
    "attention by hand": (
        lambda: Net(lambda n, x: F.softmax(x @ x.mT, -1) @ x),
        {"matmul": 2 * 3 * 16 * 16 * 16, "softmax": 5 * 768},
    ),
    "MultiheadAttention": (
        lambda: tokens(Attends(False)),
        {"conv": PATCH, "linear": 16 * 16 * 48 + 16 * 16 * 16, "scaled_dot_product_attention": 2 * 2 * 16 * 16 * 8},
    ),
    "MultiheadAttention's weights": (
        lambda: tokens(Attends(True)),
        {
            "conv": PATCH, "linear": 16 * 16 * 48 + 16 * 16 * 16, "matmul": 2 * 2 * 16 * 16 * 8,
            "mul": 256, "softmax": 5 * 2 * 256, "mean": 2 * 256,
        },
    ),
    "TransformerEncoderLayer": (
        lambda: tokens(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)),
        {
            "conv": PATCH, "linear": 16 * 16 * (48 + 16) + 2 * 16 * 16 * 32,
            "scaled_dot_product_attention": 2 * 2 * 16 * 16 * 8, "relu": 512, "layer_norm": 2 * 5 * 256, "add": 512,
        },
    ),
    "LSTM": (
        lambda: Net(lambda n, x: n.part(rows(x))[0], part=nn.LSTM(48, 32, batch_first=True)),
        {"lstm": 16 * 4 * 32 * (48 + 32)},
    ),
    "LSTM, both directions, two layers": (
        lambda: Net(lambda n, x: n.part(rows(x))[0], part=nn.LSTM(48, 5, 2, bidirectional=True, batch_first=True)),
        {"lstm": 16 * 2 * 4 * 5 * ((48 + 5) + (10 + 5))},
    ),
    "LSTM with projection": (
        lambda: Net(lambda n, x: n.part(rows(x))[0], part=nn.LSTM(48, 6, proj_size=2, batch_first=True)),
        {"lstm": 16 * (4 * 6 * (48 + 2) + 2 * 6)},
    ),
    "LSTM, packed": (lambda: Net(packed, part=nn.LSTM(48, 32, batch_first=True)), {"lstm": 10 * 4 * 32 * (48 + 32)}),
    "GRU": (
        lambda: Net(lambda n, x: n.part(rows(x))[0], part=nn.GRU(48, 5, batch_first=True)),
        {"gru": 16 * 3 * 5 * (48 + 5)},
    ),
    "RNN": (
        lambda: Net(lambda n, x: n.part(rows(x))[0], part=nn.RNN(48, 5, batch_first=True)),
        {"rnn_tanh": 16 * 5 * (48 + 5)},
    ),
    "LSTMCell": (lambda: nn.Sequential(nn.Flatten(), nn.LSTMCell(768, 4)), {"lstm_cell": 4 * 4 * (768 + 4)}),
    "GRUCell": (lambda: nn.Sequential(nn.Flatten(), nn.GRUCell(768, 4)), {"gru_cell": 3 * 4 * (768 + 4)}),
    "complex matrix": (
        lambda: Net(lambda n, x: x.to(n.w.dtype) @ n.w, w=rand(16, 4, dtype=torch.complex64)),
        {"matmul": 4 * 48 * 16 * 4},
        48 * 16 * 4,
    ),
    "complex sums and products": (
        lambda: Net(lambda n, x: (x * n.w + n.w) * n.w, w=rand(16, dtype=torch.complex64)),
        {"add": 2 * 768, "mul": (2 + 4) * 768},
    ),
    "Fourier, complex": (lambda: Net(lambda n, x: torch.fft.fft2(x)), {"fft_c2c": 3 * 5 * 256 * 8}),
    "Fourier, real, and back": (
        lambda: Net(lambda n, x: torch.fft.irfft2(torch.fft.rfft2(x) * 0.5)),
        {"fft_r2c": 3 * 2.5 * 256 * 8, "mul": 2 * 3 * 16 * 9, "fft_c2r": 3 * 2.5 * 256 * 8},
    ),
    "Fourier filter": (
        lambda: Net(lambda n, x: torch.fft.irfft(torch.fft.rfft(x) * n.w), w=rand(9, dtype=torch.complex64)),
        {"fft_r2c": 48 * 2.5 * 16 * 4, "mul": 4 * 48 * 9, "fft_c2r": 48 * 2.5 * 16 * 4},
    ),
    "autograd function": (lambda: Net(lambda n, x: Product.apply(x, n.w), w=rand(8, 3, 1, 1)), {"conv": 256 * 24}),
    "autograd function in another": (
        lambda: Net(lambda n, x: Deeper.apply(x, n.w), w=rand(8, 3, 1, 1)),
        {"conv": 256 * 24, "mul": 256 * 8},
    ),
    "called three times": (
        lambda: Net(lambda n, x: n.part(n.part(n.part(x))), part=conv(3, 3)),
        {"conv": 3 * 256 * 81},
    ),
    "checkpointed, re-entrant": (
        lambda: Net(lambda n, x: checkpoint(n.b, n.a(x), use_reentrant=True), a=conv(), b=conv(8)),
        {"conv": CONV + 256 * 8 * 72},
    ),
    "checkpointed": (
        lambda: Net(lambda n, x: checkpoint(n.b, n.a(x), use_reentrant=False), a=conv(), b=conv(8)),
        {"conv": CONV + 256 * 8 * 72},
    ),
    "weight norm": (lambda: nn.Sequential(nn.utils.weight_norm(conv())), {"conv": CONV}),
    "weight norm, parametrized": (lambda: parametrizations.weight_norm(conv()), {"conv": CONV}),
    "spectral norm": (lambda: parametrizations.spectral_norm(conv()), {"conv": CONV}),
    "pruned": (lambda: nn.Sequential(pruned(conv())), {"conv": CONV}),
    "weights of two matrices": (
        lambda: Net(lambda n, x: x @ (n.w + n.a @ n.b), w=rand(16, 16), a=rand(16, 2), b=rand(2, 16)),
        {"matmul": 48 * 16 * 16},
        48 * 16 * 16 + 16 * 2 * 16,
    ),
    "an image in a buffer": (Written, {"mul": 768}),
    "a dataclass": (lambda: Net(lambda n, x: Output(n.part(x)), part=conv()), {"conv": CONV}),
    "vmap": (lambda: Net(lambda n, x: torch.vmap(n.part)(x), part=conv()), {"conv": CONV}),
    "scripted": (lambda: torch.jit.script(nn.Sequential(conv(), nn.ReLU())), {"conv": CONV, "relu": 2048}),
    "compiled": (lambda: nn.Sequential(torch.compile(conv())), {"conv": CONV}),
    "in half precision": (lambda: conv().bfloat16(), {"conv": CONV}),
    "looks at a number": (
        lambda: Net(lambda n, x: n.part(x) if float(x.sum()) < 1e30 else x, part=conv()),
        {"conv": CONV, "sum": 768},
    ),
    "normalisations": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(3), nn.GroupNorm(3, 3), nn.InstanceNorm2d(3), nn.LayerNorm(16), nn.RMSNorm(16)
        ),
        {"batch_norm": 2 * 768, "group_norm": 5 * 768, "instance_norm": 4 * 768, "layer_norm": 5 * 768,
         "rms_norm": 4 * 768},
    ),
    "integers and comparisons": (
        lambda: Net(lambda n, x: torch.where(torch.arange(16, device=x.device) * 2 > (x > 0).sum(), x, 0)),
        {},
    ),
    "copies": (
        lambda: nn.Sequential(nn.ReflectionPad2d(1), nn.PixelUnshuffle(2), nn.Flatten(1), nn.Dropout(), nn.Identity()),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_counted_by_hand(name):
    build, flops, *others = TABLE[name]
    found = cost(build(), SHAPE, batch=2)
    assert found.flops == flops and found.unsupported == {} and found.unmeasured == {}
    (by_torch,) = others or [found.macs]
    assert found.macs_torch == by_torch and found.macs == sum(flops[kind] for kind in flops.keys() - ELEMENTWISE)


ELEMENTWISE = set("add mul sum mean relu softmax fft_c2c fft_r2c fft_c2r".split()) | {
    f"{kind}_norm" for kind in ("batch", "group", "instance", "layer", "rms")
}


def as_numpy(net, x):
    return torch.from_numpy(net.part(x).detach().numpy() ** 2) + 1


@pytest.mark.parametrize(
    ("build", "flops", "uncounted"),
    [
        (lambda: Net(lambda n, x: x.sort()[0] + 1), {"add": 768}, {"aten::sort": 1}),
        (lambda: Net(lambda n, x: torch.linalg.inv(x)), {}, {"aten::linalg_inv_ex": 1}),
        (lambda: Net(lambda n, x: n.part(x, x), part=nn.Bilinear(16, 16, 2, bias=False)), {}, {"aten::_trilinear": 1}),
        (lambda: Net(lambda n, x: torch.fft.fft(x).exp()), {"fft_r2c": 768 * 2.5 * 4}, {"aten::exp": 1}),
        (lambda: Net(as_numpy, part=conv()), {"conv": CONV, "add": 2048}, {"numpy": 1}),
        (lambda: Net(gradient_of, part=conv()), {"conv": CONV, "sum": 2048}, {"aten::convolution_backward": 1}),
    ],
)
def test_what_has_no_count_is_listed_by_name(build, flops, uncounted):
    assert count_flops(build(), SHAPE) == (flops, uncounted)


def test_a_total_without_some_operators_says_so():
    found = cost(Net(lambda n, x: torch.erf(n.part(x)), part=conv()), SHAPE, batch=2, compared=True)
    assert found.lower_bound and found.unsupported == {"aten::erf": 1} and found.flops_total == 2 * CONV
    assert found.macs == found.macs_torch == found.macs_fvcore == CONV and found.unmeasured == {}


def test_what_fvcore_cannot_follow_is_said_and_the_rest_is_measured():
    found = cost(Net(lambda n, x: Output(n.part(x)), part=conv()), SHAPE, batch=2, compared=True)
    assert found.flops_total == 2 * CONV and found.macs_fvcore is None
    assert list(found.unmeasured) == ["MACs by fvcore"] and "\n" not in found.unmeasured["MACs by fvcore"]


def test_what_trains_otherwise_than_it_runs_has_its_flops():
    def forward(net, x):
        assert not net.training, "targets are missing"
        return net.part(x)

    found = cost(Net(forward, part=conv()), SHAPE, batch=2)
    assert found.flops_total == 2 * CONV and found.activation_bytes is None and found.activation_bytes_per_image is None
    assert found.unmeasured == {"activation memory": "AssertionError: targets are missing"}


def test_a_network_that_does_not_run_raises_what_it_raises():
    with pytest.raises(RuntimeError, match="channels"):
        cost(conv(), (4, 16, 16))
    network = nn.Sequential(conv(), nn.BatchNorm2d(8))
    network[1].eval()
    run(network, SHAPE)
    assert network.training and network[0].training and not network[1].training


def test_a_scripted_part_counts_for_the_module_around_it():
    network = nn.Sequential(torch.jit.script(conv()), nn.ReLU())
    rows = modules(network, SHAPE).rows
    assert {row.name: row.flops for row in rows} == {"": 2 * CONV, "0": 0, "1": 2048}
