"""What a search tells whoever watches it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from search.errors import present
from search.records.costs import Minimised, size_shown
from wavemix.config import LiteConfig


@dataclass
class Event:
    """What a search tells a display: kind 'trial', 'epoch' (text: the recipe's choices), 'done' or 'note'; 'past':
    a trial was done before; 'scout': a configuration was trained briefly."""

    kind: str
    text: str = ""
    config: LiteConfig | None = None
    number: int = 0
    epoch: int = 0
    epochs: int = 0
    curve: list[float] = field(default_factory=list)
    state: str = ""
    accuracy: float | None = None
    reached: Sequence[float] = ()  # the targets that it is feasible for
    minimised: Minimised | None = None  # by the search; None: the parameters

    @property
    def feasible(self) -> bool:
        return bool(self.reached)

    @property
    def network(self) -> LiteConfig:
        """The configuration, which every event about a trial has, a note has not."""
        return present(self.config)

    @property
    def cost(self) -> float:
        """What the search makes small."""
        return self.minimised.value if self.minimised else self.network.parameters()

    @property
    def size(self) -> str:
        """See `size_shown`."""
        return size_shown(self.network.parameters(), self.minimised)
