import pytest
import torch
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from search.errors import UserError
from search.space.configurations import Space
from search.space.work import multiply_accumulates, training_work
from search.tasks.task import task_named
from wavemix import LiteConfig, WaveMixLite

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


@settings(max_examples=examples(12))
@given(
    family=st.sampled_from(["published", "extended"]),
    image=st.sampled_from([GREY, COLOUR, (3, 24, 40)]),
    classes=st.sampled_from([2, 10, 47]),
    seed=st.integers(0, 1000),
    below=st.integers(400, 60_000),
)
def test_configurations_are_distinct_below_the_count_and_fit_the_image(family, image, classes, seed, below):
    space = Space(family, image, classes, 60_000)
    found = space.configurations(seed, below, most=200)
    assert len(set(found)) == len(found) <= 200
    for config in found:
        assert config.parameters() < below
        assert (config.in_channels, config.num_classes) == (image[0], classes)
        config.check_image_size(*image[1:])
        assert config.parameters() >= space._floor(config.final_dim)
        assert config.parameters() >= space.smallest.parameters()
        assert family == "extended" or config.family == "published"
        chosen = space.hyperparameters_of(config)
        assert space.build(chosen) == config
        assert space.build(chosen, config.parameters()) is None
        assert space.build(chosen, config.parameters() + 1) == config


def test_configurations_for_pixels_come_back_from_their_choices():
    """Patches have no stride, whatever strides other stems may have."""
    task = task_named("segmentation")
    space = Space("extended", (3, 64, 96), 11, 200_000, task.choices(None), task.heads(None))
    found = space.configurations(0, 200_000, most=400)
    assert {config.initial_conv for config in found} == set(space.hyperparameters["initial_conv"])
    for config in found:
        assert space.build(space.hyperparameters_of(config)) == config


def test_order_follows_the_seed():
    space = Space("extended", GREY, 10, 3566)
    assert space.configurations(3, 3566, 50) == space.configurations(3, 3566, 50)
    assert space.configurations(3, 3566, 50) != space.configurations(4, 3566, 50)


def test_all_hyperparameters_of_the_extended_family_turn_up():
    found = Space("extended", COLOUR, 10, 40_000).configurations(0, 40_000)
    for name in (
        "initial_conv",
        "upsampling",
        "shared",
        "affine",
        "bias",
        "activation",
        "stem_activation",
        "cycle",
        "kernel",
        "level",
        "depth",
    ):
        assert len({getattr(config, name) for config in found}) > 1, name
    assert {config.family for config in found} == {"published", "extended"}
    assert any(config.projected for config in found)


def test_choices_that_do_not_go_together_are_skipped():
    space = Space("published", GREY, 10, 3566)
    chosen = space.hyperparameters_of(space.configurations(0, 3566)[0])
    chosen |= {"initial_conv": "strided", "stride": "2,2", "level": 1, "pad": 0}
    assert space.build(chosen) is None, "28 pixels over 4 are odd"
    assert space.build(chosen | {"pad": 2}) is not None
    half = chosen | {"pad": 2, "ff_channel": "C/2"}
    assert space.build(half | {"upsampling": "nearest"}) is None, "it would need the extended family's projection"
    assert space.build(half | {"upsampling": "deconv"}).ff_channel == chosen["final_dim"] // 2


def test_blocks_take_turns_where_they_can():
    space = Space("extended", GREY, 10, 3566)
    base = {name: values[0] for name, values in space.hyperparameters.items()}
    base |= {"cycle": 3, "depth": 4, "pad": 2, "upsampling": "bilinear"}
    assert space.build(base).cycle == 3
    assert space.build(base | {"depth": 2}).cycle == 2, "no more levels than blocks"
    assert space.build(base | {"level": 2}).cycle == space.build(base | {"upsampling": "deconv"}).cycle == 1
    assert space.build(base | {"pad": 0}) is None, "28 pixels can't be halved three times"


def test_choices_without_effect_collapse():
    space = Space("extended", GREY, 10, 3566)
    chosen = space.hyperparameters_of(
        LiteConfig(in_channels=1, final_dim=8, depth=2, bias="needed", upsampling="bilinear")
    )
    assert space.build(chosen | {"kernel": 7}) == space.build(chosen), "only the single stem has a kernel"
    alone = chosen | {"depth": 1}
    assert space.build(alone | {"shared": 1}) == space.build(alone | {"shared": 0}), "one block shares nothing"
    assert space.build(chosen | {"shared": 1}) != space.build(chosen)
    assert space.build(chosen | {"affine": "block"}) == space.build(chosen), "each depth has a block of its own"
    assert space.build(chosen | {"affine": "one"}) != space.build(chosen)
    assert space.build(chosen | {"shared": 2}) == space.build(chosen), "two blocks at a depth of two share nothing"


def test_configuration_outside_the_space_has_no_choices():
    space = Space("published", GREY, 10, 3566)
    inside = LiteConfig(in_channels=1, final_dim=8, depth=2)
    assert space.hyperparameters_of(inside)
    for change in ({"final_dim": 128}, {"shared": 1}, {"ff_channel": 7}, {"stride": (4, 4)}, {"num_classes": 3}):
        assert space.hyperparameters_of(LiteConfig(**inside.model_dump() | {"ff_channel": None} | change)) is None, (
            change
        )


def test_impossible_spaces_say_why():
    with pytest.raises(UserError, match=r"images of 5x9 pixels: pad or crop"):
        Space("extended", (1, 5, 9), 10, 3566)
    smallest = Space("extended", GREY, 10, 3566).smallest
    count = smallest.parameters()
    with pytest.raises(UserError, match=rf"the smallest has {count} parameters .* {count}: raise --max-parameters"):
        Space("extended", GREY, 10, count)
    assert Space("extended", GREY, 10, count + 1).configurations(0, count + 1) != []


@pytest.mark.parametrize("family", ["published", "extended"])
def test_start_near_the_published_network_is_the_deepest_below_the_ceiling(family):
    space = Space(family, GREY, 10, 3566)
    config = space.build(space.near_published(8, "bilinear"))
    assert config.final_dim == 8 and config.parameters() < 3566
    deeper = config.model_copy(update={"depth": config.depth + 1})
    assert deeper.parameters() >= 3566 or deeper.depth not in space.hyperparameters["depth"]
    assert Space(family, GREY, 10, space.smallest.parameters() + 1).near_published(24, "bilinear") is None


@pytest.mark.parametrize("family", ["published", "extended"])
def test_multiply_accumulates_are_those_that_torch_counts(family):
    for config in Space(family, COLOUR, 10, 30_000).configurations(7, 30_000, 25):
        network = WaveMixLite(config).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, *COLOUR))
        assert multiply_accumulates(config, *COLOUR[1:]) == counter.get_total_flops() / 2
        assert training_work(config, *COLOUR[1:]) > multiply_accumulates(config, *COLOUR[1:])
