"""Which seeds a test takes, and when it may end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from search.records.statistics import enough, hopeless, looks
from search.tasks.score import ACCURACY, Score

FRESH = 1_000_000  # seeds of confirmations start here, those of searches (1000 for each --seed, 0 to 999) are below


def fresh_seeds(count: int, seed: int, offset: int = 0) -> list[int]:
    """Seeds of a confirmation: the same for the same search, none of them one of a search."""
    first = FRESH + 1000 * seed + offset
    return list(range(first, first + count))


@dataclass(frozen=True)
class SeedPlan:
    """`seeds` in their order, and the numbers of them after which the test may end; without `looks` it takes them all.

    `attempt` is the test's number at its threshold. After `deadline` (of `time.monotonic`) no further look is begun.
    """

    seeds: tuple[int, ...]
    looks: tuple[int, ...] = ()
    attempt: int | None = None
    deadline: float | None = None

    @classmethod
    def of(cls, seeds: Sequence[int], deadline: float | None = None) -> "SeedPlan":
        """One that ends when enough has been seen: after 3, 5, 10, ... seeds."""
        return cls(tuple(seeds), tuple(looks(len(seeds))), deadline=deadline)

    @property
    def stops(self) -> tuple[int, ...]:
        """The looks, the last of which is at all seeds."""
        return self.looks or (len(self.seeds),)

    def numbered(self, attempt: int) -> "SeedPlan":
        return replace(self, attempt=attempt)

    def enough(
        self, accuracies: Sequence[float], target: float | None, images: int | None, score: Score = ACCURACY
    ) -> bool:
        """Whether more seeds would decide nothing; `images` were tested."""
        if target is None:
            return len(accuracies) >= self.stops[-1]
        steps = images if score.counted else None
        return enough(accuracies, target, self.stops, self.attempt or 1, steps, score.most)

    def hopeless(
        self, accuracies: Sequence[float], target: float | None, images: int | None, score: Score = ACCURACY
    ) -> bool:
        """Whether the bound can no longer be reached."""
        if target is None:
            return False
        steps = images if score.counted else None
        return hopeless(accuracies, target, self.stops, self.attempt or 1, steps, score.most)
