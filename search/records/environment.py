"""What every record says: when and where it was made, with versions, device, commit and command, without names, hosts
or passwords."""

import contextlib
import functools
import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
ROOT = Path(__file__).resolve().parents[2]  # where the packages are
PACKAGES = ("wavemix-search", "pydantic", "fvcore", "pytorch_wavelets", "PyWavelets", "scipy", "safetensors")


# what an option of a connection or of a URL may be called whose value is nobody's business
SECRET = re.compile(r"(?i)\b(\w*(?:password|passwd|pwd|token|secret|signature|_key|apikey)|sig|key)=[^&;\s'\"]+")


def mask(text: str, whole: bool = False) -> str:
    """`text` without the secrets of URLs: `//user:secret@host/x?key=value` becomes `//***@host/x?key=***`.

    Up to the *last* @ of a word (of all the text, where it is `whole` a URL), and every value of a query: people forget
    to percent-encode, and every service names its keys otherwise. Too much is hidden rather than too little.
    """
    any_, value = (r"(?s:.)", r"[^&]") if whole else (r"\S", r"[^&\s'\"]")
    text = re.sub(rf"//{any_}*@", "//***@", text)
    text = re.sub(rf"([?&][^\s=&?'\"]+)={value}+", r"\1=***", text)
    return SECRET.sub(r"\1=***", text)


def encodable(text: str) -> str:
    """`text` with what no UTF-8 stands for, as a path may have it, spelled out."""
    return text.encode(errors="backslashreplace").decode()


Masked = Annotated[str, AfterValidator(encodable), AfterValidator(mask)]


class Model(BaseModel):
    """Anything stored: unknown fields are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Environment(Model):
    """Where a record was made. No host or user name, no folder, no secret: the command is kept without them."""

    python: str
    torch: str | None
    numpy: str | None
    optuna: str | None
    packages: dict[str, str]
    device: str  # the GPU's or the processor's model name
    cores: int  # processor cores this process may use
    git_commit: str | None  # None: not run from a checkout
    dirty: bool | None
    command: Masked


def environment(device: str = "cpu") -> Environment:
    """The environment of this process, with the name of `device` ('cpu', 'cuda', 'cuda:1', 'mps')."""
    commit, dirty = _git()
    return Environment(
        python=platform.python_version(),
        torch=_version("torch"),
        numpy=_version("numpy"),
        optuna=_version("optuna"),
        packages={name: version for name in PACKAGES if (version := _version(name)) is not None},
        device=device_name(device),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        git_commit=commit,
        dirty=dirty,
        command=command_line(sys.argv, _nameless),
    )


@functools.cache
def code() -> str:
    """What identifies this code: the package's version, and a digest of its sources, since two checkouts share that."""
    digest = hashlib.sha256()
    for path in sorted(p for package in ("search", "wavemix") for p in (ROOT / package).rglob("*.*")):
        if path.suffix in (".py", ".cpp", ".h"):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return f"{_version('wavemix-search')} {digest.hexdigest()[:16]}"


def device_name(device: str = "cpu") -> str:
    """Model name of a GPU or of the processor."""
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return _processor() if str(device) == "cpu" else f"{device}, {_processor()}"


def _secretless(argument: str) -> str:
    return mask(argument, whole="://" in argument and not argument.lstrip().startswith("{"))


def command_line(argv: Sequence[str], shown: Callable[[str], str] = _secretless) -> str:
    """The command as a user types it: program name, quoted arguments, each as it may be `shown`: secrets masked."""
    program = Path(argv[0]).name if argv and argv[0] else "python"
    if program == "__main__.py":
        program = f"python -m {Path(argv[0]).parent.name}"
    # before quoting: a password may hold blanks or quotes
    return " ".join([program, *(shlex.quote(shown(argument)) for argument in argv[1:])])


def _nameless(argument: str) -> str:
    """An argument without what names users and machines: of a URL and of an absolute path the last part stays."""
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    if url := re.fullmatch(r"(\w[\w.+-]*://)(.*)", value, re.DOTALL):
        place = url[2].rpartition("@")[2].partition("?")[0]
        return f"{option}{equals}{url[1]}***/{place.rpartition('/')[2] if '/' in place else ''}".rstrip("/")
    if value.startswith(("/", "~")):
        return f"{option}{equals}{Path(value).name}"
    return _secretless(argument)


@functools.cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _processor(cpuinfo: str = "/proc/cpuinfo") -> str:
    """The model's name. A virtual machine's may not tell generations apart ("AMD EPYC"), which the width of their
    vectors does, by a factor of two and more in speed: those without AVX-512 are marked."""
    told: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path(cpuinfo).read_text().splitlines():
            key, _, value = line.partition(":")
            told.setdefault(key.strip(), value.strip())
    if "model name" not in told:
        return platform.processor() or platform.machine() or "unknown"
    flags = told.get("flags", "").split()
    return told["model name"] + (" (AVX2)" if "avx2" in flags and "avx512f" not in flags else "")


@functools.cache
def _git() -> tuple[str | None, bool | None]:
    """(commit, code changed since) of the checkout this package runs from; cached, as the code in memory is."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # an installed copy may lie inside somebody else's checkout
        changed = git("status", "--porcelain", "--", "search", "wavemix", "pyproject.toml")
        return git("rev-parse", "HEAD"), bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None, None


def _utc(time: datetime) -> datetime:
    """`time` in UTC. Near the ends of the calendar no sum or difference of times can be made."""
    moved = time.astimezone(UTC) if 1 < time.year < 9999 else time
    if not 2000 <= moved.year < 3000:
        raise ValueError(f"the year {moved.year} is none of a run")
    return moved


Moment = Annotated[AwareDatetime, AfterValidator(_utc)]


class RecordBase(Model):
    """What every record says."""

    schema_version: Literal[1] = SCHEMA_VERSION
    created: Moment = Field(default_factory=lambda: datetime.now(UTC))
    environment: Environment = Field(default_factory=environment)
