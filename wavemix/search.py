"""The package `search` under a name that no file of a user's hides: the same modules, whatever they are called by."""

import importlib
import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

PLACE = Path(__file__).resolve().parents[1] / "search" / "__init__.py"


def _package() -> ModuleType:
    """Our `search`, which takes the place of another module of that name."""
    found = sys.modules.get("search")
    file = getattr(found, "__file__", None)
    if found is not None and file and Path(file).resolve() == PLACE:
        return found
    spec = importlib.util.spec_from_file_location("search", PLACE, submodule_search_locations=[str(PLACE.parent)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{PLACE} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["search"] = module
    spec.loader.exec_module(module)
    return module


class _Same(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `wavemix.search.x` as `search.x`: one module under two names, not a second one."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.startswith("wavemix.search.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(spec.name.removeprefix("wavemix."))
        self.own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own  # the import system has put the other name there


if not any(type(finder).__name__ == "_Same" for finder in sys.meta_path):
    sys.meta_path.insert(0, _Same())
sys.modules[__name__] = _package()
