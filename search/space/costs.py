"""What a search minimises, and the limits that all its networks stay below."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from search.errors import UserError
from search.records.costs import COSTS, CostName, Minimised, cost_shown
from search.space.buffers import Buffers, without_source
from search.space.latency import Latency
from search.space.work import multiply_accumulates
from wavemix.config import LiteConfig


class Costs:
    """The costs of a study's networks.

    Args:
        image: channels, height and width of what they take.
        task: activation bytes are those of C source, which is for classification.
        minimise: the one of `COSTS` that is minimised.
        limits: by name, what a network's cost has to be below; that of the parameters is the space's ceiling.

    Raises UserError for a cost that there is none of.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        minimise: CostName = "parameters",
        limits: Mapping[CostName, float] = MappingProxyType({}),
        task: str = "classification",
    ):
        used = {minimise, *limits}
        if unknown := used - {*COSTS}:
            raise UserError(f"{sorted(unknown)[0]!r} is no cost of a network, only {', '.join(COSTS)}")
        if "activation-bytes" in used and task != "classification":
            raise UserError(f"activation bytes are those of C source, which is for classification, not for {task}")
        self.image = image
        self.minimise: CostName = minimise
        self.limits: dict[CostName, float] = dict(limits)
        self.latency = Latency(image) if "latency" in used else None

    def cost(self, name: CostName, config: LiteConfig) -> float:
        """A cost; a latency that was not measured is predicted, and what there is no C source of has infinite bytes."""
        height, width = self.image[1:]
        if name == "macs":
            return multiply_accumulates(config, height, width)
        if name == "activation-bytes":
            return math.inf if without_source(config) else Buffers(config, height, width).bytes
        if name == "latency":
            assert self.latency is not None, "it is neither minimised nor limited"
            return self.latency(config)
        return config.parameters()

    def of(self, config: LiteConfig) -> float:
        """The cost that is minimised."""
        return self.cost(self.minimise, config)

    def exceeded(self, config: LiteConfig) -> str | None:
        """The first limit that a configuration is not below, or the cost that it has not, in words; else None."""
        if "activation-bytes" in (self.minimise, *self.limits) and (lacking := without_source(config)):
            return f"{lacking}, of which there is no C source"
        for name, limit in self.limits.items():
            cost = self.cost(name, config)
            if cost >= limit:
                return f"{cost_shown(name, cost)}, and the limit is {cost_shown(name, limit)}"
        return None

    @property
    def counts_views(self) -> bool:
        """Whether a network that looks at an image several times costs more than one that does so once."""
        return bool({self.minimise, *self.limits} - {"parameters"})

    def measure(self, configs: Sequence[LiteConfig]) -> None:
        """Time these where latency matters, so that all others are predicted by them."""
        if self.latency:
            for config in configs:
                self.latency.measure(config)

    def minimised(self, config: LiteConfig) -> Minimised | None:
        """For a record: None where the parameters, which every record has, are minimised."""
        return None if self.minimise == "parameters" else Minimised(name=self.minimise, value=self.of(config))
