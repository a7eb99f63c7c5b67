"""The names that a module uses."""

import ast
from collections.abc import Iterator
from pathlib import Path


def used(path: Path) -> Iterator[list[str]]:
    """The dotted names of each import and each attribute in the module at `path`, node by node."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            yield [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            yield [ast.unparse(node)]
