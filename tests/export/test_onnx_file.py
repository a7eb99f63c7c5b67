"""ONNX: standard operators, any number of images, every wavelet."""

import json

import exports
import pytest

from search import extras
from search.errors import UserError
from search.export import onnx_file
from search.export.check import Sample, check
from wavemix import LiteConfig

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# every up-sampling and every number of levels, and wavelets of several families
CASES = [
    dict(upsampling="nearest", initial_conv="patchify", patch_size=1, wavelet="bior2.2", activation="relu"),
    dict(upsampling="bilinear", level=2, wavelet="db2"),
    dict(upsampling="deconv", level=3, initial_conv="separable", bias="needed", depth=2, shared=1),
    dict(upsampling="depthwise", level=4, initial_conv="single", activation="silu"),
]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_onnx_gives_the_scores_of_pytorch(options, tmp_path):
    network = exports.ready(LiteConfig(**{"in_channels": 1, "final_dim": 8, "depth": 1} | options), 16, 32)
    path = tmp_path / "network.onnx"
    onnx_file.write(network, "toy", path)
    for count in (1, 7):
        given = Sample(exports.images(network, count), "images")
        check(network, given, lambda images: onnx_file.scores(path, images))
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} == {""} and not model.functions, "standard operators alone"
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    kept = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(kept["classes"])[3] == "class 3" and LiteConfig.model_validate_json(kept["configuration"])
    assert str(__file__).encode()[:12] not in path.read_bytes(), "no path of this machine"


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    with pytest.raises(UserError, match=r"no_such_package is not installed.*pip install '\.\[onnx\]'"):
        extras.needed("onnx", "json", "no_such_package")
