"""Gaussian-process regression over hyperparameters, for a few hundred noisy measurements."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.linalg import block_diag, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

LEVEL = 0.09  # prior variance of the level
INDICATOR = 0.7  # two choices are about as far apart as a number and its double
# prior of the logarithms of: a length scale, the smooth part's variance, each feature's weight, the noise variance
CENTRES, WIDTHS = (0.5, math.log(0.05), math.log(0.02), math.log(0.003)), (0.7, 0.7, 0.7, 0.7)


class Features:
    """Hyperparameters as numbers of about unit spread: logarithms of positive numbers, an indicator for every other
    choice.

    The linear kernel lets a number matter the more the farther it is from 1, as the parts of a network do. The numbers
    of the `centred` hyperparameters have no such zero: they are counted from the middle of their choices. The logarithm
    of the cost is counted from `origin`; 8 is that of 3,000 parameters.
    """

    def __init__(self, choices: Mapping[str, Sequence], centred: Collection[str] = (), origin: float = 8.0):
        self.origin = origin
        self.numeric = {
            name: 0.5 * (math.log(min(values)) + math.log(max(values))) if name in centred else 0.0
            for name, values in choices.items()
            if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values) and min(values) > 0
        }
        self.choices = [(name, v) for name, values in choices.items() if name not in self.numeric for v in values]

    def __len__(self) -> int:
        return 1 + len(self.numeric) + len(self.choices)

    def __call__(self, params: list[dict[str, Any]], costs: list[float]) -> np.ndarray:
        rows = [
            [math.log(cost) - self.origin]
            + [math.log(p[name]) - middle for name, middle in self.numeric.items()]
            + [INDICATOR * (p[name] == value) for name, value in self.choices]
            for p, cost in zip(params, costs)
        ]
        return np.array(rows).reshape(len(params), len(self))


class Kernel:
    """Level + linear + squared exponential with a length scale a feature, and noise on top of what is known of it."""

    def __init__(self, features: int):
        self.theta = np.repeat(CENTRES, (features, 1, 1, 1)).astype(float)
        self.fitted = 0  # measurements it was last fitted to

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self._parts(a, b)[0] + LEVEL

    def _parts(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scales, (smooth, linear, _) = np.exp(self.theta[:-3]), np.exp(self.theta[-3:])
        x, z = a / scales, b / scales
        square = ((x**2).sum(1)[:, None] + (z**2).sum(1) - 2 * x @ z.T).clip(min=0)
        bent = smooth * np.exp(-0.5 * square)
        return bent + linear * a @ b.T, bent

    def variance(self, x: np.ndarray) -> np.ndarray:
        smooth, linear, _ = np.exp(self.theta[-3:])
        return LEVEL + smooth + linear * (x**2).sum(1)

    @property
    def noise(self) -> float:
        return math.exp(self.theta[-1])

    def fit(self, x: np.ndarray, y: np.ndarray, errors: np.ndarray) -> None:
        """Maximum a posteriori (Rasmussen & Williams, 2006, 5.4.1), from where the last fit ended.

        `errors` is the covariance of what is known of the measurements' errors.
        """
        count = x.shape[1]
        centres = np.repeat(CENTRES, (count, 1, 1, 1))
        widths = np.repeat(WIDTHS, (count, 1, 1, 1))

        def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
            self.theta = theta
            scales, (_, linear, extra) = np.exp(theta[:count]), np.exp(theta[count:])
            covariance, bent = self._parts(x, x)
            lower = cholesky(covariance + LEVEL + errors + extra * np.eye(len(y)), lower=True)
            inverse = cho_solve((lower, True), np.eye(len(y)))
            weights = inverse @ y
            outer = inverse - np.outer(weights, weights)  # twice the loss's derivative by the covariance
            curved = outer * bent
            lengths = 2 * (curved.sum(1) @ x**2 - ((curved @ x) * x).sum(0)) / scales**2
            gradient = 0.5 * np.concatenate(
                [lengths, [curved.sum(), linear * (outer * (x @ x.T)).sum(), extra * np.trace(outer)]]
            )
            off = (theta - centres) / widths
            value = 0.5 * y @ weights + np.log(np.diag(lower)).sum() + 0.5 * off @ off
            return float(value), gradient + off / widths

        bounds = [(-4, 4)] * count + [(-7, 2), (-10, 0), (-9, 0)]
        self.theta = minimize(loss, self.theta, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 30}).x
        self.fitted = len(y)


class Process:
    """The posterior given measurements `y` at `x` whose errors have the covariance `errors`."""

    def __init__(self, kernel: Kernel, x: np.ndarray, y: np.ndarray, errors: np.ndarray):
        self.kernel, self.x, self.y, self.errors = kernel, x, y, errors
        if len(y):
            self.lower = cholesky(kernel(x, x) + errors + kernel.noise * np.eye(len(y)), lower=True)
            self.weights = cho_solve((self.lower, True), y)

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation at each row of `x`, noise left out."""
        variance = self.kernel.variance(x)
        if not len(self.y):
            return np.zeros(len(x)), np.sqrt(variance)
        cross = self.kernel(self.x, x)
        solved = solve_triangular(self.lower, cross, lower=True)
        return cross.T @ self.weights, np.sqrt((variance - (solved**2).sum(0)).clip(min=1e-6))

    def measured(self, x: np.ndarray, y: float, noise: float, covariance: np.ndarray) -> tuple[float, float]:
        """Mean and standard deviation at one row `x` after one more measurement there.

        `noise` is the standard deviation of its error, `covariance` that error's covariance with all others.
        """
        own = self.kernel.variance(x)[0]
        values = [0.0, own, 0.0, own + noise**2 + self.kernel.noise, own]
        if len(self.y):
            cross = self.kernel(self.x, x)[:, 0]
            known, told, new = solve_triangular(
                self.lower, np.column_stack([self.y, cross, cross + covariance]), lower=True
            ).T
            values = np.array(values) + [told @ known, -told @ told, new @ known, -new @ new, -told @ new]
        mean, variance, guess, spread, both = values
        gain = both / spread
        return float(mean + gain * (y - guess)), math.sqrt(max(variance - gain * both, 1e-6))

    def extended(self, x: np.ndarray, y: np.ndarray, noise: np.ndarray) -> "Process":
        """With more measurements, whose errors of standard deviations `noise` are independent."""
        errors = np.asarray(block_diag(self.errors, np.diag(noise**2)))
        return Process(self.kernel, np.vstack([self.x, x]), np.concatenate([self.y, y]), errors)
