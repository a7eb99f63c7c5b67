"""The index and the cards: what the records and the files of weights say, and checked like the tables."""

import json
from pathlib import Path

import pytest
from samples import confirmation

from search.records.jsonl import append
from search.records.models import Cost
from search.records.results import Results
from search.report.efficiency import winners
from search.report.index import Entry, entries, rendered, sha256
from search.report.tables import check, write
from wavemix import LiteConfig

RESULTS = Path(__file__).resolve().parents[2] / "results"
SMALL = LiteConfig(in_channels=1, final_dim=8, depth=2)


@pytest.fixture(scope="module")
def published() -> dict[str, Entry]:
    results = Results(RESULTS)
    return {entry.row: entry for entry in entries(results.read(), results.weights)}


def test_every_row_has_an_entry_with_its_weights(published):
    rows = {row: run for row, run in winners(Results(RESULTS).read()).items() if run.mean is not None}
    assert published.keys() == rows.keys()
    for row, entry in published.items():
        run = rows[row]
        assert (entry.verdict, entry.score, entry.parameters) == (run.verdict, run.mean, run.parameters)
        assert entry.weights is not None and entry.weights.sha256 == sha256(RESULTS / "weights" / entry.weights.file)
        assert entry.macs and entry.flops == run.cost.flops_total > 2 * entry.macs == 2 * run.cost.macs
        assert entry.data.shape == tuple(run.cost.input_shape)


def test_the_written_index_says_the_same(published):
    stored = [Entry.model_validate(one) for one in json.loads((RESULTS / "index.json").read_text())]
    assert stored == list(published.values())


def test_an_index_from_before_there_were_other_tasks_is_read(published):
    entry = published["mnist-99-extended"]
    older = json.loads(entry.model_dump_json(exclude={"task", "measure", "beside", "score", "scores"}))
    assert Entry.model_validate(older | {"accuracy": entry.score, "accuracies": entry.scores}) == entry


def test_a_card_says_the_verdict_and_what_is_no_cifar10(published):
    cards = rendered(list(published.values()))
    card = cards["cards/mnist-99-extended-reached.md"]
    assert card.startswith("---\nlicense: mit\n") and "| verdict | reached at 99 %, extended family |" in card
    assert "this is not CIFAR-10" not in card
    assert "this is not CIFAR-10" in cards["cards/cifar-10-jpeg-copy-80-extended.md"]


def test_index_and_cards_are_checked_and_removed_with_their_row(tmp_path):
    run = confirmation([0.9919, 0.992, 0.9921], config=SMALL, study="mine")
    append(tmp_path / "mine.jsonl", run)
    card, index = tmp_path / "cards" / "mnist-99-published.md", tmp_path / "index.json"
    assert {card, index} <= set(write(tmp_path)) and check(tmp_path) == []
    (entry,) = json.loads(index.read_text())
    assert (entry["weights"], entry["macs"], entry["flops"]) == (None, None, None)
    (tmp_path / "cards" / "mine.md").write_text("# of somebody's own\n")
    for path in (card, index):
        whole = path.read_text()
        path.write_text(whole.replace("2", "3"))
        assert check(tmp_path) == [str(path)]
        path.write_text(whole)
    (tmp_path / "mine.jsonl").unlink()
    assert set(check(tmp_path)) >= {str(card), str(index)}
    write(tmp_path)
    assert not card.exists() and not index.exists() and (tmp_path / "cards" / "mine.md").exists()


def test_flops_are_two_a_mac_and_all_other_operations():
    cost = Cost(
        parameters=SMALL.parameters(), input_shape=[1, 28, 28], flops={"conv": 1000.0, "add": 24.0},
        activation_bytes=1, activation_batch=1,
    )  # fmt: skip
    records = [confirmation([0.9919, 0.992, 0.9921], config=SMALL, cost=cost)]
    (entry,) = entries(records, Path("nowhere"))
    assert (entry.macs, entry.flops) == (1000, 2024)


@pytest.mark.parametrize("name", ["/home/me/birds", "birds"])
def test_a_folders_place_on_this_machine_is_not_told(name):
    data = confirmation([0.9]).dataset.model_copy(update={"name": name, "label": "b|rds", "variant": "folder"})
    records = [confirmation([0.9919, 0.992, 0.9921], config=SMALL, dataset=data)]
    (entry,) = entries(records, Path("nowhere"))
    assert entry.data.name == "birds"
    (card,) = [text for path, text in rendered([entry]).items() if path != "index.json"]
    assert "b\\|rds" in card and "/home" not in card
