"""`wavemix reproduce`: a row trained again from its record, on a small folder with real trainings."""

import re
import shutil

import jobs
import pytest
from bars import RECIPE  # noqa: F401
from typer.testing import CliRunner

from search.cli import app as cli
from search.cli.listings import comparison
from search.confirmation.reproduce import reproduce
from search.data import datasets
from search.data.source import Reading, Source
from search.errors import UserError
from search.records.jsonl import read, read_all
from search.records.models import Reproduction, label
from search.records.results import Results
from search.report import html_page as report
from search.report import tables
from search.report.efficiency import parameter_efficiency, row_of
from search.runtime import Runtime
from search.study.handle import StudyHandle
from search.study.joining import join
from wavemix import LiteConfig

QUIET = Runtime(say=lambda line: None)
CONFIG = LiteConfig(in_channels=1, num_classes=4, final_dim=4, depth=1, stride=(2, 1))


@pytest.fixture
def results(folder, tmp_path):
    data = datasets.load(str(folder), "train")
    jobs.confirm(CONFIG, RECIPE, data, 0.3, [5, 6], study="mine", family="published", results=tmp_path)
    return tmp_path


def test_row_is_reproduced_from_its_record_alone(results):
    before = parameter_efficiency(read_all(results)).to_csv()
    done = CliRunner().invoke(cli.app, ["reproduce", "bars-folder-30-published", "--results", str(results)])
    assert done.exit_code == 0, done.output
    (record,) = read(results / "reproductions.jsonl")
    (original,) = read(results / "mine.jsonl")
    assert isinstance(record, Reproduction) and record.reproduces == original.created
    assert (record.config, record.recipe, record.seeds) == (original.config, original.recipe, original.seeds)
    assert record.recorded == original.accuracies and record.accuracies == pytest.approx(original.accuracies, abs=0.02)
    assert "recorded        now" in done.output and "reproduced: target 30 % reached again" in done.output
    assert parameter_efficiency(read_all(results)).to_csv() == before, "it is no attempt of its own"
    tables.write(results)
    assert (results / "tables" / "reproductions.md").exists() and tables.check(results) == []
    assert not list(results.glob("studies/*.checkpoint"))
    assert "Reproductions" in report.page(read_all(results))


def test_how_the_data_were_read_is_recorded_and_done_again(folder, tmp_path):
    """A folder without a test part, resized: by its record, and by a worker that is told the study alone."""
    reading = Reading(resize=(12, 16), test_split=0.25)
    data = datasets.load(Source(str(folder / "train"), reading), "train")
    options = {"study": "mine", "family": "published", "results": tmp_path}
    original = jobs.confirm(CONFIG, RECIPE, data, 0.3, [5], **options)
    assert original.dataset.reading == reading and original.dataset.label == "train 16x12"
    assert original.dataset.train_count + original.dataset.test_count == 320
    again = reproduce("row", read(tmp_path / "mine.jsonl")[0], Results(tmp_path), QUIET)
    assert again.dataset == original.dataset and again.accuracies == pytest.approx(original.accuracies, abs=0.02)
    storage = f"sqlite:///{tmp_path}/shared.db"
    options = {"name": "s", "ceiling": 1500, "validation_count": 24, "results": tmp_path / "a", "storage": storage}
    jobs.search(data, 0.5, RECIPE, **options).close()
    with join(StudyHandle(storage, "s"), None, Results(tmp_path / "b")) as worker:
        assert worker.setting.data.digest == data.digest and worker.setting.data.source == data.source


def test_a_validation_part_judges_the_trials_and_is_trained_on_in_the_end(folder, tmp_path):
    root = tmp_path / "images"
    for part, place in (("train", "train"), ("val", "test")):
        shutil.copytree(folder / place, root / part)
    data = datasets.load(Source(str(root), Reading(test_split=0.25)), "train")
    with jobs.search(data, 0.5, RECIPE, name="s", ceiling=1500, validation_count=7, results=tmp_path) as search:
        search.run(trials=1)
    (trial,) = read(tmp_path / "s.jsonl")
    assert (trial.dataset.train_count, trial.dataset.validation_count) == (len(data) - 96, 96)
    assert trial.dataset.split_seed is None
    last = jobs.confirm(CONFIG, RECIPE, data, 0.3, [5], study="mine", family="published", results=tmp_path)
    assert last.dataset.train_count == len(data)


def test_a_folder_that_was_moved_is_named(results, folder):
    path = results / "mine.jsonl"
    unsealed = re.sub(',"checksum":"[^"]*"', "", path.read_text())
    path.write_text(unsealed.replace(str(folder), "/gone/bars"))
    asked = ["reproduce", "mine", "--results", str(results)]
    assert "no such folder" in str(CliRunner().invoke(cli.app, asked).exception)
    assert CliRunner().invoke(cli.app, [*asked, "--data", str(folder)]).exit_code == 0


def test_a_miss_is_exit_code_1(results, monkeypatch):
    monkeypatch.setattr("search.tasks.classification.evaluate", lambda *_: [0.1, 0.2])
    done = CliRunner().invoke(cli.app, ["reproduce", "mine", "--results", str(results)])
    assert done.exit_code == 1 and "not reproduced: target 30 % missed by 15.00 points" in done.output


def test_other_data_are_refused(results, folder, monkeypatch):
    row, original = row_of("mine", read_all(results))
    monkeypatch.setattr("search.tasks.classification.train", lambda *_, **__: pytest.fail("nothing is to be trained"))
    other = original.model_copy(update={"dataset": original.dataset.model_copy(update={"digest": "0" * 64})})
    with pytest.raises(UserError, match="not those of the record"):
        reproduce(row, other, Results(results), QUIET)
    other = original.model_copy(update={"dataset": original.dataset.model_copy(update={"test_digest": "0" * 64})})
    with pytest.raises(UserError, match="test images of bars are not those"):
        reproduce(row, other, Results(results), QUIET)
    assert not (results / "reproductions.jsonl").exists()


def test_unknown_rows_list_the_known_ones(results, tmp_path):
    with pytest.raises(UserError, match="there is no row 'mnist'.*bars-folder-30-published"):
        row_of("mnist", read_all(results))
    with pytest.raises(UserError, match="none: nothing has been tested yet"):
        row_of("mnist-99-extended", [])


def test_every_row_name_is_its_own(results):
    (_, original) = row_of("mine", read_all(results))
    folders = [
        original.model_copy(update={"dataset": original.dataset.model_copy(update={"label": label})})
        for label in ("图片", "猫狗", "my_bars")
    ]
    names = list(parameter_efficiency(folders)["Row"])
    assert len(set(names)) == len(names) and "mnist-99-extended" in names and "my-bars-folder-30-published" in names
    twin = original.model_copy(update={"dataset": original.dataset.model_copy(update={"digest": "a" * 64})})
    frame = parameter_efficiency([original, twin])
    names = [row for row in frame["Row"] if "bars" in row]
    assert set(frame["Data set"][frame["Row"].isin(names)]) == {label(original.dataset)}, "by which a report finds them"
    digest = original.dataset.digest[:8]
    assert names == sorted([f"bars-folder-{digest}-30-published", "bars-folder-aaaaaaaa-30-published"])


def test_comparison_of_a_training_that_broke(results):
    row, original = row_of("mine", read_all(results))
    record = reproduce(row, original, Results(results), QUIET)
    broken = Reproduction.of(
        [], **record.model_dump(exclude={"accuracies", "mean", "interval", "min", "max", "n", "reached", "state",
        "reason"}), state="failed", reason="nan: the loss",
    )  # fmt: skip
    assert comparison(broken)[-1] == "not reproduced: nan: the loss"
