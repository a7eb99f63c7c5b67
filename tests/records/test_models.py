import math

import pytest
import scipy.stats
from configurations import configurations
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from samples import ENVIRONMENT, SMALL, confirmation, data, trial

from search.records import models as records
from search.records.audits import Audit
from search.records.benchmarks import Benchmark
from search.records.environment import _processor, command_line, environment, mask
from search.records.jsonl import append, read
from search.records.models import Confirmation, Cost
from search.training.recipe import Recipe

accuracies = st.lists(st.floats(0, 1), min_size=1, max_size=8)
losses = st.floats(allow_nan=True, allow_infinity=True)
configs = configurations(
    4,
    final_dim=st.sampled_from([4, 8, 12]),
    level=st.integers(1, 4),
    upsampling=st.sampled_from(["nearest", "bilinear", "deconv"]),
    activation=st.sampled_from(["gelu", "relu"]),
)


@st.composite
def trials(draw):
    values = draw(accuracies)
    curves = [[{"epoch": 1, "train_loss": draw(losses), "accuracy": a, "seconds": 0.5}] for a in values]
    return trial(
        config=draw(configs),
        seeds=list(range(len(values))),
        accuracies=values,
        accuracy_validation=math.fsum(values) / len(values),
        curves=curves,
        state="complete",
        reason=draw(st.none() | st.text()),
    )


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trials(), accuracies, st.floats(-1e6, 1e6), st.floats(1, 1e6))
def test_every_record_comes_back_as_it_was_written(tmp_path, one, values, ours, peer):
    path = tmp_path / "round.jsonl"
    path.unlink(missing_ok=True)
    written = [
        one,
        confirmation(values),
        Audit(environment=ENVIRONMENT, row="r", source="s", counted=3, closed_form=3, agree=True),
        Benchmark(
            environment=ENVIRONMENT,
            name="n",
            unit="images/s",
            ours=ours,
            peers={"p": peer},
            repetitions=3,
            machine="m",
        ),
    ]
    for record in written:
        append(path, record)
    assert read(path) == written
    assert path.read_bytes().count(b"\n") == 4


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_the_interval_is_students(values):
    got = records.summary(values)
    assert (got["min"], got["max"], got["n"]) == (min(values), max(values), len(values))
    error = scipy.stats.sem(values)
    if error > 1e-9:
        low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=error)
        assert got["interval"] == pytest.approx((low, high), abs=1e-9)


def test_one_accuracy_has_no_interval_and_none_no_mean():
    assert records.summary([0.5])["interval"] is None
    assert confirmation([], seeds=[7], state="failed", reason="nan").mean is None


@pytest.mark.parametrize(
    "change",
    [{"mean": 0.5}, {"min": 0.1}, {"max": 1.0}, {"n": 2}, {"interval": None}, {"interval": (0.98, 1.0)}]
    + [{"reached": True, "target": 0.995}, {"parameters": 5}, {"seeds": [0, 0, 1]}, {"seeds": [0]}],
)
def test_statistics_that_do_not_agree_are_refused(change):
    good = confirmation([0.99, 0.991, 0.992])
    assert good.reached and good.mean == pytest.approx(0.991)
    with pytest.raises(ValidationError):
        Confirmation(**good.model_dump() | change)


def test_reached_follows_the_mean_and_confirmed_the_bound():
    assert not confirmation([0.999, 0.97]).reached
    assert confirmation([0.999, 0.985]).reached and confirmation([0.999, 0.985]).verdict == "reached"
    assert confirmation([0.9951, 0.9952, 0.9953]).verdict == "confirmed"
    assert confirmation([0.9951, 0.9952, 0.9953], attempt=50).verdict == "reached"
    assert not confirmation([0.999], seeds=[1, 2], state="failed").reached


def test_without_a_target_nothing_is_reached():
    run = confirmation([0.9951, 0.9952, 0.9953], target=None)
    assert (run.reached, run.verdict, run.target) == (False, "tested", None)
    with pytest.raises(ValidationError, match="reached, but"):
        Confirmation(**run.model_dump() | {"reached": True})


def test_attempts_are_numbered_by_one_rule():
    """In the order they were made, at one threshold; the same training and more seeds of one plan are no new ones."""
    start = confirmation([0.991]).created
    day = [start.replace(year=2020 + n) for n in range(9)]
    runs = [
        confirmation([0.98], created=day[3]),
        confirmation([0.99], seeds=[7], created=day[0]),
        confirmation([0.99], seeds=[7], created=day[4], study="elsewhere"),  # the same training
        confirmation([0.99, 0.98, 0.97], seeds=[1, 2, 3], looks=[3, 5], created=day[1]),
        confirmation([0.99] * 5, seeds=[1, 2, 3, 4, 5], looks=[3, 5], created=day[5]),  # more seeds of that plan
        confirmation([0.99] * 5, seeds=[1, 2, 3, 4, 5], looks=[3, 10], created=day[6]),  # that training, too
        confirmation([0.99] * 6, seeds=[1, 2, 3, 4, 5, 6], created=day[7]),  # without a plan
        confirmation([0.99], target=0.98, created=day[2]),
        confirmation([0.99], target=None, created=day[2]),
        confirmation([0.99], seeds=[9], created=day[8], attempt=9),  # of records that are not here
    ]
    found = records.numbered(runs)
    assert [run.attempt for run in found] == [3, 1, 1, 2, 2, 2, 4, 1, None, 9]
    assert records.numbered(found) == found and [run.attempt for run in runs[:-1]] == [None] * 9


@pytest.mark.parametrize(
    "change",
    [{"seeds": [2**63]}, {"seeds": [-1]}, {"number": 2**63}, {"number": -1}, {"parent": 10**400}]
    + [{"wall_seconds": 1e300}]
    + [{"curves": [[{"epoch": epoch}]]} for epoch in (-1, 10**7, 10**400)]
    + [{"created": f"{year:04}-{day}T{hour}"} for year in (1, 1998, 9999) for day, hour in
       (("01-01", "00:00:00+05:00"), ("12-31", "23:59:59-05:00"))],
)  # fmt: skip
def test_numbers_and_dates_that_no_run_can_have_are_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        trial(**change)


def test_the_largest_seed_and_every_offset_of_a_date_are_kept():
    assert trial(seeds=[2**63 - 1]).seeds == [2**63 - 1]
    for date in ("2026-01-01T00:00:00+05:00", "2026-12-31T23:59:59-12:00", "2000-01-01T00:00:00-12:00"):
        assert trial(created=date).created.utcoffset().total_seconds() == 0
    with pytest.raises(ValidationError, match="epochs"):
        Recipe(epochs=10**7)
    for change in ({"split_seed": 2**63}, {"test_count": 2**63}):
        with pytest.raises(ValidationError):
            data(**change)


def test_an_extended_configuration_is_no_result_of_the_published_family():
    config = SMALL.model_copy(update={"shared": 1})
    assert trial(config=config).family == "extended"
    with pytest.raises(ValidationError, match="published family"):
        trial(config=config, family="published")


def test_cost_belongs_to_the_confirmed_network():
    cost = Cost(parameters=1, input_shape=[1, 28, 28], flops={"conv": 5.0}, activation_bytes=100, activation_batch=10)
    assert (cost.flops_total, cost.activation_bytes_per_image, cost.peak_gpu_bytes) == (10, 10, None)
    with pytest.raises(ValidationError, match="another number of parameters"):
        confirmation([1.0], cost=cost)


def test_counts_that_differ_do_not_agree():
    fields = {"environment": ENVIRONMENT, "row": "r", "source": "s", "counted": 28_400_000}
    assert Audit(**fields, published_millions=28, agree=True).agree
    assert not Audit(**fields, published=1, agree=False).agree
    for wrong in ({"published": 1}, {"closed_form": 1}, {"fvcore": 1}, {"published_millions": 29}):
        with pytest.raises(ValidationError, match="differ"):
            Audit(**fields, **wrong, agree=True)


def test_ratios_are_ours_over_the_peers():
    fields = {
        "environment": ENVIRONMENT,
        "name": "n",
        "unit": "s",
        "ours": 2.0,
        "repetitions": 1,
        "machine": "m",
    }
    assert Benchmark(**fields, peers={"a": 4.0}).ratios == {"a": 0.5}
    for wrong in ({"a": 2.0}, {"b": 1.0}):
        with pytest.raises(ValidationError):
            Benchmark(**fields, peers={"a": 4.0}, ratios=wrong)


# ---------------------------------------------------------------------------------------------------- environment


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql+psycopg://ann:s3cr3t@db/x", "postgresql+psycopg://***@db/x"),
        ("postgresql+psycopg://ann@corp:s3cr3t@db/x", "postgresql+psycopg://***@db/x"),
        ("postgresql://ann:p@s/s@db/x", "postgresql://***@db/x"),
        ("postgresql://:s3cr3t@db", "postgresql://***@db"),
        ("postgresql://s3cr3t@db", "postgresql://***@db"),
        ("postgresql://db/x?user=ann&password=s3cr3t&a=b", "postgresql://db/x?user=***&password=***&a=***"),
        ("abfs://box/x?account_key=s3cr3t==", "abfs://box/x?account_key=***"),
        ("see https://box/x?sv=1&sig=s3%2Fcr3t, or https://h/?api_key=s3cr3t", None),
        ("abfs says account_key=s3cr3t;sig=s3cr3t", None),
        ("no answer from 'grpc://ann:s3cr3t@h:1'", "no answer from 'grpc://***@h:1'"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("https://example.org/a", "https://example.org/a"),
    ],
)
def test_passwords_are_masked(text, hidden):
    assert "s3" not in mask(text) and mask(text) == (hidden or mask(text))
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize(
    ("flags", "name"),
    [("fpu avx avx2", "AMD EPYC (AVX2)"), ("fpu avx avx2 avx512f", "AMD EPYC"), ("fpu sse4_2", "AMD EPYC")],
)
def test_a_processor_of_one_name_with_narrower_vectors_is_another(tmp_path, flags, name):
    told = tmp_path / "cpuinfo"
    core = f"processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: {flags}\n\n"
    told.write_text(core + core.replace(": 0", ": 1"))
    assert _processor(str(told)) == name
    assert _processor(str(tmp_path / "none")) not in ("", name)


def test_no_record_keeps_a_password():
    argv = ["/usr/bin/wavemix", "search", "mnist", "--storage", "postgresql://ann:s3 cr'3t@db/x"]
    command = command_line(argv)
    assert command.startswith("wavemix search mnist --storage ") and "cr" not in command.split("--storage")[1]
    assert "s3cr3t" not in trial(reason="no route to postgresql://ann:s3cr3t@db").reason
    assert "cr" not in command_line(["wavemix", "search", "--storage=postgresql://ann@corp:s3 cr3t@db/x"])
    assert "cr" not in command_line(["wavemix", "search", "--storage", "x://db/x?key=s3 cr'3t&password=s3cr3t"])
    changed = ENVIRONMENT.model_dump() | {"command": "x //ann:s3cr3t@db"}
    assert "s3cr3t" not in trial(environment=changed).model_dump_json()


def test_the_environment_says_where():
    assert ENVIRONMENT.cores >= 1 and ENVIRONMENT.device
    assert ENVIRONMENT.torch and ENVIRONMENT.numpy and ENVIRONMENT.optuna


def test_a_record_names_no_folder_user_or_host(monkeypatch):
    command = ["wavemix", "search", "mnist", "--results", "/home/me/my results/x", "--data-dir=/data/a/b"]
    for storage in (
        "postgresql+psycopg://me@corp:secret@host:5432/base?user=me&x=secret",
        "grpc://host:13000",
        "sqlite:////home/me/base",
        "s3://host/home/base",
    ):
        monkeypatch.setattr("sys.argv", [*command, "--storage", storage])
        told = environment().command
        assert not any(word in told for word in ("/home", "/data", "me@", "host", "secret", "user")), told
        assert "--results x --data-dir=b" in told and (told.endswith("base'") or storage.startswith("grpc"))
