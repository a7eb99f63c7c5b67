"""Records of measurements: speed and the like beside peers, and rows of the benchmark table that were run here."""

import math
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from search.records.costs import Finite, Positive
from search.records.environment import RecordBase
from search.records.row_runs import RowResult


class Benchmark(RecordBase):
    """One measurement beside peers' in the same run: medians, and ratios ours / peer's (filled in if left out)."""

    kind: Literal["benchmark"] = "benchmark"
    name: str
    unit: str
    ours: Finite
    peers: dict[str, Finite] = Field({})
    ratios: dict[str, Finite] = Field({})
    better: Literal["higher", "lower"] = "higher"
    repetitions: Positive
    machine: str
    details: dict[str, JsonValue] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _ratios(cls, data: Any) -> Any:
        if isinstance(data, dict) and "ratios" not in data and isinstance(data.get("peers"), dict):
            try:
                ratios = {peer: data["ours"] / value for peer, value in data["peers"].items() if value}
                data = {**data, "ratios": ratios}
            except (KeyError, TypeError):
                pass  # the fields' own validation says what is wrong
        return data

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for peer, ratio in self.ratios.items():
            if peer not in self.peers:
                raise ValueError(f"a ratio to {peer!r}, which is not among the peers")
            if not math.isclose(ratio * self.peers[peer], self.ours, rel_tol=1e-6, abs_tol=1e-12):
                raise ValueError(f"the ratio to {peer!r} is not ours / peer's")
        return self


class RowRun(RecordBase, RowResult):
    """A row of the benchmark table, run here."""

    kind: Literal["row-run"] = "row-run"

    @property
    def trained(self) -> tuple:
        """What runs from several seeds have in common."""
        return self.row, self.recipe_name, str(self.recipe), self.data, self.environment.device, self.start
