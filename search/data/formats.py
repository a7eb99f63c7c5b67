"""File formats of the official data sets: IDX, CIFAR-10's records, and pickled arrays read safely.

Every reader takes bytes and returns NumPy arrays; whatever the bytes hold, the only exception is `UserError`.
"""

import gzip
import io
import math
import pickle
import pickletools
import zlib
from typing import Any

import numpy as np

from search.errors import UserError, present

MAX_BYTES = 1 << 30  # of one decompressed file; EMNIST's largest has 547 MB
CIFAR_RECORD = 1 + 3 * 32 * 32


def read_idx(data: bytes, name: str) -> np.ndarray:
    """Read an IDX file of unsigned bytes (the format of MNIST's files).

    Args:
        data: the unzipped file.
        name: what error messages call it.
    Returns:
        A uint8 array of the shape in the header: (N, H, W) for images, (N,) for labels.
    Raises:
        UserError: no IDX header, another element type, or more or fewer bytes than the header announces.
    """
    shape, start = _idx_header(data, name)
    expected = start + math.prod(shape)
    if len(data) != expected:
        raise UserError(f"{name}: {len(data):,} bytes, its header announces {expected:,}; get the file again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def write_idx(array: np.ndarray) -> bytes:
    """The IDX file of a uint8 array, byte for byte as the official MNIST files are written."""
    if array.dtype != np.uint8:
        raise TypeError(f"IDX files here hold uint8, not {array.dtype}")
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + np.ascontiguousarray(array).tobytes()


def unzip_idx(data: bytes, name: str) -> bytes:
    """Unzip a gzipped IDX file (bytes which are not gzipped come back as they are).

    The header says how long the file is, so at most that and one byte more is decompressed: a small file
    which unzips to gigabytes is refused without unzipping it.
    """
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            head = stream.read(4)
            head += stream.read(4 * min(head[3], 4)) if len(head) == 4 else b""
            shape, start = _idx_header(head, name)
            expected = start + math.prod(shape)
            body = stream.read(expected - len(head) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name}: damaged gzip file ({error}); get the file again") from error
    if len(head) + len(body) > expected:
        raise UserError(f"{name}: more bytes than its header announces ({expected:,}); get the file again")
    return head + body


def _idx_header(data: bytes, name: str) -> tuple[tuple[int, ...], int]:
    if len(data) < 4 or data[:2] != b"\0\0":
        raise UserError(f"{name}: not an IDX file (it does not begin with two zero bytes)")
    kind, axes = data[2], data[3]
    if kind != 8 or not 1 <= axes <= 4:
        raise UserError(f"{name}: not an IDX file of unsigned bytes (type {kind:#04x}, {axes} axes)")
    start = 4 + 4 * axes
    if len(data) < start:
        raise UserError(f"{name}: truncated in its IDX header; get the file again")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", count=axes, offset=4))
    if not 0 < math.prod(shape) <= MAX_BYTES:
        raise UserError(f"{name}: its IDX header announces {' x '.join(map(str, shape))} bytes")
    return shape, start


def read_cifar_binary(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read records of CIFAR-10's binary version: one label byte, then 1,024 red, green and blue bytes each.

    Returns:
        Images, uint8 (N, 3, 32, 32), and labels, uint8 (N,).
    Raises:
        UserError: not a whole number of records, no record, or a label above 9.
    """
    if not data or len(data) % CIFAR_RECORD:
        raise UserError(
            f"{name}: {len(data):,} bytes are no whole number of CIFAR-10 records "
            f"({CIFAR_RECORD} bytes each); get the file again"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, CIFAR_RECORD)
    labels = records[:, 0]
    if labels.max() > 9:
        raise UserError(f"{name}: label {labels.max()} in record {int(labels.argmax())}, CIFAR-10 has 0 to 9")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


def read_cifar_python(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one batch of CIFAR-10's Python version: a pickled dict of `data`, uint8 (N, 3072), and `labels`.

    Returns and raises as `read_cifar_binary`.
    """
    batch = unpickle_arrays(data, name)
    try:
        images, labels = batch[b"data"], np.array(batch[b"labels"], np.int64)
        if images.dtype != np.uint8 or images.shape != (len(labels), 3072) or labels.ndim != 1 or not len(labels):
            raise ValueError("`data` and `labels` do not fit together")
        if not 0 <= labels.min() <= labels.max() <= 9:
            raise ValueError("a label outside 0 to 9")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{name}: not a batch of CIFAR-10 ({error}); get the file again") from error
    return images.reshape(-1, 3, 32, 32), labels.astype(np.uint8)


def unpickle_arrays(data: bytes, name: str) -> Any:
    """Unpickle dicts, lists, tuples, strings, numbers and NumPy arrays, and nothing else.

    A pickle can call any function it names. Here it can name three, NumPy's array, data type and array
    constructor, and gets stand-ins for them which only hold bytes; the arrays are built afterwards, from a
    shape and a length which have been compared. Python 2 strings come back as bytes. Callers check a digest
    first, so that foreign pickles do not come this far.
    """
    try:
        _check_opcodes(data)
        return _resolve(_ArrayUnpickler(io.BytesIO(data), encoding="bytes").load(), {})
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except Exception as error:  # a malformed pickle can raise anything
        raise UserError(f"{name}: not a pickle of arrays ({type(error).__name__}: {error})") from error


# What dicts, lists, tuples, strings, numbers and arrays need, in protocols 0 to 5.
_OPCODES = frozenset(
    "PROTO FRAME STOP MARK POP GLOBAL STACK_GLOBAL REDUCE BUILD NONE NEWTRUE NEWFALSE INT LONG LONG1 "
    "BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES "
    "BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS PUT BINPUT LONG_BINPUT "
    "MEMOIZE GET BINGET LONG_BINGET".split()
)


def _check_opcodes(data: bytes) -> None:
    """Refuse rare instructions, and memo places far beyond the pickle's length: it allocates up to there."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name not in _OPCODES:
            raise UserError(f"the pickle's instruction {opcode.name} is refused")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= present(argument) <= count:
            raise UserError("not a pickle of arrays (a memo place out of range)")


class _PickledType:
    """Stands in for numpy.dtype: remembers which of a few plain types was meant."""

    KINDS = ("u1", "i4", "i8", "f4", "f8")

    def __init__(self, kind: Any, *_: Any) -> None:
        self.kind = kind.decode("ascii") if isinstance(kind, bytes) else kind
        if self.kind not in self.KINDS:
            raise UserError(f"array type {str(self.kind)[:20]!r} is not admitted")
        self.order = "<"

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        self.order = ">" if order == ">" else "<"


class _PickledArray:
    """Stands in for numpy.ndarray: keeps what the pickle says until it has been checked."""

    state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        _, shape, kind, fortran, raw = self.state
        if not isinstance(kind, _PickledType) or not isinstance(raw, bytes):
            raise UserError("an array of something else than plain numbers")
        dtype = np.dtype(kind.order + kind.kind)
        if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != len(raw):
            raise UserError("an array whose shape does not fit its bytes")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *_: _PickledArray()
        if (module, name) == ("numpy", "ndarray"):
            return _PickledArray
        if (module, name) == ("numpy", "dtype"):
            return _PickledType
        raise UserError(f"the pickle asks for {module[:40]}.{name[:40]}, which is refused: it could run code")


def _resolve(value: Any, done: dict[int, Any], depth: int = 0) -> Any:
    """Replace the stand-ins by arrays; data sets nest two levels deep, so deeper ones are refused.

    `done` keeps what has been resolved: a pickle can refer to one list a million times.
    """
    if depth > 4:
        raise UserError("nested too deeply")
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _PickledArray):
        result = value.array()
    elif isinstance(value, (list, tuple)):
        result = type(value)(_resolve(item, done, depth + 1) for item in value)
    elif isinstance(value, dict):
        result = {key: _resolve(item, done, depth + 1) for key, item in value.items()}
    else:
        return value
    done[id(value)] = result
    return result
