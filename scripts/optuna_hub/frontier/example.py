"""The smallest network that tells two spirals apart: FrontierSampler beside TPE and random search.

    python example.py                 # one search, a few seconds
    python example.py --compare 5     # a table: five searches of each sampler, a few minutes

The networks are multilayer perceptrons in NumPy. The cost is their parameter count, known before they are trained; the
score is the accuracy on validation points, a mean over four trainings that start from different weights, and noisy
still. The objective returns the cost and sets the constraint, as every sampler of Optuna's has it, so that only the
sampler changes.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optuna
import optunahub

# from the registry itself: optunahub.load_module("samplers/frontier")
frontier = optunahub.load_local_module("samplers/frontier", registry_root=str(Path(__file__).resolve().parents[2]))

THRESHOLD, CEILING = 0.95, 2000
EVALUATIONS, MEMBERS, EPOCHS, STEPS = 40, 4, 10, 20  # an evaluation trains so many members, all at once
ASKED = 800  # trials, refused ones included, after which nothing is refused
FRESH = 20  # members with other seeds that a result is checked with
WIDTHS = (2, 3, 4, 6, 8, 12, 16, 24)
SEARCH_SPACE = {
    "layers": (2, 3, 4),
    "first": WIDTHS,
    "later": WIDTHS,
    "activation": ("relu", "tanh"),
    "lr": (0.003, 0.01, 0.03, 0.1),
    "spread": (0.5, 1.0, 2.0),  # of the first weights
}


def sizes(params: dict) -> list[int]:
    """Inputs, hidden layers, output."""
    return [2, params["first"], *[params["later"]] * (params["layers"] - 1), 1]


def parameters(params: dict) -> int:
    """Weights and biases, in closed form."""
    widths = sizes(params)
    return sum((a + 1) * b for a, b in zip(widths, widths[1:]))


def spirals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` noisy points of two spirals of one and a half turns, (count, 2), and each point's spiral, (count, 1)."""
    rng = np.random.default_rng(seed)
    side = rng.integers(0, 2, count)
    radius = np.sqrt(rng.uniform(0.02, 1, count))
    angle = 3 * np.pi * radius + np.pi * side
    points = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    return 2 * (points + rng.normal(0, 0.02, points.shape)), side[:, None].astype(float)


TRAIN, VALIDATION = spirals(200, 0), spirals(500, 1)


def forward(x: np.ndarray, weights: list, relu: bool) -> list[np.ndarray]:
    """The input, what each hidden layer gives, and the output before the sigmoid."""
    outputs = [x]
    for number, (matrix, bias) in enumerate(weights, 1):
        x = x @ matrix + bias
        if number < len(weights):
            x = np.maximum(x, 0) if relu else np.tanh(x)
        outputs.append(x)
    return outputs


def train(params: dict, seed: int, members: int = MEMBERS) -> Iterator[float]:
    """Train with Adam and yield the mean validation accuracy of all members after each epoch."""
    rng, relu, widths = np.random.default_rng(seed), params["activation"] == "relu", sizes(params)
    weights = [
        [rng.normal(0, params["spread"] / np.sqrt(a), (members, a, b)), np.zeros((members, 1, b))]
        for a, b in zip(widths, widths[1:])
    ]
    moments = [[np.zeros((2, *part.shape)) for part in layer] for layer in weights]
    (x, y), (held, sides), total = TRAIN, VALIDATION, EPOCHS * STEPS
    for step in range(1, total + 1):
        outputs = forward(x, weights, relu)
        slope = (1 / (1 + np.exp(-np.clip(outputs[-1], -30, 30))) - y) / len(x)  # of the cross-entropy
        rate = params["lr"] * min(1.0, 2 * (1 - step / total) + 0.01)
        for number in reversed(range(len(weights))):
            matrix, given = weights[number][0], outputs[number]
            gradients = given.swapaxes(-1, -2) @ slope, slope.sum(-2, keepdims=True)
            slope = (slope @ matrix.swapaxes(-1, -2)) * ((given > 0) if relu else 1 - given**2)
            for part, moment, gradient in zip(weights[number], moments[number], gradients):
                moment[0] += 0.1 * (gradient - moment[0])
                moment[1] += 0.01 * (gradient**2 - moment[1])
                part -= rate * (moment[0] / (1 - 0.9**step)) / (np.sqrt(moment[1] / (1 - 0.99**step)) + 1e-8)
        if step % STEPS == 0:
            yield float(((forward(held, weights, relu)[-1] > 0) == sides).mean())


class Objective:
    """Returns the cost and sets the constraint; counts evaluations and their epochs."""

    def __init__(self, seed: int, prune: bool = False):
        self.seeds, self.prune = np.random.default_rng(seed), prune
        self.evaluations = self.epochs = 0

    def __call__(self, trial: optuna.Trial) -> float:
        params = {name: trial.suggest_categorical(name, values) for name, values in SEARCH_SPACE.items()}
        score = 0.0
        self.evaluations += 1
        for epoch, score in enumerate(train(params, int(self.seeds.integers(2**32))), 1):
            self.epochs += 1
            trial.report(score, epoch)
            if self.prune and trial.should_prune():
                raise optuna.TrialPruned
        trial.set_constraint("score", THRESHOLD - score)
        return parameters(params)


def make(seed: int) -> optuna.samplers.BaseSampler:
    return frontier.FrontierSampler(
        SEARCH_SPACE,
        cost=parameters,
        threshold=THRESHOLD,
        ceiling=CEILING,
        epochs=EPOCHS,
        seed=seed,
        centred=("lr", "spread"),
    )


def feasible(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    complete = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    return [trial for trial in complete if trial.constraints["score"] <= 0]


def search(sampler: optuna.samplers.BaseSampler, seed: int, refuse: bool = False, prune: bool = False):
    """One study of `EVALUATIONS`. With `refuse`, what costs as much as the best so far is not trained."""
    ours = isinstance(sampler, frontier.FrontierSampler)
    study = optuna.create_study(sampler=sampler, pruner=frontier.FrontierPruner(sampler) if ours else None)
    objective = Objective(seed, prune)

    def unless_refused(trial: optuna.Trial) -> float:
        params = {name: trial.suggest_categorical(name, values) for name, values in SEARCH_SPACE.items()}
        below = min((t.value for t in feasible(study)), default=CEILING)
        if parameters(params) >= below and trial.number < ASKED:
            raise Refused
        return objective(trial)

    while objective.evaluations < EVALUATIONS:
        study.optimize(unless_refused if refuse else objective, n_trials=1, catch=(Refused,))
    return study, objective


class Refused(Exception):
    """Costs too much: the trial fails at once and is no evaluation."""


def compare(repetitions: int) -> Iterator[str]:
    """Rows of a table in Markdown: what each sampler found after equally many evaluations, and whether it holds."""
    contenders: dict[str, tuple[Callable[[int], optuna.samplers.BaseSampler], dict[str, bool]]] = {
        "FrontierSampler": (make, {}),
        "FrontierSampler, FrontierPruner": (make, {"prune": True}),
        "TPE": (lambda seed: optuna.samplers.TPESampler(seed=seed), {}),
        "TPE, refusing": (lambda seed: optuna.samplers.TPESampler(seed=seed), {"refuse": True}),
        "random": (lambda seed: optuna.samplers.RandomSampler(seed=seed), {}),
        "random, refusing": (lambda seed: optuna.samplers.RandomSampler(seed=seed), {"refuse": True}),
    }
    yield "| sampler | parameters: median | least | most | holds | epochs trained |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name, (sampler_of, options) in contenders.items():
        found, holds, epochs = [], 0, []
        for seed in range(repetitions):
            sampler = sampler_of(seed)
            study, objective = search(sampler, seed, **options)
            ours = isinstance(sampler, frontier.FrontierSampler)
            best = sampler.incumbent(study) if ours else min(feasible(study), key=lambda t: t.value, default=None)
            epochs.append(objective.epochs)
            found.append(CEILING if best is None else best.value)
            if best is not None:
                *_, score = train(best.params, 10_000 + seed, FRESH)
                holds += score >= THRESHOLD
        figures = (f"{value:,.0f}" for value in (statistics.median(found), min(found), max(found)))
        row = [name, *figures, f"{holds} of {repetitions}", f"{statistics.median(epochs):.0f}"]
        yield f"| {' | '.join(row)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", type=int, default=0, metavar="SEARCHES", help="searches of each sampler")
    repetitions = parser.parse_args().compare
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if repetitions:
        for line in compare(repetitions):
            print(line, flush=True)
        return
    sampler = make(0)
    study, objective = search(sampler, 0, prune=True)
    best = sampler.incumbent(study)
    print(f"{objective.evaluations} evaluations, {objective.epochs} epochs of {EPOCHS * EVALUATIONS}")
    for what, trials in (("measured", feasible(study)), ("believed", [] if best is None else [best])):
        least = min(trials, key=lambda trial: trial.value, default=None)
        found = "none" if least is None else f"{least.value:,.0f} parameters, {least.params}"
        print(f"cheapest {what} to reach {THRESHOLD:.0%}: {found}")


if __name__ == "__main__":
    main()
