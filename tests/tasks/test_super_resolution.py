"""Super-resolution: pairs, protocol, the validation target, and a whole search on a few small pictures."""

import json

import pytest
import torch
from scenes import waves
from torch import nn

from search.data import datasets
from search.data.source import Reading, Source
from search.data.split import split_validation
from search.errors import UserError
from search.metrics.super_resolution import cropped, imresize, luma, rounded
from search.records.jsonl import read
from search.records.models import Confirmation, Trial
from search.records.weights import inputs, networks
from search.tasks.members import Members
from search.tasks.patches import patch, reduced
from search.tasks.super_resolution import TASK, pairs, yardstick
from search.training.recipe import Recipe
from wavemix import LiteConfig
from wavemix.heads import bicubic

CONFIG = LiteConfig(
    in_channels=1, final_dim=8, depth=1, mult=1, upsampling="bilinear", head={"task": "super-resolution", "scale": 2}
)
ACTIVE = CONFIG.model_copy(  # as the searches propose them
    update={"activation": "relu", "stem_activation": True, "norm": "scale"}
    | {"head": CONFIG.head.model_copy(update={"activation": True})}
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return waves(tmp_path_factory.mktemp("waves"))


def loaded(root, part="train", scale=2):
    reading = Reading(task="super-resolution", scale=scale, test_set="Near")
    return datasets.load(Source(str(root), reading), part)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pairs_are_bicubic_reductions_of_luma_at_any_size(pictures, scale):
    data = loaded(pictures, scale=scale)
    for (low, high), image in zip(pairs(data, scale), data.images):
        whole = cropped(image, scale)
        assert high.shape == whole.shape[-2:] and tuple(scale * n for n in low.shape) == tuple(high.shape)
        assert torch.equal(high, rounded(luma(whole)).double()), "in 8 bits"
        small = imresize(whole, *low.shape)
        assert small.dtype == torch.uint8 and torch.equal(low, luma(small))


class Bicubic(nn.Module):
    """What bicubic enlargement gives, of its input between 0 and 1."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return imresize(x, *(2 * size for size in x.shape[-2:])).float() + 0 * self.nothing


def test_each_test_set_is_measured_and_the_first_decides(pictures):
    test = loaded(pictures, "test")
    found = TASK.judged(Bicubic(), TASK.examples(test), test, beside=True)
    assert list(found.beside) == ["PSNR Near", "SSIM Near", "PSNR Far", "SSIM Far"]
    assert found.scores == found.beside["PSNR Near"] != found.beside["PSNR Far"]
    near = test.chosen(torch.arange(3))
    assert yardstick(near)[0] == pytest.approx(found.scores[0], abs=0.02)


def test_the_validation_target_is_as_far_above_bicubic_as_the_test_target(pictures):
    train, validation = split_validation(loaded(pictures), 3, 0)
    test = loaded(pictures, "test")
    near = test.chosen(torch.arange(3))
    (here, gain_here), (there, gain_there) = yardstick(validation), yardstick(near)
    assert TASK.threshold(there, validation, lambda: test) == pytest.approx(here), "bicubic's own is bicubic's own"
    wanted = TASK.threshold(there + 2, validation, lambda: test)
    assert wanted == pytest.approx(here + 2 * gain_here / gain_there)


def test_a_network_begins_as_bicubic_enlargement():
    (network,), images = (
        Members(lambda: TASK.network(CONFIG), [0], torch.device("cpu")).networks,
        torch.rand(2, 1, 12, 15),
    )
    with torch.no_grad():
        assert torch.equal(network(images), bicubic(images, 2))


def test_it_learns(pictures):
    recipe = Recipe(epochs=4, batch_size=16, optimizer="muon", lr=0.02, patch=24, patches=6, flip=True, turns=True)
    train, validation = split_validation(loaded(pictures), 3, 0)
    (found,) = TASK.train(CONFIG, recipe, train, [0], validation=validation)
    assert found.accuracy > yardstick(validation)[0] + 0.3


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("shrunk", [0.0, 0.5, 0.999])
def test_patches_of_a_reduced_photograph(pictures, scale, shrunk):
    """Both parts come from the same place: that of the reduced image, and at its whole size the patch as it is."""
    examples, recipe = TASK.examples(loaded(pictures, scale=scale)), Recipe(patch=8, scale=0.4)
    image, edge = examples.targets[0], 8 * scale
    low, high = reduced(image, scale, [shrunk, 0.5, 0.5], recipe)
    assert low.shape == (1, 8, 8) and high.shape == (1, edge, edge) and low.dtype == high.dtype == torch.float32
    window = round(edge / (1 - 0.4 * shrunk))
    top, left = (int(0.5 * (size - window + 1)) for size in image.shape[-2:])
    part = image[:, top : top + window, left : left + window]
    whole = imresize(part, edge, edge)
    assert (high - whole).abs().max() < 0.51 / 255
    assert (low - imresize(whole, 8, 8)).abs().max() < 0.51 / 255
    if not shrunk:
        assert torch.equal(high, part)
        x, y = patch(examples, 0, [shrunk, 0.5, 0.5, 1, 0], recipe)
        assert torch.equal(y, high) and x.shape == low.shape
        assert torch.allclose(examples.normalised(low), x)


@pytest.mark.parametrize(
    "config, recipe, said",
    [
        (
            CONFIG.model_dump() | {"head": {"task": "super-resolution", "scale": 3}},
            {},
            "enlarges 3 times, --scale is 2",
        ),
        (CONFIG.model_dump() | {"in_channels": 3}, {}, "in_channels 3"),
        (CONFIG.model_dump(), {"patch": 32}, "patches of 32 pixels can't be cut"),
        (CONFIG.model_dump(), {"loss": "focal"}, "loss 'focal' is none of super-resolution"),
        (CONFIG.model_dump(), {"colour": 0.1}, "not recoloured"),
        (CONFIG.model_dump(), {"patch": 0}, "only where all have one size"),
    ],
)
def test_refused_before_anything_is_trained(pictures, config, recipe, said):
    with pytest.raises(UserError, match=said):
        TASK.check(LiteConfig.model_validate(config), Recipe(**{"patch": 16} | recipe), loaded(pictures))


def test_the_command_searches_confirms_and_tabulates(pictures, tmp_path, wavemix):
    recipe = json.dumps({"epochs": 1, "optimizer": "muon", "patch": 16, "lr": 0.02})
    options = "--task", "super-resolution", "--scale", 2, "--test-set", "Near", "--target", "20dB", "--recipe", recipe
    limits = "--max-parameters", 900, "--trials", 2, "--members", 1, "--seeds", 2, "--results", tmp_path
    said = wavemix("search", pictures, *options, *limits, "--start", ACTIVE.model_dump_json()).out
    assert "Near 2x at 20 dB" in said and "PSNR Far" in said and "--scale 2" in said
    (journal,) = tmp_path.glob("*.jsonl")
    assert journal.stem == f"{pictures.name}-Near-2x-20dB-extended"
    records = read(journal)
    trial = next(r for r in records if isinstance(r, Trial))
    test = next(r for r in records if isinstance(r, Confirmation))
    assert trial.threshold is not None and trial.feasible == (trial.accuracy_validation >= trial.threshold)
    assert test.score.unit == "dB" and test.beside["PSNR Near"] == test.accuracies and test.dataset.test_count == 3
    assert "super-resolution.md" in {path.name for path in (tmp_path / "tables").iterdir()}
    assert wavemix("tables", "--check", "--results", tmp_path).err == ""
    weights = next((tmp_path / "weights").glob(f"*{test.config.name}.safetensors"))
    network, given = networks(weights)[test.seeds[0]], inputs(weights)
    assert network(given.prepared(torch.zeros(1, 1, 30, 21, dtype=torch.uint8))).shape == (1, 1, 60, 42)
    again = wavemix("confirm", pictures, *options[:-2], "--seeds", 2, "--results", tmp_path).out
    assert "Near 2x at 20 dB" in again


def test_networks_see_and_give_normalised_luma(pictures):
    examples = TASK.examples(data := loaded(pictures))
    given = torch.cat([examples.normalised(low).flatten() for low in examples.inputs])
    assert given.mean() == pytest.approx(0, abs=1e-3) and given.std() == pytest.approx(1, abs=1e-2)
    torch.testing.assert_close(examples.restored(examples.normalised(examples.inputs[0])), examples.inputs[0])
    torch.testing.assert_close(TASK.normalisation(data), (examples.mean, examples.deviation))


def test_it_learns_what_no_linear_filter_does(pictures):
    """Upstream's body, linear but for its blocks, comes to little more than the best linear filter."""
    recipe = Recipe(epochs=6, batch_size=16, optimizer="adamw", lr=0.01, patch=24, patches=8, flip=True, turns=True)
    train, validation = split_validation(loaded(pictures), 3, 0)
    linear = CONFIG.model_copy(update={"activation": "relu"})
    assert linear.parameters() == ACTIVE.parameters()
    scores = [TASK.train(c, recipe, train, [0], validation=validation)[0].accuracy for c in (linear, ACTIVE)]
    assert scores[1] > scores[0] + 0.3, scores
