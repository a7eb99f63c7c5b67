"""WaveMix networks: image models that mix tokens with a 2-D discrete wavelet transform.

A drop-in for the PyPI package `wavemix` 0.2.4 (same import name, constructors, state dicts and outputs), plus
`WaveMixLite`, whose configuration knows its parameter count without building the network.
"""

from .blocks import Level1Waveblock, Level2Waveblock, Level3Waveblock, Level4Waveblock, Waveblock
from .checkpoint import load_checkpoint
from .config import LiteConfig
from .dwt import haar, inverse_haar
from .lite import WaveMixLite

__all__ = [
    "Level1Waveblock",
    "Level2Waveblock",
    "Level3Waveblock",
    "Level4Waveblock",
    "LiteConfig",
    "WaveMixLite",
    "Waveblock",
    "haar",
    "inverse_haar",
    "load_checkpoint",
]
