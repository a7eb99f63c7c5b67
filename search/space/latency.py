"""How long a network takes for one image on this machine: measured, or predicted from what was measured."""

import time

import numpy as np
import torch
from scipy.optimize import least_squares, nnls

from search.space.work import multiply_accumulates, operations
from wavemix import kernels
from wavemix.compiled import Compiled, one_call
from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite

PASSES, WARM_UP = 30, 3
LEAST = 1e-6  # seconds that any term's unit takes, so that no prediction is 0
ENOUGH = 0.5  # seconds of passes, at least `WARM_UP` of them, for networks on large images


class Latency:
    """Seconds that one image (channels, height, width) takes on one thread of the CPU: the least of 30 passes.

    Of a classifier as `wavemix.load` gives it, through the compiled kernels where there are any, else of the plain
    module. The least, because all that makes a pass longer than that is the machine's other work.

    A configuration that was not measured is predicted: seconds are a sum of terms in its multiply-accumulates, its
    operations and the numbers that its blocks write, none of them negative; other terms where all blocks are one call
    of the kernels. They are fitted to what was measured, by ratios.
    """

    def __init__(self, image: tuple[int, int, int]):
        self.image = image
        self.measured: dict[LiteConfig, float] = {}
        self._weights: np.ndarray | None = None  # None: to be fitted anew

    def __call__(self, config: LiteConfig) -> float:
        """Measured or predicted; 0 as long as nothing was measured."""
        if not self.measured:
            return 0.0
        if self._weights is None:
            self._weights = self._fitted()
        return self.measured.get(config) or float(self._terms(config) @ self._weights)

    def measure(self, config: LiteConfig) -> float:
        """What it takes, measured the first time."""
        if config not in self.measured:
            self.measured[config], self._weights = seconds(config, self.image), None
        return self.measured[config]

    def _fitted(self) -> np.ndarray:
        terms = np.stack([self._terms(known) for known in self.measured])
        taken = np.array(list(self.measured.values()))
        first, _ = nnls(terms / taken[:, None], np.ones(len(taken)))

        def ratios(weights: np.ndarray) -> np.ndarray:
            return np.log(terms @ weights / taken)

        return least_squares(ratios, first + LEAST, bounds=(LEAST / 10, np.inf)).x

    def _terms(self, config: LiteConfig) -> np.ndarray:
        """In units that make them about as large as each other."""
        height, width = self.image[1:]
        h, w = config.feature_size(height, width)
        written = config.depth * h * w * config.final_dim
        macs = multiply_accumulates(config.seen_once, height, width)
        terms = np.array([1.0, operations(config) / 10, macs / 1e6, written / 1e5])
        once = one_call(config)
        return np.concatenate([terms * once, terms * (not once)]) * config.forwards


def seconds(config: LiteConfig, image: tuple[int, int, int]) -> float:
    """The least of the passes of one image; the weights are random, which time does not depend on."""
    with torch.random.fork_rng(devices=[]):
        network: torch.nn.Module = WaveMixLite(config).eval()
        pixels = torch.rand(1, *image)
    if config.task == "classification" and kernels.library() is not None:
        network = Compiled(network)
    threads, taken = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            while len(taken) < WARM_UP + PASSES and (len(taken) <= 2 * WARM_UP or sum(taken) < ENOUGH):
                start = time.perf_counter()
                network(pixels)
                taken.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return min(taken[WARM_UP:])
