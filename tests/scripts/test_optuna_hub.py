"""The sampler as a package of OptunaHub's registry: built, loaded as the registry does, its example and tests run."""

import re
import subprocess
import sys

import optuna
import pytest
import yaml

from scripts.optuna_hub import build

optunahub = pytest.importorskip("optunahub")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return build.assemble(tmp_path_factory.mktemp("registry"))


def test_code_is_the_samplers_and_imports_nothing_but_what_its_requirements_name(package):
    for path in build.SOURCES.glob("[a-z]*.py"):
        assert (package / path.name).read_bytes() == path.read_bytes()
    allowed = {"numpy", "optuna", *(package / "requirements.txt").read_text().split(), *sys.stdlib_module_names}
    for path in package.glob("*.py"):
        if path.name != "example.py":
            found = re.findall(r"^(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
            assert set(found) <= allowed, path.name


def test_page_has_what_the_registry_shows(package):
    _, front, text = (package / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front).keys() == {"author", "title", "description", "tags", "optuna_versions", "license"}
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections == ["Abstract", "APIs", "Installation", "Example", "Others"] and "@software" in text
    assert text.count(build.TABLE) == 1, "the example's output goes here"
    assert (package / "LICENSE").read_text().startswith("MIT License")


def test_example_searches_with_the_loaded_package(package, monkeypatch):
    monkeypatch.syspath_prepend(package)
    import example

    monkeypatch.setattr(example, "EVALUATIONS", 12)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    assert example.frontier.__name__ == "optunahub_registry.package.samplers.frontier"
    assert example.frontier.__file__ == str(package / "__init__.py")
    study, objective = example.search(example.make(0), 0, prune=True)
    assert len(study.trials) == objective.evaluations == 12 and objective.epochs < 120
    assert study.best_value == min(t.value for t in example.feasible(study)) < example.CEILING
    assert study.best_value == example.parameters(study.best_params)


def test_pages_example_runs_as_printed(package, capsys):
    (code,) = re.findall(r"^```python\n(.+?)^```", (package / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    local = f'load_local_module("samplers/frontier", registry_root={str(package.parents[1])!r})'
    assert (found := code.replace('load_module("samplers/frontier")', local)) != code
    exec(found, {})  # noqa: S102
    assert "'width'" in capsys.readouterr().out


def test_package_passes_its_own_tests(package):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_package_that_is_there_is_left_alone(package, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["build", str(package.parents[2])])
    assert build.main() == 2 and "is there already" in capsys.readouterr().err
