"""What validation images ask of a network, by those on record that were validated and tested."""

from math import exp, log

import pytest
from campaigns import DATA as OF_RECORDS
from campaigns import configuration, confirmation, trial
from hypothesis import given
from hypothesis import strategies as st
from toys import DATA, TARGET, Training, engine, trials

from search.campaign import _begin
from search.errors import UserError
from search.study.calibration import calibrated, gaps
from search.study.handle import StudyHandle
from search.study.joining import join
from search.study.setting import Setting
from search.tasks.scale import score_at, shortfall
from search.tasks.score import ACCURACY, MEAN_IOU, PSNR
from search.training.recipe import Recipe

MNIST = DATA.__class__("mnist", "MNIST", "train", DATA.images, DATA.labels, DATA.classes, "official")
BETTER = [
    record
    for number, (width, validated, tested) in enumerate([(8, 0.988, 0.991), (12, 0.989, 0.991), (16, 0.9898, 0.991)])
    for record in (
        trial(number, validated, config=configuration(final_dim=width)),
        confirmation([tested - 0.001, tested + 0.001], config=configuration(final_dim=width)),
    )
]


@given(
    st.sampled_from([ACCURACY, MEAN_IOU, PSNR]),
    st.floats(0.05, 0.95),
    st.floats(-1, 1),
)
def test_the_score_at_a_distance_is_so_far_from_the_target(score, target, distance):
    target = 40 * target if score is PSNR else target
    assert shortfall(score, score_at(score, distance, target), target) == pytest.approx(distance, abs=1e-6)


def test_gaps_are_of_networks_validated_and_tested_alike():
    assert gaps(BETTER, MNIST, ACCURACY) == pytest.approx([log(9 / 12), log(9 / 11), log(9 / 10.2)])
    assert gaps([r for r in BETTER if r.kind == "trial"], MNIST, ACCURACY) == []
    other = confirmation([0.999], config=configuration(final_dim=8), recipe=Recipe(epochs=9))
    assert gaps([BETTER[0], other], MNIST, ACCURACY) == [], "of another recipe"
    narrow = confirmation([0.991], config=configuration(), recipe=Recipe(epochs=5, precision="bfloat16"))
    assert len(gaps([BETTER[0], narrow], MNIST, ACCURACY)) == 1, "the precision makes it no other"
    copy = [r.model_copy(update={"dataset": OF_RECORDS.model_copy(update={"variant": "jpeg"})}) for r in BETTER]
    assert gaps(copy, MNIST, ACCURACY) == []


def test_folders_of_one_name_are_the_same_only_with_the_same_images():
    at = {"dataset": OF_RECORDS.model_copy(update={"label": "Toy", "variant": "folder"})}
    other = [r.model_copy(update=at) for r in BETTER]
    at = {"dataset": at["dataset"].model_copy(update={"digest": DATA.digest})}
    same = [r.model_copy(update=at) for r in BETTER]
    assert gaps(other, DATA, ACCURACY) == [] and len(gaps(same, DATA, ACCURACY)) == 3


def test_the_mean_gap_counts_as_if_one_more_network_had_none():
    assert calibrated([0.99], [], ACCURACY) == [0.99]
    assert calibrated([0.99, 0.98], [-0.2], ACCURACY) == pytest.approx([1 - 0.01 * exp(0.1), 1 - 0.02 * exp(0.1)])
    assert calibrated([0.99], [0.3, 0.3, 0.3], ACCURACY)[0] > 0.99, "easier validation images ask for more"


def setting(**options) -> Setting:
    options = {"name": "s", "ceiling": 3000, "validation_count": 50} | options
    return Setting(MNIST, TARGET, Recipe(epochs=8), **options)


def test_a_setting_asks_what_is_on_record_unless_it_is_told():
    plain, harder = setting(), setting(records=BETTER)
    assert plain.asked is None and plain.threshold == ACCURACY.threshold(TARGET, 50)
    assert harder.asked == [harder.threshold] and harder.threshold < plain.threshold
    assert harder.identity()["threshold"] == harder.threshold and "threshold" not in plain.identity()
    assert setting(records=BETTER, threshold=0.87).threshold == 0.87


@pytest.fixture
def known() -> list:
    """Records of the toy's images, on which networks came out better when tested."""
    at = {"dataset": OF_RECORDS.model_copy(update={"label": "Toy", "variant": "folder", "digest": DATA.digest})}
    return [r.model_copy(update=at) for r in BETTER]


def test_a_search_says_what_it_asks_where_records_differ(tmp_path, known):
    said = []
    with engine(tmp_path / "plain") as search:
        _begin(search, said.append)
    with engine(tmp_path / "known", records=known) as search:
        _begin(search, said.append)
        asked = search.setting.threshold
    (note,) = said
    assert note.text.startswith(f"{100 * asked:.2f} % on validation images stands for 90 %, by networks on record")


def test_a_study_keeps_what_it_began_with(tmp_path, monkeypatch, known):
    """A search that is resumed, and one made anew from its records, ask the same as the first."""
    Training(monkeypatch)
    with engine(tmp_path, records=known) as search:
        asked = search.setting.threshold
        search.run(trials=2)
    assert asked < ACCURACY.threshold(TARGET, 50)
    assert {r.threshold for r in trials(tmp_path)} == {asked}
    assert all(r.feasible == (r.accuracy_validation >= asked) for r in trials(tmp_path) if r.state == "complete")
    with engine(tmp_path) as search:
        assert search.setting.threshold == asked, "whatever is on record by now"
    with pytest.raises(UserError, match="its threshold differs"):
        engine(tmp_path, threshold=0.7)
    for path in (tmp_path / "studies").glob("toy.db*"):
        path.unlink()
    with engine(tmp_path, rebuild=True) as search:
        assert search.setting.threshold == asked
        search.run(trials=1)
    assert trials(tmp_path)[-1].threshold == asked


def test_a_worker_asks_what_its_study_does(tmp_path, monkeypatch):
    Training(monkeypatch)
    monkeypatch.setattr("search.data.datasets.load", lambda *place: DATA)
    with engine(tmp_path, threshold=0.87) as search:
        search.run(trials=1)
        study = StudyHandle(search.url, "toy")
        with join(study, None, search.results) as worker:
            assert worker.setting.threshold == 0.87
