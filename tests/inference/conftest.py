"""Networks of each task, trained and tested for real, for all tests of what is done with stored ones."""

from pathlib import Path

import jobs
import pytest
from bars import RECIPE
from scenes import scenes, waves

from search.data import datasets
from search.data.source import Reading, Source
from search.training.recipe import Recipe
from wavemix import LiteConfig

CONFIG = LiteConfig(in_channels=1, num_classes=4, final_dim=8, depth=2, upsampling="bilinear")


@pytest.fixture(scope="session")
def results(folder, tmp_path_factory) -> Path:
    """A directory of results with the study "mine": two seeds, the row bars-folder-30-published."""
    place = tmp_path_factory.mktemp("results")
    data = datasets.load(str(folder), "train")
    jobs.confirm(CONFIG, RECIPE, data, 0.3, [5, 6], study="mine", family="published", results=place)
    return place


DENSE = LiteConfig(
    in_channels=3, num_classes=4, final_dim=8, depth=1, stride=(2, 1), level=2, upsampling="bilinear",
    head={"task": "segmentation", "skip": True},
)  # fmt: skip
LARGER = LiteConfig(
    in_channels=1, final_dim=8, depth=1, mult=1, upsampling="bilinear", head={"task": "super-resolution", "scale": 2}
)


@pytest.fixture(scope="session")
def on_pixels(tmp_path_factory) -> Path:
    """A directory of results with the studies "scenes", segmentation, and "waves", super-resolution: a seed or two.

    Their images are in its folders images/scenes and images/waves.
    """
    place = tmp_path_factory.mktemp("results")
    (place / "images" / "waves").mkdir(parents=True)
    segmented = Source(str(scenes(place / "images" / "scenes")), Reading(task="segmentation"))
    recipe = Recipe(epochs=3, batch_size=16, optimizer="muon", lr=0.02, patch=24, patches=4, flip=True)
    options = {"family": "extended", "results": place}
    jobs.confirm(DENSE, recipe, datasets.load(segmented, "train"), 0.3, [5, 6], study="scenes", **options)
    reading = Reading(task="super-resolution", scale=2, test_set="Near")
    enlarged = datasets.load(Source(str(waves(place / "images" / "waves")), reading), "train")
    recipe = Recipe(epochs=1, batch_size=16, lr=0.005, patch=16, patches=2)
    jobs.confirm(LARGER, recipe, enlarged, 12.0, [5], study="waves", **options)
    return place
