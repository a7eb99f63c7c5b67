"""What a network costs, as records hold it, and the kinds of numbers that they are made of."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

# operators that multiply and add, by the names under which `search.audit.flops` counts them
MATRICES = frozenset({
    "conv", "linear", "matmul", "scaled_dot_product_attention", "lstm", "gru", "rnn_tanh", "rnn_relu",
    "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell",
})  # fmt: skip

# a score: an accuracy or a mean IoU is a share, which `search.records.models` checks, a PSNR is in dB
Accuracy = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e10)]  # three centuries
Positive = Annotated[int, Field(ge=1, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seed = Count  # what every generator of random numbers takes

CostName = Literal["parameters", "macs", "activation-bytes", "latency"]
COSTS: tuple[CostName, ...] = get_args(CostName)


class Minimised(BaseModel):
    """What a search minimised, where it is not the parameters, and what it is of a network.

    'macs' and 'activation-bytes' are closed forms (`search.space.work`, `search.space.buffers`); 'latency' is seconds
    of one image, measured on one thread of the machine that trained the trial (`search.space.latency`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: CostName
    value: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @property
    def shown(self) -> str:
        return cost_shown(self.name, self.value)


def size_shown(parameters: int, minimised: Minimised | None) -> str:
    """'1,186 parameters', or with what else was minimised: '512,345 MACs, 1,186 parameters'."""
    return f"{minimised.shown}, {parameters:,} parameters" if minimised else f"{parameters:,} parameters"


def cost_shown(name: CostName, value: float) -> str:
    """A cost with its unit: 1,186 parameters; 512,345 MACs; 26,528 bytes of activations; 1.23 ms."""
    if name == "latency":
        return f"{1000 * value:.3g} ms"
    return f"{value:,.0f} " + {"macs": "MACs", "activation-bytes": "bytes of activations"}.get(name, name)


def work_of(operations: Mapping[str, float]) -> tuple[int, int]:
    """(MACs, FLOPs) of operations by operator: FLOPs are two for each MAC and all other operations."""
    macs = sum(count for kind, count in operations.items() if kind in MATRICES)
    return round(macs), round(macs + sum(operations.values()))


def merged(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Operations by operator, of all modules together."""
    total: dict[str, float] = {}
    for part in parts:
        for kind, count in part.items():
            total[kind] = total.get(kind, 0.0) + count
    return dict(sorted(total.items()))


class Cost(BaseModel):
    """What a network costs, measured by `search.audit.cost`; `search.audit.flops` says what counts how much.

    `flops` holds multiply-accumulates under the names in `MATRICES` and single operations under all others, as it did
    in the first records, where its name was chosen: FLOPs, two for each multiply-accumulate, are `flops_total`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    parameters: Count
    input_shape: list[int]  # channels, height, width of one image
    flops: dict[str, Annotated[float, Field(ge=0, lt=2**63)]] | None  # by operator, one image forward
    unsupported: dict[str, int] = Field({})  # operators without a count, and how often they ran
    flops_torch: Count | None = None
    macs_fvcore: Count | None = None  # None: not asked for, or fvcore can't follow the network
    activation_bytes: Count | None  # saved for backward, whole batch
    activation_batch: int = Field(ge=1, lt=2**63)
    peak_gpu_bytes: Count | None = None  # of a training step; None: no GPU, never guessed
    peak_gpu_batch: int | None = None
    latency_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None  # one image, median
    device: str | None = None  # that peak memory and latency were measured on
    unmeasured: dict[str, str] = Field({})  # what could not be had of a network that runs, and why

    @property
    def flops_total(self) -> int | None:
        """Two for each multiply-accumulate, and all other operations that are counted."""
        return None if self.flops is None else work_of(self.flops)[1]

    @property
    def lower_bound(self) -> bool | None:
        """Whether `macs` and `flops_total` are one, as some operators are `unsupported`; None where nothing is."""
        return None if self.flops is None else bool(self.unsupported)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of convolutions and matrix products, which torch and fvcore count, too."""
        return None if self.flops is None else work_of(self.flops)[0]

    @property
    def macs_torch(self) -> int | None:
        return None if self.flops_torch is None else self.flops_torch // 2

    @property
    def activation_bytes_per_image(self) -> int | None:
        return None if self.activation_bytes is None else round(self.activation_bytes / self.activation_batch)
