"""YAML text -> plain data that knows its places. Safe tags only; numbers as in YAML 1.2, so `1e-3` is a number."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from cl_semisup.errors import SuiteError

MAX_BYTES = 1_000_000
MAX_NODES = 100_000  # counted with aliases expanded: an alias bomb of a few lines stands for billions of nodes

Place = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalar rules of YAML 1.2: no sexagesimals, no octal 010, no `no` for false."""


_TEXT = "tag:yaml.org,2002:str"
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # would steer a terminal, or cannot be encoded
_FORMS: dict[str, re.Pattern[str]] = {}  # tag -> what its scalars look like
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _FORMS[f"tag:yaml.org,2002:{_tag}"] = re.compile(f"^(?:{_pattern})$")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _FORMS[f"tag:yaml.org,2002:{_tag}"], list(_first))


_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("bool", "null", "int", "float", "str", "seq", "map")
}


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


@dataclass(frozen=True)
class Source:
    """A parsed file: its plain data and, for every place in it, the line and column of key and value (from 1)."""

    file: str
    data: Any
    values: dict[Place, tuple[int, int]]
    keys: dict[Place, tuple[int, int]]

    def where(self, place: Place, of_key: bool = False) -> str:
        """`file:line:column` of the nearest written ancestor of a place."""
        marks = self.keys if of_key else self.values
        while place and place not in marks and place not in self.values:
            place = place[:-1]
        line, column = marks.get(place) or self.values.get(place, (1, 1))
        return f"{self.file}:{line}:{column}"


def parse(text: str, file: str) -> Source:
    """Parse one document; every fault of form (syntax, duplicate key, alias bomb, unknown tag) is a SuiteError."""
    if len(text.encode()) > MAX_BYTES:
        raise SuiteError([f"{file}:1:1: must be at most {MAX_BYTES} bytes. Got {len(text.encode())}. Split the suite."])
    walk = _Walk(file)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            walk.visit(node, (), ())
        if walk.faults:
            raise SuiteError(walk.faults)
        data = loader.construct_document(node) if node is not None else None
    except SuiteError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        rule = " ".join(str(error.problem or error.context).split())
        raise SuiteError([f"{file}:{at}: must be valid YAML: {rule}. Mend the syntax there."]) from None
    except yaml.YAMLError as error:
        raise SuiteError([f"{file}:1:1: must be valid YAML: {' '.join(str(error).split())}."]) from None
    except (RecursionError, ValueError) as error:
        raise SuiteError([f"{file}:1:1: must be plain, shallow YAML: {type(error).__name__}: {error}."]) from None
    return Source(file, data, walk.values, walk.keys)


class _Walk:
    """One pass over the node tree: the marks of every place, duplicate keys, and the size with aliases expanded."""

    def __init__(self, file: str):
        self.file, self.count = file, 0
        self.values: dict[Place, tuple[int, int]] = {}
        self.keys: dict[Place, tuple[int, int]] = {}
        self.faults: list[str] = []

    def visit(self, node: yaml.Node, place: Place, above: tuple[int, ...]) -> None:
        self.count += 1
        if self.count > MAX_NODES:
            at = f"{self.file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
            raise SuiteError([f"{at}: must stay under {MAX_NODES} values with aliases expanded. Remove aliases."])
        if id(node) in above or len(above) > 50:
            at = f"{self.file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
            raise SuiteError([f"{at}: must not contain itself or nest over 50 levels. Remove the alias."])
        self.values[place] = (node.start_mark.line + 1, node.start_mark.column + 1)
        above = (*above, id(node))
        if isinstance(node, yaml.ScalarNode):
            self._scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            for index, member in enumerate(node.value):
                self.visit(member, (*place, index), above)
        elif isinstance(node, yaml.MappingNode):
            seen: dict[Any, int] = {}
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else str(key.start_mark)
                line, column = key.start_mark.line + 1, key.start_mark.column + 1
                if name in seen:
                    text = f"duplicate key {name!r} (first on line {seen[name]}). Remove one"
                    self.faults.append(f"{self.file}:{line}:{column}: {text}.")
                seen.setdefault(name, line)
                self.keys[(*place, name)] = (line, column)
                if isinstance(key, yaml.ScalarNode):
                    self._scalar(key)
                self.visit(value, (*place, name), above)

    def _scalar(self, node: yaml.ScalarNode) -> None:
        """A scalar must look like its tag, and text must be fit to be printed and written to a file."""
        at = f"{self.file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        if node.tag in _FORMS and not _FORMS[node.tag].match(node.value):
            self.faults.append(f"{at}: must look like its tag {node.tag}. Got {node.value[:40]!r}. Remove the tag.")
        elif node.tag == _TEXT and (found := _UNFIT.search(node.value)):
            self.faults.append(f"{at}: must be text without control characters. Got {found[0]!r}. Remove it.")
