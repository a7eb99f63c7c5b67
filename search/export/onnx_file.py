"""ONNX: standard operators alone, any number of images at once. Checked with onnxruntime."""

import json
from pathlib import Path

import torch
from torch import Tensor

from search.export.program import sizes_told, traced
from search.export.silence import quiet
from search.extras import needed
from search.inference.ready import Enlarger, Ready

SUFFIX = ".onnx"


def write(ready: Ready, name: str, path: Path) -> list[str]:
    """Write the network to `path`: input "images", output "scores", or "larger" of super-resolution.

    The model's metadata have the classes' names.
    """
    needed("onnx", "onnx", "onnxscript", "onnxruntime")
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            traced(ready), dynamo=True, input_names=["images"], output_names=[_output(ready)], verbose=False
        )
        assert program is not None  # it is for dynamo=True
        model = program.model_proto
    scale = ready.scale if isinstance(ready, Enlarger) else 1
    for value, factor in ((model.graph.input[0], ""), (model.graph.output[0], f"{scale}*" if scale > 1 else "")):
        sizes = value.type.tensor_type.shape.dim
        sizes[0].dim_param = "batch"
        if ready.shape is None:
            sizes[2].dim_param, sizes[3].dim_param = f"{factor}height", f"{factor}width"
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph):
        part.ClearField("metadata_props")  # traces of this program, ten times as large as a small network
        part.ClearField("doc_string")
    model.producer_name = "wavemix-search"
    for key, value in (
        ("name", name),
        ("configuration", ready.lite.config.model_dump_json()),
        ("classes", json.dumps(ready.inputs.classes)),
    ):
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    operators = sorted({node.op_type for node in model.graph.node})
    return [f"operators: {', '.join(operators)} (opset {model.opset_import[0].version})", *sizes_told(ready)]


def _output(ready: Ready) -> str:
    return "larger" if isinstance(ready, Enlarger) else "scores"


def scores(path: Path, images: Tensor) -> Tensor:
    """What onnxruntime makes of images (N, channels, height, width)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
