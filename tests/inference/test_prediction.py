"""`wavemix predict` and `wavemix.load`: images by name and in Python."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from bars import bars
from PIL import Image

import wavemix as package
from search.errors import UserError
from search.inference.loading import scores
from search.inference.ready import Classifier
from search.records.weights import Inputs
from wavemix import LiteConfig


@pytest.fixture
def images(tmp_path):
    test = bars(6, seed=9)
    for number, image in enumerate(test.images):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{number}.png")
    return tmp_path


def test_files_and_folders_are_classified_as_by_the_module(results, images, wavemix):
    network = package.load("mine", results=results)
    expected = network(bars(6, seed=9).images / 255).softmax(1)
    said = json.loads(wavemix("predict", "mine", images, "--results", results, "--json").out)
    assert [one["image"] for one in said] == [str(images / f"{n}.png") for n in range(6)]
    for one, row in zip(said, expected):
        assert list(one["probabilities"])[0] == network.classes[row.argmax()]
        assert one["probabilities"]["c"] == pytest.approx(row[2].item(), abs=1e-5)
    out = wavemix("predict", "mine", images / "3.png", images / "0.png", "--results", results).out
    assert out.index("3.png") < out.index("0.png"), "in the order they were given"
    again = json.loads(wavemix("predict", "mine", images, "--seed", 6, "--results", results, "--json").out)
    assert again[0]["probabilities"] != said[0]["probabilities"]


def test_images_are_read_as_those_of_class_folders(results, images, wavemix):
    grey = Image.open(images / "0.png")
    grey.convert("RGB").save(images / "grey-in-colour.png")
    arguments = ["predict", "mine", images / "0.png", images / "grey-in-colour.png", "--results", results, "--json"]
    first, second = json.loads(wavemix(*arguments).out)
    assert first["probabilities"] == second["probabilities"]
    grey.resize((16, 12)).save(images / "large.png")
    said = wavemix("predict", "mine", images / "large.png", "--results", results, code=2).err
    assert "its height and width are 12,16, the network's 8,8: --resize 8,8" in said
    assert wavemix("predict", "mine", images / "large.png", "--resize", "8,8", "--results", results).out
    said = wavemix("predict", "mine", images / "large.png", "--resize", "9,9", "--results", results, code=2).err
    assert "takes 8,8" in said


def test_bad_images_are_named_in_one_line_and_left_out_on_request(results, images, wavemix):
    (images / "broken.png").write_bytes(b"no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).save(images / "colour.png")
    said = wavemix("predict", "mine", images, "--results", results, code=2).err
    assert said.count("\n") == 1 and "broken.png: unreadable image" in said and "colour.png: is in colour" in said
    assert "(2 of 8 images can't be used)" in said
    done = wavemix("predict", "mine", images, "--skip-unreadable", "--results", results)
    assert done.out.count(".png") == 6 and done.err.count("left out: ") == 2
    for place, message in ((images / "gone.png", "there is no such"), (results / "weights", "no images found")):
        assert message in wavemix("predict", "mine", place, "--results", results, code=2).err


def test_a_loaded_network_takes_images_between_0_and_1(results):
    network = package.load("mine", seed=6, results=results)
    assert not network.training and network.classes == ("a", "b", "c", "d") and network.shape == (1, 8, 8)
    images = bars(10, seed=3).images
    assert np.allclose(scores(network, images), network(images / 255).detach().numpy(), atol=1e-4)
    path = next((results / "weights").iterdir())
    assert torch.allclose(package.load(path, seed=6, results=results)(images / 255), network(images / 255))
    for wrong in (images, torch.rand(1, 3, 8, 8), torch.rand(1, 1, 9, 8), torch.rand(1, 8, 8)):
        with pytest.raises(ValueError, match="images are"):
            network(wrong)


def test_without_published_weights_it_is_said_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr("search.records.results.PUBLISHED", tmp_path / "none")
    with pytest.raises(UserError, match="no published weights: name a file that you have; those of the published"):
        package.load("mnist-99-extended", results=tmp_path)


def test_naming_it_imports_nothing_of_the_search():
    code = "import sys, wavemix; wavemix.load; print(any(m.split('.')[0] == 'search' for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_weights_of_others_take_any_size_that_fits(tmp_path):
    network = Classifier(torch.nn.Flatten(), Inputs.plain(LiteConfig(in_channels=1, num_classes=2)))
    assert network(torch.rand(2, 1, 3, 4)).shape == (2, 12) and network.shape is None
    assert network.classes == ("0", "1")
