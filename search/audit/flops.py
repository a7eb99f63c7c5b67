"""Counting a network's work operator by operator, while PyTorch's dispatcher runs them.

Counted are operations, for images in evaluation mode. In products of matrices and convolutions an operation is a
**multiply-accumulate (MAC)**; everywhere else it is one addition, product, or value of a function. MACs are the former
alone; **FLOPs** are two for each MAC and one for each other operation (`search.records.models.Cost`).

- Products: a convolution costs kernel and channels of a group for each output element (each input element where it is
  transposed), padding included; a product of matrices the inner dimension for each element of the true output, so an
  operand that is broadcast counts as often as it is used. What is fused into such an operator is not counted: biases;
  scaling, mask and softmax of `scaled_dot_product_attention`, in which all pairs of query and key count, masked or not;
  the gates of LSTM, GRU and RNN layers. A complex product counts as four real ones, or as those it is made of (PyTorch
  makes a complex convolution of three).
- Additions, subtractions, products with scalars or element by element (a Haar level has 8 and 4 of them for each 2x2
  pixels of a channel), activations (GELU, SiLU, ReLU), roots, powers and the like, and nearest up-sampling count one
  for each output element; linear interpolation counts its taps (bilinear four), bicubic sixteen. Sums, means, maxima
  and pooling count one for each input element. BatchNorm counts two, other normalisations and softmax five (four
  without weights) for each element. Complex sums count two, products with a real number two, with a complex one four.
- A Fourier transform of n numbers counts 5 n log2 n, half of it where one side is real.
- Copies (slices, concatenations, look-ups, padding), comparisons, and arithmetic on integers and truth values are free.
- What depends on weights alone (a mask or norm of weights, a sum of two matrices) is free, too: it is computed once for
  any number of images.

Any other operator is listed by its name, never counted as nothing: the total is a lower bound then.
"""

import math
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from wavemix.torch_internals import OpOverload, TorchDispatchMode, storage_key, tree_leaves

Formula = Callable[[tuple, Any], float | None]  # arguments and result of an operator -> operations; None: not known


def _first(result: Any) -> Tensor:
    return next(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))


def _numeric(*values: Any) -> bool:
    """Whether any is a tensor of real or complex numbers; whole ones are indices, sizes and masks."""
    return any(isinstance(v, Tensor) and (v.is_floating_point() or v.is_complex()) for v in tree_leaves(values))


# ---------------------------------------------------------------------------------------------------- products


def _parts(*factors: Tensor) -> int:
    """Real products in one product of two such numbers."""
    return math.prod(2 if factor.is_complex() else 1 for factor in factors)


def _convolution(args: tuple, result: Any) -> float:
    x, weight, transposed = args[0], args[1], args[6]
    grid = x if transposed else result
    return grid.shape[0] * math.prod(grid.shape[2:]) * weight.numel() * _parts(x, weight)


def _product(first: int) -> Formula:
    """Of (batches of) matrices or vectors, the arguments `first` and the one after it."""

    def count(args: tuple, result: Any) -> float:
        a, b = args[first : first + 2]
        return a.numel() * (b.shape[-1] if b.dim() > 1 else 1) * _parts(a, b)

    return count


def _linear(args: tuple, result: Any) -> float:
    x, weight = args[:2]
    return x.numel() * weight.numel() // weight.shape[-1] * _parts(x, weight)


def _attention(args: tuple, result: Any) -> float:
    query, key = args[:2]
    rows, width = result.numel() // result.shape[-1], query.shape[-1] + result.shape[-1]
    return rows * key.shape[-2] * width * _parts(query, key)


def _recurrent(args: tuple, result: Any) -> float:
    """Every matrix of every layer and direction is used once for each step of each sequence."""
    weights = args[3] if isinstance(args[3], list | tuple) else args[2]  # a packed sequence has one argument more
    return args[0].numel() // args[0].shape[-1] * sum(weight.numel() for weight in weights if weight.dim() > 1)


def _cell(args: tuple, result: Any) -> float:
    return args[0].numel() // args[0].shape[-1] * (args[2].numel() + args[3].numel())


def _fourier(real: bool) -> Formula:
    def count(args: tuple, result: Any) -> float:
        longer = max((args[0], result), key=lambda tensor: tensor.numel())  # a real side's spectrum may be halved
        n = math.prod(longer.shape[dim] for dim in args[1])
        return longer.numel() * (2.5 if real else 5) * math.log2(n) if n else 0

    return count


# ---------------------------------------------------------------------------------------------- element by element


def outputs(scale: float = 1) -> Formula:
    """So many for each number of the result; complex numbers have no count here."""

    def count(args: tuple, result: Any) -> float | None:
        out = _first(result)
        return None if out.is_complex() else scale * out.numel() if _numeric(args, result) else 0

    return count


def inputs(scale: float = 1, argument: int = 0) -> Formula:
    def count(args: tuple, result: Any) -> float:
        x = args[argument]
        return scale * x.numel() * _parts(x) if _numeric(x) else 0

    return count


def _sum(args: tuple, result: Any) -> float:
    return result.numel() * _parts(result) if _numeric(result) else 0


def _times(args: tuple, result: Any) -> float:
    factors = [factor for factor in args[:2] if isinstance(factor, Tensor)]
    return result.numel() * max(_parts(*factors), _parts(result)) if _numeric(result) else 0


def _quotient(args: tuple, result: Any) -> float | None:
    complex_divisor = isinstance(args[1], Tensor) and args[1].is_complex()
    return None if complex_divisor else _sum(args, result)


def _absolute(args: tuple, result: Any) -> float:
    return result.numel() * (3 if args[0].is_complex() else 1) if _numeric(result) else 0


def _sampled(args: tuple, result: Any) -> float | None:
    """Of `grid_sample`: the taps of linear, nearest and cubic interpolation in as many dimensions."""
    mode, dimensions = args[2], result.dim() - 2
    return outputs((2, 1, 4)[mode] ** dimensions)(args, result)


def _put(args: tuple, result: Any) -> float | None:
    adds = len(args) > 3 and args[3]
    return inputs(argument=2)(args, result) if adds else 0


def _normalised(affine: int, scale: int, plain: int) -> Formula:
    return lambda args, result: args[0].numel() * (scale if len(args) > affine and args[affine] is not None else plain)


def _batch_norm(args: tuple, result: Any) -> float | None:
    of_batch = args[5]  # its statistics are computed
    return _normalised(1, *((5, 4) if of_batch else (2, 1)))(args, result)


def named(names: str, formula: Formula) -> dict[str, Formula]:
    return dict.fromkeys(names.split(), formula)


PRODUCTS = {
    "convolution": ("conv", _convolution),
    "linear": ("linear", _linear),
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot", "int_mm", "scaled_mm"), ("matmul", _product(0))),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv"), ("matmul", _product(1))),
    "scaled_dot_product_attention": ("scaled_dot_product_attention", _attention),
    **{name: (name, _recurrent) for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **{name: (name, _cell) for name in ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")},
}

FORMULAS: dict[str, Formula] = {
    **named("add sub rsub neg", _sum),
    "mul": _times,
    "div": _quotient,
    "abs": _absolute,
    **named("relu gelu silu sigmoid tanh leaky_relu hardtanh hardswish hardsigmoid elu celu softplus", outputs()),
    **named("mish log_sigmoid_forward prelu_kernel rrelu_with_noise softshrink hardshrink threshold", outputs()),
    **named("exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal pow sin cos tan atan atan2", outputs()),
    **named("maximum minimum fmax fmin clamp clamp_min clamp_max sign sgn", outputs()),
    **named("round floor ceil trunc frac remainder fmod floor_divide", outputs()),
    **named("glu addcmul addcdiv lerp", outputs(2)),
    **named("mean sum adaptive_avg_pool2d adaptive_avg_pool3d avg_pool2d avg_pool3d amax amin max min", inputs()),
    **named("max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices", inputs()),
    **named("adaptive_max_pool2d adaptive_max_pool3d argmax argmin prod cumsum cumprod col2im", inputs()),
    "linalg_vector_norm": inputs(),
    **named("var std var_mean std_mean", inputs(3)),
    **named("index_add scatter_add", inputs(argument=3)),
    **named("softmax log_softmax", inputs(5)),
    "logsumexp": inputs(4),
    "batch_norm": _batch_norm,
    "instance_norm": _normalised(1, 5, 4),
    **named("group_norm layer_norm", _normalised(2, 5, 4)),
    "rms_norm": _normalised(2, 4, 3),
    **named("upsample_nearest1d upsample_nearest2d upsample_nearest3d", outputs()),
    **named("upsample_nearest_exact1d upsample_nearest_exact2d upsample_nearest_exact3d", outputs()),
    **named("grid_sampler_2d grid_sampler_3d", _sampled),
    "index_put": _put,
    "upsample_linear1d": outputs(2),
    "upsample_bilinear2d": outputs(4),
    "upsample_trilinear3d": outputs(8),
    "upsample_bicubic2d": outputs(16),
    "_upsample_bicubic2d_aa": outputs(16),  # enlarging; it takes more taps where it shrinks
    **named("fft_r2c fft_c2r", _fourier(real=True)),
    "fft_c2c": _fourier(real=False),
}
COPIES = set(
    "clone copy to_copy cat stack repeat roll flip index index_select gather scatter embedding constant_pad_nd "
    "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d "
    "pixel_shuffle pixel_unshuffle channel_shuffle im2col masked_fill masked_select masked_scatter where tril triu "
    "index_copy index_fill slice_scatter select_scatter as_strided_scatter fill zero unsafe_view reshape_alias "
    "resize lift_fresh lift detach local_scalar_dense native_dropout complex repeat_interleave unfold_copy "
    "has_compatible_shallow_copy_type pack_padded_sequence pad_packed_sequence resolve_conj resolve_neg "
    "equal assert_async assert_tensor_metadata linalg_check_errors transpose t squeeze unsqueeze as_strided set "
    "empty_like zeros_like ones_like full_like rand_like randn_like new_empty new_zeros new_ones new_full".split()
)


# ------------------------------------------------------------------------------------------------------- counting


class Counting(TorchDispatchMode):
    """Counts what runs inside it: `operations` by module and operator, `uncounted` operators by name.

    `weights` are the tensors that are there before any image. `running` holds the name of the module that runs, last.
    """

    supports_higher_order_operators = True
    products, formulas, copies = PRODUCTS, FORMULAS, COPIES

    def __init__(self, weights: list[Tensor], running: list[str]):
        super().__init__()
        self.running = running
        self.operations: dict[str, Counter[str]] = defaultdict(Counter)
        self.uncounted: Counter[str] = Counter()
        self.constant: dict[int | None, StorageWeakRef] = {}  # a weak reference keeps its address from being given away
        for tensor in weights:
            self._keep(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = func.name().partition(".")[0]  # without the overload
        space, _, plain = name.rpartition("::")
        plain = plain.strip("_")  # in place or not
        known = space == "aten" and (plain in self.products or plain in self.formulas)
        if not known and isinstance(func, OpOverload):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        of_weights = all(map(self._is_constant, _tensors((args, kwargs))))
        result = func(*args, **kwargs)
        if of_weights:
            for tensor in _tensors(result):
                self._keep(tensor)
            return result
        for tensor in _tensors(result):  # which may have been a constant before an image was written to it
            self.constant.pop(_storage(tensor), None)
        if known:
            kind, formula = self.products.get(plain) or (plain, self.formulas[plain])
            found = formula(args, result)
            if found is None:
                self.uncounted[name] += 1
            elif found:
                # a Counter may hold fractions, which its stub does not say
                self.operations[self.place()][kind] += found  # pyright: ignore[reportArgumentType]
        elif space != "prim" and not (space == "aten" and self._free(func, plain, result)):
            self.uncounted[name] += 1
        return result

    def place(self) -> str:
        """The name of the module whose work is being done."""
        return self.running[-1]

    def _free(self, func: Any, name: str, result: Any) -> bool:
        compares = torch.Tag.pointwise in func.tags and bool(_tensors(result)) and not _numeric(result)
        return name in self.copies or func.is_view or compares

    def _keep(self, tensor: Tensor) -> None:
        if tensor.layout == torch.strided:
            self.constant[_storage(tensor)] = StorageWeakRef(tensor.untyped_storage())

    def _is_constant(self, tensor: Tensor) -> bool:
        return _storage(tensor) in self.constant


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int | None:
    return storage_key(tensor) if tensor.layout == torch.strided else None


class Leaving(TorchFunctionMode):
    """Notes in `uncounted` where numbers leave PyTorch: what NumPy does with them is nobody's operator."""

    def __init__(self, uncounted: Counter[str]):
        super().__init__()
        self.uncounted = uncounted

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in (Tensor.numpy, Tensor.__array__):
            self.uncounted["numpy"] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def separate_operators() -> Iterator[None]:
    """PyTorch's fused layers (attention, encoder) and compiled code run as the operators they are made of."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    # nothing is compiled before the compiler is imported, which takes seconds
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    try:
        with eager, sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def names_of_running(network: nn.Module, changed: Callable[[str], None] = lambda name: None) -> list[str]:
    """A list whose last entry is, from now on, the name of the innermost module of `network` that runs.

    `changed` is called with each new last entry.
    """
    running = [""]

    def enter(name: str) -> None:
        running.append(name)
        changed(name)

    def leave() -> None:
        del running[-1]
        changed(running[-1])

    for name, child in network.named_modules():
        if isinstance(child, torch.jit.ScriptModule):
            continue  # it takes no hooks: its work is that of the module around it
        child.register_forward_pre_hook(lambda *_, name=name: enter(name))
        child.register_forward_hook(lambda *_: leave(), always_call=True)
    return running


def held(network: nn.Module) -> list[Tensor]:
    """All tensors that the modules of `network` hold: parameters, buffers and attributes."""
    attributes = [value for child in network.modules() for value in vars(child).values()]
    return [*network.parameters(), *network.buffers(), *(value for value in attributes if isinstance(value, Tensor))]


def counted(network: nn.Module, image: Tensor, gradients: bool = False) -> Counting:
    """The count of a forward pass of `network`, which is somebody's copy: it gets hooks.

    `gradients` are for one that computes some itself; layers are then seen as the operators autograd makes of them.
    """
    counting = Counting(held(network), names_of_running(network))
    with separate_operators(), torch.inference_mode(not gradients), Leaving(counting.uncounted), counting:
        network.eval()(image)
    return counting


def counted_by_torch(network: nn.Module, image: Tensor) -> int:
    """Torch's count of convolutions and matrix products, two FLOPs for each multiply-accumulate."""
    from torch.utils.flop_counter import FlopCounterMode

    for parameter in network.parameters():
        parameter.requires_grad_(False)  # the counter hangs hooks on what requires gradients
    with separate_operators(), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.eval()(image)
    return counter.get_total_flops()


def counted_by_fvcore(network: nn.Module, image: Tensor) -> int:
    """fvcore's count of convolutions and matrix products, one for each multiply-accumulate, by its own rules alone."""
    from fvcore.nn import FlopCountAnalysis  # slow to import, and most commands never count

    with separate_operators(), torch.no_grad():
        analysis = FlopCountAnalysis(network.eval(), image)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        found = analysis.by_operator()
    return round(sum(found[kind] for kind in ("conv", "linear", "matmul", "mm", "bmm", "addmm", "einsum")))
