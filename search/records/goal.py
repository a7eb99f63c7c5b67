"""What a study or a test is for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """The accuracy `target` for networks of the `family`, in the study `study`.

    `target` is a fraction; None: the tables have no row for it. `ceiling` is the number of parameters to stay below.
    """

    study: str
    target: float | None
    family: str = "extended"
    ceiling: int | None = None
