"""Lost studies: damage and deletion are noticed, nothing else is told for it, and the records bring the study back."""

import shutil
import sqlite3
from contextlib import closing

import optuna
import pytest
from optuna.trial import TrialState
from toys import Training, engine, trials

from search.errors import UserError
from search.records.jsonl import read
from search.study.outage import Lost
from search.study.seals import checked


def told(search) -> dict:
    """What is known of each finished trial."""
    return {
        t.number: (t.state, t.values, t.params, t.intermediate_values, t.user_attrs["record"])
        for t in search.study.get_trials()
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A results directory with a study of four trials, what is known of them, and its incumbent."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patched:
        Training(patched)
        with engine(folder) as search:
            search.run(trials=4)
            return folder, told(search), search.found.incumbent


@pytest.fixture
def studied(template, tmp_path):
    folder, before, incumbent = template
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path, before, incumbent


def changed(folder, statement: str) -> None:
    with sqlite3.connect(folder / "studies" / "toy.db") as connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()


def test_a_deleted_study_is_made_anew_and_goes_on(studied, monkeypatch):
    Training(monkeypatch)
    folder, before, incumbent = studied
    for path in (folder / "studies").glob("toy.db*"):
        path.unlink()
    notes = []
    with engine(folder, rebuild=True, listen=lambda event: notes.append(event.text)) as search:
        assert told(search) == before and search.found.incumbent == incumbent
        assert f"the study toy has 4 of the 4 trials in {search.records.path} again" in notes
        search.run(trials=1)
    with engine(folder) as search:
        assert [t.number for t in search.study.get_trials()] == list(range(5))
        assert search.sampler.problem.earlier == [], "its own trials are no warm start"
    assert [r.number for r in trials(folder)] == list(range(5)), "and no record twice"


def test_a_new_study_that_has_only_begun_gives_way(studied):
    folder, before, _ = studied
    for path in (folder / "studies").glob("toy.db*"):
        path.unlink()
    with engine(folder) as search:
        search.study.enqueue_trial(before[0][2])
    with engine(folder, rebuild=True) as search:
        assert told(search) == before


def test_a_study_that_is_not_lost_is_left_alone(studied):
    folder, before, _ = studied
    with pytest.raises(UserError, match="is not lost, it has 4 trials: leave --rebuild out"):
        engine(folder, rebuild=True)
    with engine(folder) as search:
        assert told(search) == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trial_params SET distribution_json = replace(distribution_json, 'Categorical', 'CategoriCal')",
        "UPDATE trial_params SET distribution_json = substr(distribution_json, 2)",
        "UPDATE trial_params SET distribution_json = CAST(x'7bff7d' AS TEXT)",
        "UPDATE trial_params SET param_value = 1000",
        "UPDATE trial_user_attributes SET value_json = '{'",
        "UPDATE study_user_attributes SET value_json = '{'",
        "UPDATE trials SET state = 'FINISHED'",
        "INSERT INTO alembic_version VALUES ('v2.0.0.a')",
        "UPDATE alembic_version SET version_num = 'v3.'",
    ],
)
def test_rows_that_nobody_has_written_are_damage_and_can_be_rebuilt(studied, change):
    folder, before, _ = studied
    with closing(sqlite3.connect(folder / "studies" / "toy.db")) as connection:
        connection.execute(change)
        connection.commit()
    with pytest.raises(Lost, match="damaged|cannot be read"):
        engine(folder)
    with engine(folder, rebuild=True) as search:
        assert told(search) == before


def test_a_record_that_is_elsewhere_leaves_a_gap(studied):
    folder, before, _ = studied
    lines = (folder / "toy.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "toy.jsonl").write_bytes(b"".join(line for number, line in enumerate(lines) if number != 2))
    shutil.rmtree(folder / "studies")
    with engine(folder, rebuild=True) as search:
        gap = search.study.get_trials()[2]
        assert gap.state == TrialState.FAIL and gap.user_attrs == {"lost": True}
        again = {t.number: t.user_attrs["record"] for t in search.found.recorded()}
    assert again == {number: before[number][4] for number in before if number != 2}


def test_rebuilding_that_is_cut_off_is_begun_anew(studied, monkeypatch):
    folder, before, _ = studied
    shutil.rmtree(folder / "studies")
    add, added = optuna.Study.add_trial, []

    def killed(self, trial):
        if len(added) == 3:
            raise KeyboardInterrupt
        added.append(trial)
        add(self, trial)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(optuna.Study, "add_trial", killed)
        engine(folder, rebuild=True)
    with pytest.raises(UserError, match="rebuilding the study toy was cut off: give --rebuild again"):
        engine(folder)
    with engine(folder, rebuild=True) as search:
        assert told(search) == before


@pytest.mark.parametrize("damage", ["no database", "malformed", "cut", "empty pages"])
def test_a_damaged_file_is_refused_in_one_line_and_set_aside(studied, damage):
    folder, before, _ = studied
    path = folder / "studies" / "toy.db"
    content = path.read_bytes()
    if damage == "no database":
        path.write_bytes(b"x" * 100 + content[100:])
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "malformed":
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    else:
        path.write_bytes(content[:8192] + bytes(len(content) - 8192))
    damaged = path.read_bytes()
    with pytest.raises(Lost, match=r"(damaged|malformed|not a database).*; `wavemix search` .* --rebuild"):
        engine(folder)
    with engine(folder, rebuild=True) as search:
        assert told(search) == before
    assert path.with_name("toy.db.damaged").read_bytes() == damaged


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trial_values SET value = 0.99 WHERE trial_id = 3",
        "UPDATE trial_intermediate_values SET intermediate_value = 0.5 WHERE trial_id = 3 AND step = 1",
        "UPDATE trials SET state = 'FAIL' WHERE trial_id = 3",
        "UPDATE trials SET number = 9 WHERE trial_id = 3",
        "UPDATE trial_params SET param_value = param_value < 1 WHERE trial_id = 3 AND param_name = 'depth'",
        "UPDATE trial_user_attributes SET value_json = '700' WHERE trial_id = 3 AND key = 'parameters'",
        "UPDATE trial_user_attributes SET value_json = replace(value_json, '0.8', '0.9') WHERE trial_id = 3 "
        "AND key = 'record'",
        "DELETE FROM trials WHERE trial_id = 3",
    ],
)
def test_a_value_that_was_changed_is_not_told(studied, statement):
    folder, before, _ = studied
    changed(folder, statement)
    with pytest.raises(Lost, match="the study's storage is damaged: trial 2 is not what was written"):
        engine(folder)


def test_studies_from_before_there_were_seals_go_on(studied):
    folder, before, _ = studied
    with sqlite3.connect(folder / "studies" / "toy.db") as connection:
        connection.execute("DELETE FROM trial_user_attributes WHERE key = 'seal'")
    connection.close()
    with engine(folder) as search:
        assert told(search) == before and checked(search.study.get_trials())


# --- deleted under a running search ----------------------------------------------------------------------------------


def deleting(tmp_path, monkeypatch, delete, number: int = 2, epoch: int = 3) -> tuple[list, str]:
    """A search whose trial `number` finds at `epoch` what `delete` has done; its records, and what it says."""

    def before(config, at):
        if len(training.configs) == number + 1 and at == epoch:
            delete()

    training = Training(monkeypatch, before)
    with engine(tmp_path) as search:
        with pytest.raises(UserError) as caught:
            search.run(trials=5)
    assert len(str(caught.value).splitlines()) == 1
    return [r.number for r in read(tmp_path / "toy.jsonl")], str(caught.value)


@pytest.mark.parametrize("epoch", [3, 8])
def test_a_file_deleted_under_a_search_ends_it(tmp_path, monkeypatch, epoch):
    def delete():
        (tmp_path / "studies" / "toy.db").unlink()

    numbers, message = deleting(tmp_path, monkeypatch, delete, epoch=epoch)
    assert numbers == [0, 1] and "toy.db has been deleted or replaced" in message and "--rebuild" in message


def test_what_was_trained_when_the_study_was_deleted_is_recorded(tmp_path, monkeypatch):
    """Deleted after the last epoch: the trial's record is kept, and comes into the study that is made anew."""
    from search.study import trial as trial_module

    judge = trial_module.TrialRun._judge

    def judged(self, *arguments):
        if self.number == 2:
            optuna.delete_study(study_name="toy", storage=self.store.storage)
        judge(self, *arguments)

    monkeypatch.setattr(trial_module.TrialRun, "_judge", judged)
    numbers, message = deleting(tmp_path, monkeypatch, lambda: None)
    assert numbers == [0, 1, 2] and "does not hold the study or one of its trials any more" in message
    monkeypatch.setattr(trial_module.TrialRun, "_judge", judge)
    with engine(tmp_path, rebuild=True) as search:
        assert [t.number for t in search.found.recorded()] == [0, 1, 2]


def test_results_deleted_under_a_search_are_written_again_where_they_can_be(tmp_path, monkeypatch):
    """With a storage elsewhere nothing is lost: the next run writes the other records from there."""
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    place = tmp_path / "results"

    def before(config, at):
        if len(training.configs) == 3 and at == 3:
            shutil.rmtree(place, ignore_errors=True)

    training = Training(monkeypatch, before)
    with engine(place, storage=url) as search:
        with pytest.raises(UserError, match="has been deleted: what was in memory is in .*toy.jsonl"):
            search.run(trials=5)
    assert [r.number for r in trials(place)] == [2]
    with engine(place, storage=url) as search:
        assert sorted(r.number for r in trials(place)) == [0, 1, 2]
