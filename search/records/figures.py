"""Figures that somebody states of a network, judged against a count: parameters, and work.

A stated figure is taken at its word: "11.7 M" is anything that rounds to it or is cut off to it, and zeros at the end
of a whole number may be rounding, too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Convention = Literal["MACs", "FLOPs"]
Kind = Literal[
    "agree", "rounding", "MACs stated as FLOPs", "FLOPs stated as MACs", "with buffers", "without the head", "wrong",
    "not countable", "not stated",
]  # fmt: skip
FINE = ("agree", "rounding", "not stated")
SCALES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
FORM = re.compile(
    r"(?P<number>\d[\d,_]*(?:\.\d*)?|\.\d+)(?:[eE](?P<power>[+-]?\d{1,2}))?\s*"
    r"(?P<scale>[kKMGBT]?)\s*(?P<kind>params|parameters|macs?|mult-adds|multadds|flops?)?",
    re.IGNORECASE,
)


class Figure(BaseModel):
    """A number as it is stated, with the unit of its last digit: 11.7 M has one of 0.1 M."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    text: str
    value: float = Field(ge=0, lt=2**63, allow_inf_nan=False)
    unit: float = Field(gt=0, lt=2**63, allow_inf_nan=False)
    convention: Convention | None = None  # of work: what the figure is said to count

    @classmethod
    def read(cls, text: str, convention: Convention | None = None) -> Self:
        """Of '11.7 M', '1.81 GMACs', '25,557,032' or '1.8e9'. Raises ValueError for anything else."""
        match = FORM.fullmatch(text.strip())
        if not match:
            raise ValueError(f"{text!r} is no figure such as 11.7 M, 1.81 GMACs or 25,557,032")
        number, kind = match["number"].replace(",", "").replace("_", ""), (match["kind"] or "").lower()
        named: Convention | None = "FLOPs" if kind.startswith("flop") else "MACs" if kind.startswith("m") else None
        if named and convention and named != convention:
            raise ValueError(f"{text!r} says {named}, the convention beside it {convention}")
        letter = match["scale"]
        try:
            scale = Decimal(SCALES["k" if letter in "kK" and letter else letter.upper()]).scaleb(
                int(match["power"] or 0)
            )
            value = Decimal(number) * scale
        except (InvalidOperation, KeyError):
            raise ValueError(f"{text!r} is no figure such as 11.7 M, 1.81 GMACs or 25,557,032") from None
        decimals = len(number.partition(".")[2])
        zeros = 0 if "." in number else len(number) - len(number.rstrip("0"))
        unit = scale.scaleb(-decimals if decimals else min(zeros, len(number) - 1))
        return cls(text=text.strip(), value=float(value), unit=float(max(unit, 1)), convention=named or convention)

    def fits(self, low: float, high: float | None = None) -> bool:
        """Whether a number from `low` to `high` (that is `low`) is stated so, rounded or cut off."""
        high = low if high is None else high
        if self.unit <= 1:
            return low <= self.value <= high
        return low - self.unit < self.value <= high + self.unit / 2


@dataclass(frozen=True)
class Verdict:
    kind: Kind
    said: str  # the kind, and by how much or why

    @property
    def fine(self) -> bool:
        return self.kind in FINE


def judged_parameters(stated: Figure, counted: int, buffers: int = 0, head: int = 0) -> Verdict:
    """Against `counted` parameters; `buffers` and the `head`'s parameters may have been counted too, or left out."""
    if stated.fits(counted):
        return _right(stated, counted)
    if buffers and stated.fits(counted + buffers):
        return Verdict("with buffers", f"with {buffers:,} numbers of buffers")
    if head and stated.fits(counted - head):
        return Verdict("without the head", f"without the head's {head:,}")
    return _wrong(stated, counted)


def judged_work(stated: Figure, macs: int, flops: int, uncounted: Sequence[str] = ()) -> Verdict:
    """Against MACs or FLOPs, by the figure's convention; one without a convention is held to be FLOPs.

    Counters differ in which operations beside products they count, so anything from the products alone to all
    operations agrees.
    """
    others = flops - 2 * macs
    spans = {"FLOPs": (2 * macs, flops), "MACs": (macs, macs + others)}
    said: Convention = stated.convention or "FLOPs"
    other: Convention = "MACs" if said == "FLOPs" else "FLOPs"
    if stated.fits(*spans[said]):
        return _right(stated, macs if said == "MACs" else flops)
    if macs and stated.fits(*spans[other]):
        kind: Kind = "MACs stated as FLOPs" if other == "MACs" else "FLOPs stated as MACs"
        return Verdict(kind, f"{kind} (factor 2)")
    if uncounted and stated.value > spans[said][1]:
        least = f"at least {spans[said][0]:,} {said}"
        return Verdict("not countable", f"not countable: {least}, without a count: {', '.join(uncounted)}")
    return _wrong(stated, spans[said][0])


def _right(stated: Figure, counted: int) -> Verdict:
    return Verdict("agree", "agree") if stated.value == counted else Verdict("rounding", "agree, rounded")


def _wrong(stated: Figure, counted: int) -> Verdict:
    if not counted or not stated.value:
        return Verdict("wrong", f"wrong: {counted:,} counted")
    ratio = stated.value / counted
    if 0.5 < ratio < 2:
        return Verdict("wrong", f"wrong by {100 * (ratio - 1):+.3g} %")
    return Verdict("wrong", f"wrong: {max(ratio, 1 / ratio):.3g} times too {'large' if ratio > 1 else 'small'}")
