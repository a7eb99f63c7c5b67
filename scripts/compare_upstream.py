"""Compare our networks with upstream's PyPI package wavemix 0.2.4: state-dict keys, shapes, counts and outputs.

    python scripts/compare_upstream.py [--upstream DIR] [--output FILE]

Upstream has our import name, so it runs in a process of its own, from a directory of its own (--upstream, or a
temporary one that its wheel is downloaded to). Its one import that NumPy 2 no longer has is taken out of that copy.
Weights and outputs travel as safetensors. Exit code 1 on a difference: keys, shapes or counts, or outputs further
apart than 1e-5 (evaluation mode, float32). --output appends one benchmark record.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-5
CASES = [
    *[
        ("wavemix.classification", "WaveMix", dict(num_classes=10, depth=2, final_dim=16, ff_channel=12, level=n), 64)
        for n in (1, 2, 3, 4)
    ],
    ("wavemix.classification", "WaveMix", dict(depth=1, initial_conv="strided", level=2, final_dim=32), 64),
    ("wavemix.classification", "WaveMix", dict(depth=2), 64),
    *[("wavemix.SemSegment", "WaveMix", dict(depth=1, final_dim=16, level=n, ff_channel=16), 64) for n in (1, 2, 3, 4)],
    ("wavemix.SemSegment", "WaveMix", dict(depth=1), 64),
    *[("wavemix.sisr", "WaveMix", dict(depth=1, final_dim=24, ff_channel=16, level=n), 48) for n in (1, 2, 3, 4)],
    ("wavemix.sisr", "WaveMix", dict(depth=2), 32),
    *[("wavemix", f"Level{n}Waveblock", dict(mult=3, ff_channel=20, final_dim=24), 32) for n in (1, 2, 3, 4)],
    *[("wavemix", f"Level{n}Waveblock", dict(), 16) for n in (1, 2, 3, 4)],
]


def build(case):
    module, name, knobs, size = case
    torch.manual_seed(0)
    network = getattr(importlib.import_module(module), name)(**knobs).eval()
    channels = knobs.get("final_dim", 16) if module == "wavemix" else 3
    return network, torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def run_upstream(folder: Path) -> None:
    """In the upstream process: random weights and statistics, and the outputs under them, to files."""
    for number, case in enumerate(CASES):
        network, images = build(case)
        generator = torch.Generator().manual_seed(number)
        for key, value in network.state_dict().items():
            if key.endswith("running_mean"):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
            elif key.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        with torch.no_grad():
            output = network(images)
        state = {key: value.contiguous() for key, value in network.state_dict().items()}
        save_file(state, folder / f"{number}.weights")
        save_file({"output": output.contiguous()}, folder / f"{number}.output")


def fetch(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "wavemix==0.2.4"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with zipfile.ZipFile(next(folder.glob("wavemix-*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder


def prepare(source: Path, folder: Path) -> None:
    """Copy the package without its dead import; the published wheel itself is left as it is."""
    (folder / "wavemix").mkdir()
    for path in (source / "wavemix").glob("*.py"):
        text = re.sub(r"^from numpy\.lib\.function_base import hamming\s*$", "", path.read_text(), flags=re.M)
        (folder / "wavemix" / path.name).write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upstream", type=Path, help="directory with the unpacked wheel")
    parser.add_argument("--output", type=Path, help="append a benchmark record to this file")
    parser.add_argument("--run-upstream", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run_upstream:
        run_upstream(arguments.run_upstream)
        return 0
    rows = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        source = arguments.upstream or fetch(scratch)
        package, exchange = scratch / "package", scratch / "exchange"
        package.mkdir()
        exchange.mkdir()
        prepare(source, package)
        # -P: the checkout must not be on the path, or our package would be imported instead
        command = [sys.executable, "-P", __file__, "--run-upstream", str(exchange)]
        subprocess.run(command, check=True, cwd=package, env={"PYTHONPATH": str(package), "PATH": ""})
        sys.path.insert(0, str(Path(__file__).parents[1]))
        for number, case in enumerate(CASES):
            network, images = build(case)
            theirs, own = load_file(exchange / f"{number}.weights"), network.state_dict()
            keys = {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in own.items()}
            difference = float("nan")
            if keys:
                network.load_state_dict(theirs)
                with torch.no_grad():
                    output = load_file(exchange / f"{number}.output")["output"]
                    difference = (network(images) - output).abs().max().item()
            rows.append(
                {
                    "network": f"{case[0]}.{case[1]}",
                    "knobs": case[2],
                    "keys_equal": keys,
                    "parameters": sum(p.numel() for p in network.parameters()),
                    "max_abs_difference": difference,
                }
            )
    good = True
    for row in rows:
        equal = row["keys_equal"] and row["max_abs_difference"] <= TOLERANCE
        good &= equal
        knobs = " ".join(f"{key}={value}" for key, value in row["knobs"].items())
        print(
            f"{'equal ' if equal else 'DIFFERS'} {row['max_abs_difference']:.1e} {row['parameters']:>10,} "
            f"{row['network']} {knobs}"
        )
    print(f"{len(rows)} networks, {'all equal' if good else 'differences found'} (tolerance {TOLERANCE})")
    if arguments.output:
        with arguments.output.open("a") as file:
            file.writelines(json.dumps({"kind": "upstream comparison", **row}) + "\n" for row in rows)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
