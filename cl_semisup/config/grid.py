"""What a node of a suite stands for: every list is a grid, every leaf is checked, every problem has its place.

A type annotation says what a node must be: a leaf type that pydantic checks, a dataclass (a mapping of its fields), or
`Annotated[Any, PluginField(folder)]` (a plug-in: a name, or one name with its settings).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from itertools import product
from math import prod
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cl_semisup import plugins
from cl_semisup.config import booleans_meant, numbers_meant
from cl_semisup.config.added_later import AddedLater
from cl_semisup.config.shown import in_brackets, short
from cl_semisup.config.yaml_source import YamlPath
from cl_semisup.errors import InputError, unknown
from cl_semisup.plugins import PluginField

T = TypeVar("T")
MAX_RUNS = 100_000  # of one suite
STRICT = ConfigDict(strict=True, allow_inf_nan=False)  # "5" is not 5, and no learning rate is infinite


@dataclass(frozen=True)
class Problem:
    """One broken rule and its place in the suite.

    Args:
        path: the node
        rule: what is wrong and what to do
        of_key: the place is the node's key rather than its value
        name: what the message calls the node; its path unless given
    """

    path: YamlPath
    rule: str
    of_key: bool = False
    name: str = ""

    @property
    def text(self) -> str:
        return f"{self.name or format_path(self.path)}: {self.rule}"


@dataclass(frozen=True)
class GridValue:
    """One value that a node stands for, in plain data with defaults filled in, and its place."""

    value: Any
    path: YamlPath


def format_path(path: YamlPath) -> str:
    """`("losses", 0, "clop")` as `losses[0].clop`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "suite"


def plugin_field(annotation: Any) -> PluginField | None:
    """The PluginField of an annotation, if any."""
    return next((m for m in get_args(annotation)[1:] if isinstance(m, PluginField)), None)


def _is_added_later(annotation: Any) -> bool:
    return any(isinstance(member, AddedLater) for member in get_args(annotation)[1:])


@cache
def annotations(cls: type) -> dict[str, Any]:
    """Field name -> annotation with its metadata."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except Exception as error:  # a user's own plug-in may hold anything
        raise InputError(f"{cls.__name__}: annotations must be names that its file knows. Got {error}.") from error
    return {f.name: hints[f.name] for f in fields(cls) if get_origin(hints[f.name]) is not ClassVar}


@cache
def defaults(cls: type) -> dict[str, Any]:
    """Field name -> default in plain data, checked; fields without a default are absent."""
    checked: dict[str, Any] = {}
    problems: list[Problem] = []
    for field in fields(cls):
        if field.default is not MISSING:
            value = field.default
            node = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
            values = expand(node, annotations(cls)[field.name], (field.name,), problems)
            checked[field.name] = values[0].value if values else node
    if problems:
        raise InputError(f"{cls.__name__}: a default breaks its own rule. " + "; ".join(p.text for p in problems))
    return checked


def expand(
    node: Any, annotation: Any, path: YamlPath, problems: list[Problem], description: str = ""
) -> list[GridValue]:
    """All values that a node stands for. A list is a grid; equal members are a problem: a cell would run twice."""
    field = plugin_field(annotation)
    if field is not None and field.list_is_set:
        return _plugin_set(node, field, path, problems)
    if not isinstance(node, list):
        return _single(node, annotation, path, problems, description)
    if not node:
        problems.append(Problem(path, "must not be an empty list. Got []. Give at least one value."))
    unique: dict[str, GridValue] = {}  # values are checked, so equal ones have the same repr
    for index, member in enumerate(node):
        for value in _single(member, annotation, (*path, index), problems, description):
            first = unique.setdefault(repr(value.value), value)
            if first is not value:
                got = f"Got {short(value.value)} again (first at {format_path(first.path)})"
                problems.append(Problem(value.path, f"must name each value once. {got}. Remove one."))
    return list(unique.values())


def combinations(
    columns: Sequence[Sequence[T]], path: YamlPath, problems: list[Problem], times: int = 1
) -> Iterable[tuple[T, ...]]:
    """Every combination; none, and a problem, if there are over MAX_RUNS: a few lines could stand for billions."""
    number = prod(map(len, columns)) * times
    if number > MAX_RUNS:
        rule = f"must stand for at most {MAX_RUNS:,} combinations. Got {number:,}. Split the suite."
        problems.append(Problem(path, rule))
        return ()
    return product(*columns)


def _single(node: Any, annotation: Any, path: YamlPath, problems: list[Problem], description: str) -> list[GridValue]:
    none = ""
    if (required := without_none(annotation)) is not None:
        if node in (None, "none"):
            return [GridValue(None, path)]
        annotation, none = required, "none"
    field = plugin_field(annotation)
    if field is not None:
        return _plugin(node, field, path, problems)
    if is_dataclass(annotation) and isinstance(annotation, type):
        rows = mapping(node, annotation, path, problems, defaults(annotation), booleans_meant.advice(node, no=none))
        return [GridValue(row, path) for row in rows]
    return _leaf(node, annotation, path, problems, description, none)


def mapping(
    node: Any, cls: type, path: YamlPath, problems: list[Problem], base: Mapping[str, Any], advice: str = ""
) -> list[dict[str, Any]]:
    """Every combination of a mapping's fields, over `base` for those that it lacks; `advice` on what is no mapping."""
    known, descriptions = annotations(cls), plugins.field_descriptions(cls)
    if node is None:
        node = {}
    if not isinstance(node, dict):
        rule = f"must be a mapping of settings. Got {short(node)}. Settings: {', '.join(known) or 'none'}."
        problems.append(Problem(path, rule + (advice or _as_mapping(node, cls, path))))
        return []
    for key in node:
        if key not in known:
            at = (*path, key) if isinstance(key, str | int) else path
            problems.append(Problem(at, f"{unknown('key', key, known)}.", of_key=True))
    for key in known:
        if key not in node and key not in base and key not in defaults(cls):
            rule = f"needs {key!r}{in_brackets(descriptions.get(key, ''))}. Got nothing. Add it."
            problems.append(Problem(path, rule))
            return []
    keys = [key for key in known if key in node]
    columns = [expand(node[key], known[key], (*path, key), problems, descriptions.get(key, "")) for key in keys]
    rows = combinations(columns, path, problems)
    filled = ({**base, **dict(zip(keys, (v.value for v in row), strict=True))} for row in rows)
    later = {key: base[key] for key, annotation in known.items() if key in base and _is_added_later(annotation)}
    return [{key: v for key, v in row.items() if key not in later or v != later[key]} for row in filled]


def _as_mapping(node: Any, cls: type, path: YamlPath) -> str:
    """What to write where a mapping must stand: the node as the first setting, if it would do; else an example."""
    known, given = annotations(cls), defaults(cls)
    first = next((key for key in known if key not in given), next(iter(known), ""))
    unfit: list[Problem] = []
    if first and expand(node, known[first], path, unfit) and not unfit:
        return f" Write {{{first}: {short(node)}}}."
    example = next((f"such as {{{key}: {short(given[key])}}}, or " for key in known if given.get(key) is not None), "")
    return f" Write what differs from the defaults, {example}leave it out." if example else " Leave it out."


def _plugin(node: Any, field: PluginField, path: YamlPath, problems: list[Problem]) -> list[GridValue]:
    noun = plugins.noun(field.folder)
    if field.optional and node in ("none", None):
        return [GridValue("none", path)]
    name, settings, at, advice = node, None, path, booleans_meant.advice(node, no="none" if field.optional else "")
    if isinstance(node, dict) and len(node) == 1:
        (name, settings), at = next(iter(node.items())), (*path, next(iter(node)))
    if not isinstance(name, str):
        rule = f"must be the name of one {noun}, alone or with its settings. Got {short(node)}."
        if isinstance(node, dict):
            advice = f" Write '- {next(iter(node), 'name')}: {{setting: value}}', one {noun} an entry."
        problems.append(Problem(path, rule + advice))
        return []
    if name not in plugins.paths(field.folder):
        rule = plugins.unknown(field.folder, name, ["none"] if field.optional else []) + advice
        problems.append(Problem(at, rule, of_key=at != path, name=format_path(path)))
        return []
    plugin = plugins.load(field.folder, name)
    rows = mapping(settings, plugin, at, problems, defaults(plugin))
    # a setting that is None is left out, so that a later version can add settings and keep the ids of runs
    return [GridValue({name: {key: v for key, v in row.items() if v is not None}}, path) for row in rows]


def _plugin_set(node: Any, field: PluginField, path: YamlPath, problems: list[Problem]) -> list[GridValue]:
    """Plug-ins that belong together, each named once; settings inside a member are still a grid."""
    noun, members = plugins.noun(field.folder), list(node) if isinstance(node, list | tuple) else [node]
    if not members:
        problems.append(Problem(path, f"must not be an empty list. Got []. Name at least one {noun}."))
    paths: list[YamlPath] = (
        [(*path, index) for index in range(len(members))] if isinstance(node, list | tuple) else [path]
    )
    columns = [_plugin(member, field, at, problems) for member, at in zip(members, paths, strict=True)]
    first: dict[str, YamlPath] = {}
    for column, at in zip(columns, paths, strict=True):
        for name in {next(iter(value.value)) for value in column}:
            if first.setdefault(name, at) != at:
                got = f"Got {name!r} again (first at {format_path(first[name])})"
                problems.append(Problem(at, f"must name each {noun} once. {got}. Remove one."))
    return [GridValue([value.value for value in row], path) for row in combinations(columns, path, problems)]


def adapter_of(annotation: Any) -> TypeAdapter[Any]:
    try:
        return _cachedadapter_of(annotation)
    except Exception as error:  # a user's own plug-in may hold anything
        rule = "an annotation must say what can be checked: int, float, str, bool, Literal, or Annotated of these"
        raise InputError(f"{rule}. Got {annotation}: {short(str(error))}. Change it.") from error


@cache
def _cachedadapter_of(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=STRICT)


def _leaf(
    node: Any, annotation: Any, path: YamlPath, problems: list[Problem], description: str, none: str = ""
) -> list[GridValue]:
    adapter = adapter_of(annotation)
    try:
        return [GridValue(adapter.validate_python(node), path)]
    except ValidationError as error:
        if isinstance(node, float) and node.is_integer():  # 1e1 is 10, where a whole number is asked for
            return _leaf(int(node), annotation, path, problems, description, none)
        rules = " or ".join(dict.fromkeys(re.sub(r"^\w+ should", "must", e["msg"]) for e in error.errors()))
        message = f"{rules}{in_brackets(description)}. Got {short(node)}."
        words = booleans_meant.words(annotation, none or ("0" if numbers_meant.fits(0, adapter) else ""))
        advice = numbers_meant.advice(node, adapter) or booleans_meant.advice(node, *words)
        problems.append(Problem(path, message + (advice or " Change it.")))
        return []


def without_none(annotation: Any) -> Any:
    """X of `X | None`, an axis that may be left out (`none`); None for any other annotation. X may be a union too."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    others = tuple(member for member in members if member is not NoneType)
    return Union[others] if others and len(others) < len(members) else None  # noqa: UP007 - of a tuple of types


def canonical(annotation: Any, node: Any, name: str) -> Any:
    """The one checked value of a node given in Python; a grid or a broken rule raises InputError."""
    problems: list[Problem] = []
    values = expand(node, annotation, (name,), problems)
    if problems:
        raise InputError("; ".join(problem.text for problem in problems))
    if len(values) != 1:
        raise InputError(f"{name}: must be one value here, not a grid. Got {short(node)}.")
    return values[0].value


def leaf(annotation: Any, value: Any, name: str) -> Any:
    """A checked value that is no grid, whatever its annotation; a broken rule raises InputError."""
    problems: list[Problem] = []
    found = _leaf(value, annotation, (name,), problems, "")
    if problems:
        raise InputError(problems[0].text)
    return found[0].value


def build(folder: str, name: str, settings: Mapping[str, Any]) -> Any:
    """The plug-in's dataclass, made from settings that are checked."""
    plugin = plugins.load(folder, name)
    value = canonical(_annotation(folder), {name: dict(settings)}, plugins.noun(folder))
    return plugin(**value[name])


@cache
def _annotation(folder: str) -> Any:
    return Annotated[Any, PluginField(folder)]
