"""Which module imports which: rooms, floors, circles. Exit code 1 where there is a circle or an arrow goes up.

    python scripts/import_graph.py

Every import counts, also one inside a function or for type checking alone. A module's floor is the longest way down
from it; `ROOMS` is the order of the packages, from the ones that import nothing of the others.
"""

import ast
import sys
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# what a room may import: itself, and what stands in a line above
ROOMS = (
    ("errors", "signals", "runtime"),
    ("text", "files", "metrics"),
    ("data",),
    ("training", "sampling"),
    ("tasks",),
    ("records", "upstream", "published"),
    ("space", "audit"),
    ("study", "confirmation", "launching"),
    ("report", "outcome"),
    ("inference",),
    ("export",),
    ("campaign", "exploration"),
    ("cli",),
    ("__main__",),
)
MOST_FLOORS = 10


def modules(package: str) -> dict[str, Path]:
    """Dotted names of a package's modules."""
    files = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imported(path: Path, known: Iterable[str], name: str) -> set[str]:
    """Modules of `known` that the file imports, also those it names as a package's attributes."""
    found = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{base}" if base else above
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in known else base)
    return {module for module in found if module in known and module != name}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def floors(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """The longest way down from each module. Raises CycleError."""
    height: dict[str, int] = {}
    for module in TopologicalSorter(graph).static_order():
        height[module] = 1 + max((height[below] for below in graph[module]), default=0)
    return height


def upward(graph: Mapping[str, set[str]]) -> list[str]:
    """Imports that go against `ROOMS`."""
    level = {name: number for number, names in enumerate(ROOMS) for name in names}
    wrong = []
    for module, below in graph.items():
        for other in below:
            here, there = room(module), room(other)
            if here != there and level.get(there, -1) >= level.get(here, len(ROOMS)):
                wrong.append(f"{module} -> {other}")
    return sorted(wrong)


def main() -> int:
    failed = False
    for package in ("wavemix", "search"):
        files = modules(package)
        graph = {name: imported(path, files, name) for name, path in files.items()}
        try:
            height = floors(graph)
        except CycleError as error:
            print(f"{package}: a circle, {' <- '.join(error.args[1])}")
            failed = True
            continue
        print(f"{package}: {len(files)} modules on {max(height.values())} floors, no circle")
        for number in sorted(set(height.values())):
            names = [m.removeprefix("search.") for m in sorted(height) if height[m] == number]
            print(f"  {number:2}  {', '.join(names)}")
        if package == "search":
            if max(height.values()) > MOST_FLOORS:
                print(f"search: more than {MOST_FLOORS} floors")
                failed = True
            for arrow in upward(graph):
                print(f"search: {arrow} goes up")
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
