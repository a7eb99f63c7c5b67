"""What is given on the command line as text: times, sizes, seeds, targets, models as JSON, names of studies."""

import json
import math
import os
import re
import tomllib
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from search.data.source import PLAIN, Reading, Source, TaskName
from search.errors import UserError
from search.files import LONGEST, can_name, shortened
from search.training.recipe import Recipe

if TYPE_CHECKING:
    from search.data.split import Portion
    from search.records.costs import CostName
    from wavemix.config import LiteConfig

Kind = TypeVar("Kind", bound=BaseModel)


def source_of(
    data: str,
    resize: str | None,
    test_split: float | None,
    skip_unreadable: bool,
    task: str = "classification",
    scale: int | None = None,
    test_set: str | None = None,
) -> Source:
    """The data named on the command line and how to read them. Raises UserError for values that mean nothing."""
    tasks = get_args(TaskName)
    if task not in tasks:
        raise UserError(f"--task is {', '.join(tasks[:-1])} or {tasks[-1]}, not {task!r}")
    if scale not in (None, 2, 3, 4) or (task == "super-resolution") != (scale is not None):
        raise UserError("--scale 2, 3 or 4 goes with --task super-resolution, and only with it")
    try:
        size = tuple(int(edge) for edge in resize.split(",")) if resize is not None else None
        read = {"resize": size, "test_split": test_split, "skip_unreadable": skip_unreadable}
        read |= {"task": task, "scale": scale, "test_set": test_set}
        return Source(data, Reading.model_validate(read))
    except ValidationError as error:
        if error.errors()[0]["loc"][0] == "test_split":
            raise UserError(f"--test-split is a share between 0 and 1 such as 0.2, not {test_split:g}") from error
        raise UserError(f"--resize is height,width in pixels, 1 to 4096, such as 32,32, not {resize!r}") from error
    except ValueError as error:
        raise UserError(f"--resize is height,width in pixels, 1 to 4096, such as 32,32, not {resize!r}") from error


def seconds_of(budget: str, option: str = "--budget") -> float:
    """'90s', '15m', '2h' or '1d' as seconds. Raises UserError for anything else."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(budget[-1:])
    try:
        value = float(budget[:-1]) * (unit or 0)
    except ValueError:
        value = 0
    if not unit or not 0 < value < float("inf"):
        raise UserError(f"{option} is a time such as 90s, 15m or 2h, not {budget!r}")
    return value


def size_of(text: str, option: str) -> int:
    """'500M' or '8G' as bytes, at least 1M. Raises UserError for anything else."""
    unit = {"M": 2**20, "G": 2**30}.get(text[-1:].upper(), 0)
    if not unit or not text[:-1].isdecimal() or not 0 < int(text[:-1]) * unit < 2**50:
        raise UserError(f"{option} is a size such as 500M or 8G, not {text!r}")
    return int(text[:-1]) * unit


def validated(kind: type[Kind], text: str, option: str) -> Kind:
    """A model from JSON given on the command line, or from a JSON, TOML or YAML file (told apart by their suffixes)."""
    suffix = ""
    if not text.lstrip().startswith(("{", "[")):
        path = Path(os.path.expanduser(text))
        try:
            content = path.read_bytes()
            text = content.decode(json.detect_encoding(content))  # which a byte order mark says
        except (OSError, ValueError) as error:  # not a path, or not text
            raise UserError(f"{option} takes JSON or a JSON, TOML or YAML file; {text!r} can't be read") from error
        suffix = path.suffix.lower()
    try:
        if suffix == ".toml":
            return kind.model_validate(tomllib.loads(text))
        if suffix in (".yaml", ".yml"):
            import yaml

            return kind.model_validate(yaml.safe_load(text))
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{option}: {first_line(error)}") from error
    except Exception as error:  # what the readers of TOML and YAML raise
        raise UserError(f"{option}: {' '.join(str(error).split())[:200]}") from error


def network_of(text: str, option: str) -> "LiteConfig":
    """A configuration given on the command line, JSON or a file of it."""
    from wavemix.config import LiteConfig  # with it comes torch, which takes seconds

    return validated(LiteConfig, text, option)


def fitted(network: "LiteConfig", data: "Portion", option: str) -> "LiteConfig":
    """A configuration given by `option` with the channels and classes of the data; UserError where it says others."""
    from search.tasks.task import task_of

    task = task_of(data)
    if network.task != task.name:
        raise UserError(f'{option}: its head is of {network.task}: "head":{{"task":"{task.name}"}} is of this one')
    own = task.own(data)
    for name, value in own.items():
        said = getattr(network, name)
        if name in network.model_fields_set and said != value:
            raise UserError(f"{option}: {name} is {said}, but {data.label} has {value}; left out, it is the data's")
    return network.model_copy(update=own)


def recipe_of(text: str | None, data: "Portion", parameters: int, epochs: int | None = None) -> Recipe:
    """The recipe given on the command line, or the default one for the data and networks of up to `parameters`;
    `epochs` go before its own."""
    from search.tasks.task import task_of

    recipe = validated(Recipe, text, "--recipe") if text else task_of(data).recipe(data, parameters)
    return Recipe.model_validate(recipe.model_dump() | {"epochs": epochs}) if epochs else recipe


def tune_of(texts: Sequence[str] | None) -> dict[str, list[str]]:
    """'lr=0.02,0.03' as a hyperparameter of the recipe and its values, unread. Raises UserError for anything else."""
    found: dict[str, list[str]] = {}
    for text in texts or ():
        name, equals, values = text.partition("=")
        if not (name and equals):
            raise UserError(
                f"--tune is a hyperparameter of the recipe and its values, such as lr=0.02,0.03, not {text!r}"
            )
        if name in found:
            raise UserError(f"--tune {name} is given twice: name all its values in one, {name}=A,B")
        found[name] = values.split(",")
    return found


def first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    said = "there is no such field" if first["type"] == "extra_forbidden" else first["msg"]
    return f"{place + ': ' if place else ''}{said}"


def seeds_of(text: str) -> list[int]:
    """'7,8' as these two seeds. Raises UserError for anything else."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seed-list is a list of seeds such as 7,8,9, not {text!r}") from error
    if max(numbers) >= 2**32:
        raise UserError(f"--seed-list: a seed is below {2**32}, not {max(numbers)}")
    if min(numbers) < 0 or len(set(numbers)) != len(numbers) or len(numbers) > 64:
        raise UserError(f"--seed-list is a list of up to 64 different seeds, not {text!r}")
    return numbers


def numbers_of(text: str, option: str) -> list[float]:
    """'0.49,0.48,0.45' as numbers, one a channel, or one for all. Raises UserError for anything else."""
    try:
        numbers = [float(part) for part in text.split(",")]
        if not all(map(math.isfinite, numbers)):
            raise ValueError
    except ValueError:
        raise UserError(f"{option} is a number, or one a channel such as 0.49,0.48,0.45, not {text!r}") from None
    return numbers


def shape_of(text: str) -> tuple[int, int, int]:
    """'3,224,224' as channels, height and width."""
    try:
        channels, height, width = (int(part) for part in text.split(","))
        if min(channels, height, width) < 1:
            raise ValueError
    except ValueError:
        raise UserError(f"--input is channels,height,width such as 3,224,224, not {text!r}") from None
    return channels, height, width


def target_of(text: str, task: str = "classification", option: str = "--target") -> float:
    """'0.99', or for super-resolution '36.66dB', as a score. Raises UserError for anything else."""
    from search.tasks.score import SCORES

    score = SCORES[task] if task in SCORES else SCORES["classification"]
    decibels = score.unit == "dB"
    try:
        value = float(re.sub(r"\s*dB$", "", text.strip(), flags=re.IGNORECASE) if decibels else text)
    except ValueError:
        value = math.nan
    if score.possible(value):
        return value
    if decibels:
        raise UserError(f"{option} is a {score.name} in dB such as 36.66dB, not {text!r}")
    shown = text if math.isnan(value) else f"{value:g}"
    raise UserError(f"{option} is a fraction between 0 and 1, not {shown}: 0.99 means 99 %")


def targets_of(text: str, task: str = "classification") -> list[float]:
    """'0.97,0.99' as these scores, the lowest first. Raises UserError for anything else."""
    targets = sorted(target_of(part, task) for part in text.split(","))
    if len(set(targets)) < len(targets):
        raise UserError(f"--targets {text}: one of them stands twice")
    return targets


def checked(family: str) -> None:
    if family not in ("published", "extended"):
        raise UserError(f"--family is 'published' or 'extended', not {family!r}")


def study_name(
    data: str,
    target: float | Sequence[float],
    family: str,
    name: str | None = None,
    reading: Reading = PLAIN,
    cost: "CostName" = "parameters",
) -> str:
    """`name` where it is one that a file can have, or without it one made of data, target, family and what is
    minimised."""
    if name is not None:
        if not can_name(name):
            raise UserError(
                f"--name is made of letters, digits and . + - _, at most {LONGEST} bytes of UTF-8, not {name[:80]!r}"
            )
        return name
    place = os.path.expanduser(data)
    stem = os.path.basename(os.path.realpath(place)) if "/" in place or os.path.isdir(place) else data
    plain = re.sub(r"[^\w.+-]", "-", unicodedata.normalize("NFC", stem[:60])).lstrip("-.+")
    if not plain:
        raise UserError(f"the study can't be named after {data!r}: name it by --name")
    from search.tasks.score import SCORES

    enlarged = [part for part in (reading.test_set, reading.scale and f"{reading.scale}x") if part]
    least = [cost] * (cost != "parameters")
    tags = [SCORES[reading.task].tag(one) for one in (target if isinstance(target, Sequence) else [target])]
    return shortened("-".join([plain, *enlarged, *tags, family, *least]))
