"""Records of audits: what is published or stated of a network, and what was counted."""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from search.records.costs import Cost, Count
from search.records.environment import RecordBase
from search.records.figures import Figure, Verdict, judged_parameters, judged_work


class Audit(RecordBase):
    """One network's parameter count by independent ways, and its cost. `agree` is checked against the counts."""

    kind: Literal["audit"] = "audit"
    row: str
    source: str  # where the configuration and the published figure stand
    published: Count | None = None  # None: not published
    published_millions: Count | None = None  # where only a figure rounded to millions is published ("28M")
    closed_form: Count | None = None  # None: no closed form is known for this network
    counted: Count
    fvcore: Count | None = None
    buffers: Count | None = None  # numbers kept beside the parameters (BatchNorm's statistics)
    agree: bool
    upsampling: list[str] = Field([])  # kinds of up-sampling that reproduce the published count
    upsampling_counts: dict[str, Count] = Field({})
    configuration: dict[str, JsonValue] | None = None
    cost: Cost | None = None
    note: str = ""

    @model_validator(mode="after")
    def _agreement(self) -> Self:
        others = (self.published, self.closed_form, self.fvcore)
        equal = all(other is None or other == self.counted for other in others)
        if self.published_millions is not None:
            equal = equal and round(self.counted / 1e6) == self.published_millions
        if self.agree and not equal:
            raise ValueError("agree is set, but the counts differ")
        return self


class Statement(RecordBase):
    """One network of a manifest: what is stated of it, with the source, and what was counted."""

    kind: Literal["statement"] = "statement"
    manifest: str  # the file's name
    row: str
    source: str = ""
    factory: str  # module:callable
    arguments: dict[str, JsonValue] = Field({})
    input_shape: list[int]
    parameters: Figure | None = None
    work: Figure | None = None  # of one image forward
    cost: Cost | None = None
    buffers: Count | None = None
    head: str | None = None  # the last module that has multiply-accumulates
    head_parameters: Count | None = None
    reason: str | None = None  # why nothing could be counted

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.cost is None) == (self.reason is None):
            raise ValueError("a statement has a cost, or a reason why there is none")
        return self

    @property
    def parameters_verdict(self) -> Verdict:
        if self.parameters is None:
            return Verdict("not stated", "not stated")
        if self.cost is None:
            return Verdict("not countable", f"not countable: {self.reason}")
        return judged_parameters(self.parameters, self.cost.parameters, self.buffers or 0, self.head_parameters or 0)

    @property
    def work_verdict(self) -> Verdict:
        if self.work is None:
            return Verdict("not stated", "not stated")
        if self.cost is None or self.cost.flops is None:
            why = self.reason or (self.cost and self.cost.unmeasured.get("operations")) or "no forward pass"
            return Verdict("not countable", f"not countable: {why}")
        return judged_work(self.work, self.cost.macs or 0, self.cost.flops_total or 0, list(self.cost.unsupported))

    @property
    def verdicts(self) -> dict[str, dict[str, str]]:
        """Both, as JSON can hold them."""
        both = {"parameters": self.parameters_verdict, "flops": self.work_verdict}
        return {name: {"kind": verdict.kind, "said": verdict.said} for name, verdict in both.items()}

    @property
    def fine(self) -> bool:
        """Whether nothing stated is wrong; rounding is none, a factor of two is."""
        return self.parameters_verdict.fine and self.work_verdict.fine
