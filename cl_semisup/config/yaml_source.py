"""YAML text -> plain data and the line of each value. Safe tags only; numbers as in YAML 1.2 (`1e-3` is a number)."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from cl_semisup.config import syntax
from cl_semisup.errors import SuiteError, described

MAX_BYTES = 1_000_000
MAX_NODES = 100_000  # with aliases expanded, against alias bombs
MAX_NUMBER = 100  # characters of a number; Python refuses to print one of some thousand digits

YamlPath = tuple[str | int, ...]  # the keys and list indices that lead to a node


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalar rules of YAML 1.2: no sexagesimals, no octal 010, no `no` for false."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The node's value; whatever PyYAML raises becomes an error with the node's place."""
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:
            rule = described(error)
            raise yaml.constructor.ConstructorError(problem=rule[:200], problem_mark=node.start_mark) from None


_TEXT = "tag:yaml.org,2002:str"
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # would steer a terminal, or cannot be encoded
_PATTERNS: dict[str, re.Pattern[str]] = {}  # tag -> form of its scalars
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
    _PATTERNS[f"tag:yaml.org,2002:{_tag}"] = re.compile(rf"(?:{_pattern})\Z")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _PATTERNS[f"tag:yaml.org,2002:{_tag}"], list(_first))


_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("bool", "null", "int", "float", "str", "seq", "map")
}
_KINDS = {"seq": "sequence", "map": "mapping"}  # of the nodes that a tag may have; others are scalars


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


@dataclass(frozen=True)
class Source:
    """A parsed file: its plain data, and the (line, column) of every value and key by path, counted from 1."""

    file: str
    data: Any
    values: dict[YamlPath, tuple[int, int]]
    keys: dict[YamlPath, tuple[int, int]]

    def where(self, path: YamlPath, of_key: bool = False) -> str:
        """`file:line:column` of a path, or of its nearest ancestor in the file."""
        marks = self.keys if of_key else self.values
        while path and path not in marks and path not in self.values:
            path = path[:-1]
        line, column = marks.get(path) or self.values.get(path, (1, 1))
        return f"{self.file}:{line}:{column}"


def parse(text: str, file: str) -> Source:
    """Parse one document. Raises SuiteError for bad syntax, a duplicate key, an alias bomb or an unknown tag."""
    if len(text.encode()) > MAX_BYTES:
        raise SuiteError([f"{file}:1:1: must be at most {MAX_BYTES} bytes. Got {len(text.encode())}. Split the suite."])
    walk = _Walk(file)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            walk.visit(node, (), ())
        if walk.problems:
            raise SuiteError(walk.problems)
        data = loader.construct_document(node) if node is not None else None
    except SuiteError:
        raise
    except yaml.MarkedYAMLError as error:
        raise SuiteError([f"{file}:{syntax.explained(error, text)}"]) from None
    except yaml.YAMLError as error:
        raise SuiteError([f"{file}:1:1: must be valid YAML: {' '.join(str(error).split())}."]) from None
    except Exception as error:  # PyYAML meets text that it was not made for
        raise SuiteError([f"{file}:1:1: must be plain, shallow YAML: {described(error)}."]) from None
    return Source(file, data, walk.values, walk.keys)


class _Walk:
    """One pass over the node tree: lines and columns, duplicate keys, and the size with aliases expanded."""

    def __init__(self, file: str):
        self.file, self.count = file, 0
        self.values: dict[YamlPath, tuple[int, int]] = {}
        self.keys: dict[YamlPath, tuple[int, int]] = {}
        self.problems: list[str] = []

    def visit(self, node: yaml.Node, path: YamlPath, above: tuple[int, ...]) -> None:
        self.count += 1
        if self.count > MAX_NODES:
            rule = f"must stay under {MAX_NODES} values with aliases expanded. Remove aliases."
            raise SuiteError([f"{self._at(node)}: {rule}"])
        if id(node) in above or len(above) > 50:
            raise SuiteError([f"{self._at(node)}: must not contain itself or nest over 50 levels. Remove the alias."])
        self.values[path] = _mark(node)
        self._tag(node)
        above = (*above, id(node))
        if isinstance(node, yaml.ScalarNode):
            self._scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            for index, member in enumerate(node.value):
                self.visit(member, (*path, index), above)
        elif isinstance(node, yaml.MappingNode):
            seen: dict[Any, int] = {}
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    self.problems.append(f"{self._at(key)}: must be valid YAML: found unhashable key. Write a word.")
                    continue
                name = key.value
                if name in seen:
                    text = f"duplicate key {name!r} (first on line {seen[name]}). Remove one"
                    self.problems.append(f"{self._at(key)}: {text}.")
                self.keys[(*path, name)] = _mark(key)
                seen.setdefault(name, _mark(key)[0])
                self._tag(key)
                self._scalar(key)
                if key.tag in _PATTERNS:
                    rule = f"must have words as keys. Got {name[:40]!r}, which is {key.tag.rpartition(':')[2]}"
                    self.problems.append(f"{self._at(key)}: {rule}. Put it in quotes if it is a word.")
                self.visit(value, (*path, name), above)

    def _tag(self, node: yaml.Node) -> None:
        """The seven plain tags, each on its own kind of node: PyYAML's `!!value` and `!!merge` take odd ones apart."""
        kind = _KINDS.get(node.tag.rpartition(":")[2], "scalar")
        if node.tag not in _Loader.yaml_constructors:
            rule = f"could not determine a constructor for the tag {node.tag[:80]!r}"
        elif kind != (found := str(getattr(node, "id", ""))):
            rule = f"expected a {kind} node, but found {found}"
        else:
            return
        self.problems.append(f"{self._at(node)}: must be valid YAML: {rule}. Remove the tag.")

    def _scalar(self, node: yaml.ScalarNode) -> None:
        """A scalar must have the form of its tag, and text must be printable."""
        at = self._at(node)
        if node.tag in _PATTERNS and not _PATTERNS[node.tag].match(node.value):
            self.problems.append(f"{at}: must look like its tag {node.tag}. Got {node.value[:40]!r}. Remove the tag.")
        elif node.tag in _PATTERNS and len(node.value) > MAX_NUMBER:
            rule = f"must be a number of at most {MAX_NUMBER} characters"
            self.problems.append(f"{at}: {rule}. Got {len(node.value)}. Write a shorter one, or text in quotes.")
        elif node.tag == _TEXT and (match := _CONTROL.search(node.value)):
            self.problems.append(f"{at}: must be text without control characters. Got {match[0]!r}. Remove it.")

    def _at(self, node: yaml.Node) -> str:
        line, column = _mark(node)
        return f"{self.file}:{line}:{column}"


def _mark(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
