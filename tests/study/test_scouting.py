"""Brief trainings that rank candidates: which, how many, and that nothing is decided by them."""

import pytest
from toys import DATA, RECIPE, Training, engine

from search.records.jsonl import read
from search.records.models import Scout, Trial
from search.study import scouting
from search.study.scouting import CHEAP, EPOCHS, RIVALS, SPREAD
from search.study.scouting import few as images_of
from search.tasks.classification import Classification

FEW = 40


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(Classification, "few", lambda self, data: FEW)


def records(folder) -> tuple[list[Scout], list[Trial]]:
    found = read(folder / "toy.jsonl")
    return [r for r in found if isinstance(r, Scout)], [r for r in found if isinstance(r, Trial)]


def test_candidates_are_scouted_before_trials_and_never_twice(tmp_path, monkeypatch, few):
    training, told = Training(monkeypatch), []
    with engine(tmp_path, listen=told.append) as search:
        search.run(trials=4)
        assert len(search.found.recorded()) == 4, "a scout is no trial"
        assert all(trial.user_attrs["parameters"] >= 1000 for trial in search.found.feasible())
    scouts, trials = records(tmp_path)
    assert SPREAD < len(scouts) <= SPREAD + 4 * RIVALS and len(trials) == 4
    assert len({scout.config for scout in scouts}) == len(scouts) == sum(event.kind == "scout" for event in told)
    assert (
        training.counts[:SPREAD] == [(FEW, 50)] * SPREAD
        and training.seeds[SPREAD:].count([0]) == len(scouts) - SPREAD + 4
    )
    for scout in scouts:
        assert (scout.recipe["epochs"], scout.dataset.train_count, len(scout.seeds)) == (EPOCHS, FEW, 1)
    tried = {trial.config for trial in trials}
    assert len(tried & {scout.config for scout in scouts}) >= 2, "most of what is trained has been scouted"
    sizes = sorted(scout.parameters for scout in scouts[:SPREAD])
    assert sizes[0] < 3000 / 4 and sizes[-1] > 3000 / 1.3


def test_what_others_have_scouted_is_known(tmp_path, monkeypatch, few):
    training = Training(monkeypatch)
    with engine(tmp_path) as search:
        search.run(trials=1)
    before = len(records(tmp_path)[0])
    with engine(tmp_path) as search:  # the same study goes on
        assert len(search.scouting.known) == len(search.sampler.problem.scouts) == before
        search.run(trials=1)
    assert len(records(tmp_path)[0]) <= before + RIVALS
    count = len(training.counts)
    with engine(tmp_path, name="other", target=0.8) as other:  # whatever its target
        assert len(other.scouting.known) >= before
        value, lower = (s.sampler.problem.scouts[0].value for s in (search, other))
        assert lower < value, "as far from this target as it is"
        other.run(trials=1)
    assert len(training.counts) <= count + RIVALS + 1
    with engine(tmp_path, name="third", recipe=RECIPE.model_copy(update={"lr": 0.5})) as third:
        assert not third.scouting.known, "trained in another way"


def test_two_workers_share_scouts(tmp_path, monkeypatch, few):
    Training(monkeypatch)
    with engine(tmp_path) as one, engine(tmp_path) as two:
        assert not one.scouting.known and not two.scouting.known
        one.run(trials=1)
        two.scouting.learn(two.scouting.records.new())
        assert two.scouting.known == one.scouting.known
        assert not two.scouting.records.new(), "once"


def test_scouts_have_a_share_of_the_time(tmp_path, monkeypatch, few):
    Training(monkeypatch)
    with engine(tmp_path) as search:
        search.scouting.seconds = 1.0
        assert not search.scouting._late(None) and not search.scouting._late(20.0) and search.scouting._late(5.0)
        search.scouting.best(float("inf"), 0.0)
        assert not search.scouting.known


def test_broken_scouts_cost_the_search_nothing(tmp_path, monkeypatch, few):
    def breaks(config, epoch):
        if epoch == 1 and len(training.counts) <= 3:
            raise MemoryError

    training = Training(monkeypatch, breaks)
    with engine(tmp_path) as search:
        search.run(trials=1)
        assert len(search.found.recorded()) == 1
    assert len(records(tmp_path)[0]) == training.counts.count((FEW, 50)) - 3


def test_what_is_not_cheap_is_no_scout(tmp_path, monkeypatch):
    with engine(tmp_path) as search:
        assert search.scouting.images is None, "200 images are few anyway"
        setting = search.setting
    for count, found in ((50, True), (51, False)):
        assert (EPOCHS * count <= CHEAP * 8 * 250 * 2) == found
        monkeypatch.setattr(Classification, "few", lambda self, data, count=count: count)
        assert (images_of(setting) is not None) == found
    assert scouting.few(setting) is None and len(DATA) == 300
