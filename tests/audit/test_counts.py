import sys
from pathlib import Path

import pytest
import torch
from configurations import configurations
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file, save_model
from torch import nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

from search.audit import counts as audit
from search.audit.cost import parameters
from search.errors import UserError
from search.records.jsonl import read_all
from search.report import tables, typeset
from search.upstream import PUBLISHED, SAVED, build, closed_form
from wavemix import LiteConfig, SemSegment, WaveMixLite, classification

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def rows():
    return audit.published()


def test_the_four_published_counts_come_out(rows):
    assert [row.published for row in rows] == [3566, 7156, 37058, 520106]
    for row in rows:
        assert row.published == row.closed_form == row.counted == row.fvcore and row.agree
        assert row.cost.unsupported == {} and row.cost.flops_total > 0 and row.cost.activation_bytes_per_image > 0
        if not torch.cuda.is_available():
            assert row.cost.peak_gpu_bytes is None


def test_which_upsampling_reproduces_them_is_found(rows):
    assert [row.upsampling for row in rows] == [["nearest", "bilinear"], ["deconv"]] * 2
    assert [row.upsampling_counts["deconv"] for row in rows] == [13886, 7156, 151970, 520106]
    assert [row.upsampling_counts["nearest"] for row in rows] == [3566, 1996, 37058, 126506]
    assert all(row.upsampling in found.upsampling for row, found in zip(PUBLISHED, rows))
    assert [row.config.parameters() for row in PUBLISHED] == [row.parameters for row in PUBLISHED]


def test_a_wrong_published_count_is_a_mismatch():
    from dataclasses import replace

    (row,) = audit.published(stated=(replace(PUBLISHED[0], parameters=3567),))
    assert not row.agree and row.upsampling == [] and "no kind of up-sampling" in row.note


def test_every_stated_configuration_has_its_closed_form():
    for saved in SAVED:
        assert closed_form(saved) == parameters(build(saved)), saved.row
        if saved.millions:
            assert round(closed_form(saved) / 1e6) == saved.millions
    assert {saved.hyperparameters["level"] for saved in SAVED} == {1, 2, 3, 4}


def test_stated_configurations_are_audited(monkeypatch):
    from dataclasses import replace

    some = [saved for saved in SAVED if saved.row in ("CIFAR-10 94.58", "Cityscapes 83.04", "Super-resolution example")]
    monkeypatch.setattr(audit, "SAVED", [replace(saved, size=32) for saved in some])
    seen = []
    *withdrawn, first, second, third = audit.saved_models(progress=seen.append)
    assert [(row.counted, row.agree) for row in withdrawn] == [(4056, True), (45962, True)]
    rows = [first, second, third]
    assert seen == [row.row for row in rows] == [saved.row for saved in some]
    assert [row.counted for row in rows] == [3042550, 28190388, 1944867]
    assert all(row.agree and row.cost.input_shape == [3, 32, 32] and row.cost.unsupported == {} for row in rows)
    assert [row.note for row in rows] == ["parameters not published", "", "parameters not published"]


# --------------------------------------------------------------------------------------------------- checkpoints

configs = configurations(
    3,
    in_channels=st.sampled_from([1, 3]),
    num_classes=st.sampled_from([2, 10]),
    final_dim=st.sampled_from([4, 8, 12]),
    ff_channel=st.sampled_from([None, 6]),
    mult=st.integers(1, 3),
    level=st.integers(1, 4),
    upsampling=st.sampled_from(["nearest", "deconv", "depthwise"]),
    initial_conv=st.sampled_from(["strided", "patchify", "single", "separable"]),
    kernel=st.sampled_from([3, 5]),
    bias=st.sampled_from(["all", "needed"]),
)


@settings(max_examples=examples(60))
@given(configs)
def test_a_configuration_is_read_off_the_weights(config):
    found = audit.infer(WaveMixLite(config).state_dict())
    assert found.parameters() == config.parameters()
    relevant = ["final_dim", "depth", "mult", "level", "upsampling", "initial_conv", "shared", "bias", "in_channels"]
    assert [getattr(found, name) for name in relevant] == [getattr(config, name) for name in relevant]
    assert found.ff_channel == config.ff_channel


def test_a_key_with_an_enormous_number_builds_nothing():
    state = WaveMixLite(LiteConfig(in_channels=1, depth=2)).state_dict()
    assert audit.infer(state) is not None
    assert audit.infer(state | {"layers.1000000000.reduction.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "hyperparameters", [{"level": 3, "depth": 2, "num_classes": 5}, {"level": 1, "initial_conv": "strided"}]
)
def test_upstreams_checkpoints(tmp_path, suffix, hyperparameters):
    network = classification.WaveMix(**{"final_dim": 16, "ff_channel": 16, "depth": 3} | hyperparameters)
    path = tmp_path / f"weights{suffix}"
    save = torch.save if suffix == ".pth" else save_file
    save(network.state_dict(), path)
    found = audit.checkpoint(path, SHAPE)
    assert found.agree and found.counted == found.closed_form == found.fvcore == parameters(network)
    assert found.buffers == sum(buffer.numel() for buffer in network.buffers())
    assert found.configuration["level"] == hyperparameters["level"] and found.configuration["final_dim"] == 16
    assert found.cost.input_shape == [3, 32, 32]
    with pytest.raises(UserError, match="divisible"):
        audit.checkpoint(path, (3, 31, 31))


def test_a_stored_configuration_is_used(tmp_path):
    config = LiteConfig(final_dim=8, depth=2, upsampling="bilinear", activation="silu")
    path = tmp_path / "winner.safetensors"
    save_file(WaveMixLite(config).state_dict(), path, metadata={"config": config.model_dump_json()})
    found = audit.checkpoint(path)
    assert found.agree and found.configuration == config.model_dump(mode="json") and found.note == ""


def test_our_weights_of_several_seeds_count_one_network(tmp_path):
    config = LiteConfig(final_dim=8, depth=2, shared=1)
    tensors = {f"{seed}/{k}": v.clone() for seed in (1, 22) for k, v in WaveMixLite(config).state_dict().items()}
    save_file(tensors, tmp_path / "winner.safetensors", metadata={"config": config.model_dump_json()})
    found = audit.checkpoint(tmp_path / "winner.safetensors", SHAPE)
    assert found.agree and found.counted == config.parameters()


def test_weights_that_do_not_fit_their_configuration_are_a_mismatch(tmp_path):
    state = WaveMixLite(final_dim=8, depth=2).state_dict()
    state["pool.2.extra"] = torch.zeros(3)
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, tmp_path / "a.pth")
    found = audit.checkpoint(tmp_path / "a.pth")
    assert not found.agree and "pool.2.extra" in found.note and found.counted == found.closed_form + 3


def test_any_other_checkpoint_is_counted(tmp_path):
    for network in (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), SemSegment.WaveMix(final_dim=16, depth=1)):
        torch.save(network.state_dict(), tmp_path / "a.pth")
        found = audit.checkpoint(tmp_path / "a.pth")
        assert found.agree and found.closed_form is None and found.counted == parameters(network)
        assert "not the keys" in found.note


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(100, 8), nn.Linear(8, 100, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("position_ids", torch.arange(512)[None])
        self.register_buffer("mask", torch.ones(32, 32).tril().bool())


class Wrapper(nn.Module):
    """A child called module beside parameters of its own."""

    def __init__(self):
        super().__init__()
        self.module = nn.Conv2d(3, 4, 3)
        self.weight, self.bias = nn.Parameter(torch.ones(7)), nn.Parameter(torch.ones(4))


class Sliced(nn.Module):
    """Parameters that share some numbers, that are another's transpose, that repeat their own, and a sparse one."""

    def __init__(self):
        super().__init__()
        numbers = torch.ones(12)
        self.first, self.second = nn.Parameter(numbers[:8]), nn.Parameter(numbers[4:])
        self.matrix = nn.Parameter(torch.ones(3, 5))
        self.turned = nn.Parameter(self.matrix.data.T)
        self.repeated = nn.Parameter(torch.ones(2, 1).expand(2, 10**12))
        self.sparse = nn.Parameter(torch.eye(3).to_sparse())


def pruned():
    layer = nn.Conv2d(3, 8, 3)
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


@pytest.mark.parametrize(
    ("build", "counted", "buffers"),
    [
        (Tied, 800, 512 + 32 * 32),
        (Wrapper, 123, 0),
        (Sliced, 12 + 15 + 2 + 9, 0),
        (lambda: nn.DataParallel(Wrapper()), 123, 0),
        (lambda: AveragedModel(Wrapper()), 123, 0),
        (lambda: nn.Sequential(pruned()), 3 * 8 * 9 + 8, 3 * 8 * 9),
        (lambda: nn.utils.spectral_norm(nn.Linear(3, 5)), 15 + 5, 3 + 5),
        (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 5)), 15 + 5, 3 + 5),
        (lambda: nn.BatchNorm2d(6, dtype=torch.complex64, track_running_stats=False), 12, 0),
    ],
)
def test_what_is_trained_counts_once(tmp_path, build, counted, buffers):
    torch.save(build().state_dict(), tmp_path / "a.pth")
    found = audit.checkpoint(tmp_path / "a.pth")
    assert (found.counted, found.buffers) == (counted, buffers)


def test_how_a_checkpoint_was_told_apart_is_said(tmp_path):
    torch.save({"net": nn.DataParallel(Tied()).state_dict(), "acc": 90.0}, tmp_path / "a.pth")
    note = audit.checkpoint(tmp_path / "a.pth").note
    assert "taken out of net, module" in note and "800 numbers stand under two names or more and count once" in note
    assert "2 of 4 tensors are buffers (whole numbers or truth values: position_ids, mask)" in note
    torch.save(nn.BatchNorm2d(4).state_dict(), tmp_path / "a.pth")
    note = audit.checkpoint(tmp_path / "a.pth").note
    assert "3 of 5 tensors are buffers (whole numbers" in note and "by their names: running_mean, running_var" in note


def test_names_that_safetensors_writes_once_are_there(tmp_path):
    save_model(Tied(), tmp_path / "tied.safetensors")
    found = audit.checkpoint(tmp_path / "tied.safetensors")
    assert found.counted == 800 and "800 numbers stand under two names" in found.note


def test_a_wave_mix_is_known_in_whatever_it_was_wrapped(tmp_path):
    network = classification.WaveMix(num_classes=10, depth=1, ff_channel=16, final_dim=16)
    part = {f"model.{key}": tensor for key, tensor in network.state_dict().items()}
    for state in (AveragedModel(network).state_dict(), {"state_dict": part}, {f"_orig_mod.{k}": part[k] for k in part}):
        torch.save(state, tmp_path / "a.pth")
        found = audit.checkpoint(tmp_path / "a.pth")
        assert found.agree and found.counted == found.closed_form == parameters(network)
        assert found.buffers == sum(buffer.numel() for buffer in network.buffers())


def test_files_that_are_no_checkpoint(tmp_path):
    (tmp_path / "bad.pth").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 40)
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("bad.pth", "bad.safetensors", "list.pth", "missing.pth"):
        with pytest.raises(UserError) as caught:
            audit.checkpoint(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------- factories


@pytest.fixture
def mynets(tmp_path, monkeypatch):
    (tmp_path / "auditnets.py").write_text(
        "import torch\nfrom wavemix import WaveMixLite\n"
        "def small(): return WaveMixLite(final_dim=8, depth=1)\n"
        "def plain(): return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())\n"
        "def broken(): raise RuntimeError('no weights\\nhere')\n"
        "def number(): return 3\n"
        "def lazy(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(4, bias=False))\n"
        "class Sorted(torch.nn.Conv2d):\n"
        "    def forward(self, x): return super().forward(x).sort()[0]\n"
        "def sorts(): return Sorted(3, 4, 1, padding='same')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("auditnets", None)


def test_factories(mynets):
    small = audit.factory("auditnets:small", (3, 32, 32))
    assert small.agree and small.closed_form == small.counted == small.fvcore
    plain = audit.factory("auditnets:plain", (3, 8, 8))
    assert plain.agree and plain.closed_form is None and plain.counted == 3 * 4 * 9 + 4
    assert plain.cost.flops == {"conv": 3 * 4 * 9 * 36.0}


def test_shapes_that_the_first_images_decide(mynets):
    found = audit.factory("auditnets:lazy", (3, 8, 8))
    assert found.counted == 4 * 192 and found.cost.flops == {"linear": 4 * 192.0}


def test_what_has_no_count_stands_beside_the_flops(mynets, wavemix):
    arguments = ("audit", "--factory", "auditnets:sorts", "--input", "3,8,8", "--record", "a.jsonl")
    shown = wavemix(*arguments).out
    assert ">= 768" in shown and "without a count: aten::sort" in shown
    assert "multiply-accumulates differ: 768 here, 768 by torch, 0 by fvcore" in shown
    assert "not, or not all, counted" in wavemix(*arguments, "--strict", code=1).err
    (row,) = tables.audit(read_all(Path()))[
        ["MACs", "FLOPs", "lower_bound", "MACs by torch", "Uncounted operators"]
    ].itertuples(index=False)
    assert tuple(row) == (768, 1536, True, 768, "aten::sort")
    shown = typeset.markdown(tables.audit(read_all(Path())), "")
    assert r"\>= 1.54 k" in shown and "lower_bound" not in shown
    assert wavemix("audit", "--factory", "auditnets:plain", "--input", "3,8,8", "--strict").err == ""


@pytest.mark.parametrize(
    ("target", "shape", "message"),
    [
        ("auditnets", (3, 8, 8), "not of the form"),
        ("auditnets:", (3, 8, 8), "not of the form"),
        ("auditnets:small", (3, 8), "channels, height, width"),
        ("nothing_like_it:small", (3, 8, 8), "No module named"),
        ("auditnets:large", (3, 8, 8), "has no attribute"),
        ("auditnets:broken", (3, 8, 8), "no weights"),
        ("auditnets:number", (3, 8, 8), "returns int"),
        ("auditnets:small", (3, 7, 7), "does not run on 3x7x7"),
    ],
)
def test_factories_that_fail(mynets, target, shape, message):
    with pytest.raises(UserError, match=message) as caught:
        audit.factory(target, shape)
    assert "\n" not in str(caught.value)
