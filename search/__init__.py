"""Search for the smallest WaveMixLite network that reaches a target accuracy, and keep the evidence.

    from search import campaign, Goal, Results

    data = campaign.load("mnist")
    found = campaign.search(data, Goal("mine", 0.99), results=Results("runs"), seconds=900)
    network = found.load()

Public: `campaign` (load, search, confirm, train), what they take (`Goal`, `Results`, `Runtime`, `Recipe`,
`LiteConfig`) and return (`Outcome`), `networks` and `inputs` for stored weights, `FrontierSampler` for other Optuna
studies. Where a file search.py of yours hides this package, all of it is also in `wavemix.search`.
"""

import importlib
from importlib import metadata

import wavemix  # settles how PyTorch's threads wait, before anything loads it

if "LiteConfig" not in getattr(wavemix, "__all__", ()):
    raise ImportError(
        "another package named wavemix has overwritten this program's: pip uninstall wavemix, then install this again"
    )

_HOME = {
    "FrontierSampler": "sampling.sampler",
    "Goal": "records.goal",
    "Outcome": "outcome",
    "Recipe": "training.recipe",
    "Results": "records.results",
    "Runtime": "runtime",
    "inputs": "records.weights",
    "networks": "records.weights",
}
__all__ = ["campaign", *_HOME]
try:
    __version__ = metadata.version("wavemix-search")
except metadata.PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0"


def __getattr__(name: str):
    if name == "campaign":
        return importlib.import_module("search.campaign")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"search.{_HOME[name]}"), name)
