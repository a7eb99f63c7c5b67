import csv
import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import ENVIRONMENT, confirmation, data, trial

from search.errors import UserError
from search.published.figures import figures
from search.records.audits import Audit
from search.records.benchmarks import Benchmark
from search.records.jsonl import append
from search.records.models import Cost, Reproduction
from search.report.benchmark import benchmark
from search.report.efficiency import maps, parameter_efficiency, winners
from search.report.tables import audit, check, measurements, rendered, reproductions, study, write
from search.report.typeset import latex, markdown
from search.training.recipe import Recipe
from search.upstream import PUBLISHED, SAVED, classifier_config, closed_form
from wavemix import LiteConfig

SMALL = LiteConfig(in_channels=1, final_dim=8, depth=2)
SMALLER = LiteConfig(in_channels=1, final_dim=8, depth=1)
SHARED = LiteConfig(in_channels=1, final_dim=8, depth=3, shared=1)
DAY = datetime(2026, 1, 1, tzinfo=UTC)
RUN = {"study", "recipe", "target", "family", "seeds", "parameters", "state"}
JPEG = data(name="cifar10-jpeg", label="CIFAR-10 (JPEG copy)", variant="jpeg")


def rows(frame, **where):
    return [
        row
        for row in frame.to_dict("records")
        if all(row[column.replace("_", " ")] == value for column, value in where.items())
    ]


def cost_of(config: LiteConfig) -> Cost:
    return Cost(
        parameters=config.parameters(),
        input_shape=[1, 28, 28],
        flops={"conv": 1000.0, "add": 24.0},
        activation_bytes=32000,
        activation_batch=16,
    )


# ------------------------------------------------------------------------------------------ parameter efficiency


def test_without_records_every_published_row_says_so():
    table = parameter_efficiency([])
    # four thresholds: upstream's network and two families; then peers
    assert len(table) == 12 + len(rows(table, Family="peer"))
    assert [row["Published parameters"] for row in rows(table, Family="extended")] == [3566, 7156, 37058, 520106]
    assert all(row["Accuracy"] == "not run here" for row in rows(table) if "upstream" in row["Model"])
    assert all(row["Model"] == "not run here" for row in rows(table, Family="extended"))


def test_the_smallest_confirmed_network_of_each_family_beside_the_published_one():
    records = [
        confirmation([0.9919, 0.992, 0.9921], config=SMALL, cost=cost_of(SMALL)),
        confirmation([0.99, 0.991], config=SHARED),
        confirmation([0.5, 0.6], config=SMALLER),  # smaller, but missed
        confirmation([0.995, 0.996], config=PUBLISHED[0].config),
        confirmation([0.999, 0.999], config=SMALLER, target=0.98),  # another threshold
    ]
    table = parameter_efficiency(records)
    again, small, shared = rows(table, Task="99 % in MNIST")
    assert "upstream" in again["Model"] and again["Accuracy"] == pytest.approx(0.9955) and again["Ratio"] == 1
    assert (small["Model"], small["Family"]) == (SMALL.name, "published")
    assert small["Parameters"] == SMALL.parameters() and small["Ratio"] == SMALL.parameters() / 3566
    assert (small["Min"], small["Max"], small["Seeds"], small["Verdict"]) == (0.9919, 0.9921, 3, "confirmed")
    assert (small["Maps"], small["Epochs"]) == ("full", Recipe().epochs)
    assert 0.95 < small["Adjusted confidence"] < small["Confidence"] < 1
    assert small["95 % low"] < 0.992 < small["95 % high"]
    assert (small["MACs"], small["FLOPs"], small["Activation bytes"], small["GPU bytes"]) == (1000, 2024, 2000, None)
    assert small["Attempt"] == 1
    assert (shared["Model"], shared["Verdict"], shared["Attempt"]) == (SHARED.name, "reached", 1)
    (other,) = rows(table, Task="98 % in MNIST")
    assert other["Published parameters"] is None and other["Ratio"] is None


def test_a_smaller_network_that_only_reached_the_target_has_a_row_of_its_own():
    records = [
        confirmation([0.9919, 0.992, 0.9921], config=SMALL),
        confirmation([0.98, 0.9905, 0.9999], config=SMALLER),
    ]
    _, confirmed, reached, _ = rows(parameter_efficiency(records), Task="99 % in MNIST")
    assert (confirmed["Row"], confirmed["Model"], confirmed["Verdict"]) == (
        "mnist-99-published", SMALL.name, "confirmed",
    )  # fmt: skip
    assert (reached["Row"], reached["Model"], reached["Verdict"], reached["Attempt"]) == (
        "mnist-99-published-reached", SMALLER.name, "reached", 2,
    )  # fmt: skip
    assert reached["Adjusted confidence"] is None, "it says nothing, and 0 % would read as certainly false"
    assert set(winners(records)) == {"mnist-99-published", "mnist-99-published-reached"}
    _, alone, _ = rows(parameter_efficiency(records[1:]), Task="99 % in MNIST")
    assert (alone["Row"], alone["Verdict"]) == ("mnist-99-published", "reached"), "where nothing is confirmed"


@pytest.mark.parametrize(
    ("hyperparameters", "size"),
    [({}, "full"), ({"stride": (2, 1)}, "half"), ({"stride": (2, 2)}, "quarter"), ({"stride": (3, 1)}, "1/3"),
     ({"initial_conv": "patchify", "patch_size": 4}, "quarter")],
)  # fmt: skip
def test_maps_are_as_large_as_the_stem_leaves_them(hyperparameters, size):
    config = LiteConfig(in_channels=1, final_dim=8, depth=1, **hyperparameters)
    assert maps(config) == size
    height, _ = config.feature_size(48, 48)
    assert 48 / height == {"full": 1, "half": 2, "quarter": 4, "1/3": 3}[size]


def test_a_test_without_a_target_has_no_row():
    records = [confirmation([0.9951, 0.9952, 0.9953], config=SMALL, target=None)]
    assert parameter_efficiency(records).equals(parameter_efficiency([]))
    assert rendered(records)["parameter-efficiency.csv"] == rendered([])["parameter-efficiency.csv"]


def test_the_upstream_networks_own_tests_count_in_their_family():
    """One number in every place: what the table shows is what the next run records."""
    upstream = confirmation([0.9951, 0.9952, 0.9953], config=PUBLISHED[0].config, created=DAY)
    ours = confirmation([0.9951, 0.9952, 0.9953], config=SMALL, created=DAY + timedelta(days=1))
    again = confirmation(
        [0.9951, 0.9952, 0.9953], config=PUBLISHED[0].config, recipe={"lr": 1}, created=DAY + timedelta(days=2)
    )
    first, second, _ = rows(parameter_efficiency([again, ours, upstream]), Task="99 % in MNIST")
    assert (first["Attempt"], second["Attempt"]) == (3, 2)


def test_a_reproduction_of_what_is_no_longer_the_rows_network_is_superseded():
    older = confirmation([0.9951, 0.9952, 0.9953], config=SMALL, study="old", created=DAY)
    newer = confirmation([0.99518, 0.9952, 0.99522], config=SMALLER, created=DAY + timedelta(days=1))
    again = Reproduction.of(
        older.accuracies, **older.model_dump(include=RUN), config=SMALL, dataset=older.dataset,
        row="mnist-99-published", reproduces=older.created, recorded=older.accuracies, environment=ENVIRONMENT,
    )  # fmt: skip
    (row,) = rows(reproductions([older, again]))
    assert (row["Row"], row["Row's network"], row["Study"]) == ("mnist-99-published", "this one", "old")
    (row,) = rows(reproductions([older, newer, again]))
    assert row["Row's network"] == f"superseded by one of {SMALLER.parameters():,} parameters"
    assert rows(reproductions([again]))[0]["Row's network"] == "superseded"


def test_neither_a_broken_nor_a_smaller_test_takes_the_place_of_the_published_networks():
    """Of two with as many seeds the later: recipes improve."""
    config = PUBLISHED[0].config
    records = [
        confirmation([0.991, 0.992], config=config),
        confirmation([0.993, 0.994], config=config, recipe={"lr": 1}),
    ]
    records += [
        confirmation([], config=config, state="failed", seeds=[5]),
        confirmation([0.5], config=config, seeds=[6]),
    ]
    row, *_ = rows(parameter_efficiency(records), Task="99 % in MNIST")
    assert (row["Accuracy"], row["Seeds"]) == (pytest.approx(0.9935), 2)


def test_a_miss_is_shown_as_one():
    records = [confirmation([0.95, 0.96], config=SMALL), confirmation([0.97, 0.98], config=SMALLER)]
    _, row, _ = rows(parameter_efficiency(records), Task="99 % in MNIST")
    assert (row["Model"], row["Verdict"], row["Attempt"]) == (SMALLER.name, "missed", 2)
    broken = confirmation([], config=SMALL, seeds=[1], state="failed", reason="nan")
    _, row, _ = rows(parameter_efficiency([broken]), Task="99 % in MNIST")
    assert row["Verdict"] == "failed" and row["Accuracy"] is None


def test_any_interpolation_and_strides_reproduce_a_published_row_and_padding_does_not():
    published = PUBLISHED[0].config
    for change, same in (
        ({"upsampling": "bilinear"}, True),
        ({"dropout": 0.5}, True),
        ({"stride": (2, 1)}, True),
        ({"pad": 2}, False),
    ):
        config = LiteConfig(**published.model_dump() | change)
        first, second, _ = rows(parameter_efficiency([confirmation([0.99], config=config)]), Task="99 % in MNIST")
        assert (first["Accuracy"] == 0.99) == same == (config.name in first["Model"]) and (
            second["Model"] == "not run here"
        ) == same


def test_the_run_planned_for_most_seeds_decides_about_a_network():
    lucky = confirmation([0.991, 0.992], config=SMALLER, seeds=[1, 2])
    refuted = confirmation([0.97, 0.971, 0.972], config=SMALLER, seeds=[5, 6, 7], looks=[3, 5, 10])
    larger = confirmation([0.991, 0.992], config=SMALL)

    def row(*records):
        return rows(parameter_efficiency(list(records)), Task="99 % in MNIST")[1]

    assert row(lucky, larger)["Parameters"] == SMALLER.parameters()
    assert row(lucky, refuted, larger)["Parameters"] == SMALL.parameters()
    assert row(lucky, refuted)["Verdict"] == "missed"
    more = confirmation([0.99, 0.991, 0.992], config=SMALLER, seeds=[5, 6, 7])
    assert row(more, lucky)["Seeds"] == 3 and row(lucky, more)["Attempt"] == 2
    assert row(lucky, lucky)["Attempt"] == 1, "the same training again"


def test_a_copy_never_passes_for_the_official_data_set():
    config = LiteConfig(final_dim=16, depth=2)
    table = parameter_efficiency([confirmation([0.85, 0.86], config=config, dataset=JPEG, target=0.8)])
    found = rows(table, Data_set="CIFAR-10 (JPEG copy)")
    assert [row["Task"] for row in found] == ["80 % in CIFAR-10 (JPEG copy)"] * 3
    assert {row["Published parameters"] for row in found} == {37058}
    assert rows(table, Task="80 % in CIFAR-10") == []
    careless = data(name="cifar10-jpeg", label="CIFAR-10", variant="jpeg")
    table = parameter_efficiency([confirmation([0.85], config=config, dataset=careless, target=0.8)])
    assert rows(table, Task="80 % in CIFAR-10") == []


def test_a_folder_called_mnist_is_not_mnist():
    folder = data(name="MNIST", label="MNIST", variant="folder")
    table = parameter_efficiency([confirmation([0.995], dataset=folder)])
    assert rows(table, Task="99 % in MNIST", Family="published")[1]["Model"] == "not run here"
    (row,) = rows(table, Data_set="MNIST (folder)")
    assert row["Published parameters"] is None


# ----------------------------------------------------------------------------------------------------- benchmark


def audited(saved, **changes):
    count = closed_form(saved)
    cost = Cost(
        parameters=count, input_shape=[3, 256, 256], flops={"conv": 2e10}, activation_bytes=1, activation_batch=1
    )
    fields = {"row": saved.row, "source": saved.source, "counted": count, "agree": True, "cost": cost}
    return Audit(environment=ENVIRONMENT, **fields | changes)


def test_benchmarks_stand_beside_their_audited_cost():
    table = benchmark([])
    assert len(table) == len(figures()) and {row["Here"] for row in rows(table)} == {"not run here"}
    assert rows(table, Data_set="Cityscapes")[0]["Parameters"] == "not audited here"
    table = benchmark([audited(saved) for saved in SAVED])
    (image_net,) = rows(table, Published=75.32)
    assert image_net["Parameters"] == 27857608 and image_net["FLOPs"] == 40_000_000_000
    assert rows(table, Published=83.04)[0]["Parameters"] == 28190388
    assert rows(table, Published=95.42)[0]["Parameters"] == 27666538
    assert rows(table, Published="33.08 dB")[0]["Parameters"] == 1704385
    (unknown,) = rows(table, Published=95.98)
    assert unknown["Configuration"] == "not stated" and not unknown["Parameters"]


def test_a_benchmark_says_what_it_measures():
    table = benchmark([])
    assert "not a class-mean IoU; chosen on test" in rows(table, Published=83.04)[0]["What it measures"]
    assert "rerun contaminated" in rows(table, Published=95.42)[0]["What it measures"]
    assert rows(table, Published=75.32)[0]["What it measures"] == "no training script published"
    (low,), (high,) = rows(table, Published=54.94), rows(table, Published=56.45)
    assert (low["Stands against"], high["Stands against"]) == ("56.45", "54.94")
    assert {row["Read"] for row in (low, high)} == {"yes"} and rows(table, Published=97.29)[0]["Read"] == "no"


def test_peers_are_a_block_of_their_own():
    table = parameter_efficiency([])
    assert list(table["Family"][-7:]) == ["peer"] * 7 and "peer" not in set(table["Family"][:-7])
    least, second = rows(table, Task="99 % in MNIST (peers)")
    assert (least["Parameters"], least["Accuracy"], least["Ratio"]) == (697, 0.9903, 697 / 3566)
    assert "chosen on test" in least["Origin"] and second["Origin"].startswith("one run")
    thrifty = rows(table, Model="ThriftyNet")[0]
    assert thrifty["Ratio"] is None and thrifty["Origin"].startswith("fewer than 40,000 parameters; more than 91")
    assert thrifty["Data set"] == "CIFAR-10" and not set(winners([]))


def test_only_the_official_data_set_and_the_stated_configuration_count_as_run_here():
    config = LiteConfig(final_dim=16, depth=2)
    copy = confirmation([0.9], config=config, dataset=JPEG, target=0.8)
    assert {row["Here"] for row in rows(benchmark([copy]), Data_set="CIFAR-10")} == {"not run here"}
    official = confirmation([0.9], config=config, dataset=data(label="CIFAR-10"), target=0.8)
    here = {row["Published"]: row["Here"] for row in rows(benchmark([official]), Data_set="CIFAR-10")}
    assert here[95.98].startswith("90.00 %"), "no network is stated: the best of any"
    assert here[95.37] == here[80.0] == "not run here"
    again = confirmation([0.81], config=PUBLISHED[2].config, dataset=data(label="CIFAR-10"), target=0.8)
    assert rows(benchmark([again]), Data_set="CIFAR-10", Published=80.0)[0]["Here"].startswith("81.00 %")
    galaxy = next(saved for saved in SAVED if saved.row == "Galaxy10 DECaLS 95.42")
    for run, here in ((config, False), (classifier_config(galaxy), True)):
        record = confirmation([0.9], config=run, dataset=data(label="Galaxy10 DECaLS"), target=0.8)
        assert (rows(benchmark([record]), Data_set="Galaxy10 DECaLS")[0]["Here"] != "not run here") == here


# ------------------------------------------------------------------------------------------------- other tables


def test_trials_by_parameters():
    records = [trial(number=2, config=SMALL), trial(number=1, config=SMALLER), trial(study="other", number=0)]
    table = study(records, "s")
    assert list(table["Trial"]) == [1, 2] and list(table["Parameters"]) == sorted(table["Parameters"])
    assert set(study(records)["Study"]) == {"s", "other"}


def test_the_latest_audit_of_a_row_stands():
    saved = SAVED[0]
    wrong = audited(saved, published=1, agree=False)
    (row,) = rows(audit([wrong, audited(saved)]))
    assert row["Agree"] == "yes" and row["Published"] == "not published"
    (row,) = rows(audit([audited(saved), audited(saved, published_millions=28, agree=True)]))
    assert row["Published"] == "28 M"


def test_measurements_have_a_line_a_peer():
    record = Benchmark(
        environment=ENVIRONMENT,
        name="haar",
        unit="GB/s",
        ours=8.0,
        peers={"a": 2.0, "b": 4.0},
        repetitions=5,
        machine="m",
    )
    assert [(row["Peer"], row["Ratio"]) for row in rows(measurements([record]))] == [("a", 4.0), ("b", 2.0)]
    networks = [record.model_copy(update={"details": {"parameters": size}}) for size in (9, 10, 9, "odd")]
    assert [row["Parameters"] for row in rows(measurements(networks))] == [None, None, 9, 9, 10, 10]
    seeds = [record.model_copy(update={"details": {"seed": seed}, "peers": {"a": 1.0}}) for seed in (0, 1, 0)]
    assert [row["Measurement"] for row in rows(measurements(seeds))] == ["haar, seed 0", "haar, seed 1"]
    for theirs, said in (({}, "a, maps of another size"), ({"peer_stride": [2, 1]}, "a")):
        details = {"config": {"stride": [2, 1]}, "peer_parameters": 5} | theirs
        unlike = record.model_copy(update={"details": details, "peers": {"a": 1.0}})
        assert rows(measurements([unlike]))[0]["Peer"] == said


# ---------------------------------------------------------------------------------------------- files and checking


def test_written_tables_pass_their_check(tmp_path):
    path = tmp_path / "mnist.jsonl"
    append(path, confirmation([0.991, 0.992], config=SMALL, cost=cost_of(SMALL)))
    expected = [*(f"tables/{name}" for name in rendered([])), "index.json", "cards/mnist-99-published.md"]
    assert sorted(map(str, check(tmp_path))) == sorted(str(tmp_path / name) for name in expected)
    written = write(tmp_path)
    assert {file.suffix for file in written} == {".md", ".csv", ".tex", ".json"} and all(
        file.exists() for file in written
    )
    assert check(tmp_path) == []
    before = {file: file.read_bytes() for file in written}
    assert write(tmp_path) == written and before == {file: file.read_bytes() for file in written}
    assert not list((tmp_path / "tables").glob(".*"))


def test_a_changed_missing_or_left_over_table_is_found(tmp_path):
    append(tmp_path / "a.jsonl", trial())
    write(tmp_path)
    efficiency, trials = tmp_path / "tables" / "parameter-efficiency.md", tmp_path / "tables" / "trials.csv"
    efficiency.write_text(efficiency.read_text().replace("3,566", "3,565"))
    assert check(tmp_path) == [str(efficiency)]
    efficiency.unlink()
    assert check(tmp_path) == [str(efficiency)]
    write(tmp_path)
    append(tmp_path / "a.jsonl", trial(seeds=[9]))
    assert check(tmp_path) == [str(tmp_path / "tables" / f"trials.{suffix}") for suffix in ("md", "csv", "tex")]
    (tmp_path / "a.jsonl").unlink()
    assert str(trials) in check(tmp_path)
    write(tmp_path)
    assert check(tmp_path) == [] and not trials.exists()


def test_an_interrupted_record_does_not_stop_the_tables(tmp_path):
    append(tmp_path / "a.jsonl", trial())
    with open(tmp_path / "a.jsonl", "ab") as stream:
        stream.write(b'{"kind":"tri')
    with pytest.raises(UserError, match="cut off"):
        check(tmp_path)
    write(tmp_path)
    assert check(tmp_path) == []


def test_no_results_directory(tmp_path):
    for action in (write, check):
        with pytest.raises(UserError, match="no results directory"):
            action(tmp_path / "none")


def test_csv_holds_plain_values():
    files = rendered([confirmation([0.991, 0.992], config=SMALL, cost=cost_of(SMALL))])
    lines = list(csv.DictReader(io.StringIO(files["parameter-efficiency.csv"])))
    assert lines[1]["Parameters"] == str(SMALL.parameters()) and float(lines[1]["Accuracy"]) == pytest.approx(0.9915)
    assert lines[1]["FLOPs"] == "2024" and lines[1]["lower_bound"] == "False" and lines[1]["GPU bytes"] == ""


def test_tables_hold_no_date(tmp_path):
    files = rendered([confirmation([0.991]), trial(), audited(SAVED[0])])
    assert not any(re.search(r"20\d\d-\d\d-\d\d", content) for content in files.values())


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=30))
def test_any_text_keeps_a_table_in_shape(text):
    frame = study([trial(study="x" + text, reason=text)])
    lines = markdown(frame, "c").rstrip("\n").split("\n")
    table = [line for line in lines if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    body = latex(frame, "c").split(r"\hline")[2]
    assert body.count("\n") == 2 and len(re.findall(r"(?<!\\)&", body)) == len(frame.columns) - 1
