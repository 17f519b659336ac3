"""Which kind of plug-in a file holds: one public dataclass, whose methods have the shape of one kind.

This is read from the file's text. Nothing of it is executed, so that a worker knows a user's file by its kind and name,
and executes it only for the runs that use it. Methods that a class inherits count, if the file of its base is found.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cl_semisup.errors import InputError, described
from cl_semisup.plugins import modules

# Folder of the kind -> its word, and what makes a class one of this kind.
SHAPES = {
    "losses": ("loss", "__call__(z1, z2, labels=None) or build(setting)"),
    "datasets": ("dataset", "load(data_dir) and facts(data_dir)"),
    "encoders": ("encoder", "build(channels, side)"),
    "optimizers": ("optimizer", "build(weights, others)"),
    "evaluation": ("probe", "measure(features)"),
    "views": ("view", "view(images, draw)"),
}
TELLING = ("__call__", "build", "load", "facts", "measure", "view")  # the methods that tell kinds apart


@dataclass(frozen=True)
class Method:
    """The parameters of a method, without `self`; `required` of them have no default, `more` stands for `*args`."""

    parameters: tuple[str, ...]
    required: int
    more: bool

    @classmethod
    def of(cls, node: ast.FunctionDef) -> "Method":
        static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
        every = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        names = tuple(every if static else every[1:])
        return cls(names, max(0, len(names) - len(node.args.defaults)), node.args.vararg is not None)

    def takes(self, count: int) -> bool:
        """Can it be called with so many arguments?"""
        return self.required <= count and (self.more or count <= len(self.parameters))


@dataclass(frozen=True)
class Source:
    """A parsed file; `package` is the dotted name of the package that its relative imports start from."""

    path: Path
    tree: ast.Module
    package: str = ""

    @classmethod
    def read(cls, path: Path, module: str = "") -> "Source":
        """Parse a file, that of the module with this dotted name if it has one; InputError if it is no Python."""
        try:
            tree = ast.parse(path.read_text("utf-8-sig"))
        except Exception as error:  # a syntax error, no UTF-8, a null byte, too deep
            raise cannot_load(path, error) from None
        return cls(path, tree, module if path.name == "__init__.py" else module.rpartition(".")[0])


def cannot_load(path: Path, error: BaseException, line: int | None = None) -> InputError:
    """The message of an error in a user's own file."""
    line = getattr(error, "lineno", None) or line or 1
    return InputError(f"{path}:{line}: the plug-in cannot be loaded. {described(error)}")


def public_dataclasses(source: Source) -> list[ast.ClassDef]:
    """The public dataclasses that a file defines at its top level."""
    classes = [node for node in source.tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    return [node for node in classes if is_dataclass(source, node)]


@cache
def dataclasses_of(path: Path, text: str) -> list[ast.ClassDef]:
    """Those of a text, which is parsed once: a suite asks for them in each of its thousands of runs."""
    return public_dataclasses(Source(path, ast.parse(text)))


def kind(source: Source, class_name: str | None = None) -> tuple[str, str]:
    """(folder of the kind, name of the class) of a plug-in's file; InputError unless it fits exactly one kind.

    `class_name` says which of several public dataclasses is meant.
    """
    classes = public_dataclasses(source)
    if class_name is not None:
        classes = [node for node in classes if node.name == class_name]
    if len(classes) != 1:
        what = "one public dataclass" if class_name is None else f"a public dataclass {class_name}"
        got = f"{len(classes)}: {[node.name for node in classes]}"
        raise InputError(f"{source.path}: a plug-in holds {what}. Got {got}.")
    methods = dict(_methods(source, classes[0], set()))
    fits = [folder for folder in SHAPES if _fits(folder, methods)]
    if len(fits) != 1:
        has = ", ".join(f"{name}({', '.join(m.parameters)})" for name, m in sorted(methods.items())) or "none of these"
        kinds = "; ".join(f"{noun}: {shape}" for noun, shape in SHAPES.values())
        like = f", which is like {' and '.join(SHAPES[folder][0] for folder in fits)}" if fits else ""
        got = f"Got {classes[0].name} with {has}{like}. Rename its methods"
        raise InputError(f"{source.path}: a plug-in has the methods of exactly one kind ({kinds}). {got}.")
    return fits[0], classes[0].name


def _fits(folder: str, methods: dict[str, Method]) -> bool:
    def takes(name: str, count: int) -> bool:
        return name in methods and methods[name].takes(count)

    build = methods.get("build")
    first = build.parameters[:2] if build and build.required <= 2 else ()  # three networks are built alike
    match folder:
        case "losses":
            alone = build is not None and build.required == 1 and first not in _BUILT_FROM.values()
            return alone or takes("__call__", 3)
        case "encoders" | "optimizers":
            return first == _BUILT_FROM[folder]
        case "datasets":
            return takes("load", 1) and takes("facts", 1)
        case "evaluation":
            return takes("measure", 1)
    return takes("view", 2)


_BUILT_FROM = {"encoders": ("channels", "side"), "optimizers": ("weights", "others")}


def _methods(source: Source, node: ast.ClassDef, seen: set[tuple[Path, str]]) -> Iterator[tuple[str, Method]]:
    """The telling methods of a class, those of its bases first, so that its own replace them."""
    seen.add((source.path, node.name))
    for at, found in bases(source, node):
        if (at.path, found.name) not in seen:
            yield from _methods(at, found, seen)
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name in TELLING:
            yield member.name, Method.of(member)


def bases(source: Source, node: ast.ClassDef) -> Iterator[tuple[Source, ast.ClassDef]]:
    """The bases of a class whose files are found, the last one first."""
    for base in reversed(node.bases):
        yield from _classes_called(name_of(base, source), source)


def name_of(node: ast.expr, source: Source) -> str:
    """The dotted name that an expression in this file stands for; "" for any other expression."""
    return _dotted(node, _imported(source))


def _classes_called(dotted: str, source: Source) -> Iterator[tuple[Source, ast.ClassDef]]:
    """The class of this name, in the file itself or in the module that the name begins with."""
    module, _, name = dotted.rpartition(".")
    if module:
        path = modules.file_of(module)
        if path is None:
            return
        source = Source.read(path, module)
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield source, node


def _imported(source: Source) -> dict[str, str]:
    """Local name -> dotted name of what a file imports at its top level."""
    names: dict[str, str] = {}
    for node in source.tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            above = source.package.split(".")[: len(source.package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The dotted name that an expression stands for; "" for any other expression."""
    attributes: Sequence[str] = ()
    while isinstance(node, ast.Attribute):
        attributes, node = (node.attr, *attributes), node.value
    return ".".join([names.get(node.id, node.id), *attributes]) if isinstance(node, ast.Name) else ""


def is_dataclass(source: Source, node: ast.ClassDef) -> bool:
    """Whether the class has the decorator, with arguments or without."""
    called = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return any(name_of(decorator, source).rpartition(".")[2] == "dataclass" for decorator in called)
