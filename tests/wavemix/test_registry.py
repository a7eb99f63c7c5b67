"""Networks by name, and the closed forms of all of upstream's networks."""

import pytest
import torch
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import wavemix
from wavemix import SemSegment, cityscapes, classification, counts, registry, sisr, v3, wavemixsr
from wavemix.registry import Model

PUBLISHED = {  # parameters as upstream states them, the others as `wavemix audit` finds them
    "wavemixsr_144_4_x2": 1_704_385,
    "wavemix_192_16_l3_p4": 27_857_608,
    "wavemix_segmentation_256_16_l4_s2": 63_164_628,
    "wavemix_sisr_144_4_l1_x2": 1_944_867,
}


def counted(model, **hyperparameters):
    with torch.device("meta"):  # nothing is computed
        return sum(parameter.numel() for parameter in model(**hyperparameters).parameters())


@pytest.mark.parametrize("name", wavemix.list_models())
def test_closed_form_of_every_name(name):
    parameters = registry.count(name)
    assert parameters == counted(wavemix.create, name=name) == PUBLISHED.get(name, parameters)


@st.composite
def models(draw):
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    c = {"final_dim": pick(4, 8, 20), "mult": pick(1, 2, 4)}
    ff = {"ff_channel": pick(5, 8), "depth": pick(1, 3)}
    classes, level = {"num_classes": pick(2, 20)}, {"level": pick(1, 2, 3, 4)}
    stem = {"initial_conv": pick("patchify", "pachify", "strided"), "patch_size": pick(2, 4, (4, 2)), "stride": 2}
    return pick(
        Model(classification.WaveMix, counts.classifier, c | ff | classes | level | stem),
        Model(
            cityscapes.WaveMix, counts.cityscapes, c | ff | classes | level | stem | {"widths": pick((6, 3), (9, 9))}
        ),
        Model(SemSegment.WaveMix, counts.segmentation, c | ff | classes | level),
        Model(sisr.WaveMix, counts.doubling, c | ff | level),
        Model(v3.WaveMix, counts.v3, c | ff | classes | level | stem),
        Model(wavemixsr.WaveMixSR, counts.wavemixsr, c | ff),
        Model(wavemixsr.WaveMixSRV2, counts.wavemixsr_v2, c | {"blocks": pick(1, 3), "sr": pick(2, 4, 8)}),
    )


@given(models())
@settings(max_examples=examples(80))
def test_closed_form_of_any_size(model):
    arguments = model.arguments()
    assert model.closed_form(**arguments) == counted(model.network, **arguments)


def test_names_are_found_by_pattern():
    assert wavemix.list_models("wavemixsr_v2*") == [f"wavemixsr_v2_144_2_x{sr}" for sr in (2, 4, 8)]
    assert "wavemix_sisr_144_4_l1_x2" in wavemix.list_models("*sr*")
    assert wavemix.list_models("nothing") == [] and wavemix.list_models() == sorted(wavemix.list_models())


def test_arguments_replace_those_of_the_name():
    network = wavemix.create("wavemix_144_7_l1_s1", num_classes=10, depth=1)
    assert network.pool[2].out_features == 10 and len(network.layers) == 1
    assert sum(p.numel() for p in network.parameters()) == registry.count(
        "wavemix_144_7_l1_s1", num_classes=10, depth=1
    )


def test_what_is_unknown_is_named():
    with pytest.raises(ValueError, match="no network 'wavemix_192_16': did you mean wavemix_192_16_l"):
        wavemix.create("wavemix_192_16")
    with pytest.raises(ValueError, match="has all names"):
        registry.count("resnet")
    with pytest.raises(TypeError, match="widht"):
        wavemix.create("wavemixsr_144_4_x2", widht=3)
    with pytest.raises(TypeError, match="num_classes"):
        registry.count("wavemixsr_144_4_x2", num_classes=3)
