"""torch.export: the file runs where this package is not."""

import subprocess
import sys

import exports
import pytest
import torch

from search.export import program
from search.export.check import Sample, check
from wavemix import LiteConfig

ALONE = """
import sys
sys.modules["wavemix"] = sys.modules["search"] = sys.modules["pytorch_wavelets"] = None
import torch
images, scores = torch.load(sys.argv[2], weights_only=True)
found = torch.export.load(sys.argv[1]).module()(images)
assert float((found - scores).abs().max()) < 1e-4, found - scores
"""


@pytest.mark.parametrize("options", [dict(upsampling="deconv", level=2), dict(wavelet="sym4")], ids=str)
def test_a_program_gives_the_scores_of_pytorch(options, tmp_path):
    network = exports.ready(LiteConfig(**{"in_channels": 3, "final_dim": 8, "depth": 1} | options), 16, 32)
    path = tmp_path / "network.pt2"
    program.write(network, "toy", path)
    for count in (1, 7):
        given = Sample(exports.images(network, count), "images")
        check(network, given, lambda images: program.scores(path, images))


def test_it_runs_without_this_package(tmp_path):
    network = exports.ready(LiteConfig(in_channels=1, final_dim=8, depth=1, upsampling="bilinear"), 16, 16)
    path, images = tmp_path / "network.pt2", exports.images(network, 5)
    program.write(network, "toy", path)
    with torch.no_grad():
        torch.save((images, network(images)), tmp_path / "images.pt")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ALONE, path, tmp_path / "images.pt"],
                          capture_output=True, text=True, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
