"""Names of studies, and of the files that are named after them."""

import hashlib
import os
import re
from collections.abc import Iterable

from .errors import UserError

LONGEST = 200  # bytes of UTF-8: a file's name has 255 at most, and endings such as .safetensors are added to it


def can_name(name: str) -> bool:
    """Whether a study can be called so: it names files and a directory."""
    return bool(re.fullmatch(r"\w[\w.+-]*", name)) and len(name.encode()) <= LONGEST


def shortened(name: str) -> str:
    """`name`, or its beginning and a digest of all of it where it is longer than a name may be."""
    encoded = name.encode()
    if len(encoded) <= LONGEST:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return f"{encoded[: LONGEST - 1 - len(digest)].decode(errors='ignore')}-{digest}"


def check_text(arguments: Iterable[str]) -> None:
    """Raises UserError for one that is not UTF-8, as a path may be: no record, name or terminal could hold it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(argument).decode(errors="backslashreplace")
            raise UserError(f"{shown} is not UTF-8: rename it, or reach it by another path") from None
