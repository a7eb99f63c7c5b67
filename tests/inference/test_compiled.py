"""`wavemix.load(…, compiled=True)`: the stored networks give the same scores through the compiled kernels."""

import pytest
import torch

import wavemix as package
from search.records.results import PUBLISHED
from search.records.weights import Header
from wavemix import kernels
from wavemix.compiled import Compiled
from wavemix.lite import WaveMixLite

# the kernels are for classifiers
WEIGHTS = [
    path
    for path in sorted((PUBLISHED / "weights").glob("*.safetensors"))
    if Header.read(path).config.task == "classification"
]


@pytest.mark.skipif(kernels.library() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_every_published_network_gives_the_same_scores(path):
    plain, compiled = package.load(path), package.load(path, compiled=True)
    assert isinstance(compiled.network, Compiled) and compiled.classes == plain.classes
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(18, plain.shape[0], 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(smooth, plain.shape[1:], mode="bicubic").clamp(0, 1)
    with torch.inference_mode():
        expected = plain(images)
        for found in (compiled(images), torch.cat([compiled(image[None]) for image in images[:3]])):
            assert (found - expected[: len(found)]).abs().max() <= 1e-5 * expected.abs().max()
    assert (expected - expected[0]).abs().max() > 0.1 * expected.abs().max(), "scores that say something"


def test_a_seed_may_be_named_and_without_a_compiler_it_stays_plain(results, monkeypatch):
    images = torch.rand(3, 1, 8, 8)
    plain = package.load("mine", seed=6, results=results)
    if kernels.library() is not None:
        compiled = package.load("mine", seed=6, results=results, compiled=True)
        assert torch.allclose(compiled(images), plain(images), atol=1e-5)
    monkeypatch.setattr(kernels, "library", lambda: None)
    with pytest.warns(UserWarning, match="not compiled, the network runs as plain PyTorch") as said:
        found = package.load("mine", seed=6, results=results, compiled=True)
    assert said[0].filename == __file__ and isinstance(found.network, WaveMixLite)
    assert torch.equal(found(images), plain(images))
