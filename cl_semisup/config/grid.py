"""What a node of a suite stands for: every list is a grid, every leaf is checked, every fault keeps its place.

The kind of a node is a type annotation: a leaf type that pydantic checks, a dataclass (a mapping of its fields), or
`Annotated[Any, Choice(folder)]` (a plug-in: a name, or one name with its parameters).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from itertools import product
from math import prod
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cl_semisup import plugins
from cl_semisup.errors import InputError, unknown
from cl_semisup.plugins import Choice

Place = tuple[str | int, ...]
T = TypeVar("T")
MOST = 100_000  # runs of one suite
STRICT = ConfigDict(strict=True, allow_inf_nan=False)  # "5" is not 5, and no learning rate is infinite


@dataclass(frozen=True)
class Fault:
    """One broken rule: where in the suite, and what to say. `of_key` points at the key rather than its value."""

    place: Place
    text: str
    of_key: bool = False


@dataclass(frozen=True)
class Option:
    """One value that a node stands for, in plain data with defaults filled in, and where it was written."""

    value: Any
    place: Place


def written(place: Place) -> str:
    """`("losses", 0, "clop")` as a reader finds it: `losses[0].clop`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "suite"


def choice_of(annotation: Any) -> Choice | None:
    """The plug-in folder that an annotation names, if any."""
    return next((m for m in get_args(annotation)[1:] if isinstance(m, Choice)), None)


@cache
def annotations(kind: type) -> dict[str, Any]:
    """Field name -> annotation with its metadata."""
    try:
        hints = get_type_hints(kind, include_extras=True)
    except Exception as error:  # a user's own plug-in may hold anything
        raise InputError(f"{kind.__name__}: annotations must be names that its file knows. Got {error}.") from error
    return {f.name: hints[f.name] for f in fields(kind) if get_origin(hints[f.name]) is not ClassVar}


@cache
def defaults(kind: type) -> dict[str, Any]:
    """Field name -> default in canonical plain data; fields without one are absent."""
    plain = {f.name: f.default for f in fields(kind) if f.default is not MISSING}
    faults: list[Fault] = []
    for name, value in plain.items():
        node = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        found = options(node, annotations(kind)[name], (name,), faults)
        plain[name] = found[0].value if found else node
    if faults:
        raise InputError(f"{kind.__name__}: a default breaks its own rule. " + "; ".join(f.text for f in faults))
    return plain


def options(node: Any, annotation: Any, place: Place, faults: list[Fault], meaning: str = "") -> list[Option]:
    """All values a node stands for. A list is a grid; equal members are a fault: a cell would run twice."""
    choice = choice_of(annotation)
    if choice is not None and choice.several:
        return _several(node, choice, place, faults)
    if not isinstance(node, list):
        return _single(node, annotation, place, faults, meaning)
    if not node:
        faults.append(Fault(place, f"{written(place)}: must not be an empty list. Got []. Give at least one value."))
    found: dict[str, Option] = {}  # values are checked, so equal ones are written alike
    for index, member in enumerate(node):
        for option in _single(member, annotation, (*place, index), faults, meaning):
            twin = found.setdefault(repr(option.value), option)
            if twin is not option:
                text = f"must name each value once. Got {_short(option.value)} again (first at {written(twin.place)})."
                faults.append(Fault(option.place, f"{written(option.place)}: {text} Remove one."))
    return list(found.values())


def combinations(
    columns: Sequence[Sequence[T]], place: Place, faults: list[Fault], times: int = 1
) -> Iterable[tuple[T, ...]]:
    """Every combination. More than anybody can mean are a fault, or a few lines would stand for billions."""
    number = prod(map(len, columns)) * times
    if number > MOST:
        text = f"must stand for at most {MOST:,} combinations. Got {number:,}. Split the suite."
        faults.append(Fault(place, f"{written(place)}: {text}"))
        return ()
    return product(*columns)


def _single(node: Any, annotation: Any, place: Place, faults: list[Fault], meaning: str) -> list[Option]:
    if (asked := _if_asked(annotation)) is not None:
        if node in (None, "none"):
            return [Option(None, place)]
        annotation = asked
    choice = choice_of(annotation)
    if choice is not None:
        return _choice(node, choice, place, faults)
    if is_dataclass(annotation) and isinstance(annotation, type):
        rows = mapping(node, annotation, place, faults, defaults(annotation))
        return [Option(value, place) for value in rows]
    return _leaf(node, annotation, place, faults, meaning)


def mapping(
    node: Any, kind: type, place: Place, faults: list[Fault], filled: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Every combination of the fields of a mapping node, over `filled` for the fields not given."""
    if node is None:
        node = {}
    if not isinstance(node, dict):
        names = ", ".join(annotations(kind))
        text = f"{written(place)}: must be a mapping of settings. Got {_short(node)}. Settings: {names or 'none'}."
        faults.append(Fault(place, text))
        return []
    known, means = annotations(kind), plugins.meanings(kind)
    for key in node:
        if key not in known:
            here = (*place, key) if isinstance(key, str | int) else place
            faults.append(Fault(here, f"{written(here)}: {unknown('key', key, known)}.", of_key=True))
    for key in known:
        if key not in node and key not in filled and key not in defaults(kind):
            text = f"{written(place)}: needs {key!r}{_means(means.get(key, ''))}. Got nothing. Add it."
            faults.append(Fault(place, text))
            return []
    given = [key for key in known if key in node]
    columns = [options(node[key], known[key], (*place, key), faults, means.get(key, "")) for key in given]
    rows = combinations(columns, place, faults)
    return [{**filled, **dict(zip(given, (o.value for o in row), strict=True))} for row in rows]


def _choice(node: Any, choice: Choice, place: Place, faults: list[Fault]) -> list[Option]:
    kind = plugins.kind(choice.folder)
    if choice.optional and node in ("none", None):
        return [Option("none", place)]
    name: Any = node
    params: Any = {}
    at = place
    if isinstance(node, dict) and len(node) == 1:
        (name, params), at = next(iter(node.items())), (*place, next(iter(node)))
    if not isinstance(name, str):
        text = f"must be a {kind}'s name, or one name with its settings. Got {_short(node)}."
        if isinstance(node, dict):
            text += f" Write '- {next(iter(node), 'name')}: {{setting: value}}', one {kind} an entry."
        faults.append(Fault(place, f"{written(place)}: {text}"))
        return []
    if name not in plugins.paths(choice.folder):
        known = plugins.names(choice.folder) + (["none"] if choice.optional else [])
        faults.append(Fault(at, f"{written(place)}: {unknown(kind, name, known)}.", of_key=at != place))
        return []
    plugin = plugins.load(choice.folder, name)
    return [Option({name: value}, place) for value in mapping(params, plugin, at, faults, defaults(plugin))]


def _several(node: Any, choice: Choice, place: Place, faults: list[Fault]) -> list[Option]:
    """Plug-ins that belong together, each named once; settings inside a member are still a grid."""
    kind, members = plugins.kind(choice.folder), node if isinstance(node, list) else [node]
    if not members:
        faults.append(Fault(place, f"{written(place)}: must not be an empty list. Got []. Name at least one {kind}."))
    places: list[Place] = [(*place, index) for index in range(len(members))] if isinstance(node, list) else [place]
    columns = [_choice(one, choice, at, faults) for one, at in zip(members, places, strict=True)]
    first: dict[str, Place] = {}
    for column, at in zip(columns, places, strict=True):
        for name in {next(iter(option.value)) for option in column}:
            twin = first.setdefault(name, at)
            if twin != at:
                text = f"must name each {kind} once. Got {name!r} again (first at {written(twin)}). Remove one."
                faults.append(Fault(at, f"{written(at)}: {text}"))
    return [Option([one.value for one in row], place) for row in combinations(columns, place, faults)]


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=STRICT)
    except Exception as error:  # a user's own plug-in may hold anything
        rule = "an annotation must say what can be checked: int, float, str, bool, Literal, or Annotated of these"
        raise InputError(f"{rule}. Got {annotation}: {_short(str(error))}. Change it.") from error


def _leaf(node: Any, annotation: Any, place: Place, faults: list[Fault], meaning: str) -> list[Option]:
    try:
        return [Option(_adapter(annotation).validate_python(node), place)]
    except ValidationError as error:
        rules = " or ".join(dict.fromkeys(e["msg"].replace("Input should", "must", 1) for e in error.errors()))
        faults.append(Fault(place, f"{written(place)}: {rules}{_means(meaning)}. Got {_short(node)}. Change it."))
        return []


def _if_asked(annotation: Any) -> Any:
    """X of `X | None`, an axis that may be left out (`none`); None for any other annotation."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    return next((kind for kind in kinds if kind is not NoneType), None) if NoneType in kinds else None


def _means(meaning: str) -> str:
    return f" ({meaning})" if meaning else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def canonical(annotation: Any, node: Any, what: str) -> Any:
    """The one checked value of a node given in Python; a grid or a fault raises InputError."""
    faults: list[Fault] = []
    found = options(node, annotation, (what,), faults)
    if faults:
        raise InputError("; ".join(f.text for f in faults))
    if len(found) != 1:
        raise InputError(f"{what}: must be one value here, not a grid. Got {_short(node)}.")
    return found[0].value


def build(folder: str, name: str, params: Mapping[str, Any]) -> Any:
    """The plug-in's dataclass made from checked parameters."""
    plugin = plugins.load(folder, name)
    value = canonical(_any_of(folder), {name: dict(params)}, plugins.kind(folder))
    return plugin(**value[name])


@cache
def _any_of(folder: str) -> Any:
    return Annotated[Any, Choice(folder)]


# JSON Schema, so that editors complete and check what `options` accepts --------------------------------------------


class Schema:
    """Collects the schema of every plug-in met once under `$defs`."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def grid(self, annotation: Any, meaning: str = "") -> dict[str, Any]:
        """A node: one value, or a list of them (a grid, or plug-ins that belong together)."""
        one = self._single(annotation)
        found: dict[str, Any] = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}]}
        return {"description": meaning, **found} if meaning else found

    def mapping(self, kind: type) -> dict[str, Any]:
        """A mapping of a dataclass's fields; no other keys."""
        means = plugins.meanings(kind)
        schema: dict[str, Any] = {"type": "object", "additionalProperties": False}
        schema["properties"] = {k: self.grid(a, means.get(k, "")) for k, a in annotations(kind).items()}
        for key, value in defaults(kind).items():
            schema["properties"][key]["default"] = value
        required = [k for k in annotations(kind) if k not in defaults(kind)]
        return schema | ({"required": required} if required else {})

    def _single(self, annotation: Any) -> dict[str, Any]:
        if (asked := _if_asked(annotation)) is not None:
            return {"anyOf": [self._single(asked), {"enum": ["none", None]}]}
        choice = choice_of(annotation)
        if choice is not None:
            return self._choice(choice)
        if is_dataclass(annotation) and isinstance(annotation, type):
            return self.mapping(annotation)
        return _adapter(annotation).json_schema()

    def _choice(self, choice: Choice) -> dict[str, Any]:
        """A reference to the choice, which is written once under `$defs` and may contain itself (a loss's base)."""
        key = f"{choice.folder}_or_none" if choice.optional else choice.folder
        if key not in self.definitions:
            self.definitions[key] = {}  # holds the place while its parts refer to it
            names = plugins.names(choice.folder)
            plain = [name for name in names if self._all_default(choice.folder, name)]
            forms: list[dict[str, Any]] = [{"enum": plain + (["none"] if choice.optional else [])}]
            self.definitions[key] = {"anyOf": forms + [self._named(choice.folder, name) for name in names]}
        return {"$ref": f"#/$defs/{key}"}

    def _named(self, folder: str, name: str) -> dict[str, Any]:
        """One plug-in with settings: `{name: {...}}`."""
        key = f"{folder}.{name}"
        if key not in self.definitions:
            self.definitions[key] = {}
            inside = self.mapping(plugins.load(folder, name))
            self.definitions[key] = {"description": plugins.summary(folder, name), **inside}
        one = {"type": "object", "properties": {name: {"$ref": f"#/$defs/{key}"}}}
        return {**one, "required": [name], "additionalProperties": False}

    @staticmethod
    def _all_default(folder: str, name: str) -> bool:
        plugin = plugins.load(folder, name)
        return len(defaults(plugin)) == len(annotations(plugin))
