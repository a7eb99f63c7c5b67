"""Trainings of a tiny row, each in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import toy_rows


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Accelerate keeps its state for a process's life: each test finds it as a new process does."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training from its beginning to its end."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    folder = tmp_path_factory.mktemp("whole")
    toy_rows.run(folder)
    return folder
