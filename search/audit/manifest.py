"""Manifests: lists of networks with what is stated of them, read from CSV, YAML or mmpretrain's `metafile.yml`.

Everything is checked before anything runs, and each problem is one line that names the file, the line, the entry and
the field.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

from search.errors import UserError
from search.records.figures import Convention, Figure

FIELDS = ("name", "factory", "arguments", "input", "parameters", "flops", "convention", "source")
LARGEST = 10_000_000  # bytes of a manifest


class ManifestError(UserError):
    """A manifest that is not one; `lines` are all its problems."""

    def __init__(self, lines: list[str]):
        super().__init__(lines[0] + (f"; {len(lines) - 1} more" if len(lines) > 1 else ""))
        self.lines = lines


def _shape(value: Any) -> Any:
    """'3,224,224' or '3x224x224' as a list."""
    if isinstance(value, str):
        try:
            return [int(part) for part in value.lower().replace("x", ",").split(",")]
        except ValueError:
            raise ValueError(f"{value!r} is not channels,height,width such as 3,224,224") from None
    return value


def _arguments(value: Any) -> Any:
    """JSON, as a cell of CSV holds it."""
    if isinstance(value, str):
        try:
            return json.loads(value or "{}")
        except ValueError:
            raise ValueError('is not JSON such as {"num_classes": 10}') from None
    return value


class Entry(BaseModel):
    """One network of a manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1)
    factory: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    arguments: Annotated[dict[str, JsonValue], BeforeValidator(_arguments)] = Field({})
    input: Annotated[
        tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
        BeforeValidator(_shape),
    ] = (3, 224, 224)
    parameters: Figure | None = None
    flops: Figure | None = None
    source: str = ""

    @model_validator(mode="after")
    def _states_something(self) -> "Entry":
        if self.parameters is None and self.flops is None:
            raise ValueError("states neither parameters nor flops")
        return self


def read(path: Path) -> list[Entry]:
    """The entries of a manifest: .csv, .yaml or .yml. Raises ManifestError with every problem, UserError without file.

    YAML is either `networks:`, a list of entries with these fields, and `defaults:` for all of them, or `Models:` as in
    mmpretrain; there `Factories:` maps a model's name to its factory, arguments and input, which such files lack.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is larger than any manifest")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"the manifest {path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _yaml_rows(path, text)
    entries, problems, names = [], [], {}
    for place, fields in rows:
        where = f"{path}, {place}" + (f", {name}" if isinstance(name := fields.get("name"), str) and name else "")
        found = _entry(fields)
        if isinstance(found, list):
            problems += [f"{where}: {problem}" for problem in found]
        elif found.name in names:
            problems.append(f"{where}: name: stands in {names[found.name]}, too")
        else:
            names[found.name] = place
            entries.append(found)
    if problems:
        raise ManifestError(problems)
    if not entries:
        raise ManifestError([f"{path}: no network"])
    return entries


def _entry(fields: Mapping[str, Any]) -> Entry | list[str]:
    """An entry, or what is wrong with its fields."""
    fields, problems = dict(fields), []
    convention: Any = fields.pop("convention", None) or None
    if convention not in (None, "MACs", "FLOPs"):
        problems.append(f"convention: is MACs or FLOPs, not {convention!r}")
        convention = None
    conventions: dict[str, Convention | None] = {"parameters": None, "flops": convention}
    for name, of in conventions.items():
        value = fields.pop(name, None)
        if value in (None, ""):
            continue
        try:
            fields[name] = _figure(value, of)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            fields[name] = Figure(text="?", value=0, unit=1)  # so that its absence is no second problem
    try:
        entry = Entry.model_validate({name: value for name, value in fields.items() if value not in (None, "")})
    except ValidationError as error:
        return problems + [_said(problem) for problem in error.errors(include_url=False)]
    return problems or entry


def _figure(value: Any, convention: Convention | None) -> Figure:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no figure such as 11.7 M, 1.81 GMACs or 25,557,032")
    return Figure.read(str(value), convention)


def _said(problem: Any) -> str:
    field = ".".join(map(str, problem["loc"]))
    kind, text = problem["type"], problem["msg"].removeprefix("Value error, ")
    if kind == "missing":
        text = "is missing"
        if field == "factory":
            text += ": give module:callable; in a metafile, `Factories: {NAME: module:callable}`"
    elif kind == "extra_forbidden":
        text = f"there is no such field; there are {', '.join(FIELDS)}"
    elif kind == "string_pattern_mismatch":
        text = f"{problem['input']!r} is not of the form module:callable"
    return f"{field}: {text}" if field else text


# ------------------------------------------------------------------------------------------------------- CSV, YAML


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        if wrong := [name for name in head if name not in FIELDS]:
            raise ManifestError([
                f"{path}, line 1: {name or 'a column without a name'}: there is no such field; "
                f"there are {', '.join(FIELDS)}" for name in wrong
            ])  # fmt: skip
        for cells in reader:
            if not any(cells):
                continue
            fields: dict[str, Any] = dict(zip(head, map(str.strip, cells)))
            if len(cells) != len(head):
                fields = {"name": fields.get("name"), f"{len(cells)} cells under {len(head)} columns": True}
            yield f"line {reader.line_num}", fields
    except csv.Error as error:
        raise ManifestError([f"{path}, line {reader.line_num}: {error}"]) from error


def _yaml_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        root, values = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ManifestError([f"{path}{place}: {getattr(error, 'problem', None) or error}"]) from error
    except (ValueError, RecursionError) as error:  # a date that is none, brackets in thousands
        raise ManifestError([f"{path}: {error}"]) from error
    if not isinstance(values, dict) or not ("networks" in values or "Models" in values):
        raise ManifestError([f"{path}: has neither `networks:` nor, as a metafile, `Models:`"])
    nodes = {key.value: value for key, value in root.value}
    name = "networks" if "networks" in values else "Models"
    if not isinstance(values[name], list):
        raise ManifestError([f"{path}, line {nodes[name].start_mark.line + 1}: {name}: is no list"])
    others = values.get("defaults" if name == "networks" else "Factories") or {}
    if not isinstance(others, dict):
        raise ManifestError([f"{path}: {'defaults' if name == 'networks' else 'Factories'}: is no mapping"])
    for node, value in zip(nodes[name].value, values[name]):
        place = f"line {node.start_mark.line + 1}"
        if not isinstance(value, dict):
            raise ManifestError([f"{path}, {place}: is no mapping of fields"])
        raw = _as_written(node)
        if name == "networks":
            yield place, {str(key): raw.get(key, field) for key, field in {**others, **value}.items()}
        else:
            yield place, _model(value, raw, others)


def _as_written(node: yaml.Node) -> dict[str, str]:
    """The plain numbers of a mapping and of the mapping `Metadata` in it, with the zeros that a number has lost."""
    found = {}
    for key, value in node.value:
        if key.value == "Metadata" and isinstance(value, yaml.MappingNode):
            found |= _as_written(value)
        elif isinstance(value, yaml.ScalarNode) and value.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            found[key.value] = value.value
    return found


def _model(model: dict[str, Any], raw: dict[str, str], factories: Mapping[str, Any]) -> dict[str, Any]:
    """A model of a metafile. What it calls FLOPs is taken at its word, as mmpretrain's own counts are not."""
    name, metadata = model.get("Name"), model.get("Metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    made = factories.get(name) if isinstance(name, str) else None
    made = made if isinstance(made, dict) else {"factory": made}
    stated = {"parameters": metadata.get("Parameters"), "flops": metadata.get("FLOPs")}
    written = {key: raw.get(of, stated[key]) for key, of in (("parameters", "Parameters"), ("flops", "FLOPs"))}
    source = str(model.get("Config") or "")
    return {"name": name, "source": source} | written | {str(key): value for key, value in made.items()}
