"""Costs of networks: closed forms, latencies that are measured or predicted, limits that all candidates keep."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import configurations, fitting_size, headed
from torch.utils.flop_counter import FlopCounterMode

from search.audit.cost import count_macs_fvcore
from search.cli.costs import limits_of, minimise_of
from search.errors import UserError
from search.records.costs import COSTS, Minimised, cost_shown, size_shown
from search.space import latency
from search.space.buffers import Buffers
from search.space.candidates import Pool
from search.space.configurations import Space
from search.space.costs import Costs
from search.space.latency import Latency
from search.space.recipe_choices import Tuning
from search.space.work import multiply_accumulates
from search.training.recipe import Recipe
from wavemix import LiteConfig, WaveMixLite

GREY = (1, 28, 28)
CONFIG = LiteConfig(in_channels=1, final_dim=8, depth=3, upsampling="bilinear", stride=(2, 1))


def seconds(config, image) -> float:
    """Stands in for a measurement."""
    return 2e-5 + 1e-5 * config.depth + 2e-9 * multiply_accumulates(config, *image[1:])


@pytest.fixture
def timed(monkeypatch):
    monkeypatch.setattr(latency, "seconds", seconds)


# ------------------------------------------------------------------------------------------------- closed forms


@settings(max_examples=15)
@given(config=configurations(small=True) | headed(), rows=st.integers(1, 3))
def test_multiply_accumulates_are_those_that_torch_counts(config, rows):
    config = config.model_copy(update={"wavelet": "haar"})
    width = fitting_size(config)
    height = width * rows if config.task == "classification" else width + rows
    try:
        config.check_image_size(height, width)
    except ValueError:
        height = width
    with torch.device("meta"):
        network, image = WaveMixLite(config).eval(), torch.zeros(1, config.in_channels, height, width)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    assert multiply_accumulates(config, height, width) == counter.get_total_flops() / 2


@pytest.mark.parametrize("hyperparameters", [{}, {"upsampling": "deconv"}, {"level": 2, "stride": (1, 1), "shared": 1}])
def test_multiply_accumulates_are_those_that_fvcore_counts(hyperparameters):
    config = CONFIG.model_copy(update=hyperparameters)
    assert multiply_accumulates(config, 28, 28) == count_macs_fvcore(WaveMixLite(config), GREY)


def test_activation_bytes_are_the_map_and_the_largest_stage():
    buffers = Buffers(CONFIG, 28, 28)
    assert buffers.map == 8 * 14 * 14
    # three rows of the map that is up-sampled, and one pixel's channels: reduced, transformed, hidden
    assert buffers.stages["blocks"] == {"ring": 3 * 7 * 8, "reduced": 8, "pixel": 8, "hidden": 16}
    assert buffers.bytes == 4 * (8 * 14 * 14 + 3 * 7 * 8 + 8 + 8 + 16)


# ------------------------------------------------------------------------------------------------------ latency


def test_a_latency_is_measured_on_one_thread_and_leaves_no_trace():
    before, state = torch.get_num_threads(), torch.get_rng_state()
    small, large = (latency.seconds(CONFIG.model_copy(update={"depth": depth}), GREY) for depth in (1, 24))
    assert 0 < small < large < 1
    assert torch.get_num_threads() == before and torch.equal(torch.get_rng_state(), state)


def test_what_was_not_measured_is_predicted_by_what_was(timed):
    of = Latency(GREY)
    assert of(CONFIG) == 0
    configs = Space("extended", GREY, 10, 5000).configurations(3, 5000, 80)
    for config in configs[:40]:
        assert of.measure(config) == of(config) == seconds(config, GREY)
    ratios = [of(config) / seconds(config, GREY) for config in configs[40:]]
    assert all(0.4 < ratio < 2.5 for ratio in ratios) and 0.9 < sum(ratios) / len(ratios) < 1.1


# ------------------------------------------------------------------------------------------------------- limits


@settings(max_examples=8)
@given(
    minimise=st.sampled_from(COSTS[:3]),
    macs=st.none() | st.integers(200_000, 2_000_000),
    activations=st.none() | st.integers(10_000, 100_000),
    below=st.floats(0.3, 1),
    seed=st.integers(0, 99),
)
def test_no_configuration_exceeds_a_limit(minimise, macs, activations, below, seed):
    limits = {k: v for k, v in {"macs": macs, "activation-bytes": activations}.items() if v is not None}
    space = Space("extended", GREY, 10, 3000, costs=Costs(GREY, minimise, limits))
    for config in space.configurations(seed, below * space.bound, 50):
        assert space.costs.of(config) < below * space.bound
        assert config.parameters() < 3000 and space.costs.exceeded(config) is None
        assert all(space.costs.cost(name, config) < limit for name, limit in limits.items())


def test_no_candidate_of_a_pool_exceeds_a_limit(timed):
    costs = Costs(GREY, "macs", {"activation-bytes": 20_000, "latency": 2e-4})
    space = Space("extended", GREY, 10, 3000, costs=costs)
    pool = Pool(space, Tuning(Recipe()), 0, lambda: 0)
    drawn = pool.below(space.bound / 4)
    near = pool.near([candidate.params for candidate in drawn[:3]], space.bound / 4)
    assert len(drawn) > 20 and len(near) > 20
    for candidate in drawn[:100] + near:
        config = space.build({name: candidate.params[name] for name in space.hyperparameters})
        assert candidate.cost == multiply_accumulates(config, 28, 28) < space.bound / 4
        assert Buffers(config, 28, 28).bytes < 20_000 and costs.cost("latency", config) < 2e-4


def test_without_a_limit_the_bound_is_what_many_configurations_cost():
    space = Space("extended", GREY, 10, 3000, costs=Costs(GREY, "macs"))
    costs = [space.costs.of(config) for config in space.configurations(5, math.inf, 300)]
    assert space.costs.of(space.smallest) < space.bound
    assert sum(cost < space.bound for cost in costs) > 0.99 * len(costs)
    assert Space("extended", GREY, 10, 3000, costs=Costs(GREY, "macs", {"macs": 5e5})).bound == 5e5
    assert Space("extended", GREY, 10, 3000).bound == 3000


@pytest.mark.parametrize(
    ("family", "ceiling", "limits", "said"),
    [
        ("extended", 200, {"macs": 3000}, "the least is 3,112 MACs and the limit is 3,000 MACs: raise --max-macs"),
        ("extended", 200, {"activation-bytes": 1000}, "1,136 bytes of activations .*: raise --max-activation-bytes"),
        ("extended", 200, {"macs": 1e6, "latency": 1e-5}, "the limit is 0.01 ms: raise --max-latency"),
        # there are smaller ones and ones with fewer MACs, but none of them is both
        ("published", 180, {"macs": 12_000}, "the least is 29,832 MACs and the limit is 12,000 MACs"),
        ("published", 190, {"activation-bytes": 4000, "macs": 12_000}, "the least is 29,832 MACs"),
    ],
)
def test_what_no_shape_allows_is_refused(family, ceiling, limits, said, timed):
    with pytest.raises(UserError, match=rf"no configuration of the {family} family is possible: .*{said}"):
        Space(family, GREY, 10, ceiling, costs=Costs(GREY, "parameters", limits))


def test_costs_that_there_are_none_of():
    with pytest.raises(UserError, match="'size' is no cost of a network, only parameters, macs"):
        Costs(GREY, "size")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="C source, which is for classification, not for segmentation"):
        Costs(GREY, limits={"activation-bytes": 1e6}, task="segmentation")
    Costs(GREY, limits={"macs": 1e6}, task="segmentation")


# ------------------------------------------------------------------------------------------------- words, options


def test_costs_are_shown_with_their_units():
    shown = [cost_shown(name, value) for name, value in zip(COSTS, (1186, 512345, 26528, 0.00123))]
    assert shown == ["1,186 parameters", "512,345 MACs", "26,528 bytes of activations", "1.23 ms"]
    assert size_shown(1186, None) == "1,186 parameters"
    assert size_shown(1186, Minimised(name="macs", value=512345)) == "512,345 MACs, 1,186 parameters"


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("macs", "1.5M", 1.5e6), ("macs", "300k", 3e5), ("macs", "1,000", 1e3), ("macs", "2 G", 2e9),
        ("activation_bytes", "64KiB", 65536), ("activation_bytes", "50000", 5e4), ("activation_bytes", "64 kB", 64e3),
        ("latency", "2ms", 2e-3), ("latency", "500us", 5e-4), ("latency", "0.1s", 0.1),
    ],
)  # fmt: skip
def test_limits_have_units(option, text, value):
    ((name, found),) = limits_of(**{option: text}).items()
    assert name == option.replace("_", "-") and found == pytest.approx(value)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("macs", "1.5Q"), ("macs", "-1"), ("macs", "0"), ("macs", "1.2.3M"), ("macs", ""), ("macs", "9" * 30),
        ("activation_bytes", "64Kib"), ("latency", "2"), ("latency", "soon"), ("latency", "2m"),
    ],
)  # fmt: skip
def test_limits_without_a_meaning_are_refused(option, text):
    with pytest.raises(UserError, match=rf"--max-{option.replace('_', '-')} is .* such as .*, not"):
        limits_of(**{option: text})
    with pytest.raises(UserError, match="--minimize is parameters, macs, activation-bytes or latency, not"):
        minimise_of(text)


def test_what_there_is_no_c_source_of_is_not_searched_for_small_memory():
    space = Space("extended", (1, 32, 32), 10, 3000, costs=Costs((1, 32, 32), "activation-bytes"))
    assert {config.cycle for config in space.configurations(0, math.inf, 500)} == {1} and space.bound < math.inf


SEEN = ("mirror", "one")


def test_an_image_is_seen_as_often_as_may_be_where_that_costs_nothing():
    """What is known of networks that see it once stays in the space, but none is proposed."""
    space = Space("extended", GREY, 10, 3000, views=SEEN)
    found = space.configurations(0, 3000, 300)
    assert {config.views for config in found} == {"mirror"} and space.smallest.views == "mirror"
    once = found[-1].seen_once
    assert space.build(space.hyperparameters_of(once)) == once and "where mirror costs as much" in space.refused(once)
    places = [space.hyperparameters_of(config) for config in found[:3]]
    near = Pool(space, Tuning(Recipe()), 0, lambda: 0).near(places, 3000)
    assert {candidate.params["views"] for candidate in near} == {"mirror"}


@pytest.mark.parametrize("costs", [Costs(GREY, "macs"), Costs(GREY, limits={"macs": 3e5})])
def test_an_image_is_seen_once_or_more_often_where_that_costs_something(costs):
    space = Space("extended", GREY, 10, 3000, costs=costs, views=SEEN)
    found = space.configurations(0, math.inf, 300)
    assert {config.views for config in found} == {*SEEN}
    assert costs.cost("macs", found[-1]) == found[-1].forwards * costs.cost("macs", found[-1].seen_once)


def test_the_published_family_sees_an_image_once():
    assert "views" not in Space("published", GREY, 10, 3566, views=SEEN).hyperparameters
