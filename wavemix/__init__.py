"""WaveMix networks: image models that mix tokens with a 2-D discrete wavelet transform.

A drop-in for the PyPI package `wavemix` 0.2.4 (same import name, constructors, state dicts and outputs), plus
`WaveMixLite`, whose configuration knows its parameter count without building the network.
"""

import importlib
from importlib import metadata

from .threads import settle

settle()  # before anything loads PyTorch, which the modules below do, and which takes seconds

_HOME = {
    "Level1Waveblock": "blocks",
    "Level2Waveblock": "blocks",
    "Level3Waveblock": "blocks",
    "Level4Waveblock": "blocks",
    "LiteConfig": "config",
    "WaveMixLite": "lite",
    "WaveMixSR": "wavemixsr",
    "WaveMixSRV2": "wavemixsr",
    "Waveblock": "blocks",
    "create": "registry",
    "haar": "dwt",
    "inverse_haar": "dwt",
    "list_models": "registry",
    "load": "loading",
    "load_checkpoint": "checkpoint",
}
__all__ = list(_HOME)


try:
    __version__ = metadata.version("wavemix-search")
except metadata.PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0"


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
