"""What `fuzz_readers.py` feeds to readers: samples of every format, ones made to harm, and ways to damage them."""

import bz2
import copy
import gzip
import io
import json
import lzma
import os
import pickle
import random
import struct
import tarfile
import tempfile
import warnings
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save as safetensors_bytes

from scripts.benchmarks.harness import ROOT
from search.data import decoded_cache as decoded
from search.data import formats
from search.records.jsonl import journals
from search.records.weights import Inputs, WeightsFile
from search.training.recipe import Recipe, Training
from search.training.tensors import packed as tensors_packed
from wavemix import LiteConfig, WaveMixLite
from wavemix.stack import Stack

AWKWARD = [
    None, True, 0, -1, 1, 2**31, 2**63, -(2**64), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x" * 5000,
    "0", "nan", "\0", "\ud800", "../..", "é", [], {}, [[]], [1, 2], [1] * 3000, {"a": None}, {"": {}}, "2026-01-01",
]  # fmt: skip
WORDS = [
    b"\0" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\1",
    b"\x01",
    b"-1",
    b"9" * 40,
    b"\n",
    b'"',
]
CONFIG = LiteConfig(in_channels=1, num_classes=4, final_dim=4, depth=1)


def damaged(rng: random.Random, samples: list[bytes]) -> bytes:
    """One of `samples` with a few bytes changed; now and then noise, or nothing changed at all."""
    data = bytearray(rng.choice(samples))
    if rng.random() < 0.03:
        return rng.randbytes(rng.randrange(200))
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 8])):
        # headers and footers decide more than what lies between
        edge = rng.random()
        span = len(data) if edge < 0.4 else min(len(data), 64)
        place = rng.randrange(span + 1) if edge < 0.8 else len(data) - rng.randrange(span + 1)
        kind = rng.randrange(6)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            word = rng.choice(WORDS)
            data[place : place + len(word)] = word
        elif kind == 2:
            data[place:place] = rng.randbytes(rng.choice([1, 4, 100]))
        elif kind == 3:
            del data[place : place + rng.choice([1, 4, 100, len(data)])]
        elif kind == 4:
            data[place:place] = data[place : place + rng.choice([4, 100, 1000])]
        else:
            other = rng.choice(samples)
            data[place:] = other[min(place, len(other)) :]
    return bytes(data)


def awkward(rng: random.Random, samples: list[bytes]) -> bytes:
    """One of the JSON `samples` with values exchanged, left out or added; now and then its bytes damaged as well."""
    tree = json.loads(rng.choice(samples))
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        node = tree
        while isinstance(node, (dict, list)) and node:
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            if not isinstance(node[key], (dict, list)) or rng.random() < 0.3:
                change = rng.random()
                if change < 0.1:
                    del node[key]
                elif change < 0.2 and isinstance(node, dict):
                    node[rng.choice(["x", "schema_version", "kind", "a" * 300])] = node[key]
                elif change < 0.3 and isinstance(node[key], (int, float)):
                    node[key] = -node[key]
                else:
                    node[key] = copy.deepcopy(rng.choice(AWKWARD))
                break
            node = node[key]
    if rng.random() < 0.05:
        tree = rng.choice([[tree], *AWKWARD])
    text = json.dumps(tree).encode()
    if rng.random() < 0.02:
        text = b"[" * 100_000
    return damaged(rng, [text]) if rng.random() < 0.2 else text


def text(rng: random.Random, samples: list[bytes]) -> bytes:
    """An option's value: one of `samples`, damaged, or a few odd characters."""
    if rng.random() < 0.2:
        return "".join(
            rng.choice("0123456789.,-+eEsmhdinfa_ \t\n\0é٣/~{}[]:\"'") for _ in range(rng.randrange(12))
        ).encode()
    return damaged(rng, samples)


# ------------------------------------------------------------------------------------------------------ samples


def png(size=(6, 5), mode="RGB", fmt="PNG", **options) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), np.uint8)
    Image.fromarray(noise).convert(mode).save(out, fmt, **options)
    return out.getvalue()


def images() -> list[bytes]:
    kinds = [("PNG", mode) for mode in ("RGB", "L", "P", "1")] + [("JPEG", "RGB"), ("JPEG", "CMYK"), ("GIF", "P")]
    kinds += [(fmt, "RGB") for fmt in ("BMP", "WEBP", "TIFF", "PPM")]
    samples = [png(mode=mode, fmt=fmt) for fmt, mode in kinds] + [png(fmt="TIFF", compression="tiff_lzw")]
    samples += [b"P6 60000 60000 255\n" + b"\0" * 99, png((5000, 3000), "1")]  # a declared and a real giant
    head = png()[:16] + struct.pack(">II", 50000, 50000)
    return [*samples, head + png()[24:]]


def archived(kind: str) -> list[bytes]:
    """Archives of a small image folder, and ones made to harm: escaping names, links, bombs, headers that lie."""
    files = {f"{part}/{c}/{n}.png": png() for part in ("train", "test") for c in "ab" for n in range(2)}
    harm = {
        name: b"x" for name in ("../up.png", "/abs.png", "a/../../up.png", "C:\\x.png", "a\\b.png", "a/b.png\0.txt")
    }
    samples = []
    for content in (files, files | harm, {"a/b.png": b"\0" * (8 << 20)}, *({k: v} for k, v in harm.items())):
        for method in {"zip": (0, 8, 14), "tar": ("", "gz", "xz", "bz2")}[kind]:
            out = io.BytesIO()
            if kind == "zip":
                with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
                    for name, data in content.items():
                        archive.writestr(zipfile.ZipInfo(name), data, method)
            elif not (method == "" and "a/b.png" in content):
                with tarfile.open(fileobj=out, mode="w") as archive:
                    for name, data in content.items():
                        info = tarfile.TarInfo(name)
                        info.size = len(data)
                        archive.addfile(info, io.BytesIO(data))
                    for link in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE) if content is not files else ():
                        info = tarfile.TarInfo("train/a/link.png")
                        info.type, info.linkname = link, "/etc/passwd"
                        archive.addfile(info)
            pack = {"gz": lambda data: gzip.compress(data, mtime=0), "xz": lzma.compress, "bz2": bz2.compress}
            samples.append(pack.get(method, bytes)(out.getvalue()))
    # the whole, unharmed archives are the ones that most damage should start from
    return [s for s in samples if s and len(s) < 1 << 20] + 5 * samples[: 3 if kind == "zip" else 4]


def _picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (4, 4), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


PICTURES = {
    f"{part}/{category}/{number}.png": _picture(10 * "abc".index(category) + number + 100 * (part == "test"))
    for part, count in (("train", 6), ("test", 2)) for category in "abc" for number in range(count)
}  # fmt: skip


def _whole() -> dict[str, tuple[tuple[str, ...], str]]:
    """Of each part of `PICTURES`, the classes and the digest of images and labels, without any archive."""
    found = {}
    for part in ("train", "test"):
        names = sorted(name for name in PICTURES if name.startswith(part))
        pictures = np.stack([np.asarray(Image.open(io.BytesIO(PICTURES[name]))) for name in names])
        labels = torch.tensor(["abc".index(name.split("/")[1]) for name in names])
        found[part] = ("a", "b", "c"), decoded.digest_of(torch.from_numpy(pictures)[:, None], labels)
    return found


WHOLE = _whole()


def archives() -> list[bytes]:
    """`PICTURES` in each kind of archive."""
    samples = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for name, data in PICTURES.items():
                archive.writestr(name, data)
        samples.append(out.getvalue())
    for method in ("", "gz", "xz", "bz2"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=f"w:{method}") as archive:
            for name, data in PICTURES.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        samples.append(out.getvalue())
    return samples


def flawed(rng: random.Random, samples: list[bytes]) -> bytes:
    """One of `samples` as disks and transfers damage it: cut, a bit or a byte changed, a stretch of zeros or lost."""
    data = bytearray(rng.choice(samples))
    place, kind = rng.randrange(len(data)), rng.randrange(6)
    block = place // 512 * 512
    if kind == 0:
        del data[place:]
    elif kind == 1:
        del data[block:]
    elif kind == 2:
        data[place] ^= 1 << rng.randrange(8)
    elif kind == 3:
        data[place] = rng.randrange(256)
    elif kind == 4:
        length = min(512, len(data) - block)
        data[block : block + length] = bytes(length)
    else:
        del data[place : place + rng.choice([1, 4, 100])]
    return bytes(data)


def idx() -> list[bytes]:
    arrays = [np.zeros((3, 4, 5), np.uint8), np.arange(9, dtype=np.uint8), np.zeros((1, 1, 1, 1), np.uint8)]
    plain = [formats.write_idx(array) for array in arrays]
    return (
        plain
        + [gzip.compress(data, mtime=0) for data in plain]
        + [gzip.compress(b"\0\0\x08\x01\x3f\0\0\0" + b"\0" * (4 << 20), mtime=0)]
    )


def cifar_python() -> list[bytes]:
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 9], b"batch_label": b"x"}
    return [pickle.dumps(batch, protocol) for protocol in (0, 2, 4, 5)] * 3 + [pickle.dumps({b"data": Harm()})]


def record_lines() -> list[bytes]:
    lines = [line for path in journals(ROOT / "results") for line in path.read_bytes().splitlines()]
    shorter = []
    for line in lines:
        tree = json.loads(line)
        tree.pop("checksum", None)
        tree["curves"] = [curve[:2] for curve in tree.get("curves", [])] or tree.pop("curves", [])
        shorter.append(
            json.dumps(tree if tree["curves"] else {k: v for k, v in tree.items() if k != "curves"}).encode()
        )
    return shorter


def checkpoints() -> list[bytes]:
    stack = Stack(CONFIG, [1, 2])
    tensors = {name: stack.flat.detach().clone() for name in ("flat", "first", "second", "average")}
    epoch = {"epoch": 1, "train_loss": 0.5, "accuracy": None, "seconds": 1.0}
    samples, good = [], {"count": 3, "seconds": 1.0, "curves": [[epoch], [epoch]]}
    for progress in (
        *[good] * 8,
        {"count": "3", "seconds": None, "curves": [[epoch]]},
        {"count": -1, "seconds": -5, "curves": [[epoch] * 9, [{}]]},
        [], {}, None,
    ):  # fmt: skip
        metadata = {"identity": json.dumps({"a": 1}, sort_keys=True), "progress": json.dumps(progress)}
        samples.append(tensors_packed(tensors, metadata))
    samples += [safetensors_bytes(tensors, metadata), tensors_packed({**tensors, "flat": torch.zeros(3)}, metadata)]
    return samples + [tensors_packed({k: v.half() for k, v in tensors.items()}, {**metadata, "identity": "x"})]


def weights() -> list[bytes]:
    state = WaveMixLite(CONFIG).state_dict()
    wrong = {name: value[..., None] for name, value in state.items()}
    return [safetensors_bytes(s) for s in (state, state, state, wrong, {"x": torch.zeros(2)}, {})]


def whole_checkpoints() -> list[bytes]:
    """Two of one training, after different epochs, as they are written."""
    epoch, samples = {"epoch": 1, "train_loss": 0.5, "accuracy": None, "seconds": 1.0}, []
    for count in (3, 6):
        torch.manual_seed(count)
        tensors = {
            name: torch.randn_like(Stack(CONFIG, [1, 2]).flat) for name in ("flat", "first", "second", "average")
        }
        progress = {"count": count, "seconds": float(count), "curves": [[epoch] * (count // 3)] * 2}
        samples.append(tensors_packed(tensors, {"identity": '{"a": 1}', "progress": json.dumps(progress)}))
    return samples


def whole_weights() -> list[bytes]:
    """Two files of weights as they are written, of one seed and of two."""
    told = Inputs(data="toy", shape=(1, 6, 5), mean=(0.5,), deviation=(0.25,), classes=tuple("abcd"))
    training, samples = Training(CONFIG, Recipe(), "d" * 64), []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        for count in (1, 2):
            torch.manual_seed(count)
            states = {seed: WaveMixLite(CONFIG).state_dict() for seed in range(count)}
            file = WeightsFile(Path(scratch) / f"{count}.safetensors", training, told)
            path = file.save(states, datetime(2026, 1, 1, tzinfo=UTC))
            samples.append(path.read_bytes())
    return samples


def saved() -> list[bytes]:
    state, samples = WaveMixLite(CONFIG).state_dict(), []
    for content in (state, {"state_dict": state}, {"model": {"x": 1}}, [1], torch.zeros(2), {"x": Harm()}):
        for modern in (True, False):
            out = io.BytesIO()
            torch.save(content, out, _use_new_zipfile_serialization=modern)
            samples.append(out.getvalue())
    return samples


class Harm:
    def __reduce__(self):
        return os.system, ("exit 0",)


def cache() -> list[bytes]:
    pictures, labels = torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.tensor([0, 1])
    about = '[["a", "b"], 0, 0, []]'
    meta = {"digest": decoded._checksum(pictures, labels, about), "about": about}
    return [safetensors_bytes({"images": pictures, "labels": labels}, m) for m in (meta, meta, {"digest": "x"}, None)]
