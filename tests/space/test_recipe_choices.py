"""Hyperparameters of the recipe, searched with the architecture's: what they may be, and that trials are trained so."""

import math
import random

import cheap_searches
import jobs
import pytest
from bars import SMALL
from toys import DATA, RECIPE, Training, engine, named, recorded, start, toy, trials
from typer.testing import CliRunner

from search.cli import app as cli
from search.cli.listings import summary
from search.cli.values import tune_of
from search.confirmation.confirm import finalists
from search.errors import UserError
from search.records.jsonl import read
from search.records.models import Confirmation, Trial
from search.records.results import Results
from search.report.importance import importances
from search.sampling.gaussian_process import Features
from search.space import configurations
from search.space.configurations import EXTENDED
from search.space.recipe_choices import Tuning
from search.study.handle import StudyHandle
from search.study.joining import join
from search.study.search import Search

TUNE = {"lr": [0.01, 0.02], "optimizer": ["sgd", "adamw"]}


class Tuned(Training):
    """Training whose error falls by a third with the better one of the two learning rates."""

    def __init__(self, monkeypatch, **options):
        super().__init__(monkeypatch, **options)
        self.recipes, self.checkpoints = [], []

    def __call__(self, config, recipe, *arguments, checkpoint, **options):
        self.recipes.append(recipe)
        self.checkpoints.append(checkpoint)
        self.accuracy = lambda *given: 1 - (1 - Training.accuracy(*given)) * (2 / 3 if recipe.lr == 0.01 else 1)
        return super().__call__(config, recipe, *arguments, checkpoint=checkpoint, **options)


def both(search: Search) -> None:
    """Have one configuration tried with either learning rate."""
    hyperparameters = search.setting.space.hyperparameters_of(search.setting.space.configurations(0, 3000)[1])
    for lr, optimizer in ((0.02, "sgd"), (0.01, "adamw")):
        search.study.enqueue_trial(hyperparameters | {"recipe: lr": lr, "recipe: optimizer": optimizer})


# --- what may be tuned ---------------------------------------------------------------------------------------------


def test_options_become_values_of_the_recipes_types_with_its_own_first():
    tuning = Tuning(
        RECIPE, tune_of(["lr=0.05,0.02,1e-2", "batch_size=64,128", "flip=true,false", "anneal=cosine,linear"])
    )
    assert tuning.choices == {
        "lr": (0.02, 0.05, 0.01),
        "batch_size": (128, 64),
        "flip": (False, True),
        "anneal": ("linear", "cosine"),
    }
    assert [type(values[0]) for values in tuning.choices.values()] == [float, int, bool, str]
    assert tuning.recipe(tuning.first) == RECIPE
    assert Tuning(RECIPE, {"lr": [0.5, 0.4]}).first == {"recipe: lr": 0.5}, "the recipe's is not among them"
    assert not tuning.hyperparameters.keys() & {"final_dim", *EXTENDED}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("lr", "--tune is a hyperparameter of the recipe and its values, such as lr=0.02,0.03, not 'lr'"),
        ("=1,2", "--tune is a hyperparameter"),
        ("epochs=3,0", "--tune epochs=0: Input should be greater than or equal to 1"),
        ("depth=3,4", "--tune depth: a recipe has no such hyperparameter, only epochs, .*lr"),
        ("lr=0.1,-1", "--tune lr=-1: Input should be greater than 0"),
        ("lr=0.1,", "--tune lr=: Input should be a valid number"),
        ("lr=0.1,inf", "--tune lr=inf: .*finite"),
        ("weight_decay=0.1,nan", "--tune weight_decay=nan: "),
        ("batch_size=128,0", "--tune batch_size=0: Input should be greater than or equal to 1"),
        ("optimizer=sgd,adam", "--tune optimizer=adam: Input should be 'adamw', 'muon' or 'sgd'"),
        ("lr=0.1", "--tune lr: give two or more different values"),
        ("lr=0.1,1e-1", "--tune lr: give two or more different values"),
    ],
)
def test_what_cannot_be_tuned_is_said_in_one_line(option, message):
    with pytest.raises(UserError, match=f"^{message}") as caught:
        Tuning(RECIPE, tune_of([option]))
    assert "\n" not in str(caught.value)


def test_hyperparameter_that_is_named_twice_is_refused():
    with pytest.raises(UserError, match="--tune lr is given twice"):
        tune_of(["lr=1,2", "lr=3,4"])


def test_drawn_choices_differ_and_begin_with_the_recipes_own():
    tuning = Tuning(RECIPE, TUNE | {"beta1": [0.8, 0.9, 0.95]})
    everything = tuning.drawn(random.Random(0), 100)
    assert len({tuning.text(chosen) for chosen in everything}) == len(everything) == 12
    assert everything[0] == tuning.first and tuning.text(tuning.first) == "lr 0.02, optimizer adamw, beta1 0.9"
    few = [tuning.drawn(random.Random(seed), 2) for seed in range(50)]
    assert all(first == tuning.first != other for first, other in few)
    assert len({tuning.text(other) for _, other in few}) > 6
    assert Tuning(RECIPE).drawn(random.Random(0), 5) == [{}], "nothing is tuned: one recipe"


def test_sampler_counts_learning_rates_from_the_middle_of_their_choices():
    features = Features({"depth": (1, 2, 4), "lr": (0.02, 0.04)}, centred=["lr"])
    rows = features([{"depth": 4, "lr": lr} for lr in (0.02, 0.04)], [3000.0] * 2)
    assert rows[0, 1] == rows[1, 1] == pytest.approx(math.log(4)) and rows[0, 2] == pytest.approx(-rows[1, 2])
    assert rows[1, 2] == pytest.approx(math.log(2) / 2)


# --- searches ------------------------------------------------------------------------------------------------------


def test_search_trains_records_and_confirms_what_was_chosen(tmp_path, monkeypatch):
    training = Tuned(monkeypatch)
    with engine(tmp_path, tune=TUNE) as search:
        both(search)
        search.run(trials=3)
    with engine(tmp_path, tune=TUNE) as search:
        search.run(trials=4)
    records = [r for r in trials(tmp_path) if r.state != "refused"]
    of_first_seeds = [recipe for recipe, seeds in zip(training.recipes, training.seeds) if seeds == [0]]
    assert [r.recipe for r in records] == [recipe.model_dump(mode="json") for recipe in of_first_seeds]
    assert {r.recipe["lr"] for r in records} == {0.01, 0.02} and {r.recipe["epochs"] for r in records} == {8}
    assert len(set(training.checkpoints)) == len(training.checkpoints), "another recipe, another checkpoint"
    told = {t.number: t for t in search.study.get_trials()}
    for record in records:
        config, recipe = search.setting.plan(told[record.number].params)
        assert (config, recipe.model_dump(mode="json")) == (record.config, record.recipe)
    best, recipe = search.setting.plan(search.found.best()[0].params)
    found = finalists(records, "Toy", search.setting.target, 2)[0]
    assert (found.config, found.recipe) == (best, recipe)
    assert any("lr 0.01" in cell for cell in summary(search.setting, search.study.get_trials())["configuration"])
    assert {"recipe: lr", "recipe: optimizer"} <= importances(records * 6).keys()


def test_search_without_choices_has_the_hyperparameters_and_the_identity_it_always_had(tmp_path):
    with engine(tmp_path) as search:
        assert (
            search.setting.hyperparameters == search.setting.space.hyperparameters
            and "tune" not in search.study.user_attrs["identity"]
        )
    with pytest.raises(UserError, match=r"another study named toy \(its tune differs\)"):
        engine(tmp_path, tune=TUNE)


def test_every_recipe_of_the_last_configuration_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(configurations, "ENUMERATED", cheap_searches.WHOLE)  # each draw then finds all there are
    training, notes = Tuned(monkeypatch), []
    smallest = engine(tmp_path, name="probe", family="published").setting.space.smallest
    ceiling = smallest.parameters() + 1
    options = {"family": "published", "ceiling": ceiling, "listen": lambda event: notes.append(event.text)}
    with engine(tmp_path, tune={"lr": [0.1, 0.2]}, **options) as search:
        configs = len(search.setting.space.configurations(0, ceiling))
        search.run()
    assert notes[-1] == "no untried configuration below the incumbent was found"
    assert len(set(zip(training.configs, training.recipes))) == len(training.configs) == 2 * configs


def test_start_near_the_published_network_has_the_base_recipe(tmp_path, monkeypatch):
    training = Tuned(monkeypatch)
    object.__setattr__(known := toy(), "name", "mnist")
    options = {"tune": TUNE, "results": tmp_path, "ceiling": 3566, "validation_count": 50}
    with jobs.search(known, 0.99, RECIPE, name="m", **options) as search:
        search.run(trials=1)
    assert training.configs[0].parameters() > 3000 and training.recipes == [RECIPE]


def test_interrupted_trial_goes_on_with_its_recipe(tmp_path, monkeypatch):
    def interrupt(config, epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    stopped, chosen = Tuned(monkeypatch, before=interrupt), {"recipe: lr": 0.01, "recipe: optimizer": "sgd"}
    with engine(tmp_path, tune=TUNE) as search, pytest.raises(KeyboardInterrupt):
        hyperparameters = search.setting.space.hyperparameters_of(search.setting.space.configurations(0, 3000)[0])
        search.study.enqueue_trial(hyperparameters | chosen)
        search.run(trials=1)
    training = Tuned(monkeypatch)
    with engine(tmp_path, tune=TUNE) as search:
        search.run(trials=1)
    assert training.recipes == stopped.recipes == [RECIPE.model_copy(update={"lr": 0.01, "optimizer": "sgd"})]
    assert (training.configs, training.checkpoints) == (stopped.configs, stopped.checkpoints)
    assert trials(tmp_path)[0].recipe["lr"] == 0.01


def test_trials_of_one_configuration_are_twins_only_with_one_recipe(tmp_path, monkeypatch):
    training = Tuned(monkeypatch)
    with engine(tmp_path, tune=TUNE, target=0.99) as search:
        hyperparameters = search.setting.space.hyperparameters_of(search.setting.space.configurations(0, 3000)[0])
        for lr in (0.02, 0.01, 0.01):
            search.study.enqueue_trial(hyperparameters | {"recipe: lr": lr, "recipe: optimizer": "sgd"})
        search.run(trials=2)
        search._one()
    assert training.configs[0] == training.configs[1] and len(training.configs) == 2
    assert search.study.get_trials()[2].user_attrs["twin"] == 1


def test_warm_start_knows_the_recipes_of_other_studies(tmp_path, monkeypatch):
    Tuned(monkeypatch)
    with engine(tmp_path, name="earlier", tune=TUNE) as search:
        both(search)
        search.run(trials=2)
    other = engine(tmp_path, name="other", recipe=RECIPE.model_copy(update={"lr": 0.3}))
    with other as search:
        search.run(trials=1)
    complete = [r for path in (tmp_path / "earlier.jsonl", tmp_path / "other.jsonl") for r in read(path)]
    complete = [r for r in complete if isinstance(r, Trial) and r.state == "complete"]
    with engine(tmp_path, tune=TUNE) as search:
        seen = {(o.params["recipe: lr"], o.cost): o.noise for o in search.sampler.problem.earlier}
        for record in complete:
            lr = record.recipe["lr"]
            assert seen[lr if lr != 0.3 else 0.02, record.parameters] == (0.1 if lr != 0.3 else 0.3)
        search.run(trials=1)


def test_worker_takes_the_choices_from_the_study(tmp_path, monkeypatch):
    training, storage = Tuned(monkeypatch), f"sqlite:///{tmp_path}/shared.db"
    monkeypatch.setattr("search.data.datasets.load", lambda *arguments: DATA)
    with start(tmp_path, storage, tune=TUNE) as first:
        both(first)
        first.run(trials=1)
        with join(StudyHandle(storage, named(tmp_path)), None, Results(tmp_path / "b")) as worker:
            assert worker.setting.hyperparameters == first.setting.hyperparameters
            assert worker.setting.tuning.choices == first.setting.tuning.choices
            worker.run(trials=2)
        first.run(trials=1)
    records = recorded(tmp_path)
    assert len(records) == 4 and {r.recipe["lr"] for r in records} == {0.01, 0.02}
    assert len(set(zip(training.configs, training.recipes))) == len(training.configs)


def test_command_searches_confirms_and_goes_on(folder, tmp_path):
    command = ["search", folder, "--target", 0.5, "--tune", "lr=0.03,0.01", "--seeds", 2, *SMALL, tmp_path, "-v"]
    command = list(map(str, command))
    for count in ("2", "3", "3"):  # so many in all
        done = CliRunner().invoke(cli.app, [*command, "--trials", count])
        assert done.exit_code == 0, done.output
    assert "resuming study" in done.output and ", lr 0.0" in done.output
    records = read(tmp_path / "bars-50-extended.jsonl")
    tried = [(r.config, r.recipe["lr"]) for r in records if isinstance(r, Trial)]
    confirmed = [(r.config, r.recipe["lr"]) for r in records if isinstance(r, Confirmation)]
    assert len(tried) == 3 and confirmed and set(confirmed) <= set(tried)
    for option, message in (("lr=0.03,0.02", "its tune differs"), ("momentum=1,2", "--tune momentum")):
        words = [option if word == "lr=0.03,0.01" else word for word in command]
        assert message in str(CliRunner().invoke(cli.app, words).exception)
