"""The drop-in networks: what upstream's README shows runs, and bad input is refused in one clear line."""

import inspect

import pytest
import torch
from safetensors.torch import save_file

from wavemix import SemSegment as segmentation
from wavemix import classification, load_checkpoint, sisr


def test_readme_segmentation():
    model = segmentation.WaveMix(
        num_classes=20, depth=16, mult=2, ff_channel=256, final_dim=256, dropout=0.5, level=4, stride=2
    ).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 256, 256)).shape == (1, 20, 256, 256)


def test_readme_classification():
    model = classification.WaveMix(
        num_classes=1000, depth=16, mult=2, ff_channel=192, final_dim=192, dropout=0.5, level=3, patch_size=4
    ).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 256, 256)).shape == (1, 1000)


def test_readme_super_resolution():
    model = sisr.WaveMix(depth=4, mult=2, ff_channel=144, final_dim=144, dropout=0.5, level=1).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 256, 256)).shape == (1, 3, 512, 512)


def test_defaults_are_upstreams():
    defaults = [
        {key: value.default for key, value in inspect.signature(module.WaveMix).parameters.items()}
        for module in (classification, segmentation, sisr)
    ]
    block = dict(depth=16, mult=2)
    assert defaults == [
        dict(num_classes=1000, **block, ff_channel=192, final_dim=192, dropout=0.5, level=3)
        | dict(initial_conv="pachify", patch_size=4, stride=2),
        dict(num_classes=20, **block, ff_channel=256, final_dim=256, dropout=0.0, level=4, stride=2),
        dict(depth=4, mult=2, ff_channel=144, final_dim=144, dropout=0.0, level=1),
    ]


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "module, hyperparameters, downscale",
    [
        (classification, {}, 4),
        (classification, {"patch_size": 3}, 3),
        (classification, {"initial_conv": "strided", "stride": 1}, 1),
        (segmentation, {}, 4),
        (sisr, {}, 1),
    ],
)
def test_the_sizes_that_errors_name_fit(module, hyperparameters, downscale, level):
    model = module.WaveMix(depth=1, final_dim=8, ff_channel=8, level=level, **hyperparameters).eval()
    step = downscale * 2**level
    with torch.no_grad():
        assert model(torch.randn(1, 3, step, 2 * step)).isfinite().all()
        with pytest.raises(ValueError, match=f"resize or pad it to multiples of {step}, or use fewer levels"):
            model(torch.randn(1, 3, 2 * step + downscale, step))


def test_strides_and_patches_of_two_sizes_as_pytorch_takes_them():
    model = classification.WaveMix(depth=1, final_dim=8, ff_channel=8, level=1, initial_conv="strided", stride=(2, 1))
    assert model.eval()(torch.randn(1, 3, 8, 2)).shape == (1, 1000)
    with pytest.raises(ValueError, match="resize or pad it to multiples of 8 in height and 2 in width"):
        model(torch.randn(1, 3, 12, 2))
    model = segmentation.WaveMix(depth=1, final_dim=8, ff_channel=8, level=1, stride=(1, 2)).eval()
    assert model(torch.randn(1, 3, 4, 16)).shape == (1, 20, 16, 16)
    model = classification.WaveMix(depth=1, final_dim=8, ff_channel=8, level=1, patch_size=(4, 2)).eval()
    with pytest.raises(ValueError, match="multiples of 8 in height and 4 in width"):
        model(torch.randn(1, 3, 4, 4))


def test_a_level_that_upstream_does_not_have_is_refused():
    with pytest.raises(ValueError, match="level is 1, 2, 3 or 4, not 5"):
        sisr.WaveMix(depth=1, level=5)


def test_constructors_take_keywords_only_and_both_spellings():
    with pytest.raises(TypeError):
        classification.WaveMix(10)
    one = classification.WaveMix(depth=1, final_dim=8, ff_channel=8, initial_conv="pachify")
    two = classification.WaveMix(depth=1, final_dim=8, ff_channel=8, initial_conv="patchify")
    assert list(one.state_dict()) == list(two.state_dict())
    with pytest.raises(ValueError, match="initial_conv is"):
        classification.WaveMix(depth=1, final_dim=8, initial_conv="stride")


def test_checkpoints_load_by_path(tmp_path):
    model = sisr.WaveMix(depth=1, final_dim=8, ff_channel=8)
    other = sisr.WaveMix(depth=1, final_dim=8, ff_channel=8)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "parallel.pth")
    for name in ("model.pth", "model.safetensors", "parallel.pth"):
        load_checkpoint(other, tmp_path / name)
        assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))


def test_checkpoint_of_another_network_is_refused(tmp_path):
    torch.save(sisr.WaveMix(depth=2, final_dim=8, ff_channel=8).state_dict(), tmp_path / "model.pth")
    model = sisr.WaveMix(depth=1, final_dim=8, ff_channel=8)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="not of this network: unexpected layers.1"):
        load_checkpoint(model, tmp_path / "model.pth")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_refused_checkpoint_shows_some_of_each_kind(tmp_path):
    torch.save(classification.WaveMix(depth=1, final_dim=12, ff_channel=8).state_dict(), tmp_path / "model.pth")
    model = sisr.WaveMix(depth=1, final_dim=8, ff_channel=8)
    with pytest.raises(ValueError) as error:
        load_checkpoint(model, tmp_path / "model.pth")
    line = str(error.value)
    assert "missing layers.0.feedforward.0.weight;" in line and "unexpected layers.0.feedforward1.0.weight;" in line
    assert "layers.0.reduction.weight is (3, 12, 1, 1), not (2, 8, 1, 1);" in line
    assert line.count(";") == 8 and line.endswith(" more") and "\n" not in line


@pytest.mark.parametrize("content", [b"", b"i am a text", b"123"])
def test_a_file_that_is_no_checkpoint_is_said_in_words(tmp_path, content):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(ValueError, match="can't be read as a checkpoint: [^:]*[a-z]{4}"):
        load_checkpoint(sisr.WaveMix(depth=1, final_dim=8, ff_channel=8), tmp_path / "model.pth")


def test_checkpoint_that_would_execute_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    torch.save({"weights": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="can't be read as a checkpoint"):
        load_checkpoint(sisr.WaveMix(depth=1, final_dim=8, ff_channel=8), tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="can't be read"):
        load_checkpoint(sisr.WaveMix(depth=1, final_dim=8, ff_channel=8), tmp_path / "missing.pth")
