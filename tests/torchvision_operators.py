"""Makes torchvision importable beside a build of torch that its compiled operators do not load with.

torchvision's wheel is made for one build of torch. Beside another, such as one for CPUs, its library of operators is
skipped without a word, and importing it then ends with "operator torchvision::nms does not exist": it registers
shapes for operators by name that only the library would have defined. timm imports torchvision. Call `define` before
either is imported: it gives those names their schemas (of torchvision/csrc/ops), without code. What calls one of these
operators still fails; no classifier does. The packages themselves need none of this: who installs timm has a
torchvision that goes with their torch.
"""

import importlib
from contextlib import suppress

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # a library that is collected takes its schemas with it


def define() -> None:
    """Let `import torchvision` work. Does nothing where it already does, or where torchvision is not installed."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return
    except RuntimeError:
        pass
    else:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    _libraries.append(library)
    for schema in SCHEMAS:
        with suppress(RuntimeError):  # this one is there
            library.define(schema)


def network(factory: str, arguments: dict | None = None) -> torch.nn.Module:
    """What a factory of a manifest makes, once torchvision can be imported."""
    define()
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)(**arguments or {})
