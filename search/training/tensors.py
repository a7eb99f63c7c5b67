"""Files of named tensors with a header of texts, in the safetensors format, that show whether they are whole.

The header's entry "sha256" is over everything else in the file. safetensors itself notices only wrong lengths.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from search.files import write_atomically


class Damaged(ValueError):
    """The file is not what was written."""


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> Path:
    """Write the tensors, from whatever device, and the header to `path`, with their digest, whole or not at all.

    Raises OSError; then `path` is as it was.
    """
    return write_atomically(path, packed(tensors, header))


def packed(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> bytes:
    """The content of a file of them."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {name: text for name, text in header.items() if name != "sha256"}
    return save(tensors, header | {"sha256": digest(tensors, header)})


def read(path: Path | str, older: Collection[str] = ()) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header, without its digest, and the tensors of a file by `write`.

    Files from before there was a digest are taken where their header has no other entries than `older`; without, none
    is. Raises Damaged, also for a file of another format, and OSError where there is none that can be read.
    """
    with open(path, "rb"):  # safetensors words its errors otherwise
        pass
    try:
        with safe_open(path, "pt") as file:
            header = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Damaged(" ".join(str(error).split())[:200]) from error
    stated = header.pop("sha256", None)
    if stated is None and not header.keys() <= set(older):
        raise Damaged("its digest is missing")
    if stated is not None and stated != digest(tensors, header):
        raise Damaged("its digest does not fit")
    return header, tensors


def digest(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """SHA-256, hexadecimal: of the header's entries and the tensors' names, dtypes and shapes as JSON, then of the
    tensors' bytes; all in the order of their names."""
    ordered = sorted(tensors.items())
    named = [sorted(header.items()), [[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in ordered]]
    sha = hashlib.sha256(json.dumps(named).encode())
    for _, tensor in ordered:
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
