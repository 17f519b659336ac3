"""A file is a plug-in: every public module of an open folder holds one, a public frozen dataclass.

Names and versions are read from the files without importing them, so records can be judged without torch.
"""

import ast
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from cl_semisup.errors import InputError, message, stops_process, unknown

PACKAGE = Path(__file__).parent
FOLDERS = ("losses", "datasets", "encoders", "optimizers", "evaluation")
MISSING = "missing"  # the version of a plug-in that has no file

# Version -> older version that gives the same scores: records of the older one stay current.
# A test must show that results are equal; where a score could change, records must become stale instead.
EQUIVALENT_VERSIONS: dict[str, str] = {
    "691ec26ddb": "eac5ac2a29",  # arrays: more kinds of damage are refused in words
    "4485bb8f0d": "363c6034f5",  # cifar10: more kinds of damage are refused in words
    "0b8ef34fe2": "cb63172419",  # cifar100: more kinds of damage are refused in words
    "b6eb996ebd": "3b4d079163",  # fashion_mnist: more kinds of damage are refused in words
    "048c9d37b6": "532fa67430",  # image_folder: more kinds of damage are refused in words
    "4d1672ed50": "bb524c4032",  # mnist: more kinds of damage are refused in words
    "ea0c3736d1": "63322448b0",  # stl10: more kinds of damage are refused in words
    "ec9b3c8ba8": "66e2f9e5a7",  # svhn: more kinds of damage are refused in words
}
_user_files: dict[tuple[str, str], Path] = {}  # (folder, name) -> a user's own file, named on the command line
_environment_before: dict[str, str | None] = {}  # variable that a user's own file has changed -> its value before
_executed_texts: dict[Path, str] = {}  # file -> its text when this process imported it


@dataclass(frozen=True)
class PluginField:
    """Marks a field whose value is a plug-in: a name, or one name with its parameters.

    `base: Annotated[Any, PluginField("losses", optional=True)] = "nt_xent"`; optional admits the word `none`. With
    `list_is_set` a list names plug-ins that belong together; it is no grid.
    """

    folder: str
    optional: bool = False
    list_is_set: bool = False


def paths(folder: str) -> dict[str, Path]:
    """Name -> file of every plug-in of a folder, the user's own files included."""
    return _package_paths(folder) | {
        name: path for (of_folder, name), path in _user_files.items() if of_folder == folder
    }


@cache
def _package_paths(folder: str) -> dict[str, Path]:
    return {p.stem: p for p in sorted((PACKAGE / folder).glob("*.py")) if not p.stem.startswith("_")}


def names(folder: str) -> list[str]:
    """The names a suite may use for this folder."""
    return sorted(paths(folder))


def noun(folder: str) -> str:
    """The word for one plug-in of a folder: 'loss' for 'losses'."""
    return {"losses": "loss", "evaluation": "probe"}.get(folder, folder.removesuffix("s"))


def add(path: Path, folder: str = "losses") -> str:
    """Make a user's own file a plug-in; its stem is the name. Its code is run: call this for the command line alone."""
    name = register(path, folder)
    try:
        load(folder, name)
    except BaseException:
        del _user_files[folder, name]
        raise
    return name


def register(path: Path, folder: str = "losses") -> str:
    """As `add`, but the file's code is run only when the plug-in is loaded."""
    path = Path(path)
    if not path.is_file() or path.suffix != ".py":
        raise InputError(
            f"{path}: a plug-in is one Python file. Got {'a folder' if path.is_dir() else 'no such file'}."
        )
    name = path.stem
    if not name.isidentifier() or name.startswith("_"):
        raise InputError(f"{path}: the file's stem is the plug-in's name. Got {name!r}. Use letters, digits and _.")
    if name in paths(folder) and _user_files.get((folder, name)) != path.resolve():
        raise InputError(f"{path}: the {noun(folder)} {name!r} exists already. Rename the file.")
    _user_files[folder, name] = path.resolve()
    return name


def is_users_own(folder: str, name: str) -> bool:
    """Whether the plug-in is a user's own file, whose code may change what others in its process compute."""
    return (folder, name) in _user_files


@cache
def load(folder: str, name: str) -> type:
    """The one public dataclass defined in the plug-in's file."""
    path = paths(folder).get(name)
    if path is None:
        raise InputError(unknown(noun(folder), name, names(folder)))
    if (folder, name) in _user_files:
        module = _import_file(path, f"cl_semisup_plugin_{folder}_{name}")
    else:
        module = importlib.import_module(f"cl_semisup.{folder}.{name}")
    own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    public = [c for c in own if is_dataclass(c) and not c.__name__.startswith("_")]
    if len(public) != 1:
        got = f"{len(public)}: {[c.__name__ for c in public]}"
        raise InputError(f"{path}: a plug-in holds one public dataclass. Got {got}.")
    return public[0]


class _Loader(importlib.machinery.SourceFileLoader):
    """Executes the very text that `version` hashes, and no compiled copy: the file may change at any time."""

    def get_code(self, fullname: str) -> CodeType:
        path = Path(self.path)
        text = _read(path)
        code: CodeType = self.source_to_code(text, self.path)
        _executed_texts[path] = text
        version.cache_clear()
        return code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the open folders, private ones included."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, module = fullname.partition(".")
        folder, _, name = module.partition(".")
        file = PACKAGE / folder / f"{name}.py"
        if package != __package__ or folder not in FOLDERS or not file.is_file():
            return None
        return importlib.util.spec_from_file_location(fullname, file, loader=_Loader(fullname, str(file)))


sys.meta_path.insert(0, _Finder())


def _import_file(path: Path, module_name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, path, loader=_Loader(module_name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up there
    folder, environment = os.getcwd(), dict(os.environ)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        if type(error) is not KeyboardInterrupt and stops_process(error):
            raise
        line = getattr(error, "lineno", None) or _line_in(error, path)
        raise InputError(
            f"{path}:{line or 1}: the plug-in cannot be loaded. {type(error).__name__}: {message(error)}"
        ) from error
    finally:
        os.chdir(folder)  # a relative path of a suite must keep its meaning
        for variable in environment.keys() | os.environ.keys():
            if environment.get(variable) != os.environ.get(variable):
                _environment_before.setdefault(variable, environment.get(variable))
    return module


def environment_before_plugins() -> dict[str, str]:
    """The process's environment without what users' own files have changed in it."""
    before = {name: _environment_before.get(name, value) for name, value in (os.environ | _environment_before).items()}
    return {name: value for name, value in before.items() if value is not None}


def _line_in(error: BaseException, path: Path) -> int | None:
    """The last line of the user's own file in the error's traceback."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None


@cache
def version(folder: str, name: str) -> str:
    """10 hex digits of what the file does. New comments or moved helpers keep them, a new default does not.

    This is the hash of the syntax tree without comments, docstrings and imports; an imported name is written as in the
    module that defines it (see `_Canonical`). The folder's private modules that the file imports are hashed with it. A
    version in EQUIVALENT_VERSIONS is replaced by the older one. Of a module that this process has imported the text
    that was executed counts, whatever the file holds now.
    """
    path = paths(folder).get(name)
    if path is None:
        return MISSING
    own, *private = _own_code(path, folder)
    text = "".join([own, *sorted(private)])  # the order of imports has no effect
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return EQUIVALENT_VERSIONS.get(digest, digest)


def _own_code(path: Path, folder: str) -> list[str]:
    """The canonical trees of the file and of the private modules of its folder that it imports, directly or not."""
    trees, queue, seen = [], [path], set()
    while queue:
        file = queue.pop(0)
        if file in seen or not file.exists():
            continue
        seen.add(file)
        tree = ast.parse(_text(file))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"cl_semisup.{folder}"):
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                private = [str(module).rpartition(".")[2] for module in modules]
                queue += [PACKAGE / folder / f"{stem}.py" for stem in private if stem.startswith("_")]
        trees.append(ast.dump(_Canonical(tree).visit(tree)))
    return trees


def _text(path: Path) -> str:
    """The text of a plug-in module that this process has executed, else that of the file now."""
    return _executed_texts.get(path) or _read(path)


def _read(path: Path) -> str:
    return path.read_text("utf-8-sig")


class _Canonical(ast.NodeTransformer):
    """A tree without docstrings and imports; each imported name is written in full.

    `F.normalize` and `functional.normalize` become `torch.nn.functional.normalize`. Names of this package lose their
    module (`contrast.unit` becomes `unit`), so that a helper can move to another module.
    """

    def __init__(self, tree: ast.Module):
        self.imported: dict[str, str] = {}  # local name -> dotted name
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    dotted = alias.name if alias.asname else alias.name.partition(".")[0]
                    self.imported[alias.asname or dotted] = dotted
            elif isinstance(node, ast.ImportFrom):
                ours = (node.module or "").startswith("cl_semisup")
                for alias in node.names:
                    module = ours and _module_file(f"{node.module}.{alias.name}")
                    whole = alias.name if ours and not module else f"{node.module}.{alias.name}"
                    self.imported[alias.asname or alias.name] = whole

    def visit_Name(self, node: ast.Name) -> ast.Name:
        dotted = self.imported.get(node.id)
        return ast.Name(_without_package(dotted), node.ctx) if dotted else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        attributes, value = [node.attr], node.value
        while isinstance(value, ast.Attribute):
            attributes, value = [value.attr, *attributes], value.value
        if isinstance(value, ast.Name) and value.id in self.imported:
            return ast.Name(_without_package(".".join([self.imported[value.id], *attributes])), node.ctx)
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        body = getattr(node, "body", None)
        if isinstance(body, list):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            first = body[0] if body and documented else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                body = body[1:]
            body = [statement for statement in body if not isinstance(statement, ast.Import | ast.ImportFrom)]
            node.body = body or [ast.Pass()]  # type: ignore[attr-defined]
        return super().generic_visit(node)


def _without_package(dotted: str) -> str:
    """Of a name of this package what follows its module; other names whole."""
    words = dotted.split(".")
    if words[0] != "cl_semisup":
        return dotted
    modules = [n for n in range(1, len(words)) if _module_file(".".join(words[:n]))]
    return ".".join(words[max(modules, default=1) :])


def _module_file(dotted: str) -> bool:
    """Is this a module or a folder of the package?"""
    path = PACKAGE.parent.joinpath(*dotted.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def field_descriptions(plugin: type) -> dict[str, str]:
    """Field name -> its description in the `Args:` section of the docstring."""
    names = {f.name for f in fields(plugin)}
    descriptions: dict[str, str] = {}
    last = None
    for line in inspect.cleandoc(plugin.__doc__ or "").partition("Args:")[2].splitlines():
        word, colon, text = line.strip().partition(":")
        if colon and word in names:
            last, descriptions[word] = word, text.strip()
        elif last and line.strip():
            descriptions[last] += " " + line.strip()
        else:
            last = None
    return descriptions


def summary(folder: str, name: str) -> str:
    """The first line of the plug-in's docstring, read without importing it."""
    plugin = _class(folder, name)
    return (ast.get_docstring(plugin) or "").splitlines()[0] if plugin else ""


def class_variable(folder: str, name: str, variable: str, default: Any) -> Any:
    """A class variable of the plug-in whose value is a literal, read without importing it."""
    plugin = _class(folder, name)
    for node in plugin.body if plugin else []:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == variable for target in targets):
                return ast.literal_eval(node.value)
    return default


def _class(folder: str, name: str) -> ast.ClassDef | None:
    """The syntax tree of the plug-in's class."""
    for node in ast.parse(_text(paths(folder)[name])).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and ast.get_docstring(node):
            return node
    return None
