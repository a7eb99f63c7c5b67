import itertools
import math
import time

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from search.records.models import Data, Trial
from search.sampling.gaussian_process import Features, Kernel, Process
from search.sampling.learning_curves import Curves, relative_error
from search.sampling.posterior import SHARED, Survey
from search.sampling.sampler import Candidate, FrontierPruner, FrontierSampler, Observation
from search.space.configurations import Space
from search.space.recipe_choices import Tuning
from search.space.work import training_work
from search.study.warm_start import warm_start
from search.training.outcome import Epoch
from search.training.recipe import Recipe

CHOICES = {"width": (4, 8, 12, 16, 24), "depth": tuple(range(1, 11)), "kind": ("plain", "dense"), "flag": (False, True)}
ALL = [dict(zip(CHOICES, combination)) for combination in itertools.product(*CHOICES.values())]
TARGET = 0.9
DATA = Data(name="x", label="MNIST", variant="official", digest="d", train_count=9)


def cost(params) -> int:
    return params["width"] ** 2 * params["depth"] * (2 if params["kind"] == "dense" else 1) + 10 * params["flag"]


def accuracy(params) -> float:
    """Depth pays more than width, 'dense' little, the flag a lot."""
    log_error = -0.55 * math.log(params["width"]) - 0.5 * math.log(params["depth"])
    log_error -= 0.05 * (params["kind"] == "dense") + 0.25 * params["flag"]
    return 1 - 0.6 * math.exp(log_error)


def candidates(below):
    return [Candidate(params, cost(params), cost(params)) for params in ALL if cost(params) < below]


def sampler(**options) -> FrontierSampler:
    return FrontierSampler(CHOICES, candidates, TARGET, 4000, cost=cost, **options)


def study(chosen=None) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(direction="maximize", sampler=chosen or sampler())


def objective(trial) -> float:
    return accuracy({name: trial.suggest_categorical(name, values) for name, values in CHOICES.items()})


def distributions():
    return {name: CategoricalDistribution(values) for name, values in CHOICES.items()}


def cheapest(studied) -> float:
    return min((cost(t.params) for t in studied.trials if t.value is not None and t.value >= TARGET), default=math.inf)


def test_plain_objective_finds_the_cheapest_feasible_quickly():
    best = min(cost(params) for params in ALL if accuracy(params) >= TARGET)
    ours = study()
    ours.optimize(objective, n_trials=25)
    assert cheapest(ours) == best
    random = study(optuna.samplers.RandomSampler(seed=0))
    random.optimize(objective, n_trials=25)
    assert cheapest(random) > best, "the problem would be too easy to tell samplers apart"


def test_proposals_are_new_and_below_the_incumbent_of_their_time():
    ours = study()
    incumbent, seen = 4000, []
    while sampler().unseen(ours):
        trial = ours.ask(distributions())
        assert cost(trial.params) < incumbent and trial.params not in seen
        seen.append(trial.params)
        ours.tell(trial, accuracy(trial.params))
        if accuracy(trial.params) >= TARGET:
            incumbent = cost(trial.params)
    assert incumbent == cheapest(ours) == min(cost(params) for params in ALL if accuracy(params) >= TARGET)
    assert ours.ask(distributions()).params.keys() == CHOICES.keys(), "then it samples at random"


def test_running_trials_are_taken_into_account():
    ours = study()
    batch = [ours.ask(distributions()).params for _ in range(6)]
    assert len({tuple(params.items()) for params in batch}) == 6
    # a running trial makes its neighbours less uncertain, so that the next worker looks elsewhere
    pool = candidates(4000)
    alone, beside = study(), study()
    beside.enqueue_trial(pool[50].params)
    beside.ask(distributions())
    (_, alone), (_, beside) = (Survey(sampler().history(s)).predict(pool) for s in (alone, beside))
    assert beside[50] < alone[50] and (beside <= alone + 1e-9).all()


def test_unfinished_trials_teach_by_what_they_reported():
    def after(accuracy):
        ours, chosen = study(), sampler(epochs=4)
        ours.enqueue_trial(ALL[150])
        ours.ask(distributions()).report(accuracy, 2)
        return Survey(chosen.history(ours)).predict([Candidate(ALL[150], cost(ALL[150]), 1)])[0][0]

    assert after(0.5) > after(0.8) > after(0.9)


def test_neighbours_of_the_best_are_proposed_where_few_are_drawn():
    """With every hundredth configuration drawn, only the way over neighbours leads to the cheapest one."""

    def few(below):
        return candidates(below)[::100]

    def near(places, below):
        return [c for c in candidates(below) for p in places if sum(c.params[name] != p[name] for name in p) <= 1]

    best = min(cost(params) for params in ALL if accuracy(params) >= TARGET)
    alone, climbing = (FrontierSampler(CHOICES, few, TARGET, 4000, cost=cost, near=n) for n in (None, near))
    found = []
    for chosen in (alone, climbing):
        ours = study(chosen)
        while len(ours.trials) < 40 and chosen.unseen(ours):
            ours.optimize(objective, n_trials=1)
        found.append(cheapest(ours))
    assert found[1] == best < found[0]


def test_many_extrapolations_do_not_make_certain_what_one_curve_of_this_kind_is_off():
    def deviation(count):
        chosen = sampler(epochs=4)
        ours = study(chosen)
        for params in [k for k in ALL if k["flag"] and k["kind"] == "plain"][:count]:
            ours.add_trial(
                create_trial(
                    params=params, distributions=distributions(), state=TrialState.PRUNED,
                    intermediate_values={1: accuracy(params) - 0.1},
                )
            )  # fmt: skip
        unseen = dict(ALL[0], flag=True, width=24, depth=10)
        return Survey(chosen.history(ours)).predict([Candidate(unseen, cost(unseen), 1)])[1][0]

    _, spread = Curves().end(1, 4, 0.8, TARGET)
    assert deviation(45) > 0.6 * SHARED * spread


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.PRUNED])
def test_failed_and_pruned_trials_are_not_proposed_again(state):
    ours = study()
    first = ours.ask(distributions())
    ours.tell(first, state=state)
    assert first.params not in [c.params for c in sampler().unseen(ours)]
    assert ours.ask(distributions()).params != first.params


def test_without_cost_the_user_attribute_counts():
    ours = study(FrontierSampler(CHOICES, candidates, TARGET, 4000))
    trial = create_trial(value=0.95, params=ALL[150], distributions=distributions(), user_attrs={"parameters": 300})
    ours.add_trial(trial)
    assert cost(ours.ask(distributions()).params) < 300


def test_before_anything_is_feasible_the_likeliest_is_tried_first():
    trial = study().ask(distributions())
    assert cost(trial.params) > 1000


def test_earlier_observations_change_the_first_proposal():
    good = [Observation(params, cost(params), relative_error(accuracy(params), TARGET), 0.1) for params in ALL[::7]]
    first = study(sampler(earlier=good)).ask(distributions()).params
    assert cost(first) < cost(study().ask(distributions()).params), "it knows where to look"


def curve(params, epochs=4) -> list[float]:
    """Error falls by the same factor every epoch, to what `accuracy` says."""
    return [1 - min(0.9, (1 - accuracy(params)) * 1.6 ** (epochs - epoch)) for epoch in range(1, epochs + 1)]


def test_what_earlier_studies_have_measured_is_not_proposed_again():
    known = [params for params in ALL if accuracy(params) > TARGET - 0.02]
    earlier = [Observation(params, cost(params), relative_error(accuracy(params), TARGET), 0.1) for params in known]
    other = Observation(ALL[0], cost(ALL[0]), relative_error(accuracy(ALL[0]), TARGET), 0.3)
    ours = study(chosen := sampler(earlier=[*earlier, other]))
    reach = [params for params in known if accuracy(params) >= TARGET]

    def left() -> list[dict]:
        return [candidate.params for candidate in chosen.unseen(ours)]

    assert ALL[0] in left(), "what was measured under other conditions is"
    assert all((params in left()) == (params in reach) for params in known if cost(params) < 4000)
    largest = max((params for params in reach if cost(params) < 4000), key=cost)
    ours.enqueue_trial(largest)
    ours.tell(ours.ask(distributions()), accuracy(largest))
    assert chosen.incumbent(ours).params == largest
    assert not any(params in left() for params in known), "what has reached it was there in case that none does"


def test_optimize_with_pruning_beats_tpe_at_the_same_number_of_epochs():
    """The example of the module's docstring, and TPE on the same problem as Optuna's manual has it."""

    def trained(trial, report, spent):
        params = {name: trial.suggest_categorical(name, values) for name, values in CHOICES.items()}
        for epoch, value in enumerate(curve(params), 1):
            spent.append(epoch)
            report(trial, value, epoch)
        return params, value

    def reported(trial, value, epoch):
        trial.report(value, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    best = min(cost(params) for params in ALL if accuracy(params) >= TARGET)
    chosen, spent = sampler(epochs=4), []
    ours = optuna.create_study(direction="maximize", sampler=chosen, pruner=FrontierPruner(chosen))
    ours.optimize(lambda trial: trained(trial, reported, spent)[1], n_trials=25)
    reached = cost(chosen.incumbent(ours).params)
    assert reached <= 1.2 * best
    assert any(t.state == TrialState.PRUNED for t in ours.trials) and len(spent) < 25 * 4

    def constrained(trial):
        params, value = trained(trial, lambda *ignored: None, [])
        trial.set_constraint("accuracy", TARGET - value)
        return cost(params)

    found = []
    for seed in range(3):
        tpe = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        tpe.optimize(constrained, n_trials=len(spent) // 4)
        found.append(min((t.value for t in tpe.trials if t.constraints["accuracy"] <= 0), default=math.inf))
    assert min(found) > 1.5 * reached


def test_reach_falls_and_rises_with_the_curve_and_decides_what_is_pruned():
    def asked(value):
        chosen = sampler(epochs=4)
        ours = optuna.create_study(direction="maximize", sampler=chosen, pruner=FrontierPruner(chosen))
        for params in ALL[::9]:
            steps = dict(enumerate(curve(params), 1))
            ours.add_trial(
                create_trial(
                    value=accuracy(params), params=params, distributions=distributions(), intermediate_values=steps
                )
            )
        trial = ours.ask(distributions())
        before = chosen.reach(ours, ours.trials[-1])
        trial.report(value, 3)
        return before, chosen.reach(ours, ours.trials[-1]), trial.should_prune()

    before, after, pruned = asked(0.5)
    assert after < before and pruned
    before, after, pruned = asked(0.97)
    assert after > before and not pruned


def test_curves_of_earlier_studies_decide_before_a_study_has_its_own():
    def pruned(curves):
        chosen = sampler(epochs=4, curves=curves)
        ours = optuna.create_study(direction="maximize", sampler=chosen, pruner=FrontierPruner(chosen))
        trial = ours.ask(distributions())
        trial.report(0.2, 2)
        return trial.should_prune()

    known = [[*curve(params)[:-1], accuracy(params)] for params in ALL[::9]]
    assert pruned(known[:3]) and not pruned(known[:2])


def test_what_was_proposed_with_little_hope_goes_on_until_its_own_curve_tells_against_it():
    chosen = sampler(epochs=4)
    ours = optuna.create_study(direction="maximize", sampler=chosen, pruner=FrontierPruner(chosen))
    for params in ALL[::9]:
        errors = [4 * (1 - value) for value in (*curve(params)[:-1], accuracy(params))]  # nothing comes near the target
        ours.add_trial(
            create_trial(
                value=max(0.0, 1 - errors[-1]),
                params=params,
                distributions=distributions(),
                intermediate_values={epoch: max(0.0, 1 - error) for epoch, error in enumerate(errors, 1)},
            )
        )
    trial = ours.ask(distributions())
    hope = chosen.reach(ours, ours.trials[-1])
    assert hope < 0.1
    mean, _ = chosen._judged[trial.number][0].predict([chosen._judged[trial.number][1]])
    gain, _ = chosen.history(ours).curves.gain(1, 4)
    trial.report(1 - (1 - TARGET) * math.exp(float(mean[0]) + gain), 1)  # as expected of it
    assert 0.5 * hope < chosen.reach(ours, ours.trials[-1]) < 0.1 and not trial.should_prune()
    trial.report(0.1, 3)
    assert chosen.reach(ours, ours.trials[-1]) < 0.5 * hope and trial.should_prune()


def test_curves_that_gain_most_of_it_late_are_not_given_up():
    """A recipe that begins with smaller images: until half time all look hopeless to who has not seen one end."""
    chosen = sampler(epochs=6)
    ours = optuna.create_study(direction="maximize", sampler=chosen, pruner=FrontierPruner(chosen))

    def late(trial):
        end = objective(trial)
        for epoch in range(1, 7):
            value = 1 - (1 - end) * (6 if epoch <= 3 else 1.1)
            trial.report(value if epoch < 6 else end, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return end

    ours.optimize(late, n_trials=25)
    assert ours.trials[0].state == TrialState.COMPLETE
    best = min(cost(params) for params in ALL if accuracy(params) >= TARGET)
    assert cost(chosen.incumbent(ours).params) <= 1.2 * best


def test_what_passed_by_luck_is_no_incumbent():
    ours, chosen = study(), sampler()
    for params in ALL[::3]:
        ours.add_trial(create_trial(value=accuracy(params), params=params, distributions=distributions()))
    honest = chosen.incumbent(ours)
    near = min((k for k in ALL if 0.5 * cost(honest.params) < cost(k) and k not in ALL[::3]), key=accuracy)
    assert cost(near) < cost(honest.params) and accuracy(near) < TARGET - 0.05
    ours.add_trial(create_trial(value=TARGET + 0.001, params=near, distributions=distributions()))
    assert chosen.incumbent(ours).number == honest.number


@pytest.mark.parametrize(("measured", "likeliest"), [(0.03, (0.3, 0.5)), (2.0, (0.0, 0.01))])
def test_a_doubted_network_is_still_one_to_undercut(measured, likeliest):
    """What was measured feasible but is doubted a little does not send the search back to the ceiling."""
    place = {"width": 8, "depth": 6, "kind": "plain", "flag": False}
    earlier = [Observation(place, cost(place), measured, 0.05)]
    ours, chosen = study(), sampler(earlier=earlier)
    passed = create_trial(value=TARGET + 0.0001, params=place, distributions=distributions())
    ours.add_trial(passed)
    survey = Survey(chosen.history(ours))
    assert survey.incumbent is None
    probability = math.log(4000 / survey.below) / math.log(4000 / cost(place))
    assert likeliest[0] < probability < likeliest[1], "the cost to expect of the cheapest that reaches it"
    for _ in range(3):  # more of the same kind that are doubted as much prove no more: they err together
        ours.add_trial(passed)
    assert Survey(chosen.history(ours)).below >= 4000 * (cost(place) / 4000) ** 0.5


def test_where_nothing_undercuts_what_is_doubted_the_rest_is_looked_at():
    place = {"width": 8, "depth": 6, "kind": "plain", "flag": False}
    ours, chosen = study(), sampler(earlier=[Observation(place, cost(place), 0.03, 0.05)])
    ours.add_trial(create_trial(value=TARGET + 0.0001, params=place, distributions=distributions()))
    below = Survey(chosen.history(ours)).below
    for params in [params for params in ALL if cost(params) < below]:
        failed = create_trial(state=TrialState.FAIL, params=params, distributions=distributions())
        ours.add_trial(failed)
    pool = Survey(chosen.history(ours)).pool()
    assert pool and all(below <= candidate.cost < 4000 for candidate in pool)


def test_curves_give_the_mean_gain_and_its_spread():
    curves = Curves()
    assert curves.gain(3, 3)[0] == 0 and curves.gain(1, 3)[0] > curves.gain(2, 3)[0] > 0
    for last in (0.9, 0.95, 0.98) * 20:
        curves.add([1 - 4 * (1 - last), 1 - 2 * (1 - last), last])
    mean, deviation = curves.gain(1, 3)
    assert mean == pytest.approx(math.log(4), abs=0.05) and deviation < 0.25
    end, _ = curves.end(2, 3, 0.9, 0.95)
    assert end == pytest.approx(relative_error(0.9, 0.95) - math.log(2), abs=0.05)


def test_curves_of_other_lengths_are_compared_by_the_fraction_that_is_done():
    curves = Curves()
    for _ in range(40):
        curves.add([0.6, 0.8, 0.9])
    same, _ = curves.gain(4, 6)
    assert same == curves.gain(2, 3)[0] == pytest.approx(math.log(2), abs=0.05)
    between, _ = curves.gain(3, 6)  # one and a half of three epochs
    assert curves.gain(2, 6)[0] > between > same
    assert curves.gain(1, 6)[0] == pytest.approx(curves.gain(2, 6)[0], abs=0.05), "before the first epoch it is unknown"
    for _ in range(40):
        curves.add([0.2, 0.5, 0.6, 0.8, 0.8, 0.9])
    assert curves.gain(6, 6)[0] == curves.gain(3, 3)[0] == 0
    assert curves.gain(2, 3) == curves.gain(4, 6)


def test_process_is_gaussian_regression():
    rng = np.random.default_rng(0)
    x, y, noise = rng.normal(size=(12, 3)), rng.normal(size=12), np.full(12, 0.1)
    kernel = Kernel(3)
    kernel.fit(x, y, np.diag(noise**2))
    model = Process(kernel, x, y, np.diag(noise**2))
    points = rng.normal(size=(5, 3))
    mean, deviation = model(points)
    inverse = np.linalg.inv(kernel(x, x) + (0.01 + kernel.noise) * np.eye(12))
    cross = kernel(points, x)
    assert mean == pytest.approx(cross @ inverse @ y)
    variance = np.diag(kernel(points, points) - cross @ inverse @ cross.T)
    assert deviation == pytest.approx(np.sqrt(variance))
    halves = Process(kernel, x[:6], y[:6], np.diag(noise[:6] ** 2)).extended(x[6:], y[6:], noise[6:])
    assert halves(points)[0] == pytest.approx(mean)


def test_a_fit_finds_the_feature_that_matters():
    rng = np.random.default_rng(0)
    x, noise = rng.uniform(-2, 2, (60, 3)), np.full(60, 0.01)
    y = np.sin(2 * x[:, 1])
    kernel = Kernel(3)
    plain = np.abs(Process(kernel, x, y, np.diag(noise**2))(x + 0.2)[0] - np.sin(2 * (x[:, 1] + 0.2))).mean()
    kernel.fit(x, y, np.diag(noise**2))
    assert kernel.theta[1] < min(kernel.theta[0], kernel.theta[2])
    fitted = np.abs(Process(kernel, x, y, np.diag(noise**2))(x + 0.2)[0] - np.sin(2 * (x[:, 1] + 0.2))).mean()
    assert fitted < 0.5 * plain


def test_features_are_logarithms_and_indicators():
    features = Features(CHOICES)
    assert list(features.numeric) == ["width", "depth"]
    row = features([{"width": 8, "depth": 2, "kind": "dense", "flag": False}], [256])[0]
    assert row == pytest.approx([math.log(256) - 8, math.log(8), math.log(2), 0, 0.7, 0.7, 0])
    assert len(row) == len(features)


def test_relative_error_is_negative_from_the_target_on():
    assert relative_error(0.9, 0.9) == pytest.approx(0)
    assert relative_error(0.95, 0.9) < 0 < relative_error(0.8, 0.9)
    assert math.isfinite(relative_error(1.0, 0.9))


def test_ten_thousand_trials_take_less_than_a_second_a_suggestion():
    space = Space("extended", (3, 32, 32), 10, 520_106)
    distributions = {name: CategoricalDistribution(values) for name, values in space.hyperparameters.items()}
    configs = space.configurations(1, 520_106)
    trials = []
    for number in range(10_000):
        config = configs[number % len(configs)]
        attributes = {"parameters": config.parameters()}
        trials.append(
            create_trial(
                value=0.5, params=space.hyperparameters_of(config), distributions=distributions, user_attrs=attributes
            )
        )

    def pool(below):
        return [
            Candidate(space.hyperparameters_of(c), c.parameters(), training_work(c, 32, 32))
            for c in space.configurations(2, int(below))
        ]

    ours = study(FrontierSampler(space.hyperparameters, pool, 0.9, 520_106))
    ours.add_trials(trials)
    ours.ask(distributions)
    taken = []
    for _ in range(3):  # the least of three: other threads of a busy machine are not the sampler's
        start = time.process_time()
        ours.ask(distributions)
        taken.append(time.process_time() - start)
    assert min(taken) < 1


def test_warm_start_reads_other_studies():
    space = Space("extended", (1, 28, 28), 10, 3566)
    inside, outside = space.configurations(0, 3566, 2)[1], space.smallest.model_copy(update={"final_dim": 96})
    recipe = Recipe(epochs=3)

    def record(config, label, plan, target=0.9, accuracy=0.95):
        return Trial(
            study="other",
            config=config,
            recipe=plan,
            dataset=Data(name="x", label=label, variant="official", digest="d", train_count=9),
            target=target,
            family="extended",
            seeds=[1],
            parameters=config.parameters(),
            accuracies=[accuracy],
            accuracy_validation=accuracy,
            state="complete",
        )

    colour = inside.model_copy(update={"in_channels": 3})
    found = warm_start(
        [
            record(inside, "MNIST", recipe),
            record(inside, "MNIST", recipe.model_copy(update={"lr": 0.5})),
            record(colour, "CIFAR-10", recipe, target=0.8, accuracy=0.8),
            record(outside.model_copy(update={"ff_channel": 96}), "MNIST", recipe),
        ],
        space,
        "MNIST",
        Tuning(recipe),
        0.99,
    )
    assert [o.params for o in found] == [space.hyperparameters_of(inside)] * 3
    assert [o.cost for o in found] == [inside.parameters()] * 3, "parameters on this data set, not on the other"
    assert found[0].noise > found[1].noise > found[2].noise, "room is made for the least noisy"
    assert found[2].value == pytest.approx(relative_error(0.95, 0.99)) and found[0].value == pytest.approx(0)


def test_a_warm_start_takes_pruned_trials_by_where_they_were_heading():
    space = Space("extended", (1, 28, 28), 10, 3566)
    recipe, config = Recipe(epochs=4), space.configurations(0, 3566, 2)[1]

    def record(scores, state, label="MNIST"):
        curve = [Epoch(epoch=n, train_loss=1.0, accuracy=score, seconds=1.0) for n, score in enumerate(scores, 1)]
        return Trial(
            study="other", config=config, recipe=recipe, dataset=DATA.model_copy(update={"label": label}), target=0.9,
            family="extended", seeds=[1], parameters=config.parameters(), curves=[curve], accuracies=[scores[-1]],
            accuracy_validation=scores[-1], state=state,
        )  # fmt: skip

    whole, cut = [0.8, 0.85, 0.88, 0.92], [0.8, 0.85]
    trials = [record(whole, "complete"), record(cut, "pruned"), record(cut, "pruned", label="CIFAR-10")]
    pruned, complete = warm_start(trials, space, "MNIST", Tuning(recipe), 0.9)
    assert complete.value == pytest.approx(relative_error(0.92, 0.9)) and complete.shared == 0
    assert complete.value < pruned.value < relative_error(0.85, 0.9), "it was heading down"
    assert pruned.noise > complete.noise and 0 < pruned.shared < pruned.noise


def test_a_warm_start_with_many_trials_of_another_level_keeps_only_their_trend():
    space, recipe = Space("extended", (1, 28, 28), 10, 3566), Recipe(epochs=3)
    trials = [
        Trial(
            study="other", config=config, recipe=recipe, dataset=DATA, target=0.9, family="extended", seeds=[1],
            parameters=config.parameters(), accuracies=[value], accuracy_validation=value, state="complete",
        )
        for config in space.configurations(0, 3566, 30)
        for value in [1 - 0.4 * (3566 / config.parameters()) ** 0.8]
        if value > 0.1
    ]  # fmt: skip
    assert len(trials) > 10
    found = warm_start(trials, space, "MNIST", Tuning(recipe.model_copy(update={"epochs": 9})), 0.99)
    assert [o.value for o in found] == pytest.approx([0.8 * math.log(3566 / o.cost) for o in found])
    as_they_are = warm_start(trials, space, "MNIST", Tuning(recipe), 0.99)
    assert min(o.value for o in as_they_are) > 3


@given(seed=st.integers(0, 1000), count=st.integers(0, 6), noise=st.floats(0.05, 1.0))
def test_one_more_measurement_is_a_process_with_one_row_more(seed, count, noise):
    rng, shared = np.random.default_rng(seed), 0.8 * noise
    kernel, x, y = Kernel(3), rng.normal(size=(count, 3)), rng.normal(size=count)
    common = rng.choice([0.0, 0.3], size=count)  # some are extrapolations as well
    errors = np.outer(common, common) + 0.01 * np.eye(count)
    place, value = rng.normal(size=(1, 3)), float(rng.normal())
    got = Process(kernel, x, y, errors).measured(place, value, noise, shared * common)
    more = np.block([[errors, shared * common[:, None]], [shared * common[None], np.array([[noise**2]])]])
    mean, deviation = Process(kernel, np.vstack([x, place]), np.append(y, value), more)(place)
    assert got == pytest.approx((mean[0], deviation[0]), abs=1e-6)


def scouts(shift: float, noise: float = 0.0) -> list[Observation]:
    """What brief trainings say of every third candidate: errors `shift` higher, all alike."""
    rng = np.random.default_rng(0)
    found = [params for params in ALL if cost(params) < 4000][::3]
    values = [relative_error(accuracy(params), TARGET) + shift + noise * rng.normal() for params in found]
    return [Observation(params, cost(params), value, 0.0) for params, value in zip(found, values)]


@given(shift=st.floats(-3, 3))
def test_scouts_tell_who_is_better_whatever_their_level(shift):
    predicted = []
    for level in (0.0, shift):
        chosen = sampler()
        chosen.learn(scouts(level))
        predicted.append(chosen._survey(study(chosen)).predict(candidates(4000))[0])
    assert predicted[0] == pytest.approx(predicted[1], abs=1e-6)
    truth = [relative_error(accuracy(c.params), TARGET) for c in candidates(4000)]
    assert np.corrcoef(predicted[0], truth)[0, 1] > 0.95


def test_whole_trainings_tell_the_level_of_scouts():
    chosen = sampler()
    chosen.learn(scouts(2.0, 0.1))
    ours = study(chosen)
    ours.optimize(objective, n_trials=3)
    mean, _ = chosen._survey(ours).predict(candidates(4000))
    truth = np.array([relative_error(accuracy(c.params), TARGET) for c in candidates(4000)])
    assert abs(np.mean(mean - truth)) < 0.15


def test_scouts_save_trials():
    best = min(cost(params) for params in ALL if accuracy(params) >= TARGET)
    needed = []
    for known in ([], scouts(2.0, 0.1)):
        chosen = sampler()
        chosen.learn(known)
        ours = study(chosen)
        while cheapest(ours) > best:
            ours.optimize(objective, n_trials=1)
        needed.append(len(ours.trials))
    assert needed[1] < needed[0]


def test_a_near_miss_is_charged_as_a_whole_training():
    """Its curve does not tell early that it misses; one that may be far off is soon pruned."""
    sampler = FrontierSampler({"width": (1, 2)}, cost=lambda params: 1, threshold=0.9, ceiling=10, epochs=6)
    near, far, long = (Candidate({"width": 1}, 5.0, work) for work in (1.0, 1.0, 3.0))

    class Stub:
        incumbents = ((None, 10),)

        def predict(self, pool):  # the same probability of reaching the threshold, but for the longer training
            return np.array([0.1, 1.0, -0.1]), np.array([0.1, 1.0, 0.1])

    utility = sampler._utility(Stub(), [near, far, long], 1.0)
    assert utility[0] < 0.4 * utility[1]
    assert utility[2] > utility[0], "three times as long, and probably there"
