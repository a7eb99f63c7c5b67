"""What the project uses of PyTorch's private parts is still there: what fails names the part that a version changed."""

import importlib
import re
import warnings
from pathlib import Path

import pytest
import torch
from names import used
from torch.autograd import forward_ad

PARTS = [
    ("torch._ops", "OpOverload.decompose"),
    ("torch.utils._python_dispatch", "TorchDispatchMode.__torch_dispatch__"),
    ("torch.utils._pytree", "tree_leaves"),
    ("torch._C", "_functorch.peek_interpreter_stack"),
    ("torch._C", "_len_torch_dispatch_stack"),
    ("torch.autograd.forward_ad", "_current_level"),
    ("torch", "UntypedStorage._cdata"),
    ("torch.autograd", "_get_sequence_nr"),
    ("torch._C", "_current_autograd_node"),
]
CHANGED = f"PyTorch {torch.__version__}: {{}}; adapt wavemix/torch_internals.py and what uses it"


@pytest.mark.parametrize(("module", "name"), PARTS)
def test_parts_are_there(module, name):
    try:
        part = importlib.import_module(module)
        for word in name.split("."):
            part = getattr(part, word)
    except (ImportError, AttributeError):
        pytest.fail(CHANGED.format(f"{module}.{name} is gone"), pytrace=False)


def test_whatever_needs_operators_is_noticed():
    from wavemix.torch_internals import TorchDispatchMode, watched

    seen = {}

    def look(name: str, x: torch.Tensor) -> torch.Tensor:
        seen[name] = watched()
        return x * 2

    x = torch.ones(2)
    look("nothing", x)
    torch.func.vmap(lambda row: look("vmap", row))(x)
    torch.func.grad(lambda row: look("grad", row).sum())(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(lambda row: look("trace", row), x, check_trace=False)
    with forward_ad.dual_level():
        look("forward", x)
    with TorchDispatchMode():
        seen["mode"] = watched()
    assert not seen.pop("nothing")
    unseen = [name for name, noticed in seen.items() if not noticed]
    assert len(seen) == 5 and not unseen, CHANGED.format(f"not noticed: {', '.join(unseen)}")


def test_tensors_have_a_key_of_what_they_share():
    from wavemix.torch_internals import storage_key

    one, other = torch.zeros(4), torch.zeros(4)
    assert storage_key(one) == storage_key(one[1:3]) == storage_key(one.view(2, 2)) != storage_key(other)
    assert storage_key(torch.zeros(4, device="meta"))


def test_allocations_are_what_is_given_out_and_taken_back():
    from wavemix.torch_internals import allocations

    found = allocations(lambda: torch.ones(1024).add(1))
    assert sum(found) == 0, "whatever else PyTorch needs for a moment, a scalar for one"
    large = [size for size in found if abs(size) >= 4096]
    assert sorted(large) == [-4096, -4096, 4096, 4096] and large[0] > 0


def test_a_mode_sees_operators_and_can_decompose_them():
    from wavemix.torch_internals import OpOverload, TorchDispatchMode, tree_leaves

    names = []

    class Seeing(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert isinstance(func, OpOverload)
            names.append(func.name())
            return func(*args, **(kwargs or {}))

    with Seeing():
        torch.ones(2) + 1
    assert "aten::add.Tensor" in names
    assert tree_leaves({"a": [1, (2, 3)]}) == [1, 2, 3]


def test_no_other_file_has_a_private_part_of_pytorch():
    root = Path(__file__).parents[2]
    for path in [*(root / "wavemix").rglob("*.py"), *(root / "search").rglob("*.py")]:
        if path.name == "torch_internals.py":
            continue
        for names in used(path):
            private = [n for n in names if re.match(r"torch\b.*\._(?!_)|.*\._cdata$", n)]
            assert not private, f"{path.relative_to(root)}: {private[0]} belongs into wavemix/torch_internals.py"
