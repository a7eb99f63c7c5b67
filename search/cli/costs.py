"""What the options about costs mean: what is minimised, and limits with units."""

import re
from dataclasses import dataclass
from typing import Annotated

import typer

from search.errors import UserError
from search.records.costs import COSTS, CostName

Minimize = Annotated[
    str, typer.Option("--minimize", help="What is to be small: parameters, macs, activation-bytes or latency.")
]
MaxMacs = Annotated[
    str | None, typer.Option("--max-macs", help="Multiply-accumulates of an image to stay below: 1.5M, 300k.")
]
MaxActivationBytes = Annotated[
    str | None,
    typer.Option("--max-activation-bytes", help="Memory of an image's activations, as C source, to stay below: 64KiB."),
]
MaxLatency = Annotated[
    str | None,
    typer.Option("--max-latency", help="Time of an image, on one thread of this machine's CPU, to stay below: 2ms."),
]
SCALES = {
    "--max-macs": ({"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}, "a number such as 1.5M or 300k"),
    "--max-activation-bytes": (
        {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "kB": 1e3, "MB": 1e6}, "a size such as 64KiB or 50000"),
    "--max-latency": ({"us": 1e-6, "ms": 1e-3, "s": 1.0}, "a time such as 2ms or 500us"),
}  # fmt: skip


@dataclass(frozen=True)
class CostOptions:
    """What a search minimises, and what its networks stay below."""

    minimize: Minimize = "parameters"
    max_macs: MaxMacs = None
    max_activation_bytes: MaxActivationBytes = None
    max_latency: MaxLatency = None

    def limits(self) -> dict[CostName, float]:
        """As numbers by the names of costs. Raises UserError for anything else."""
        return limits_of(macs=self.max_macs, activation_bytes=self.max_activation_bytes, latency=self.max_latency)


def limits_of(**texts: str | None) -> dict[CostName, float]:
    """The limits given by `--max-macs` and so on, as numbers by the names of costs. Raises UserError for anything
    else."""
    given = {name.replace("_", "-"): text for name, text in texts.items() if text is not None}
    return {name: _quantity(given[name], f"--max-{name}") for name in COSTS if name in given}


def _quantity(text: str, option: str) -> float:
    scales, example = SCALES[option]
    parts = re.fullmatch(r"\s*([\d.,_]*\d)\s*([A-Za-z]*)\s*", text)
    try:
        value = float(parts[1].replace(",", "").replace("_", "")) * scales[parts[2]] if parts else 0.0
    except (ValueError, KeyError):
        value = 0.0
    if not 0 < value < 2**63:
        raise UserError(f"{option} is {example}, not {text!r}")
    return value


def minimise_of(text: str) -> CostName:
    """The cost that `--minimize` names. Raises UserError for anything else."""
    for name in COSTS:
        if name == text:
            return name
    raise UserError(f"--minimize is {', '.join(COSTS[:-1])} or {COSTS[-1]}, not {text!r}")
