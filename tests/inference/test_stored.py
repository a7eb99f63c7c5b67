"""Stored networks are found by row, study, stem and file, with what is known of them."""

import pytest
import torch
from safetensors.torch import save_file

from search.errors import UserError
from search.inference.stored import find
from search.records.results import PUBLISHED as RESULTS
from search.records.results import Results
from search.report.efficiency import winners
from wavemix import LiteConfig, WaveMixLite, classification

CONFIG = LiteConfig(in_channels=1, num_classes=4, final_dim=8, depth=2, upsampling="bilinear")


@pytest.fixture(scope="module")
def published() -> Results:
    return Results("runs-of-nobody", RESULTS)


def test_every_row_of_the_table_has_its_weights(published):
    rows = {row: run for row, run in winners(published.read_known()).items() if run.mean is not None}
    assert rows
    for row, run in rows.items():
        found = find(row, published)
        assert (found.row, found.name, found.record) == (row, row, run)
        assert found.config == run.config and set(run.seeds) <= set(found.seeds)
        assert found.digest == run.dataset.digest and found.inputs is not None
        assert found.recipe is not None
        if run.config.task != "super-resolution":
            assert len(found.inputs.classes) == run.config.num_classes


@pytest.mark.parametrize(
    ("what", "row", "parameters"),
    [
        ("mnist-99-extended", "mnist-99-extended", 2634),  # also a study, of another network
        ("mnist-99-extended-1186", "mnist-99-extended-reached", 1186),  # a study
        ("mnist-99-extended-2000-C8-D10-m1-F8-L1-bilinear-separable-s21-lean", None, 1882),
    ],
)
def test_names_mean_a_row_then_a_study_or_a_files_stem(published, what, row, parameters):
    found = find(what, published)
    assert (found.row, found.config.parameters()) == (row, parameters)
    assert find(found.path, published) == found, "and the file itself says the same"
    assert sum(p.numel() for p in found.network().parameters()) == parameters
    assert not found.network(found.seeds[-1]).training


def test_weights_of_upstream_need_their_configuration(tmp_path):
    theirs = classification.WaveMix(num_classes=5, depth=2, ff_channel=16, final_dim=16, level=2, patch_size=2).eval()
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.pth")
    config = LiteConfig(
        num_classes=5, depth=2, ff_channel=16, final_dim=16, level=2, initial_conv="patchify", patch_size=2
    )
    results = Results(tmp_path)
    found = find(tmp_path / "theirs.pth", results, config)
    assert (found.seeds, found.inputs, found.record, found.config.upsampling) == ((0,), None, None, "deconv")
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(found.network()(images), theirs(images), atol=1e-5)
    with pytest.raises(UserError, match="give its configuration with --config"):
        find(tmp_path / "theirs.pth", results)
    with pytest.raises(UserError, match="is not of this network.*--config has to be"):
        find(tmp_path / "theirs.pth", results, config.model_copy(update={"depth": 3})).network()


@pytest.mark.parametrize("what", ["nothing", "no/such/file", "gone.safetensors", "gone.pth", "../x"])
def test_what_is_not_there_is_one_line(published, what):
    with pytest.raises(UserError, match="there is no"):
        find(what, published)


def test_a_row_without_its_weights_says_where_to_get_them(tmp_path):
    (tmp_path / "records").symlink_to(RESULTS / "records")
    results = Results(tmp_path)
    (tmp_path / "searches").symlink_to(RESULTS / "records" / "searches")
    with pytest.raises(UserError, match="there is no row"):  # a link to a folder is not followed
        find("mnist-99-extended", results)
    (tmp_path / "mnist-99-extended-2700.jsonl").symlink_to(RESULTS / "records/searches/mnist-99-extended-2700.jsonl")
    with pytest.raises(UserError, match="the weights of mnist-99-extended .* are not in .*: name a file that you have"):
        find("mnist-99-extended", results)


def test_a_configuration_that_contradicts_the_file_and_unknown_seeds_are_refused(published):
    found = find("mnist-99-extended", published)
    with pytest.raises(UserError, match="omit --config"):
        find(found.path, published, CONFIG)
    with pytest.raises(UserError, match="has no seed 3; it has 1000000"):
        found.network(3)


def test_a_foreign_safetensors_file_is_taken_with_its_configuration(tmp_path):
    network = WaveMixLite(CONFIG)
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    found = find(str(tmp_path / "mine.safetensors"), Results(tmp_path), CONFIG)
    assert torch.equal(found.network().pool[2].weight, network.pool[2].weight)
    (tmp_path / "bad.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(UserError, match="can't be read as a checkpoint"):
        find(tmp_path / "bad.safetensors", Results(tmp_path), CONFIG).network()
