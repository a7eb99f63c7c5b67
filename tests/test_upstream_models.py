"""The drop-in networks: what upstream's README shows runs, and bad input is refused in one clear line."""

import pytest
import torch
from safetensors.torch import save_file

import wavemix
from wavemix import classification, load_checkpoint, sisr
from wavemix import SemSegment as segmentation


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


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_blocks_keep_the_shape_and_upstreams_keys(level):
    block = getattr(wavemix, f"Level{level}Waveblock")(final_dim=8, ff_channel=8)
    x = torch.randn(2, 8, 16, 32)
    assert block(x).shape == x.shape
    branches = {key.split(".")[0] for key in block.state_dict()}
    expected = {"feedforward"} if level == 1 else {f"feedforward{n}" for n in range(1, level + 1)}
    assert branches == expected | {"reduction"}
    with pytest.raises(ValueError, match=f"divisible by {2**level}"):
        block(torch.randn(1, 8, 2**level + 1, 16))


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


def test_checkpoint_that_would_execute_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    torch.save({"weights": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="can't be read as a checkpoint"):
        load_checkpoint(sisr.WaveMix(depth=1, final_dim=8, ff_channel=8), tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="can't be read"):
        load_checkpoint(sisr.WaveMix(depth=1, final_dim=8, ff_channel=8), tmp_path / "missing.pth")
