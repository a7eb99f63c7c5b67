"""Stack against WaveMixLite: the same function, forward and gradients, with and without the compiled kernels."""

import pytest
import torch
import torch.nn.functional as F
from examples import examples
from hypothesis import given, settings
from shapes import configurations

from wavemix import LiteConfig, WaveMixLite, kernels
from wavemix.kernels import LANES
from wavemix.stack import Stack, to_lanes
from wavemix.stack.compiled_blocks import fits_chain


def networks(stack: Stack) -> list[WaveMixLite]:
    """The stack's members as ordinary modules, in double precision."""
    result = []
    for seed in stack.seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            result.append(WaveMixLite(stack.config).double())
    return result


def image_size(config: LiteConfig) -> int:
    for size in range(8, 200):
        try:
            config.check_image_size(size, size)
            return size
        except ValueError:
            continue
    raise AssertionError(f"no size up to 200 fits {config}")


def compare(config: LiteConfig, height: int = 0, width: int = 0, most: float = 2e-3) -> None:
    stack = Stack(config, [3, 4])
    height, width = height or image_size(config), width or image_size(config)
    images = torch.randn(2, 2 * LANES, config.in_channels, height, width, generator=torch.Generator().manual_seed(0))
    logits, statistics = stack(to_lanes(images))
    target = torch.arange(2 * LANES) % config.num_classes
    F.cross_entropy(logits.flatten(0, 1), target.repeat(2), reduction="sum").backward()
    for member, network in enumerate(networks(stack)):
        network.train()
        plain = network(images[member].double())
        torch.testing.assert_close(logits[member].double(), plain, atol=2e-3, rtol=2e-3)
        F.cross_entropy(plain, target, reduction="sum").backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
        error = (stack.flat.grad[member].double() - gradient).norm() / gradient.norm()
        # a hidden value within rounding of zero may fall on the other side of relu's kink
        assert error < (0.05 if config.activation == "relu" else most), error
        # evaluation: the exported state in an ordinary module equals the stack with given statistics
        network.float().load_state_dict(stack.state(member, stack.flat, statistics))
        network.eval()
        with torch.no_grad():
            given, _ = stack(to_lanes(images), given=statistics)
            torch.testing.assert_close(given[member], network(images[member]), atol=2e-3, rtol=2e-3)


@given(configurations(small=True))
@settings(max_examples=examples(25), derandomize=True)
def test_equals_module(config):
    # level 4 of bior2.2 has few values far from zero in a batch of two: rounding is a larger share
    compare(config.model_copy(update={"dropout": 0.0}), most=1e-2)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "deconv", "depthwise"])
@pytest.mark.parametrize("level", [1, 2])
def test_equals_module_without_kernels(monkeypatch, upsampling, level):
    monkeypatch.setattr(kernels, "library", lambda: None)
    compare(LiteConfig(in_channels=1, final_dim=8, depth=2, level=level, upsampling=upsampling, stride=2))


def test_shared_images_and_independent_members():
    config = LiteConfig(in_channels=1, final_dim=8, depth=2)
    images = to_lanes(torch.randn(1, 32, 1, 8, 8))
    both, _ = Stack(config, [0, 1])(images)
    alone, _ = Stack(config, [1])(images)
    assert torch.equal(both[1], alone[0])


def test_dropout_runs_only_in_training():
    stack = Stack(LiteConfig(in_channels=1, final_dim=8, depth=1, dropout=0.5), [0])
    images = to_lanes(torch.randn(1, 16, 1, 8, 8))
    first, statistics = stack(images)
    assert not torch.equal(first, stack(images)[0])
    with torch.no_grad():
        assert torch.equal(stack(images, given=statistics)[0], stack(images, given=statistics)[0])


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "deconv", "depthwise"])
@pytest.mark.parametrize(
    "hyperparameters",
    [
        {},
        {"shared": 1},
        {"shared": 5},
        {"affine": "one"},
        {"shared": 5, "affine": "block"},
        {"bias": "needed", "activation": "silu"},
        {"ff_channel": 4},
        {"shared": 5, "cycle": 3},
        {"cycle": 2, "mult": 3, "affine": "one"},
    ],
)
def test_chain_equals_module_at_depth(upsampling, hyperparameters):
    """Backward rebuilds twelve blocks' inputs one from the other: the gradients are still those of the module."""
    if hyperparameters.get("ff_channel") and upsampling != "deconv":
        hyperparameters = {"mult": 3}
    if upsampling == "deconv":  # its blocks take no turns
        hyperparameters = {name: value for name, value in hyperparameters.items() if name != "cycle"}
    compare(LiteConfig(in_channels=1, final_dim=8, depth=12, upsampling=upsampling, **hyperparameters))


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "depthwise"])
@pytest.mark.parametrize(("height", "width"), [(20, 20), (4, 64), (26, 14), (32, 12), (2, 2)])
def test_chain_equals_module_in_strips(upsampling, height, width):
    """Strips of one row and of many, a last one that is shorter, a single pixel."""
    config = LiteConfig(in_channels=1, final_dim=8, depth=3, upsampling=upsampling, stride=1, bias="needed")
    if kernels.library() is not None:
        assert fits_chain(config, to_lanes(torch.zeros(1, 16, 1, height, width)), training=True)
    compare(config, height, width)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "depthwise"])
@pytest.mark.parametrize("cycle", [2, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 16), (16, 80)])
def test_chain_equals_module_in_turns(upsampling, cycle, height, width):
    """Blocks on every level that there is, down to a single pixel, on maps of one strip and of several."""
    config = LiteConfig(
        in_channels=1, final_dim=8, depth=cycle + 1, cycle=cycle, upsampling=upsampling, stride=1, bias="needed"
    )
    if kernels.library() is not None:
        assert fits_chain(config, to_lanes(torch.zeros(1, 16, 1, height, width)), training=True)
    compare(config, height, width)


@pytest.mark.parametrize(
    ("hyperparameters", "shape", "dtype", "problem"),
    [
        ({}, (1, 1, 1, 7, 7, LANES), torch.float32, "divisible by 2"),
        ({"level": 2}, (1, 1, 1, 6, 6, LANES), torch.float32, "divisible by 4"),
        ({"initial_conv": "patchify", "patch_size": 8}, (1, 1, 1, 4, 4, LANES), torch.float32, "divisible by 2"),
        ({}, (2, 1, 1, 8, 8, LANES), torch.float32, rf"images are \(1 or 3, groups, 1, height, width, {LANES}\)"),
        ({}, (1, 1, 1, 8, 8, LANES + 1), torch.float32, "images are"),
        ({}, (1, 1, 8, 8, LANES), torch.float32, "images are"),
        ({}, (1, 1, 3, 8, 8, LANES), torch.float32, "1 channels of torch.float32, not 3 of torch.float32"),
        ({}, (1, 1, 1, 8, 8, LANES), torch.float64, "not 1 of torch.float64"),
    ],
)
def test_images_that_do_not_fit_are_refused(hyperparameters, shape, dtype, problem):
    """Kernels get addresses, no shapes."""
    stack = Stack(LiteConfig(in_channels=1, final_dim=8, depth=2, **hyperparameters), [0, 1, 2])
    with pytest.raises(ValueError, match=problem):
        stack(torch.zeros(shape, dtype=dtype))


def test_a_stack_has_a_member():
    with pytest.raises(ValueError, match="at least one member"):
        Stack(LiteConfig(in_channels=1), [])


def test_memory_that_is_not_aligned_gives_the_same():
    stack = Stack(LiteConfig(in_channels=1, final_dim=8, depth=2), [0])
    images = to_lanes(torch.randn(1, 16, 1, 8, 8))
    buffer = torch.empty(images.numel() + LANES)
    start = next(n for n in range(LANES) if buffer[n:].data_ptr() % 64 == 4)
    odd = buffer[start : start + images.numel()].view_as(images).copy_(images)
    torch.testing.assert_close(stack(odd)[0], stack(images)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "deconv", "depthwise"])
def test_gradients_with_given_statistics(upsampling, monkeypatch):
    config = LiteConfig(in_channels=1, final_dim=8, depth=3, upsampling=upsampling)
    images, found = to_lanes(torch.randn(1, 32, 1, 8, 8, generator=torch.Generator().manual_seed(0))), []
    _, statistics = Stack(config, [0])(images)
    for _ in range(2):
        stack = Stack(config, [0])
        stack(images, given=statistics)[0].square().sum().backward()
        found.append(stack.flat.grad)
        monkeypatch.setattr(kernels, "library", lambda: None)
    largest = found[0].abs().max()  # of sums over all places: what cancels is as wrong as what does not
    torch.testing.assert_close(*(gradient / largest for gradient in found), atol=1.5e-5, rtol=1e-3)


@pytest.mark.parametrize("upsampling", ["bilinear", "deconv"])
@pytest.mark.parametrize("level", [1, 2])
def test_second_derivatives_are_refused(upsampling, level):
    if kernels.library() is None:
        pytest.skip("no C++ compiler")
    stack = Stack(LiteConfig(in_channels=1, final_dim=8, depth=2, level=level, upsampling=upsampling), [0])
    loss = stack(to_lanes(torch.randn(1, 16, 1, 8, 8)))[0].square().sum()
    (gradient,) = torch.autograd.grad(loss, stack.flat, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_what_is_not_a_number_stays_so():
    for activation in ("gelu", "relu", "silu"):
        stack = Stack(LiteConfig(in_channels=1, final_dim=8, depth=1, activation=activation), [0])
        images = to_lanes(torch.randn(1, 16, 1, 8, 8))
        images[..., 3] = float("nan")
        with torch.no_grad():
            _, statistics = Stack(stack.config, [0])(to_lanes(torch.randn(1, 16, 1, 8, 8)))
            logits, _ = stack(images, given=statistics)
        assert logits[0, 3].isnan().all() and logits[0, :3].isfinite().all()


def test_pytorchs_own_threads_are_left_alone():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        stack = Stack(LiteConfig(in_channels=1, final_dim=8, depth=1), [0])
        torch.set_num_threads(1)
        stack(to_lanes(torch.randn(1, 16, 1, 8, 8)))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_second_backward_pass_is_refused():
    stack = Stack(LiteConfig(in_channels=1, final_dim=8, depth=2, upsampling="bilinear"), [0])
    if kernels.library() is None:
        pytest.skip("no C++ compiler")
    loss = stack(to_lanes(torch.randn(1, 16, 1, 8, 8)))[0].sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="run the forward pass again"):
        loss.backward()


def test_chain_keeps_less_than_a_third_of_what_a_module_keeps():
    if kernels.library() is None:
        pytest.skip("no C++ compiler")

    def kept(forward) -> int:
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward()
        return sum(sizes.values())

    config = LiteConfig(in_channels=1, final_dim=8, depth=8)
    images = torch.randn(1, 64, 1, 28, 28)
    module, stack, lanes = WaveMixLite(config), Stack(config, [0]), to_lanes(images)
    assert kept(lambda: stack(lanes)[0]) < kept(lambda: module(images[0])) / 3


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "deconv", "depthwise"])
@pytest.mark.parametrize("level", [1, 2])
def test_bfloat16_agrees_with_single_precision(upsampling, level):
    """The kernels know single precision alone: other types take the plain form, which agrees up to their rounding."""
    config = LiteConfig(in_channels=1, final_dim=8, depth=3, level=level, upsampling=upsampling)
    images = torch.randn(1, 64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        stack = Stack(config, [0])
        stack.flat = stack.flat.detach().to(dtype).requires_grad_()
        logits, statistics = stack(to_lanes(images.to(dtype)))
        F.cross_entropy(logits[0].float(), torch.arange(64) % 10).backward()
        with torch.no_grad():
            evaluated, _ = stack(to_lanes(images.to(dtype)), given=statistics)
        assert logits.dtype == evaluated.dtype == dtype
        results.append((logits.detach().float(), evaluated.float(), stack.flat.grad.float()))
    single, half = results
    for ours, other in zip(single, half):
        assert (ours - other).norm() < 0.2 * ours.norm()


@pytest.mark.parametrize("wavelet", ["haar", "bior2.2"])
@pytest.mark.parametrize("level", [1, 4])
def test_double_precision_is_exact(wavelet, level):
    config = LiteConfig(in_channels=1, final_dim=12, depth=1, level=level, activation="relu", wavelet=wavelet)
    stack = Stack(config, [3, 4])
    stack.flat = stack.flat.detach().double().requires_grad_()
    size = image_size(config)
    images = torch.randn(2, LANES, 1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stack(to_lanes(images))[0].square().sum().backward()
    for member, network in enumerate(networks(stack)):
        network.train()(images[member]).square().sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
        torch.testing.assert_close(stack.flat.grad[member], gradient, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "deconv", "depthwise"])
@pytest.mark.parametrize("level", [1, 2])
def test_gradients_do_not_depend_on_the_threads(upsampling, level):
    """Nor on which thread happens to work on what: sums are in the groups' order."""
    if kernels.library() is None:
        pytest.skip("no C++ compiler")
    config = LiteConfig(in_channels=1, final_dim=8, depth=2, level=level, upsampling=upsampling, stride=1)
    images, before, found = to_lanes(torch.randn(1, 8 * LANES, 1, 16, 16)), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2, 3):
            torch.set_num_threads(threads)
            stack = Stack(config, [0])
            torch.set_num_threads(1)  # PyTorch's own sums may differ
            stack(images)[0].square().sum().backward()
            found.append(stack.flat.grad)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


@given(configurations(small=True))
@settings(max_examples=examples(10), derandomize=True)
def test_member_by_member_equals_stack(config):
    """What a GPU runs where blocks can't be halved; here on the processor."""
    stack = Stack(config.model_copy(update={"dropout": 0.0, "views": "one"}), [3, 4])
    size = image_size(config)
    images = to_lanes(torch.randn(2, 32, config.in_channels, size, size, generator=torch.Generator().manual_seed(0)))
    logits, statistics = stack(images)
    weights = stack.views(stack.flat)
    plain, measured = stack._modules(weights, images, None)
    torch.testing.assert_close(plain, logits, atol=2e-3, rtol=2e-3)
    assert measured.keys() == statistics.keys()
    for name in measured:
        torch.testing.assert_close(measured[name], statistics[name], atol=1e-4, rtol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(
            stack._modules(weights, images, statistics)[0], stack(images, given=statistics)[0], atol=2e-3, rtol=2e-3
        )


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "depthwise", "deconv"])
@pytest.mark.parametrize("bias", ["all", "needed"])
@pytest.mark.parametrize(("shared", "affine"), [(0, "depth"), (1, "depth"), (2, "block"), (0, "one")])
def test_blocks_on_small_maps_equal_full_ones_in_double_precision(upsampling, bias, shared, affine):
    f = 12 if upsampling == "deconv" else 8
    hyperparameters = {
        "ff_channel": f,
        "mult": 1,
        "upsampling": upsampling,
        "bias": bias,
        "shared": shared,
        "affine": affine,
    }
    config = LiteConfig(final_dim=8, depth=3, **hyperparameters)
    stack = Stack(config, [3, 4])
    stack.flat = stack.flat.detach().double().requires_grad_()
    images = torch.randn(2, LANES, 3, 12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits, _ = stack(to_lanes(images))
    logits.square().sum().backward()
    for member, network in enumerate(networks(stack)):
        plain = network.train()(images[member])
        torch.testing.assert_close(logits[member], plain, atol=1e-10, rtol=1e-10)
        plain.square().sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
        torch.testing.assert_close(stack.flat.grad[member], gradient, atol=1e-9, rtol=1e-9)


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@gpu
@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "deconv", "depthwise"])
def test_gpu_equals_processor(upsampling):
    config = LiteConfig(final_dim=16, depth=3, upsampling=upsampling, initial_conv="separable")
    here, there = Stack(config, [0, 1]), Stack(config, [0, 1], "cuda")
    images = to_lanes(torch.randn(2, 32, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        torch.testing.assert_close(there(images.cuda())[0].cpu(), here(images)[0], atol=5e-3, rtol=5e-3)
    gradients = []
    for stack in (here, there):
        logits, _ = stack(images.to(stack.device))
        gradients.append(torch.autograd.grad(logits.square().sum(), stack.flat)[0].cpu())
    assert (gradients[0] - gradients[1]).norm() < 0.05 * gradients[0].norm()  # bfloat16 has eight bits
