"""Compare our networks with upstream's PyPI package wavemix 0.2.4: state-dict keys, shapes, counts and outputs.

    python -m scripts.benchmarks.compare_upstream [--upstream DIR] [--output FILE]

Upstream has our import name, so it runs in a process of its own, from a directory of its own: a copy of --upstream (a
directory with the unpacked wheel), or of the wheel, downloaded with pip. Its one import that NumPy 2 no longer has is
taken out of that copy. Weights and outputs travel as safetensors. Exit code 1 on a difference: keys, shapes, counts,
or outputs further apart than 1e-5 (evaluation mode, float32); 2 where upstream can't be had or run.

--output writes one JSON object a line: kind ("upstream comparison"), network, config, keys_equal (shapes included),
parameters, upstream_parameters, same_seed_same_weights (right after construction), max_abs_difference (null where
the keys differ). These lines are not records of the search: keep the file out of the folder the tables are made from.
"""

import argparse
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-5
REQUIREMENT = "wavemix==0.2.4"
DEAD_IMPORT = re.compile(r"^from numpy\.lib\.function_base import hamming[ \t]*$", re.MULTILINE)

CLASSIFICATION, SEGMENTATION, SUPER_RESOLUTION = "wavemix.classification", "wavemix.SemSegment", "wavemix.sisr"
LEVELS = (1, 2, 3, 4)
SMALL = dict(depth=2, final_dim=16, ff_channel=12)
# module, class, constructor arguments, image (height, width)
CASES = [
    *[(CLASSIFICATION, "WaveMix", dict(num_classes=10, level=n, **SMALL), (64, 128)) for n in LEVELS],
    *[
        (CLASSIFICATION, "WaveMix", dict(num_classes=7, level=n, initial_conv="strided", stride=2, **SMALL), (64, 128))
        for n in LEVELS
    ],
    (CLASSIFICATION, "WaveMix", dict(depth=1, level=2, initial_conv="strided", stride=1, mult=3, dropout=0.1), (16, 8)),
    (CLASSIFICATION, "WaveMix", dict(depth=1, level=1, patch_size=7), (56, 28)),
    (CLASSIFICATION, "WaveMix", dict(), (64, 64)),
    *[(SEGMENTATION, "WaveMix", dict(num_classes=5, level=n, **SMALL), (64, 128)) for n in LEVELS],
    (SEGMENTATION, "WaveMix", dict(depth=1, level=2, final_dim=20, ff_channel=9, stride=1), (8, 12)),
    (SEGMENTATION, "WaveMix", dict(), (64, 64)),
    *[(SUPER_RESOLUTION, "WaveMix", dict(level=n, **SMALL), (16, 48)) for n in LEVELS],
    (SUPER_RESOLUTION, "WaveMix", dict(), (32, 32)),
    *[("wavemix", f"Level{n}Waveblock", dict(mult=3, ff_channel=20, final_dim=24), (16, 32)) for n in LEVELS],
    *[("wavemix", f"Level{n}Waveblock", dict(), (16, 16)) for n in LEVELS],
]


class Unavailable(Exception):
    """Upstream can't be had or run; one line for the reader."""


def build(case: tuple) -> tuple[torch.nn.Module, torch.Tensor]:
    """The network of a case, from whichever `wavemix` this process imports, and images for it."""
    module, name, hyperparameters, size = case
    torch.manual_seed(0)
    network = getattr(importlib.import_module(module), name)(**hyperparameters).eval()
    channels = hyperparameters.get("final_dim", 16) if module == "wavemix" else 3
    return network, torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))


def trainable(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def run_upstream(folder: Path) -> None:
    """In the upstream process: for each case the state dict and its output, to files."""
    for number, case in enumerate(CASES):
        network, images = build(case)
        generator = torch.Generator().manual_seed(number)
        state = network.state_dict()
        for key, value in state.items():  # statistics as of a trained network: at 0 and 1 they would hide mistakes
            if key.endswith("running_mean"):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
            elif key.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        with torch.no_grad():
            output = network(images)
        save_file(
            {key: value.contiguous() for key, value in state.items()},
            folder / f"{number}.weights",
            metadata={"parameters": str(trainable(network))},
        )
        save_file({"output": output.contiguous()}, folder / f"{number}.output")


def command(arguments: list[str], failure: str, **options) -> None:
    try:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True, **options)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise Unavailable(f"{failure}: {lines[-1].strip()}") from error


def unpack(requirement: str, folder: Path) -> None:
    """Download one wheel with pip and unpack it into `folder`."""
    wheels = folder / "wheels"
    arguments = ["-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(wheels), requirement]
    command(arguments, f"{requirement} can't be downloaded (name an unpacked wheel with --upstream)")
    for path in wheels.glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(folder)
        path.unlink()


def prepare(source: Path, package: Path) -> None:
    """Copy upstream's modules without the dead import; what it was unpacked to stays as it is."""
    modules = sorted((source / "wavemix").glob("*.py"))
    if not modules:
        raise Unavailable(f"{source} holds no wavemix package: --upstream is the directory of the unpacked wheel")
    (package / "wavemix").mkdir(parents=True)
    for path in modules:
        (package / "wavemix" / path.name).write_text(DEAD_IMPORT.sub("", path.read_text(encoding="utf-8")), "utf-8")
    if importlib.util.find_spec("einops") is None:  # upstream needs it, we don't
        unpack("einops", package)


def obtain(upstream: Path | None, folder: Path) -> Path:
    """A package made of the wheel unpacked at `upstream`, or of a download where that is None, in `folder`."""
    if upstream is None:
        upstream = folder / "wheel"
        unpack(REQUIREMENT, upstream)
    prepare(upstream, folder / "package")
    return folder / "package"


def compare(number: int, case: tuple, exchange: Path) -> dict:
    """Our network against what the upstream process left for this case."""
    from safetensors import safe_open

    network, images = build(case)
    theirs, own = load_file(exchange / f"{number}.weights"), network.state_dict()
    with safe_open(exchange / f"{number}.weights", "pt") as file:
        upstream_parameters = int(file.metadata()["parameters"])
    keys_equal = {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in own.items()}
    difference = same_weights = None
    if keys_equal:
        same_weights = all(torch.equal(value, theirs[key]) for key, value in network.named_parameters())
        network.load_state_dict(theirs)
        with torch.no_grad():
            ours = network(images)
        output = load_file(exchange / f"{number}.output")["output"]
        difference = (ours - output).abs().max().item() if ours.shape == output.shape else None
    return {
        "kind": "upstream comparison",
        "network": f"{case[0]}.{case[1]}",
        "config": case[2],
        "keys_equal": keys_equal,
        "parameters": trainable(network),
        "upstream_parameters": upstream_parameters,
        "same_seed_same_weights": same_weights,
        "max_abs_difference": difference,
    }


def equal(row: dict) -> bool:
    difference = row["max_abs_difference"]
    counts = row["parameters"] == row["upstream_parameters"]
    return row["keys_equal"] and counts and difference is not None and difference <= TOLERANCE


def print_table(rows: list[dict]) -> None:
    print(f"{'':8}{'max |diff|':>10} {'parameters':>11}  network")
    for row in rows:
        difference = row["max_abs_difference"]
        hyperparameters = ", ".join(f"{key}={value!r}" for key, value in row["config"].items())
        print(
            f"{'equal' if equal(row) else 'DIFFERS':8}{'-' if difference is None else f'{difference:.1e}':>10} "
            f"{row['parameters']:>11,}  {row['network']}({hyperparameters})"
        )
    wrong = sum(not equal(row) for row in rows)
    print(f"{len(rows)} networks, {f'{wrong} differ' if wrong else 'all equal'} (tolerance {TOLERANCE:g})")


def write(rows: list[dict], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(unfinished, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upstream", type=Path, help="directory with the unpacked wheel; default: download it")
    parser.add_argument("--output", type=Path, help="write the comparison to this file, one JSON object a line")
    parser.add_argument("--run-upstream", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run_upstream:
        run_upstream(arguments.run_upstream)
        return 0
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        exchange = scratch / "exchange"
        exchange.mkdir()
        try:
            package = obtain(arguments.upstream, scratch)
            # -P: the checkout must not be on the path, or our package would be imported instead
            command(
                ["-P", str(Path(__file__).resolve()), "--run-upstream", str(exchange)],
                "upstream does not run here",
                cwd=package,
                env={**os.environ, "PYTHONPATH": str(package)},
            )
        except Unavailable as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
        rows = [compare(number, case, exchange) for number, case in enumerate(CASES)]
    print_table(rows)
    if arguments.output:
        write(rows, arguments.output)
    return 0 if all(map(equal, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
