"""Roofline of a training step of `Stack`: each kernel beside this machine's measured peaks.

    python -m scripts.benchmarks.roofline [--precision bfloat16] [--output FILE]

Peaks, by torch on the same threads: the best of several large matrix products, of the step's precision, and, on a CPU,
3x3 convolutions (a product and a sum are two FLOPs; which library has the better code depends on the processor), and
the best of several large copies (bytes read and written). FLOPs of a kernel are those of its matrix products and
convolutions, recomputed ones included, and of Haar (16 for 2x2 pixels of a channel) and BatchNorm (2 an element
forward, 4 backward); activations are not counted, so that GELU shows as distance to the roof. Bytes are each feature
map that goes in or out once: what a cache can't save. The roof of a kernel is the smaller of peak FLOP/s and
bandwidth times FLOPs / bytes (Williams, Waterman & Patterson, "Roofline", 2009). What a step does outside the kernels
(loss, head, optimizer, autograd) is the row "everything else".

On a GPU, where `Stack` is plain PyTorch, one row shows the whole step with the same FLOPs and bytes.
"""

import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import get_args

import torch
import torch.nn.functional as F

from scripts.benchmarks.harness import arguments, devices, print_table, record, seconds_each
from scripts.benchmarks.members import stack_step
from wavemix import kernels
from wavemix.config import LiteConfig
from wavemix.kernels import LANES
from wavemix.stack import Precision, bfloat16_lacks
from wavemix.stack.operations import UPSAMPLINGS

NETWORKS = {
    "CIFAR Lite-64/6 deconv": (LiteConfig(final_dim=64, depth=6, mult=2, upsampling="deconv"), 32),
    "CIFAR Lite-64/6 bilinear": (LiteConfig(final_dim=64, depth=6, mult=2, upsampling="bilinear"), 32),
    "CIFAR Lite-64/6 nearest": (LiteConfig(final_dim=64, depth=6, mult=2), 32),
    "MNIST Lite-8/10": (LiteConfig(in_channels=1, final_dim=8, depth=10, mult=2), 28),
    "small": (LiteConfig(in_channels=1, final_dim=8, depth=1, mult=1), 8),
    "small, two levels": (LiteConfig(in_channels=1, final_dim=8, depth=1, mult=1, level=2), 8),
}
FLOAT = 4  # bytes


@dataclass
class Work:
    """What one kernel did in a step."""

    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0


# ------------------------------------------------------------------- FLOPs and bytes of one call, from its arguments


def _given(pointer) -> bool:
    return pointer.value is not None


def _conv(shape: tuple, products: int, pieces: tuple[int, int]) -> tuple[float, float]:
    """`products` passes over all taps; `pieces`: how often the input and the output feature map move."""
    members, groups, inside, height, width, out, k, stride, padding, depthwise = shape[:10]
    h, w = (height + 2 * padding - k) // stride + 1, (width + 2 * padding - k) // stride + 1
    images = members * groups * LANES
    flops = 2 * images * h * w * out * (1 if depthwise else inside) * k * k * products
    return flops, FLOAT * images * (pieces[0] * inside * height * width + pieces[1] * out * h * w)


def conv_forward(x, shared, weight, bias, y, *shape):
    return _conv(shape, 1, (1, 1))


def conv_backward(x, shared, weight, dy, dx, dweight, dbias, *shape):
    # the input is read for the weights' gradient, the input's gradient written
    used = _given(dx) + _given(dweight)
    return _conv(shape, used, (used, 1))


def _down(members, groups, channels, reduced, height, width, levels) -> tuple[float, float, float, float]:
    pixels = members * groups * LANES * height * width
    bands = sum(reduced * pixels / 4**level for level in range(levels))
    return 2.0 * pixels * channels * reduced, 4 * bands, FLOAT * pixels * channels, FLOAT * bands


def down_forward(x, weight, bias, bands, *shape):
    product, haar, outside, inside = _down(*shape)
    return product + haar, outside + inside


def down_backward(x, weight, dbands, dx, dweight, dbias, *shape):
    product, haar, outside, inside = _down(*shape)
    return 2 * product + haar, 2 * outside + inside


def mlp_forward(u, w1, b1, w2, b2, z, members, groups, channels, hidden, out, positions, kind):
    pixels = members * groups * LANES * positions.value
    return 2.0 * pixels * hidden * (channels + out), FLOAT * pixels * (channels + out)


def mlp_backward(u, w1, b1, w2, dz, du, dw1, db1, dw2, db2, members, groups, channels, hidden, out, positions, kind):
    pixels = members * groups * LANES * positions.value
    # hidden layer again, its gradient, both weights' gradients, the input's gradient
    return 2.0 * pixels * hidden * (3 * channels + 2 * out), FLOAT * pixels * (2 * channels + out)


def _norm(members, groups, channels, h, w, up) -> tuple[float, float]:
    small = members * groups * channels * h * w * LANES
    return small, small * (4 if up else 1)


def norm_up_forward(z, base, gamma, beta, out, mean, variance, members, groups, channels, h, w, up, eps, given):
    small, full = _norm(members, groups, channels, h, w, up)
    return 2.0 * small + (full if _given(base) else 0), FLOAT * (small + full * (2 if _given(base) else 1))


def norm_up_backward(z, dout, gamma, mean, variance, dz, dgamma, dbeta, members, groups, channels, h, w, up, eps):
    small, full = _norm(members, groups, channels, h, w, up)
    return 4.0 * small + (full if up else 0), FLOAT * (2 * small + full)


def _pixels(members, groups, height, width) -> int:
    return members * groups * LANES * height * width


def _reduced(pixels: int, c: int) -> float:
    """FLOPs of a reduction of c channels with the Haar transform behind it."""
    return pixels * (2 * c * (c // 4) + c)


def _interpolated(pixels: int, c: int, up: int) -> float:
    """FLOPs of bilinear up-sampling of the reduced channels with the transform behind it; nearest needs none."""
    return 2 * pixels * (c // 4) * 4 if up == UPSAMPLINGS["bilinear"] else 0


def chain_forward(x, out, s, flat, P, where, levels, u, z, y, mean, variance, *shape):
    members, groups, c, hidden, height, width, depth, up = shape[:8]
    pixels = _pixels(members, groups, height, width)
    inside = sum(pixels / 4**level for level in levels) / depth  # of a block's branch, in the mean
    branch = inside * 2 * hidden * 2 * c + pixels // 4 * c * 4  # BatchNorm and the sum s
    branch += inside * c * 18 if y[0] else 0  # a depthwise convolution
    # x is reduced for every block, the reduced s from the second one on; up-sampling it counts as a transform
    sums = pixels // 4 * 2 * c * (c // 4) + _interpolated(pixels, c, up)
    flops = depth * (_reduced(pixels, c) + branch) + (depth - 1) * sums + pixels * c
    small = FLOAT * pixels // 4 * c
    kept = small / 2 if shape[-1] else small
    # x twice, out; u, z; s read and written, z, u
    return flops, 12 * small + depth * 2 * kept + depth * (2 * small + 2 * kept)


def chain_backward(x, dout, s, dx, ds, flat, P, where, levels, u, z, y, mean, variance, dflat, *shape):
    members, groups, c, hidden, height, width, depth, up = shape[:8]
    pixels = _pixels(members, groups, height, width)
    inside = sum(pixels / 4**level for level in levels) / depth
    # both products' two gradients and the hidden layer again; the reduction's gradients by x, and by s twice a quarter
    branch = inside * 2 * hidden * c * 5 + pixels // 4 * c * 8
    branch += inside * c * 36 if y[0] else 0
    sums = 2 * pixels // 4 * 2 * c * (c // 4) + _interpolated(pixels, c, up)
    flops = depth * (pixels * (4 * c * (c // 4) + c) + branch) + (depth - 1) * sums
    small = FLOAT * pixels // 4 * c
    kept = small / 2 if shape[-1] else small
    # x, dout twice, dx; z, u twice, s and ds read and written
    return flops, 16 * small + depth * (4 * small + 4 * kept)


def _transposed(members, groups, c, hidden, f, height, width, depth, *more) -> tuple[float, float, float, float]:
    """FLOPs forward and bytes of one full-size map, of z's and of all v's."""
    size = 2 if more[-1] else FLOAT  # of what is kept
    pixels = _pixels(members, groups, height, width)
    block = _reduced(pixels, c) + pixels // 4 * 2 * hidden * (c + f) + 2 * pixels // 4 * c
    block += pixels * 8 * f * c + pixels * c * 3  # 4 taps a pixel; BatchNorm, sum
    full = FLOAT * pixels * c
    return depth * block, full, depth * size * pixels // 4 * f, depth * size * pixels * c


def transposed_forward(x, out, map, flat, P, where, z, v, mean, variance, *shape):
    flops, full, z, kept = _transposed(*shape)
    return flops, 2 * shape[7] * full + z + kept


def transposed_backward(out, dout, work, dx, dz, flat, P, where, z, v, mean, variance, dflat, *shape):
    flops, full, z, kept = _transposed(*shape)
    # twice the products, the hidden layer again; map and gradient are read and written by every block
    again = shape[7] * _pixels(*shape[:2], *shape[5:7]) // 4 * 2 * shape[2] * shape[3]
    return 2 * flops + again, 4 * shape[7] * full + z + kept


COUNTS: dict[str, Callable[..., tuple[float, float]]] = {
    f.__name__: f
    for f in (
        chain_forward, chain_backward, conv_forward, conv_backward, down_forward, down_backward, mlp_forward,
        mlp_backward, norm_up_forward, norm_up_backward, transposed_forward, transposed_backward,
    )
}  # fmt: skip


@dataclass
class Watched:
    """The kernels' library, each call timed and counted in `work`."""

    library: object
    work: dict[str, Work] = field(default_factory=lambda: defaultdict(Work))

    def __getattr__(self, name: str):
        function = getattr(self.library, name)
        if name == "threads":
            return function

        def call(*given):
            start = time.perf_counter()
            function(*given)
            seconds = time.perf_counter() - start
            # a kernel without a count is shown with its time alone
            flops, moved = COUNTS[name](*given) if name in COUNTS else (math.nan, math.nan)
            work = self.work[name]
            work.calls += 1
            work.seconds += seconds
            work.flops += flops
            work.bytes += moved

        return call


# ---------------------------------------------------------------------------------------------------- measurement


def peaks(
    device: str, size: int, mebibytes: int, repetitions: int, dtype: torch.dtype = torch.float32
) -> tuple[float, float]:
    """(FLOP/s of size x size matrix products or of convolutions of about as much work, bytes/s of copies)."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(mebibytes * 2**18, device=device)
    target, product = torch.ones_like(source), torch.empty_like(a)
    channels, images = size // 8, 8
    x = torch.randn(images, channels, 32, 32, device=device).to(dtype, memory_format=torch.channels_last)
    w = torch.randn(channels, channels, 3, 3, device=device).to(dtype)
    work = {
        "product": (2 * size**3, lambda: torch.mm(a, b, out=product)),
        "convolution": (2 * images * (channels * 30 * 3) ** 2, lambda: F.conv2d(x, w)),
        "copy": (2 * source.nbytes, lambda: target.copy_(source)),
    }
    if device == "cuda":  # cuDNN rounds to TF32 by default: another roof than that of float32
        del work["convolution"]
    best = dict.fromkeys(work, 0.0)
    with torch.no_grad():
        for turn in range(repetitions + 1):
            for name, (amount, step) in work.items():
                rate = amount / seconds_each(step, 1, device)
                best[name] = max(best[name], rate if turn else 0.0)
    return max(best["product"], best.get("convolution", 0.0)), best["copy"]


def step_of(
    config: LiteConfig, size: int, batch: int, device: str, precision: Precision = "float32"
) -> Callable[[], object]:
    images = torch.randn(1, batch, config.in_channels, size, size, device=device)
    labels = torch.randint(config.num_classes, (1, batch), device=device)
    return stack_step(config, [0], images, labels, device, precision)


def watch(step: Callable[[], object], repetitions: int) -> tuple[dict[str, Work], float]:
    """Each kernel's work in a step, median seconds over the steps, and the median seconds of the step."""
    plain = kernels.library
    library, runs, seconds = plain(), [], []
    try:
        for turn in range(repetitions + 2):
            watched = Watched(library)
            kernels.library = lambda watched=watched: watched
            seconds.append(seconds_each(step, 1))
            if turn >= 2:
                runs.append(watched.work)
    finally:
        kernels.library = plain
    for name, work in runs[0].items():
        work.seconds = statistics.median(run[name].seconds for run in runs)
    return runs[0], statistics.median(seconds[2:])


def show(title: str, work: dict[str, Work], total: float, peak: float, bandwidth: float) -> dict[str, float]:
    """The table; returns each row's roof in FLOP/s."""
    rows, roofs = [], {}
    for name, w in sorted(work.items(), key=lambda item: -item[1].seconds):
        roofs[name] = roof = min(peak, bandwidth * w.flops / w.bytes) if w.bytes else math.nan
        rate = w.flops / w.seconds
        rows.append(
            [
                name,
                w.calls,
                f"{w.seconds * 1e3:.2f}",
                f"{w.seconds / total:.0%}",
                f"{w.flops / 1e9:.3f}",
                f"{w.bytes / 1e6:.1f}",
                f"{rate / 1e9:.1f}",
                f"{rate / peak:.0%}",
                f"{w.bytes / w.seconds / 1e9:.1f}",
                f"{w.bytes / w.seconds / bandwidth:.0%}",
                "compute" if roof == peak else "memory",
                f"{rate / roof:.0%}",
            ]
        )
    rest = total - sum(w.seconds for w in work.values())
    rows.append(["everything else", "", f"{rest * 1e3:.2f}", f"{rest / total:.0%}", *[""] * 8])
    flops = sum(w.flops for w in work.values())
    rows.append(
        ["step", "", f"{total * 1e3:.2f}", "100%", f"{flops / 1e9:.3f}", "", f"{flops / total / 1e9:.1f}",
         f"{flops / total / peak:.0%}", *[""] * 4]
    )  # fmt: skip
    header = ["", "calls", "ms", "of step", "GFLOP", "MB", "GFLOP/s", "of peak", "GB/s", "of peak", "bound", "of roof"]
    print_table(title, header, rows)
    return roofs


def run(options, name: str, peak: float, bandwidth: float) -> None:
    config, size = NETWORKS[name]
    if options.precision == "bfloat16":
        if lacking := bfloat16_lacks(config):
            return print(f"{name} has no bfloat16: {lacking}")
    work, total = watch(step_of(config, size, options.batch, "cpu", options.precision), options.repetitions)
    what = f"{name}, batch {options.batch}, {options.precision}"
    name += "" if options.precision == "float32" else f", {options.precision}"
    roofs = show(f"training step, {what}: {options.batch / total:,.0f} images/s", work, total, peak, bandwidth)
    details = {"config": config.name, "batch": options.batch, "step_seconds": total, "precision": options.precision}
    for kernel, w in work.items():
        if not math.isfinite(w.flops):
            continue
        record(
            options.output, "cpu",
            {**details, "seconds": w.seconds, "calls": w.calls, "flops": w.flops, "bytes": w.bytes},
            name=f"roofline, {name}, {kernel}", unit="GFLOP/s", ours=w.flops / w.seconds / 1e9,
            peers={"roof": roofs[kernel] / 1e9, "peak": peak / 1e9}, repetitions=options.repetitions,
        )  # fmt: skip
    flops = sum(w.flops for w in work.values() if math.isfinite(w.flops))
    record(
        options.output, "cpu", {**details, "flops": flops, "peak_bytes_per_second": bandwidth},
        name=f"roofline, {name}, training step", unit="GFLOP/s", ours=flops / total / 1e9, peers={"peak": peak / 1e9},
        repetitions=options.repetitions,
    )  # fmt: skip
    if torch.cuda.is_available() and options.precision == "float32":
        run_gpu(options, name, work)


def run_gpu(options, name: str, work: dict[str, Work]) -> None:
    config, size = NETWORKS[name]
    peak, bandwidth = peaks("cuda", options.size * 4, options.mebibytes * 4, options.repetitions)
    step = step_of(config, size, options.batch, "cuda")
    times = [seconds_each(step, 1, "cuda") for _ in range(options.repetitions + 2)]
    total = statistics.median(times[2:])
    whole = Work(1, total, sum(w.flops for w in work.values()), sum(w.bytes for w in work.values()))
    show(f"training step on cuda, {name}, batch {options.batch}", {"plain PyTorch": whole}, total, peak, bandwidth)
    record(
        options.output, "cuda",
        {"config": config.name, "batch": options.batch, "step_seconds": total, "peak_bytes_per_second": bandwidth},
        name=f"roofline, {name}, training step", unit="GFLOP/s", ours=whole.flops / total / 1e9,
        peers={"peak": peak / 1e9}, repetitions=options.repetitions,
    )  # fmt: skip


def main() -> int:
    parser = arguments(__doc__.splitlines()[0], repetitions=15, seconds=0)
    parser.add_argument("--networks", choices=NETWORKS, nargs="+", default=[n for n in NETWORKS if "small" not in n])
    parser.add_argument("--batch", type=int, default=64, help="a multiple of 16")
    parser.add_argument("--size", type=int, default=2048, help="rows and columns of the matrices of the peak")
    parser.add_argument("--mebibytes", type=int, default=256, help="copied for the bandwidth, beyond any cache")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if kernels.library() is None:
        print("error: no C++ compiler (or WAVEMIX_KERNELS=off): there are no kernels to time", file=sys.stderr)
        return 2
    devices(options)
    peak, bandwidth = peaks(
        "cpu", options.size, options.mebibytes, options.repetitions, getattr(torch, options.precision)
    )
    print(f"peaks on {options.threads} threads: {peak / 1e9:.1f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s (copy)")
    for name in options.networks:
        run(options, name, peak, bandwidth)
    return 0


if __name__ == "__main__":
    sys.exit(main())
