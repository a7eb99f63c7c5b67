"""Nothing but a confirmation, an evaluation of what is stored and the check of an export reads the test part."""

import ast
from pathlib import Path

import pytest
from bars import engine  # noqa: F401

import search
from search.data import datasets

# they offer both parts; `layouts` those of the benchmark table, whose runs test once, at their end
READERS = {"datasets", "catalogue", "source", "class_folders", "entries", "picture_folders", "layouts"}


def mentions(source: str) -> bool:
    """Whether a module can name the part: the word as a string of its own anywhere in its code."""
    return any(isinstance(node, ast.Constant) and node.value == "test" for node in ast.walk(ast.parse(source)))


def test_no_other_module_names_the_test_part():
    found = {path.stem for path in Path(search.__file__).parent.rglob("*.py") if mentions(path.read_text())}
    # `check` compares two programs' scores of the same images, whatever their labels
    assert found - READERS == {"retrain", "evaluation", "check"}


def test_the_check_sees_it():
    assert mentions("load(name, part='test')") and not mentions('"""the test set"""\nload(name, "train")')


def test_search_never_loads_the_test_part(folder, tmp_path, monkeypatch):
    real = datasets.load

    def load(name, part, data_dir=None):
        if part == "test":
            pytest.fail("a search loaded the test part")
        return real(name, part, data_dir)

    monkeypatch.setattr(datasets, "load", load)
    with engine(folder, tmp_path, target=0.5) as searching:
        searching.run(trials=2)
        assert searching.found.best()
