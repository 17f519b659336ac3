"""The class of a plug-in as its text declares it, without a line of the file executed: its fields and their defaults.

`verify` reads the suite of a submission so, and computes the ids of its runs. What only the code could tell is NotRun.
"""

import ast
import contextlib
import dataclasses
import importlib
import operator
from pathlib import Path
from typing import Any, ClassVar, NoReturn, get_origin

from cl_semisup.errors import DataError
from cl_semisup.plugins import kinds

BUILTIN = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "tuple": tuple, "dict": dict}
FROM_TYPING = {"Annotated", "Any", "ClassVar", "Literal", "Optional", "Union"}
CALLED = {
    f"annotated_types.{name}" for name in ("Ge", "Gt", "Le", "Lt", "Interval", "MultipleOf", "Len", "MinLen", "MaxLen")
}
CALLED |= {"cl_semisup.plugins.PluginField", "cl_semisup.config.added_later.AddedLater"}
ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
UNREADABLE = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    ImportError,
    RecursionError,
    MemoryError,
)
OUR_ROOMS = {"config", "contrast", "data", "plugins", *kinds.SHAPES}  # whose names an annotation may hold


class NotRun(DataError, AttributeError):
    """What only the code of a plug-in tells, which is not run here. To `hasattr` it does not exist."""


def read(path: Path) -> type:
    """A frozen dataclass of the same fields, defaults and literal class variables; each of its methods is NotRun."""
    source = kinds.Source.read(path)
    (node,) = kinds.public_dataclasses(source)
    fields: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    _collect(source, node, fields, variables, set())

    def not_run(self: Any, name: str) -> NoReturn:
        rule = f"{path.name}: {name!r} must be known without running the plug-in's code, or is not checked"
        raise NotRun(f"{rule}. Got no literal of this name. Write one, or run the suite yourself.")

    members = variables | {"__doc__": ast.get_docstring(node), "__getattr__": not_run}
    members["build"] = lambda self, *arguments: not_run(self, "build")
    try:
        return dataclasses.make_dataclass(
            node.name, [(n, *rest) for n, rest in fields.items()], frozen=True, kw_only=True, namespace=members
        )
    except (TypeError, ValueError) as error:
        raise NotRun(
            f"{path.name}: its fields cannot be read without its code. Got: {error}. Write plain ones."
        ) from None


def _collect(
    source: kinds.Source,
    node: ast.ClassDef,
    fields: dict[str, Any],
    variables: dict[str, Any],
    seen: set[tuple[Path, str]],
) -> None:
    """Add the fields of a class, those of its bases first, and the class variables whose values are literals."""
    seen.add((source.path, node.name))
    for at, base in kinds.bases(source, node):
        if (at.path, base.name) not in seen:
            _collect(at, base, fields, variables, seen)
    has_fields = kinds.is_dataclass(source, node)
    for member in node.body:
        target = member.target if isinstance(member, ast.AnnAssign) else getattr(member, "targets", [None])[0]
        if not isinstance(member, ast.AnnAssign | ast.Assign) or not isinstance(target, ast.Name):
            continue
        if has_fields and isinstance(member, ast.AnnAssign) and (field := _field(member, source)):
            fields[target.id] = field
        elif not target.id.startswith("__"):
            variables.pop(target.id, None)
            with contextlib.suppress(*UNREADABLE):
                variables[target.id] = ast.literal_eval(member.value) if member.value else None


def _field(member: ast.AnnAssign, source: kinds.Source) -> tuple[Any, ...]:
    """(annotation,) or (annotation, default) as `make_dataclass` takes them; nothing for a class variable."""
    try:
        annotation = _value(member.annotation, source)
        if annotation is ClassVar or get_origin(annotation) is ClassVar:
            return ()
        default = [dataclasses.field(default=_value(member.value, source))] if member.value else []
    except UNREADABLE as error:
        got = f"Got {ast.unparse(member)}: {error}"
        raise NotRun(f"{source.path.name}:{member.lineno}: must be a plain field. {got}. Use literals.") from None
    return (annotation, *default)


def _value(node: ast.expr, source: kinds.Source) -> Any:
    """An annotation or a default: literals, types, names of this package, and the calls that bound a number."""
    match node:
        case ast.Name() | ast.Attribute():
            return _named(node, source)
        case ast.Subscript():
            return _value(node.value, source)[_value(node.slice, source)]
        case ast.Tuple():
            return tuple(_value(element, source) for element in node.elts)
        case ast.BinOp(op=ast.BitOr()):
            return _value(node.left, source) | _value(node.right, source)
        case ast.BinOp() if operation := ARITHMETIC.get(type(node.op)):
            numbers = [_value(side, source) for side in (node.left, node.right)]
            if all(type(number) in (int, float) for number in numbers):
                return operation(*numbers)
        case ast.Call() if kinds.name_of(node.func, source) in CALLED:
            named = {keyword.arg or "": _value(keyword.value, source) for keyword in node.keywords}
            return _named(node.func, source)(*(_value(argument, source) for argument in node.args), **named)
    return ast.literal_eval(node)


def _named(node: ast.expr, source: kinds.Source) -> Any:
    """What a name stands for; KeyError if that would need the plug-in's code, or a module of somebody else."""
    dotted = kinds.name_of(node, source)
    if dotted in BUILTIN:
        return BUILTIN[dotted]
    module, _, name = dotted.rpartition(".")
    for statement in () if module else source.tree.body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in statement.targets
        ):
            return _value(statement.value, source)
    ours = module.startswith("cl_semisup.") and module.split(".")[1] in OUR_ROOMS and "__" not in module
    if ours or dotted in CALLED or (module == "typing" and name in FROM_TYPING):
        return getattr(importlib.import_module(module), name)
    raise KeyError(f"{dotted or ast.unparse(node)} is not known without running code")
