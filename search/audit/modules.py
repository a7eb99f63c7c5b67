"""What each module of a network costs: parameters, MACs, FLOPs and activation memory, forward and in training.

Every number belongs to one module, the innermost that ran or holds it, so that the rows' sums are the network's totals.
What stands in a row of an inner module is its own: additions of a residual, say, that no child of it does.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from search.audit.backward import trained
from search.audit.cost import by_shapes, counting_of, images_for, one_line, saved
from search.audit.flops import Counting
from search.records.costs import work_of


@dataclass(frozen=True)
class ModuleCost:
    """One module's own share, for the whole batch; `type` is its class."""

    name: str  # '' is the network itself
    type: str
    parameters: int
    macs: int  # forward, in evaluation mode
    flops: int
    training_macs: int | None  # forward in training mode and backward; None: it can't be trained so
    training_flops: int | None
    activation_bytes: int | None  # that autograd keeps for the backward pass


COLUMNS = tuple(field.name for field in fields(ModuleCost))[2:]  # those that hold numbers


@dataclass(frozen=True)
class Breakdown:
    """The rows of a network, from its input on; `uncounted` operators make the sums lower bounds."""

    rows: list[ModuleCost]
    batch: int
    uncounted: dict[str, int]  # operators without a count, forward and in training, and how often they ran
    unmeasured: dict[str, str]  # what could not be had, and why

    @property
    def total(self) -> ModuleCost:
        return _sum("total", "", self.rows)

    def to_depth(self, depth: int | None) -> list[ModuleCost]:
        """Rows of modules whose names have at most `depth` parts, each with all that is deeper; all without `depth`.

        Rows without a number are left out.
        """
        types = {row.name: row.type for row in self.rows}
        groups: dict[str, list[ModuleCost]] = {}
        for row in self.rows:
            name = row.name if depth is None else ".".join(row.name.split(".")[:depth])
            groups.setdefault(name, []).append(row)
        rows = [_sum(name, types[name], group) for name, group in groups.items()]
        return [row for row in rows if any(getattr(row, column) for column in COLUMNS)]


def _sum(name: str, kind: str, rows: Sequence[ModuleCost]) -> ModuleCost:
    def total(column: str) -> Any:
        values = [getattr(row, column) for row in rows]
        return None if None in values else sum(values)

    return ModuleCost(name, kind, *map(total, COLUMNS))


def modules(module: nn.Module, input_shape: tuple[int, ...], batch: int = 1) -> Breakdown:
    """The costs of every module for `batch` images of `input_shape` (channels, height, width).

    A module that is used several times (a shared block) stands once, with what all its uses cost together, and a
    parameter that several modules hold stands in the first. The module itself does not change. Raises whatever it
    raises in a forward pass; what training raises is `unmeasured`.
    """
    unmeasured: dict[str, str] = {}
    forward = counting_of(module, input_shape, batch)
    training, activations = None, None
    try:
        training = by_shapes(module, lambda network: trained(network, images_for(network, input_shape, batch)))
        activations = _activations(*saved(module, input_shape, batch))
    except Exception as error:  # whatever somebody's module raises in training
        unmeasured["training"] = one_line(error)
    own = _own_parameters(module)
    rows = []
    for name, child in module.named_modules():
        trains = _work(training, name) if training and activations is not None else (None, None)
        kept = activations[name] if activations is not None else None
        rows.append(ModuleCost(name, type(child).__name__, own[name], *_work(forward, name), *trains, kept))
    uncounted = forward.uncounted + (training.uncounted if training else Counter())
    return Breakdown(rows, batch, dict(sorted(uncounted.items())), unmeasured)


def _work(counting: Counting, name: str) -> tuple[int, int]:
    return work_of(counting.operations[name]) if name in counting.operations else (0, 0)


def _own_parameters(module: nn.Module) -> Counter[str]:
    """Numbers of parameters by the module that holds them, each counted once."""
    seen: set[int] = set()
    found: Counter[str] = Counter()
    for name, child in module.named_modules():
        for parameter in child.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                found[name] += parameter.numel()
    return found


def _activations(size: dict[int, int], owner: dict[int, str]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for key, count in size.items():
        found[owner[key]] += count
    return found


def ordered(rows: Iterable[ModuleCost], column: str | None) -> list[ModuleCost]:
    """Most of `column` first; in the network's own order without one."""
    return sorted(rows, key=lambda row: -(getattr(row, column) or 0)) if column else list(rows)
