"""Trained networks by name, for those who want to use them: `wavemix.load`."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search.inference.ready import Ready

    from .config import LiteConfig


def load(
    what: str | Path,
    seed: int | None = None,
    results: str | Path = "runs",
    compiled: bool = False,
    config: "LiteConfig | None" = None,
    mean: "Sequence[float] | None" = None,
    std: "Sequence[float] | None" = None,
) -> "Ready":
    """A trained network that normalises its images itself, in evaluation mode.

        network = wavemix.load("mnist-99-extended")
        network.classes[network(images).argmax(1)[0]]

    It takes float images (N, C, H, W) between 0 and 1 and gives scores (N, K); `classes` are the K names. One for
    segmentation takes images of any size and gives scores (N, K, H, W), `colours` are its classes'; one for
    super-resolution takes grey or RGB images of any size and gives them `scale` times as large.

    Args:
        what: a row of the parameter-efficiency table, a study, or a file of weights.
        seed: whose network; default: the first seed's.
        results: directory of your own records and weights; those of the checkout that this runs from are known, too.
        compiled: run a classifier's blocks through the compiled kernels (`wavemix.compiled`), several times as fast on
            a CPU; a warning says so where they are missing. Scores then have no gradient and the weights can't be
            changed.
        config: of weights that wavemix did not write, such as upstream's .pth; up-sampling is by transposed
            convolutions where it is not named.
        mean, std: what such weights' images are normalised by, one number for all channels or one a channel; default:
            images go in as they are, from 0 to 1.

    Raises `search.errors.UserError`, in one line, where there is no such network, or its weights are not here.
    """
    # not at the top: the networks need nothing of the search
    package = importlib.import_module("wavemix.search.inference.loading")
    return package.load(what, seed, results, compiled, config, mean, std)
