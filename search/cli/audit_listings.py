"""Tables that `wavemix audit` and its commands print on a terminal."""

from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from search.audit.modules import Breakdown, ModuleCost
from search.audit.speed import Speed
from search.cli.listing import Listing
from search.records.audits import Audit, Statement
from search.report.audits import SHARED, place, share, written
from search.report.typeset import bytes_of, operations
from search.text import line


def audits(rows: Sequence[Audit]) -> Group:
    """Published parameter counts beside ours, the cost of each network, and what there is to say about them."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:,.0f}"

    counts = Listing(title="Parameters")
    for column in ("row", "published", "closed form", "counted", "fvcore", "agree", "reproduced by"):
        words = column in ("row", "agree", "reproduced by")
        counts.add_column(column, justify="left" if words else "right")
    costs = Listing("row", title="Cost of one image forward; FLOPs: two for each MAC, and all other operations")
    for column in ("MACs", "by torch", "by fvcore", "FLOPs", "activation bytes", "GPU bytes"):
        costs.add_column(column, justify="right")
    for row in rows:
        counts.add_row(
            row.row,
            f"{row.published_millions} M" if row.published_millions is not None else number(row.published),
            number(row.closed_form),
            number(row.counted),
            number(row.fvcore),
            "yes" if row.agree else "NO",
            ", ".join(row.upsampling) or "-",
        )
        if row.cost:
            least = ">= " * bool(row.cost.lower_bound)
            costs.add_row(
                row.row,
                least + number(row.cost.macs),
                number(row.cost.macs_torch),
                number(row.cost.macs_fvcore),
                least + number(row.cost.flops_total),
                number(row.cost.activation_bytes_per_image),
                number(row.cost.peak_gpu_bytes),
            )
    notes = [Text(line(f"{row.row}: {row.note}")) for row in rows if row.note]
    return Group(counts, *[costs] * bool(costs.rows), *notes)


def stated(rows: Sequence[Statement]) -> Listing:
    """What a manifest states of each network, what was counted, and the verdicts."""
    table = Listing("network")
    for column in ("stated parameters", "counted", "verdict", "stated FLOPs", "MACs", "FLOPs", "verdict on FLOPs"):
        table.add_column(column, justify="left" if column.startswith("verdict") else "right")
    for row in rows:
        cost, least = row.cost, ">= " * bool(row.cost and row.cost.lower_bound)
        table.add_row(
            row.row,
            written(row.parameters) or "-",
            "-" if cost is None else f"{cost.parameters:,}",
            row.parameters_verdict.said,
            written(row.work) or "-",
            *(
                "-" if n is None else least + operations(n)
                for n in ((cost.macs, cost.flops_total) if cost else (None, None))
            ),
            row.work_verdict.said,
        )
    return table


def breakdown(title: str, found: Breakdown, rows: Sequence[ModuleCost]) -> Listing:
    """What each module costs, with its share, and the total."""
    table = Listing("module", "type", title=title)
    for name in SHARED.values():
        table.add_column(name.lower().replace("macs", "MACs").replace("flops", "FLOPs"), justify="right")

    def cell(row: ModuleCost, column: str) -> str:
        value, part = getattr(row, column), share(row, found.total, column)
        if value is None:
            return "-"
        least = ">= " * bool(found.uncounted and ("macs" in column or "flops" in column))
        text = f"{value:,}" if column == "parameters" else bytes_of(value) if "bytes" in column else operations(value)
        return least + text + ("" if part is None else f" {100 * part:.0f} %")

    for row in [*rows, found.total]:
        table.add_row(place(row), row.type or "-", *(cell(row, column) for column in SHARED))
    return table


def speeds(title: str, rows: Sequence[Speed]) -> Group:
    """Latency with its spread, and memory, one row each way."""
    table = Listing("pass", "precision", "layout", title=title)
    for column in ("batch", "median ms", "quartiles ms", "images/s", "GPU memory", "CPU memory"):
        table.add_column(column, justify="right")

    def number(value: float | None, scale: float = 1) -> str:
        return "-" if value is None else f"{scale * value:.4g}"

    for row in rows:
        spread = f"{number(row.low_seconds, 1000)} to {number(row.high_seconds, 1000)}" if not row.reason else "-"
        memory = ("-" if size is None else bytes_of(size) for size in (row.peak_gpu_bytes, row.peak_cpu_bytes))
        table.add_row(
            "training step" if row.way.training else "forward", row.way.dtype, row.way.layout, str(row.way.batch),
            number(row.median_seconds, 1000), spread, number(row.images_per_second), *memory,
        )  # fmt: skip
    notes = [Text(line(f"{row.way.dtype}, {row.way.layout}: {row.reason}")) for row in rows if row.reason]
    return Group(table, *notes)
