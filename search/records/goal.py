"""What a study or a test is for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from search.errors import UserError
from search.records.costs import CostName


@dataclass(frozen=True)
class Goal:
    """The score `target` for networks of the `family`, in the study `study`; or several scores.

    `target` is a fraction of an accuracy or mean IoU and a number of dB of a PSNR; None: the tables have no row for it.
    `ceiling` is the number of parameters to stay below, `validation` the score that trials have to reach on validation
    images, left out where the task says it. `minimise` is the cost that the search makes small, `limits` what other
    costs have to be below: MACs of an image, bytes of its activations as C source has them, seconds of latency.
    """

    study: str
    target: float | Sequence[float] | None
    family: str = "extended"
    ceiling: int | None = None
    validation: float | None = None
    minimise: CostName = "parameters"
    limits: Mapping[CostName, float] = field(default_factory=dict)

    @property
    def targets(self) -> list[float]:
        """All targets, the lowest first, for what can't be done without one. Raises UserError where there is none."""
        targets = sorted(set(self.target)) if isinstance(self.target, Sequence) else [self.target]
        if not targets or None in targets:
            raise UserError(f"the study {self.study} has no target: give a score to reach")
        return [target for target in targets if target is not None]

    @property
    def aim(self) -> float | None:
        """The one target, or None; of several `each` has one."""
        return None if self.target is None else self.targets[-1]

    def each(self) -> list["Goal"]:
        """The goal with each target alone."""
        return [replace(self, target=target) for target in self.targets]
