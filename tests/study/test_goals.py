"""Studies that minimise another cost than the parameters, or have several targets."""

import json
import shutil

import pytest
from toys import DATA, RECIPE, Training, engine, trials

from search.cli.listings import facts, overview
from search.errors import UserError
from search.records.jsonl import read
from search.space import latency
from search.space.buffers import Buffers
from search.space.work import multiply_accumulates
from search.study.handle import StudyHandle
from search.study.setting import Setting
from search.study.view import View

SHAPE = DATA.shape[1:]
TARGETS = (0.8, 0.85, 0.9)


def cost(name, config) -> float:
    return {"macs": multiply_accumulates, "activation-bytes": lambda *of: Buffers(*of).bytes}[name](config, *SHAPE)


@pytest.fixture(autouse=True)
def trained(monkeypatch):
    return Training(monkeypatch)


@pytest.mark.parametrize(("name", "limit"), [("macs", 2.5e5), ("activation-bytes", 2e4)])
def test_every_trial_is_below_the_incumbents_cost_and_all_limits(tmp_path, name, limit):
    with engine(tmp_path, minimise=name, limits={name: limit}) as search:
        search.run(trials=5)
        best, incumbent = search.found.feasible()[0], search.found.incumbent
        assert (
            search.found.minimised(best).name == name and incumbent == search.found.cost(best) == best.user_attrs[name]
        )
    incumbent = limit
    for record in trials(tmp_path):
        assert record.minimised.name == name and record.objective == cost(name, record.config) < incumbent
        assert record.parameters < 3000
        if record.feasible:
            incumbent = record.objective
    smallest = facts(StudyHandle(search.url, "toy"))
    assert smallest["minimise"] == name and smallest["limits"] == {name: limit}
    assert smallest["smallest_feasible"][name] == incumbent
    with engine(tmp_path, minimise=name, limits={name: limit}) as search:
        shown = View(search.storage)
        number = shown.get_study_id_from_name("toy")
        assert shown.get_best_trial(number).value == incumbent
    with pytest.raises(UserError, match="its (minimise|limits) differs"):
        engine(tmp_path, minimise=name)


def test_a_latency_is_measured_before_a_trial_and_decides(tmp_path, monkeypatch, trained):
    measured = []

    def seconds(config, image) -> float:
        measured.append(config)
        return 1e-6 * config.parameters() * (10 if config.upsampling == "deconv" else 1)

    monkeypatch.setattr(latency, "seconds", seconds)
    with engine(tmp_path, minimise="latency") as search:
        search.run(trials=4)
        assert set(trained.configs) <= set(measured) and len(measured) == len(set(measured)) < 40
    incumbent = float("inf")
    for record in trials(tmp_path):
        assert record.objective == seconds(record.config, None)
        assert (record.state == "refused") == (record.objective >= incumbent)
        if record.feasible:
            incumbent = record.objective


def test_a_configuration_that_is_too_slow_is_refused_untrained(tmp_path, monkeypatch, trained):
    monkeypatch.setattr(latency, "seconds", lambda config, image: 1e-6 * config.parameters())
    with engine(tmp_path, limits={"latency": 1e-3}) as search:
        slow = next(c for c in search.setting.space.configurations(1, 3000) if c.parameters() > 900)
        monkeypatch.setattr(latency, "seconds", lambda config, image: 1e-2)
        search.setting.costs.latency.measured.clear()
        search.study.enqueue_trial(search.setting.space.hyperparameters_of(slow))
        search._one()
    (record,) = trials(tmp_path)
    assert record.state == "refused" and record.reason == "10 ms, and the limit is 1 ms" and not trained.configs
    assert record.minimised is None


def test_a_start_beyond_a_limit_is_refused(tmp_path):
    with engine(tmp_path) as search:
        start = next(c for c in search.setting.space.configurations(0, 3000) if c.parameters() > 2000)
    with pytest.raises(UserError, match="can't be tried first: it has .* MACs, and the limit is 20,000 MACs"):
        engine(tmp_path, name="other", limits={"macs": 2e4}, start=start)


def test_blocks_that_take_turns_have_no_activation_bytes(tmp_path, trained):
    """There is no C source of them: neither records nor scouts of such networks, nor a start, enter a search."""
    turns = {"minimise": "activation-bytes"}
    with engine(tmp_path, name="all") as search:
        found = search.setting.space.configurations(0, 3000)
        start = next(config for config in found if config.cycle > 1)
    with engine(tmp_path, name="all", start=start) as search:
        search.study.enqueue_trial(search.setting.space.hyperparameters_of(start))
        search.run(trials=2)
    assert any(record.config.cycle > 1 for record in read(tmp_path / "all.jsonl"))
    with pytest.raises(UserError, match="can't be tried first: it has blocks that take turns, of which there is no C"):
        engine(tmp_path, name="refused", start=start, **turns)
    with engine(tmp_path, name="small", **turns) as search:
        search.run(trials=2)
    assert all(record.config.cycle == 1 for record in read(tmp_path / "small.jsonl"))


def test_records_and_identities_of_parameters_alone_say_nothing_of_costs(tmp_path):
    with engine(tmp_path) as search:
        search.run(trials=1)
        assert not {"minimise", "limits"} & search.setting.identity().keys()
        assert search.setting.identity()["target"] == 0.9
    (line,) = (tmp_path / "toy.jsonl").read_text().splitlines()
    assert not {"minimised", "aims", "threshold", "beside"} & json.loads(line).keys()


# ------------------------------------------------------------------------------------------------------- targets


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A results directory with a study of eight trials."""
    folder = tmp_path_factory.mktemp("front")
    with pytest.MonkeyPatch.context() as patched:
        Training(patched)
        with engine(folder, target=TARGETS) as search:
            search.run(trials=8)
    return folder


@pytest.fixture
def front(template, tmp_path):
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    with engine(tmp_path, target=TARGETS) as search:
        yield search


def test_each_trial_counts_for_every_target(front, tmp_path):
    setting = front.setting
    assert setting.targets == [*TARGETS] == setting.identity()["target"] and setting.target == 0.9
    records = trials(tmp_path)
    for record in records:
        assert record.targets == [*TARGETS] and record.target == 0.9
        at = record.each()
        assert [one.target for one in at] == [*TARGETS] and not any(one.aims for one in at)
        assert [one.feasible for one in at] == [record.state == "complete" and
                                                record.accuracy_validation >= aim.threshold
                                                for aim in setting.aims]  # fmt: skip
    smallest = []
    for target in TARGETS:
        found = [one.parameters for record in records for one in record.each() if one.target == target and one.feasible]
        assert [t.user_attrs["parameters"] for t in front.found.feasible(target)] == sorted(found)
        smallest.append(min(found))
    assert smallest == sorted(smallest) and smallest[0] < smallest[-1], "a front, not one network"
    rows = overview(read(tmp_path / "toy.jsonl"))
    assert [(row["target"], row["smallest_feasible"], row["trials"]) for row in rows] == [
        (target, count, len(records)) for target, count in zip(TARGETS, smallest)
    ]
    found = facts(StudyHandle(front.url, "toy"))
    assert [one["parameters"] for one in found["front"]] == smallest
    assert found["smallest_feasible"] == {k: v for k, v in found["front"][-1].items() if k != "target"}


def test_incumbents_only_get_smaller(front, tmp_path):
    best: dict[float, int] = {}
    for record in trials(tmp_path):
        for one in record.each():
            if one.feasible:
                best[one.target] = min(best.get(one.target, 3000), one.parameters)
        costs = [best.get(target, 3000) for target in TARGETS]
        assert costs == sorted(costs)
    assert [t.user_attrs["parameters"] for t in front.sampler.incumbents(front.study)] == costs
    assert len({t.number for t in front.found.front()}) == len(front.found.front()) <= 3
    seconds = front._confirming(3)
    assert seconds == [front.pace.confirmation(t, 3) for t in front.found.front()]


def test_past_events_say_which_targets_were_reached(front):
    for event, trial in zip(front.found.past(), front.found.recorded()):
        assert list(event.reached) == trial.user_attrs.get("reached", [])
        assert trial.user_attrs.get("feasible", False) == (0.9 in event.reached)


def test_a_lost_front_is_made_anew(front, tmp_path):
    before = [(t.state, t.params, t.user_attrs.get("reached")) for t in front.study.get_trials()]
    smallest = [t.number for t in front.found.front()]
    front.close()
    for path in (tmp_path / "studies").glob("toy.db*"):
        path.unlink()
    with engine(tmp_path, target=TARGETS, rebuild=True) as search:
        assert [(t.state, t.params, t.user_attrs.get("reached")) for t in search.study.get_trials()] == before
        assert [t.number for t in search.found.front()] == smallest
    with pytest.raises(UserError, match="its target differs"):
        engine(tmp_path, target=TARGETS[:2])


def test_targets_that_mean_nothing_are_refused():
    options = {"name": "toy", "ceiling": 3000, "validation_count": 50}
    with pytest.raises(UserError, match="a fraction between 0 and 1, not 90: 0.99 means 99 %"):
        Setting(DATA, [0.9, 90], RECIPE, **options)
    with pytest.raises(UserError, match="2 targets and 1 scores on validation images: give one of each"):
        Setting(DATA, [0.9, 0.8], RECIPE, threshold=0.9, **options)
    assert [aim.target for aim in Setting(DATA, [0.9, 0.8, 0.9], RECIPE, **options).aims] == [0.8, 0.9]
