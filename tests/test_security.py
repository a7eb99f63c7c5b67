"""Nothing in the packages may execute what a file contains."""

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

import pytest

import search
import wavemix

FILES = [path for package in (wavemix, search) for path in sorted(Path(package.__file__).parent.rglob("*.py"))]
# modules whose loading functions run code from the file, and calls that do by themselves
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "__import__"}
YAML = {"load", "load_all", "unsafe_load", "full_load"}
SHELL = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}


def dangers(source: str) -> Iterator[str]:
    """Calls in a module that would execute what a file or a string contains."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in MODULES | {"yaml"}:
            yield f"from {node.module} import ..."  # its names could not be followed below
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {option.arg: ast.unparse(option.value) for option in node.keywords}
        base, _, method = name.rpartition(".")
        if name in CALLS or name.removeprefix("builtins.") in CALLS and base == "builtins":
            yield name
        elif base.split(".")[0] in MODULES:
            yield name
        elif method == "load" and base in ("torch", "torch.serialization") and options.get("weights_only") != "True":
            yield f"{name} without weights_only=True"
        elif base in ("np", "numpy") and method == "load" and options.get("allow_pickle") == "True":
            yield f"{name} with allow_pickle"
        elif base == "yaml" and method in YAML or name in SHELL:
            yield name
        elif method in ("read_pickle", "load_module") or options.get("shell") == "True":
            yield name


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_read_is_executed(path):
    assert list(dangers(path.read_text())) == []


def test_pickle_is_only_subclassed_to_refuse():
    """CIFAR-10's Python version is a pickle: formats.py alone reads it, by an unpickler that can call nothing."""

    def imported(path: Path) -> set[str]:
        found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import)]
        return {alias.name.split(".")[0] for node in found for alias in node.names}

    importing = [path for path in FILES if MODULES & imported(path)]
    assert [p.name for p in importing] == ["formats.py"]
    classes = [n for n in ast.walk(ast.parse(importing[0].read_text())) if isinstance(n, ast.ClassDef)]
    (unpickler,) = [c for c in classes if "pickle.Unpickler" in map(ast.unparse, c.bases)]
    assert {f.name for f in unpickler.body if isinstance(f, ast.FunctionDef)} >= {"find_class"}


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(f)", "pickle.loads(b)", "pickle.Unpickler(f).load()", "torch.load(p)", "eval(x)", "exec(x)",
        "torch.load(p, weights_only=False)", "yaml.load(f)", "yaml.unsafe_load(f)", "np.load(p, allow_pickle=True)",
        "pandas.read_pickle(p)", "os.system(c)", "subprocess.run(c, shell=True)", "from pickle import loads",
        "joblib.load(p)", "dill.loads(b)", "builtins.eval(x)",
    ],
)  # fmt: skip
def test_the_check_sees_it(line):
    assert list(dangers(line))


def test_the_check_lets_harmless_things_pass():
    for line in (
        "torch.load(p, weights_only=True)",
        "network.eval()",
        "json.load(f)",
        "re.compile(x)",
        "yaml.safe_load(f)",
    ):
        assert not list(dangers(line))
    assert CALLS <= set(dir(builtins))
