"""Audits: are the published parameter counts right, and what do the networks behind them cost?

Every network is counted three ways that share no code: in closed form from its configuration, over the parameters of
the built network, and by fvcore. Where upstream published a figure, it is the fourth.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from search.audit.cost import CONDITIONS, Conditions, cost, one_line, parameters, run
from search.audit.networks import check_images, classifier, infer, made, stored, stored_config
from search.errors import UserError
from search.records.audits import Audit
from search.records.models import Cost
from search.upstream import PUBLISHED, SAVED, WITHDRAWN, Published, build, closed_form
from wavemix import LiteConfig, WaveMixLite
from wavemix.checkpoint import place

__all__ = ["checkpoint", "factory", "infer", "published", "saved_models"]
UPSAMPLINGS = ("nearest", "bilinear", "deconv")


def published(conditions: Conditions = CONDITIONS, stated: Sequence[Published] = PUBLISHED) -> list[Audit]:
    """Audit the four published rows, trying every kind of up-sampling on each to see which reproduces its count.

    Memory is measured under `conditions`; that of a GPU is None in the record where there is none.
    """
    rows = []
    for row in stated:
        configs = {kind: LiteConfig(**row.hyperparameters, upsampling=kind) for kind in UPSAMPLINGS}
        networks = {kind: WaveMixLite(config) for kind, config in configs.items()}
        counts = {kind: parameters(network) for kind, network in networks.items()}
        matching = [kind for kind in UPSAMPLINGS if counts[kind] == row.parameters]
        kind = matching[0] if matching else UPSAMPLINGS[0]
        rows.append(
            _audit(
                networks[kind],
                (configs[kind].in_channels, row.size, row.size),
                conditions=conditions,
                row=f"{row.task}: {row.model}",
                source="parameter-efficiency table of upstream's README",
                published=row.parameters,
                closed_form=configs[kind].parameters(),
                upsampling=matching,
                upsampling_counts=counts,
                configuration=configs[kind].model_dump(mode="json"),
                note="" if matching else "no kind of up-sampling reproduces the published count",
            )
        )
    return rows


def saved_models(conditions: Conditions = CONDITIONS, progress: Callable[[str], None] | None = None) -> list[Audit]:
    """Audit every configuration upstream states, at the image size it is meant for (about a minute).

    Upstream's blocks use transposed convolutions. `progress` is called with each row's name before it is built. The
    rows that were withdrawn from its parameter-efficiency table come first.
    """
    rows = published(conditions, WITHDRAWN)
    for saved in SAVED:
        if progress:
            progress(saved.row)
        stated = saved.millions is not None
        rows.append(
            _audit(
                build(saved),
                (saved.channels, saved.size, saved.size),
                conditions=conditions,
                row=saved.row,
                source=saved.place,
                published_millions=saved.millions,
                closed_form=closed_form(saved),
                upsampling=["deconv"],
                configuration={"task": saved.task, **saved.hyperparameters},
                note="" if stated else "parameters not published",
            )
        )
    return rows


# --------------------------------------------------------------------------------------------- anybody's networks


def checkpoint(
    path: Path | str, input_shape: Sequence[int] | None = None, conditions: Conditions = CONDITIONS
) -> Audit:
    """Count a checkpoint (.pth by torch.save, or .safetensors), reading nothing but tensors.

    Where its keys are those of a WaveMix classifier its configuration is read off the shapes and counted in closed
    form, and the network of that configuration must take the weights. With `input_shape` (channels, height, width) its
    cost is measured under `conditions` too.
    Raises UserError where the file is not a checkpoint.
    """
    path = Path(path)
    read, state = stored(path)
    own_config = stored_config(read)
    config, state = (own_config, state) if own_config else classifier(state)
    network = WaveMixLite(config) if config else None
    buffers = _buffers(state, network)
    trained = [tensor for key, tensor in state.items() if key not in buffers]
    counted = _distinct(trained)
    twice = sum(_distinct([tensor]) for tensor in trained) - counted
    told = [f"taken out of {', '.join(read.taken_off)}"] if read.taken_off else []
    told += [f"{twice:,} numbers stand under two names or more and count once"] if twice else []
    fields: dict[str, Any] = {
        "row": path.name,
        "source": "checkpoint",
        "counted": counted,
        "buffers": sum(state[key].numel() for key in buffers),
    }
    if network is None or config is None:
        told.insert(0, "not the keys of a WaveMix classifier")
        return Audit(**fields, agree=True, note="; ".join([*told, _apart(state, buffers)]))
    own = network.state_dict()
    wrong = sorted(own.keys() ^ state.keys()) + sorted(
        key for key in own.keys() & state.keys() if own[key].shape != state[key].shape
    )
    unseen = "" if own_config else "strides, activation, wavelet and interpolation do not show in weights"
    note = f"does not fit the configuration read off it: {', '.join(wrong[:3])}" if wrong else unseen
    told = [note, *told] if note else told
    fits = not wrong and config.parameters() == counted
    if input_shape:
        check_images(path, config, input_shape)
    return Audit(
        **fields,
        closed_form=config.parameters(),
        fvcore=_fvcore(network) if not wrong else None,
        agree=fits,
        upsampling=[config.upsampling],
        configuration=config.model_dump(mode="json"),
        cost=_cost(network, input_shape, conditions) if input_shape and not wrong else None,
        note="; ".join(told),
    )


def _buffers(state: dict[str, Tensor], network: nn.Module | None) -> dict[str, str]:
    """Which entries are no parameters, and what tells them: the network itself, their type or their name."""
    known = set(network.state_dict()) if network else set()
    own = {name for name, _ in network.named_buffers()} if network else set()
    return {
        key: "network" if key in own else "type" if not _is_real(tensor) else "name"
        for key, tensor in state.items()
        if (key in own if key in known else not _is_real(tensor) or _named_buffer(key, state))
    }


def _is_real(tensor: Tensor) -> bool:
    """Integers and truth values are not trained."""
    return tensor.is_floating_point() or tensor.is_complex()


def _named_buffer(key: str, state: dict[str, Tensor]) -> bool:
    """BatchNorm's statistics, wavelets' filters, masks of pruned weights, and vectors of a spectral norm."""
    path, _, last = key.rpartition(".")
    stem, _, kind = key.rpartition("_")
    if kind in ("mask", "u", "v") and (f"{stem}_orig" in state or f"{path.rpartition('.')[0]}.original" in state):
        return True
    return last in ("running_mean", "running_var", "num_batches_tracked") or bool(re.fullmatch(r"[hg][01]_\w+", last))


def _apart(state: dict[str, Tensor], buffers: dict[str, str]) -> str:
    """How parameters and buffers were told apart."""
    kinds = {"type": "whole numbers or truth values", "name": "by their names"}
    told = [f"{kinds[of]}: {', '.join(ks[:3])}{', …' * (len(ks) > 3)}" for of in kinds if (ks := _told(buffers, of))]
    apart = f"{len(buffers)} of {len(state)} tensors are buffers"
    return f"{apart} ({'; '.join(told)})" if told else f"{apart}, by type and name"


def _told(buffers: dict[str, str], of: str) -> list[str]:
    return [key for key, by in buffers.items() if by == of]


def _distinct(tensors: Sequence[Tensor]) -> int:
    """How many numbers the tensors hold, each counted once where several share it."""
    sharing: dict[tuple, list[Tensor]] = {}
    for tensor in tensors:
        sharing.setdefault((place(tensor)[0], tensor.dtype), []).append(tensor)
    return sum(map(_distinct_of_one, sharing.values()))


def _distinct_of_one(tensors: list[Tensor]) -> int:
    """The same of tensors of one type in one storage."""
    first = tensors[0]
    if len(set(map(place, tensors))) == 1 and (first.layout != torch.strided or first.is_contiguous()):
        return first.numel()
    seen = torch.zeros(first.untyped_storage().nbytes() // first.element_size(), dtype=torch.bool)
    for tensor in tensors:
        if tensor.numel() <= len(seen):
            seen.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(True)
        else:  # it repeats its own numbers, however often
            reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride()))
            seen[tensor.storage_offset() :][: reach + 1] = True
    return int(seen.sum())


def factory(target: str, input_shape: Sequence[int], conditions: Conditions = CONDITIONS) -> Audit:
    """Count the network that `target` ("module:callable", called without arguments) returns for `input_shape`.

    The module is looked for in the current directory as well. Parameters need no run; what of the cost can't be
    measured is said in the note. Raises UserError where the network cannot be imported, called, or run on images of
    that shape (channels, height, width).
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise UserError(f"an input shape is channels, height, width, not {tuple(input_shape)}")
    network = made(target)
    config = getattr(network, "config", None)
    config = config if isinstance(config, LiteConfig) else None
    closed = config.parameters() if config is not None else None
    configuration = config.model_dump(mode="json") if config is not None else None
    try:
        if any(map(is_lazy, network.parameters())):  # their shapes are those of the first images
            run(network, tuple(input_shape))
        return _audit(
            network,
            tuple(input_shape),
            conditions=conditions,
            row=target,
            source="factory",
            closed_form=closed,
            configuration=configuration,
        )
    except Exception as error:
        shape = "x".join(map(str, input_shape))
        raise UserError(f"{target} does not run on {shape} images: {one_line(error)}") from error


# ----------------------------------------------------------------------------------------------------- one network


def _audit(network: nn.Module, input_shape: tuple[int, ...], conditions: Conditions, **fields: Any) -> Audit:
    counted, by_fvcore = parameters(network), _fvcore(network)
    stated = (fields.get("published"), fields.get("closed_form"), by_fvcore)
    agree = all(value in (None, counted) for value in stated)
    if (millions := fields.get("published_millions")) is not None:
        agree = agree and round(counted / 1e6) == millions
    found = _cost(network, input_shape, conditions, compared=True)
    note = "; ".join(part for part in (fields.pop("note", ""), *_remarks(found)) if part)
    return Audit(
        counted=counted,
        fvcore=by_fvcore,
        buffers=sum(buffer.numel() for buffer in network.buffers()),
        agree=agree,
        cost=found,
        note=note,
        **fields,
    )


def _cost(network: nn.Module, input_shape: Sequence[int], conditions: Conditions, **options: Any) -> Cost:
    network = conditions.cast(network)
    return cost(network, tuple(input_shape), conditions.batch, conditions.device, **options)


def _remarks(found: Cost) -> list[str]:
    """What there is to say about a cost: what is missing, and where the counters of torch and fvcore differ."""
    said = [f"{what} not measured ({why})" for what, why in found.unmeasured.items()]
    said += [f"without a count: {', '.join(found.unsupported)}"] if found.unsupported else []
    ours = found.macs
    counts = {"here": ours, "torch": found.macs_torch, "fvcore": found.macs_fvcore}
    if ours is not None and any(count not in (None, ours) for count in counts.values()):
        each = ", ".join(f"{count:,.0f} by {name}" for name, count in counts.items() if count is not None)
        said.append(f"multiply-accumulates differ: {each}".replace("by here", "here"))
    return said


def _fvcore(network: nn.Module) -> int:
    from fvcore.nn import parameter_count

    return parameter_count(network)[""]
