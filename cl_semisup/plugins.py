"""A file is a plug-in: a folder's public modules are its choices, and each holds one public frozen dataclass.

Listing and versions read the files only; nothing is imported, so records can be judged without torch.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cl_semisup.errors import InputError, unknown

PACKAGE = Path(__file__).parent
FOLDERS = ("losses", "datasets", "encoders", "optimizers", "evaluation")
MISSING = "missing"  # the version of a plug-in whose file is not here

# Versions that only made an older one faster or tidier -> the one whose scores they give: its records stay current.
# A test must show that results are equal; where a figure could move, records have to become stale instead.
EQUIVALENT_VERSIONS: dict[str, str] = {
    "1e95a48ddc": "c85a2c9f2c",  # datasets/digits.py tells the sizes of its classes; its images are the same
    "d33b3531d7": "7910b8f52b",  # encoders/convnet.py pools before it rectifies; features and gradients are the same
    "dcf16c79c4": "7910b8f52b",  # and its spatial mean looks at channels last; the same again
    "3b4ae30dc6": "7910b8f52b",  # and has a file of its own
}
_outside: dict[tuple[str, str], Path] = {}  # (folder, name) -> a user's own file, named on the command line


@dataclass(frozen=True)
class Choice:
    """Marks a field whose value is a plug-in: a name, or one name with its parameters.

    `base: Annotated[Any, Choice("losses", optional=True)] = "nt_xent"`; optional admits the word `none`. With `several`
    a list names plug-ins that belong together and is no grid.
    """

    folder: str
    optional: bool = False
    several: bool = False


def paths(folder: str) -> dict[str, Path]:
    """Every plug-in of a folder: name -> file, the user's own files included."""
    inside = {p.stem: p for p in sorted((PACKAGE / folder).glob("*.py")) if not p.stem.startswith("_")}
    return inside | {name: path for (where, name), path in _outside.items() if where == folder}


def names(folder: str) -> list[str]:
    """The names a suite may use for this folder."""
    return sorted(paths(folder))


def kind(folder: str) -> str:
    """The word for one plug-in of a folder: 'loss' for 'losses'."""
    return {"losses": "loss", "evaluation": "probe"}.get(folder, folder.removesuffix("s"))


def add(path: Path, folder: str = "losses") -> str:
    """Make a user's own file a plug-in under its stem. Its code runs here, so only the command line may ask."""
    path = Path(path)
    if not path.is_file() or path.suffix != ".py":
        raise InputError(
            f"{path}: a plug-in is one Python file. Got {'a folder' if path.is_dir() else 'no such file'}."
        )
    name = path.stem
    if not name.isidentifier() or name.startswith("_"):
        raise InputError(f"{path}: the file's stem is the plug-in's name. Got {name!r}. Use letters, digits and _.")
    if name in paths(folder) and _outside.get((folder, name)) != path.resolve():
        raise InputError(f"{path}: the {kind(folder)} {name!r} exists already. Rename the file.")
    _outside[folder, name] = path.resolve()
    try:
        load(folder, name)
    except BaseException:
        del _outside[folder, name]
        raise
    return name


@cache
def load(folder: str, name: str) -> type:
    """The one public dataclass defined in the plug-in's file."""
    path = paths(folder).get(name)
    if path is None:
        raise InputError(unknown(kind(folder), name, names(folder)))
    if (folder, name) in _outside:
        module = _import_file(path, f"cl_semisup_plugin_{folder}_{name}")
    else:
        module = importlib.import_module(f"cl_semisup.{folder}.{name}")
    found = [
        c
        for c in vars(module).values()
        if inspect.isclass(c) and is_dataclass(c) and c.__module__ == module.__name__ and not c.__name__.startswith("_")
    ]
    if len(found) != 1:
        raise InputError(
            f"{path}: a plug-in holds one public dataclass. Got {len(found)}: {[c.__name__ for c in found]}."
        )
    return found[0]


def _import_file(path: Path, module_name: str) -> Any:
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None  # a path that ends in .py always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        line = getattr(error, "lineno", None) or _line_in(error, path)
        raise InputError(
            f"{path}:{line or 1}: the plug-in cannot be loaded. {type(error).__name__}: {error}"
        ) from error
    return module


def _line_in(error: BaseException, path: Path) -> int | None:
    """The last line of the user's own file on the way to the error."""
    lines, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines[-1] if lines else None


@cache
def version(folder: str, name: str) -> str:
    """10 hex digits of what the file does: rewording or moving code keeps it, a changed default does not.

    Hashed is the syntax tree without comments, docstrings and imports; an imported name counts as what it is called
    where it is defined, wherever that is (see `_Canonical`). The folder's private modules that the file imports count
    as part of it. Versions in EQUIVALENT_VERSIONS are told as the one that they equal.
    """
    path = paths(folder).get(name)
    if path is None:
        return MISSING
    own, *private = _own_code(path, folder)
    text = "".join([own, *sorted(private)])  # sorted: the order of imports says nothing
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return EQUIVALENT_VERSIONS.get(digest, digest)


def _own_code(path: Path, folder: str) -> list[str]:
    """The file's canonical tree, then those of the private modules beside it that it imports, directly or not."""
    found, waiting, seen = [], [path], set()
    while waiting:
        file = waiting.pop(0)
        if file in seen or not file.exists():
            continue
        seen.add(file)
        tree = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"cl_semisup.{folder}"):
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                private = [str(module).rpartition(".")[2] for module in modules]
                waiting += [PACKAGE / folder / f"{word}.py" for word in private if word.startswith("_")]
        found.append(ast.dump(_Canonical(tree).visit(tree)))
    return found


class _Canonical(ast.NodeTransformer):
    """A tree without docstrings and imports, each imported name written as the thing it stands for.

    `F.normalize` and `functional.normalize` become `torch.nn.functional.normalize`, by whatever import they came. Of
    this package only the name is kept (`unit` of `contrast.unit`, `u` of `import unit as u`), so a helper may move.
    """

    def __init__(self, tree: ast.Module):
        self.imported: dict[str, str] = {}  # local name -> dotted name
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    whole = alias.name if alias.asname else alias.name.partition(".")[0]
                    self.imported[alias.asname or whole] = whole
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
        words, value = [node.attr], node.value
        while isinstance(value, ast.Attribute):
            words, value = [value.attr, *words], value.value
        if isinstance(value, ast.Name) and value.id in self.imported:
            return ast.Name(_without_package(".".join([self.imported[value.id], *words])), node.ctx)
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        body = getattr(node, "body", None)
        if isinstance(body, list):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            first = body[0] if body and documented else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                body = body[1:]
            kept = [statement for statement in body if not isinstance(statement, ast.Import | ast.ImportFrom)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
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


def meanings(plugin: type) -> dict[str, str]:
    """What each field means, from the `Args:` section of the docstring: the one place where it is written."""
    wanted = {f.name for f in fields(plugin)}
    found: dict[str, str] = {}
    last = None
    for line in inspect.cleandoc(plugin.__doc__ or "").partition("Args:")[2].splitlines():
        word, colon, text = line.strip().partition(":")
        if colon and word in wanted:
            last, found[word] = word, text.strip()
        elif last and line.strip():
            found[last] += " " + line.strip()
        else:
            last = None
    return found


def summary(folder: str, name: str) -> str:
    """The first line of the plug-in's docstring, read without importing it."""
    plugin = _class(folder, name)
    return (ast.get_docstring(plugin) or "").splitlines()[0] if plugin else ""


def declared(folder: str, name: str, variable: str, otherwise: Any) -> Any:
    """A plain class variable of the plug-in, read without importing it."""
    plugin = _class(folder, name)
    for node in plugin.body if plugin else []:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == variable for target in targets):
                return ast.literal_eval(node.value)
    return otherwise


def _class(folder: str, name: str) -> ast.ClassDef | None:
    """The plug-in's own class, of which nothing has been executed."""
    for node in ast.parse(paths(folder)[name].read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and ast.get_docstring(node):
            return node
    return None
