"""A network of the bars, trained and tested for real, for all tests of what is done with stored ones."""

from pathlib import Path

import jobs
import pytest
from bars import RECIPE

from search.data import datasets
from wavemix import LiteConfig

CONFIG = LiteConfig(in_channels=1, num_classes=4, final_dim=8, depth=2, upsampling="bilinear")


@pytest.fixture(scope="session")
def results(folder, tmp_path_factory) -> Path:
    """A directory of results with the study "mine": two seeds, the row bars-folder-30-published."""
    place = tmp_path_factory.mktemp("results")
    data = datasets.load(str(folder), "train")
    jobs.confirm(CONFIG, RECIPE, data, 0.3, [5, 6], study="mine", family="published", results=place)
    return place
