"""Our networks as models of timm."""

import json
from pathlib import Path

import pytest
import torch

from search.records.weights import networks
from wavemix import LiteConfig, WaveMixLite

RESULTS = Path(__file__).resolve().parents[2] / "results"
NAME = "wavemix_lite_mnist_1186"


def test_stored_networks_have_names(timm):
    listed = timm.list_models("wavemix_lite*", pretrained=True)
    assert {NAME, "wavemix_lite_fashion_mnist_4194", "wavemix_lite_cifar10_jpeg_12082"} <= set(listed)
    assert "wavemix_lite" in timm.list_models() and "wavemix_lite" not in listed
    index = json.loads((RESULTS / "index.json").read_text())
    classifiers = [entry for entry in index if entry["weights"] is not None and entry["task"] == "classification"]
    assert len(listed) == len(classifiers) < len(index), "each row has a name of its own"


def test_rows_without_weights_have_no_name(timm, tmp_path):
    from wavemix.timm_models import published

    assert published(tmp_path) == {}
    (tmp_path / "index.json").write_text((RESULTS / "index.json").read_text())
    assert published(tmp_path) == {}, "the files are not there"


def test_a_pretrained_one_is_the_stored_network(timm):
    from wavemix.timm_models import published

    model, kept = timm.create_model(NAME, pretrained=True).eval(), published()[NAME]
    (own, *_) = networks(kept.path).values()
    images = torch.randn(5, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(model(images), own(images))
        assert torch.equal(model.forward_head(model.forward_features(images)), own(images))
    assert model.state_dict().keys() == own.state_dict().keys() and "state_dict" not in model.pretrained_cfg
    assert sum(p.numel() for p in model.parameters()) == 1186
    assert model.pretrained_cfg["mean"] == pytest.approx((0.1229,), abs=1e-3)
    untrained = timm.create_model(NAME)
    assert not torch.equal(untrained.conv[0].weight, model.conv[0].weight)


def test_other_classes_channels_and_heads(timm):
    stored = timm.create_model(NAME, pretrained=True)
    other = timm.create_model(NAME, pretrained=True, num_classes=5, in_chans=3, drop_rate=0.1)
    assert other(torch.zeros(2, 3, 28, 28)).shape == (2, 5)
    assert torch.equal(other.layers[0].reduction.weight, stored.layers[0].reduction.weight)
    pooled = timm.create_model(NAME, pretrained=True, num_classes=0).eval()
    images = torch.zeros(2, 1, 28, 28)
    assert torch.equal(pooled(images), stored.eval().forward_head(stored.forward_features(images), pre_logits=True))
    assert timm.create_model(NAME, num_classes=0, global_pool="")(images).shape == (2, 8, 28, 28)
    stored.reset_classifier(3)
    assert stored(images).shape == (2, 3) and stored.get_classifier().out_features == 3
    assert timm.create_model("wavemix_lite", num_classes=7, final_dim=16, depth=2)(torch.zeros(2, 3, 8, 8)).shape == (
        2,
        7,
    )


def test_timms_own_transforms_fit(timm):
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    model = timm.create_model(NAME)
    transform = create_transform(**resolve_data_config({}, model=model))
    given = transform(Image.new("L", (28, 28), 255))
    mean, deviation = model.pretrained_cfg["mean"][0], model.pretrained_cfg["std"][0]
    assert torch.allclose(given, torch.full((1, 28, 28), (1 - mean) / deviation))


def test_what_there_is_not_is_said(timm):
    with pytest.raises(RuntimeError, match="use forward_features in place of features_only"):
        timm.create_model(NAME, features_only=True)
    with pytest.raises(ValueError, match="global_pool is 'avg', or ''"):
        timm.create_model(NAME, global_pool="max")
    with pytest.raises(ValueError, match="depth"):
        timm.create_model("wavemix_lite", depth=0)


@pytest.mark.parametrize("hyperparameters", [{"cycle": 2}, {"affine": "one"}, {"shared": 2, "affine": "block"}])
def test_any_configuration_gives_the_scores_of_the_plain_network(timm, hyperparameters):
    config = LiteConfig(in_channels=1, final_dim=8, depth=3, upsampling="bilinear", **hyperparameters)
    model = timm.create_model("wavemix_lite", **config.model_dump(exclude={"in_channels", "num_classes"}), in_chans=1)
    plain = WaveMixLite(config)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.load_state_dict(plain.state_dict())
    images = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), plain.eval()(images))
