"""Haar transform, forward and backward: ours beside pytorch_wavelets and ptwt.

    python -m scripts.benchmarks.haar [--output FILE]

One level of (N, C, H, W) feature maps, as a Waveblock transforms them; the gradient of the input for given gradients
of all bands. Every peer's bands are first compared with ours: only equal transforms are timed. On a GPU the bytes
that have to be moved (input once, bands once, and the same backward) a second are also compared with a plain copy of
the input's size.
"""

import sys
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from scripts.benchmarks.harness import arguments, devices, medians, print_table, record, spread, time_alternately
from wavemix.dwt import haar

# (N, C, H, W) after the reduction: CIFAR Lite-64, MNIST Lite-8, a large image, many channels
SHAPES = [(64, 16, 32, 32), (64, 2, 28, 28), (8, 4, 256, 256), (16, 64, 64, 64)]
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
Transform = Callable[[Tensor], tuple[Tensor, Tensor]]  # -> low (N, C, h, w), details (N, C, 3, h, w)


def transforms(dtype: torch.dtype, device: str) -> dict[str, Transform]:
    """Ours and each peer, with the same bands in the same order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pkg_resources warns of its own retirement
        import ptwt
        from pytorch_wavelets import DWTForward

    module = DWTForward(J=1, mode="zero", wave="haar").to(device, dtype)

    def ours(x: Tensor) -> tuple[Tensor, Tensor]:
        low, details = haar(x)
        return low, details.unflatten(1, (-1, 3))

    def pytorch_wavelets(x: Tensor) -> tuple[Tensor, Tensor]:
        low, (details,) = module(x)
        return low, details

    def toolbox(x: Tensor) -> tuple[Tensor, Tensor]:
        low, details = ptwt.wavedec2(x, "haar", mode="zero", level=1)
        return low, torch.stack(tuple(details), 2)

    return {"ours": ours, "pytorch_wavelets": pytorch_wavelets, "ptwt": toolbox}


def steps(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> tuple[dict[str, Callable], dict[str, str]]:
    """Forward and backward of each transform on the same images, and why a peer is left out."""
    generator = torch.Generator().manual_seed(0)
    n, c, height, width = shape
    x = torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()
    half = (height // 2, width // 2)
    into_low = torch.randn(n, c, *half, generator=generator).to(device, dtype)
    into_details = torch.randn(n, c, 3, *half, generator=generator).to(device, dtype)

    def step(transform: Transform) -> tuple[Tensor, Tensor, Tensor]:
        low, details = transform(x)
        (gradient,) = torch.autograd.grad([low, details], x, [into_low, into_details])
        return low, details, gradient

    ready: dict[str, Callable] = {}
    left_out: dict[str, str] = {}
    found = transforms(dtype, device)
    expected = step(found["ours"])
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-6, torch.bfloat16: 0.1}[dtype]
    for name, transform in found.items():
        try:
            result = step(transform)
        except (RuntimeError, TypeError, ValueError) as error:  # whatever a peer says of a dtype it lacks
            left_out[name] = f"fails: {(str(error).splitlines() or [type(error).__name__])[0]}"
            continue
        differences = [float((a - b).detach().abs().max()) for a, b in zip(result, expected)]
        if max(differences) > tolerance:
            left_out[name] = f"differs from ours by {max(differences):.1e}"
        else:
            ready[name] = lambda transform=transform: step(transform)
    if device == "cuda":
        source, target = x.detach(), torch.empty_like(x)
        ready["copy"] = lambda: target.copy_(source)
    return ready, left_out


def run(options, device: str) -> None:
    rows, notes = [], []
    for shape in options.shapes:
        for dtype in options.dtypes:
            label = f"{'x'.join(map(str, shape))} {dtype}"
            contenders, left_out = steps(shape, DTYPES[dtype], device)
            notes += [f"{name} left out at {label}: {why}" for name, why in left_out.items()]
            samples = time_alternately(contenders, options.repetitions, options.seconds, device)
            median = medians(samples)
            copy = median.pop("copy", None)
            ours = median.pop("ours")
            micro = {name: value * 1e6 for name, value in median.items()}
            details = {"spread_seconds": spread(samples), "left_out": left_out}
            cells = [f"{ours * 1e6:,.0f} us"]
            for peer in ("pytorch_wavelets", "ptwt"):
                cells += [f"{micro[peer]:,.0f} us", f"{micro[peer] / ours / 1e6:.1f}x"] if peer in micro else ["-", "-"]
            if copy is not None:  # forward and backward each read and write as much as one copy
                details["fraction_of_copy_bandwidth"] = 2 * copy / ours
                cells.append(f"{2 * copy / ours:.0%}")
            rows.append([label, *cells])
            record(
                options.output, device, details, name=f"Haar forward+backward, {label}", unit="us", ours=ours * 1e6,
                peers=micro, better="lower", repetitions=options.repetitions,
            )  # fmt: skip
    header = ["shape", "ours", "pytorch_wavelets", "speed-up", "ptwt", "speed-up"]
    print_table(
        f"Haar forward + backward on {device} ({torch.get_num_threads()} threads)",
        header + (["of copy bandwidth"] if device == "cuda" else []),
        rows,
    )
    for note in notes:
        print(note)


def main() -> int:
    parser = arguments(__doc__.splitlines()[0], repetitions=9, seconds=0.2)
    shape = lambda text: tuple(map(int, text.split("x")))  # noqa: E731
    parser.add_argument("--shapes", type=shape, nargs="+", default=SHAPES, help="NxCxHxW")
    parser.add_argument("--dtypes", choices=DTYPES, nargs="+", default=list(DTYPES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for device in devices(options):
        run(options, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
