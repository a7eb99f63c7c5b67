import pytest
import torch

from wavemix import classification, v3


def test_stem_and_classifier_are_those_of_the_published_one():
    ours = v3.WaveMix(num_classes=7, depth=2, final_dim=8)
    theirs = classification.WaveMix(num_classes=7, depth=0, final_dim=8, level=1)
    assert theirs.state_dict().keys() == {key for key in ours.state_dict() if not key.startswith("layers.")}
    ours.load_state_dict(theirs.state_dict(), strict=False)
    with torch.no_grad():
        for layer in ours.layers:  # BatchNorm's factor: blocks then add nothing
            layer.feedforward[-1].weight.zero_()
        images = torch.randn(2, 3, 32, 24)
        assert torch.equal(ours.eval()(images), theirs.eval()(images))


def test_names_in_the_state_dict_are_upstreams():
    keys = {key.rpartition(".")[0] for key in v3.WaveMix(depth=1, final_dim=8).state_dict() if "layers" in key}
    assert keys == {f"layers.0.{part}" for part in ("reduction", "feedforward.0", "feedforward.4", "feedforward.5")}


@pytest.mark.parametrize("stem", [{}, {"initial_conv": "strided", "stride": 2}, {"patch_size": (4, 2)}])
def test_images_to_logits_and_sizes_that_do_not_fit(stem):
    network = v3.WaveMix(num_classes=5, depth=1, final_dim=8, **stem).eval()
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 5)
    with pytest.raises(ValueError, match="level 1 needs a feature map divisible by 2; a 36x32 image gives 9x"):
        network(torch.randn(1, 3, 36, 32))
    with pytest.raises(ValueError, match="initial_conv is"):
        v3.WaveMix(initial_conv="conv")
