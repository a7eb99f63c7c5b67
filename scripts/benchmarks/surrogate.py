"""A stand-in for training: curves of any configuration, interpolated from recorded trainings.

Six Gaussian processes (Matérn 5/2 with a length scale an input, plus a linear part; hyperparameters by maximum a
posteriori) are fitted to the recorded curves: one to the log error after the last epoch, one to how far each earlier
epoch's log error lies above that. A `Problem` is one function drawn from their posterior (pathwise: Wilson et al.,
"Efficiently sampling functions from Gaussian process posteriors", 2020), so that where the records say little, every
draw is another landscape that they allow, as rugged as the real one; the posterior mean would be smoother and easier
than any of them. Measurements add the fitted noise, drawn anew for each training.

Why not the table itself: mapping a suggestion to its nearest tabulated neighbour would shrink a space of hundreds of
thousands of configurations to 160 and leave the samplers nothing to model. The processes differ from the sampler's own
(other kernel, other inputs), and `errors` states how well they predict records they were not given.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize

from search.records.models import Trial
from search.space.configurations import PUBLISHED
from search.space.work import multiply_accumulates, operations
from wavemix.config import LiteConfig

FREQUENCIES = 1000  # random features of a prior draw


def extent(config: LiteConfig, height: int, width: int) -> int:
    """By what networks with recorded curves were drawn: multiply-accumulates, and a little for each operation.

    It is no measure of time: see `search.space.work.training_work`.
    """
    return multiply_accumulates(config, height, width) + 850 * operations(config)


def inputs(config: LiteConfig, height: int, width: int) -> list[float]:
    """A configuration as numbers of about unit spread."""
    kinds = [config.upsampling == kind for kind in PUBLISHED["upsampling"]]  # of others no curve is recorded
    stems = [config.initial_conv == stem for stem in ("strided", "single", "separable")]
    return [
        math.log(config.parameters() / 1500),
        math.log(extent(config, height, width) / 1e5),
        math.log(config.depth / 4),
        math.log(config.final_dim / 8),
        math.log(config.mult / 2),
        math.log(config.level),
        math.log(config.kernel / 3),
        math.log(config.stride[0]),
        math.log(config.stride[1]),
        float(config.ff_channel == config.final_dim),
        float(config.pad > 0),
        float(config.shared > 0),
        float(config.bias == "all"),
        float(config.activation == "silu"),
        *map(float, kinds),
        *map(float, stems),
    ]


class Field:
    """One fitted process: y = level + linear part + smooth part + noise."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.level, self.spread = float(y.mean()), float(y.std()) or 1.0
        self.x, self.y = x, (y - self.level) / self.spread
        tx, ty = torch.tensor(x), torch.tensor(self.y)
        count = x.shape[1]

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            theta = torch.tensor(flat, requires_grad=True)
            scales, smooth, linear, noise = theta[:count].exp(), *theta[count:].exp()
            kernel = _matern(tx / scales, tx / scales, smooth) + linear * tx @ tx.T + noise * torch.eye(len(ty))
            lower = torch.linalg.cholesky(kernel)
            half = torch.linalg.solve_triangular(lower, ty[:, None], upper=False)
            # log-normal priors: about as long as the inputs are wide (Hvarfner et al., 2024, for `count` inputs)
            prior = ((theta[:count] - 0.5 * math.log(count)) ** 2).sum() / 2
            prior = prior + ((theta[count:] - torch.tensor([-1.0, -3.0, -3.0])) ** 2).sum() / 8
            value = 0.5 * (half**2).sum() + lower.diagonal().log().sum() + prior
            value.backward()
            return value.item(), theta.grad.numpy()

        start = np.array([0.5 * math.log(count)] * count + [-1.0, -3.0, -3.0])
        best = minimize(
            loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100}, bounds=[(-8, 6)] * len(start)
        )
        self.scales, (self.smooth, self.linear, noise) = np.exp(best.x[:count]), np.exp(best.x[count:])
        self.noise = math.sqrt(noise)
        self.lower = cholesky(self.kernel(x, x) + noise * np.eye(len(x)), lower=True)

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise, in units of y."""
        return self.noise * self.spread

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        scaled = _matern(torch.tensor(a / self.scales), torch.tensor(b / self.scales), torch.tensor(self.smooth))
        return scaled.numpy() + self.linear * a @ b.T

    def left_out(self) -> np.ndarray:
        """What each observation is off the prediction from all others (Rasmussen & Williams, 2006, 5.4.2)."""
        inverse = cho_solve((self.lower, True), np.eye(len(self.y)))
        return inverse @ self.y / np.diag(inverse) * self.spread

    def draw(self, rng: np.random.Generator):
        """A function drawn from the posterior: rows of inputs -> noise-free values."""
        count = self.x.shape[1]
        # a Matern 5/2 kernel's spectral density is a multivariate t with 5 degrees of freedom
        tails = np.sqrt(5 / rng.chisquare(5, (FREQUENCIES, 1)))
        frequencies = rng.normal(size=(FREQUENCIES, count)) * tails / self.scales
        phases = rng.uniform(0, 2 * math.pi, FREQUENCIES)
        weights = rng.normal(size=FREQUENCIES) * math.sqrt(2 * self.smooth / FREQUENCIES)
        slopes = rng.normal(size=count) * math.sqrt(self.linear)

        def prior(x: np.ndarray) -> np.ndarray:
            return np.cos(x @ frequencies.T + phases) @ weights + x @ slopes

        rest = self.y - prior(self.x) - self.noise * rng.normal(size=len(self.y))
        update = cho_solve((self.lower, True), rest)
        return lambda x: self.level + self.spread * (prior(x) + self.kernel(x, self.x) @ update)


def _matern(a: torch.Tensor, b: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    distance = torch.sqrt(5 * square.clamp(min=1e-10))
    return variance * (1 + distance + distance**2 / 3) * torch.exp(-distance)


class Surrogate:
    """The processes of one data set's recorded curves."""

    def __init__(self, trials: Sequence[Trial], height: int = 28, width: int = 28):
        self.size = height, width
        complete = [t for t in trials if t.state == "complete"]
        self.epochs = len(complete[0].curves[0])
        accuracies = np.array([[point.accuracy for point in t.curves[0]] for t in complete])
        errors = np.log(np.clip(1 - accuracies, 1e-4, None))
        x = np.array([inputs(t.config, *self.size) for t in complete])
        targets = np.column_stack([errors[:, :-1] - errors[:, -1:], errors[:, -1]])
        self.fields = [Field(x, column) for column in targets.T]
        residuals = np.column_stack([field.left_out() for field in self.fields])
        deviations = np.array([field.deviation for field in self.fields])
        self.covariance = np.corrcoef(residuals.T) * np.outer(deviations, deviations)
        self.count = len(complete)
        self.errors = {  # of the log error after the last epoch
            "records": len(complete),
            "deviation": float(errors[:, -1].std()),
            "left-one-out root mean square": float(np.sqrt((residuals[:, -1] ** 2).mean())),
            "noise": float(deviations[-1]),
        }

    def problem(self, seed: int, members: int = 2) -> "Problem":
        return Problem(self, seed, members)


class Problem:
    """One landscape that the records allow, and its measurements: means of `members` seeds."""

    def __init__(self, surrogate: Surrogate, seed: int, members: int):
        self.surrogate, self.members, self.epochs = surrogate, members, surrogate.epochs
        self.size = surrogate.size
        rng = np.random.default_rng(seed)
        self.functions = [field.draw(rng) for field in surrogate.fields]
        self.noise = np.linalg.cholesky(surrogate.covariance + 1e-9 * np.eye(self.epochs)) / math.sqrt(members)

    def _log_errors(self, config: LiteConfig, noise: np.ndarray) -> np.ndarray:
        x = np.array([inputs(config, *self.size)])
        values = np.array([function(x)[0] for function in self.functions]) + noise
        return np.minimum(np.append(values[:-1] + values[-1], values[-1]), math.log(0.9))

    def truths(self, configs: Sequence[LiteConfig]) -> np.ndarray:
        """Noise-free accuracies after the last epoch."""
        x = np.array([inputs(config, *self.size) for config in configs])
        return 1 - np.exp(np.minimum(self.functions[-1](x), math.log(0.9)))

    def curve(self, config: LiteConfig, rng: np.random.Generator) -> np.ndarray:
        """Measured accuracies by epoch of one more training."""
        return 1 - np.exp(self._log_errors(config, self.noise @ rng.normal(size=self.epochs)))
