"""A file is a plug-in: every public module of an open folder holds one, a public frozen dataclass.

Beside the package's own there are files that the command line names (`add`) and those of installed packages
(`installed`). A plug-in that is no file of this package counts as a user's own. Kinds, names and versions are read from
the files without importing them, so records can be judged without torch.
"""

import ast
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from cl_semisup.errors import InputError, described, stops_process
from cl_semisup.errors import unknown as unknown_name
from cl_semisup.plugins import copies, declared, docstrings, exits, installed, kinds, process_state
from cl_semisup.plugins.canonical import Canonical, written
from cl_semisup.plugins.equivalent import EQUIVALENT_VERSIONS
from cl_semisup.plugins.user_file import UserFile
from cl_semisup.text import guarded

PACKAGE = Path(__file__).parents[1]
FOLDERS = tuple(kinds.SHAPES)
HOW_TO_ADD = "One of your own is named on the command line: --plugin FILE."
MISSING = "missing"  # the version of a plug-in that has no file
_user_files: dict[tuple[str, str], Path] = {}  # (folder, name) -> a user's own file, named on the command line
_not_run: set[tuple[str, str]] = set()  # those of them of which only what their text declares is known
_executed_texts: dict[Path, str] = {}  # file -> its text when this process imported it
_given_texts: dict[Path, str] = {}  # file -> the text that the command has executed, in its workers
_installed_files: dict[str, Path] = {}  # module of a plug-in of another package -> its file


@dataclass(frozen=True)
class PluginField:
    """Marks a field whose value is a plug-in: a name, or one name with its parameters.

    `base: Annotated[Any, PluginField("losses", optional=True)] = "nt_xent"`; optional admits the word `none`. With
    `list_is_set` a list names plug-ins that belong together; it is no grid.
    """

    folder: str
    optional: bool = False
    list_is_set: bool = False


class Plugin(NamedTuple):
    """A plug-in: the folder of its kind, and its name."""

    folder: str
    name: str


def paths(folder: str) -> dict[str, Path]:
    """Name -> file of every plug-in of a kind, those of installed packages and the user's own files included."""
    others = {plugin: found.path for plugin, found in installed.found().items()} | _user_files
    own = {name: path for (of_folder, name), path in others.items() if of_folder == folder}
    for name in _package_paths(folder).keys() & own.keys():
        if other := installed.found().get((folder, name)):
            raise InputError(f"{other.package}: the {noun(folder)} {name!r} exists already. Uninstall that package.")
    return _package_paths(folder) | own


@cache
def _package_paths(folder: str) -> dict[str, Path]:
    return {p.stem: p for p in sorted((PACKAGE / folder).glob("*.py")) if not p.stem.startswith("_")}


def names(folder: str) -> list[str]:
    """The names a suite may use for this folder."""
    return sorted(paths(folder))


def noun(folder: str) -> str:
    """The word for one plug-in of a folder: 'loss' for 'losses'."""
    return kinds.SHAPES[folder][0]


def unknown(folder: str, name: str, more: Sequence[str] = ()) -> str:
    """The message for a name that no plug-in of this kind has; `more` are words that would do too."""
    titles = docstrings.titles({known: summary(folder, known) for known in names(folder)})
    text = unknown_name(noun(folder), name, [*names(folder), *more], titles)
    parts = name.replace(",", " ").split()
    several = len(parts) > 1 and {*parts} <= {*names(folder)}
    return f"{text}. " + (f"Write [{', '.join(parts)}]." if several else HOW_TO_ADD)


def add(path: Path) -> Plugin:
    """Make a user's own file a plug-in; its stem is the name. Its code is run: call this for the command line alone."""
    plugin = register(path)
    try:
        load(*plugin)
    except BaseException:
        _user_files.pop(plugin, None)
        raise
    return plugin


def register(path: Path, run: bool = True) -> Plugin:
    """As `add`, but the file's code is run only when the plug-in is loaded. Its kind is read from its text.

    Without `run` it never is: the class that `load` gives has the fields of the plug-in and no methods (`declared`).
    """
    path = Path(path)
    if not path.is_file() or path.suffix != ".py":
        raise InputError(
            f"{path}: a plug-in is one Python file. Got {'a folder' if path.is_dir() else 'no such file'}."
        )
    name = path.stem
    if not name.isidentifier() or name.startswith("_"):
        raise InputError(f"{path}: the file's stem is the plug-in's name. Got {name!r}. Use letters, digits and _.")
    folder, _ = kinds.kind(kinds.Source.read(path))
    plugin = Plugin(folder, name)
    if (ours := _package_paths(folder).get(name)) and ours.resolve() == path.resolve():
        return plugin  # a contributor checks a file of this package
    if name in paths(folder) and _user_files.get((folder, name)) != path.resolve():
        where = f" ({origin(folder, name)})" if is_users_own(folder, name) else ""
        raise InputError(f"{path}: the {noun(folder)} {name!r} exists already{where}. Rename the file.")
    _user_files[plugin] = path.resolve()
    if run == (plugin in _not_run):
        _not_run.symmetric_difference_update({plugin})
        load.cache_clear()
    return plugin


def user_files(paths: Sequence[Path]) -> tuple[UserFile, ...]:
    """These files, which have been registered, as this process has executed them, whatever they hold now."""
    wanted = {path.resolve() for path in paths}
    return tuple(UserFile(*plugin, file, _text(file)) for plugin, file in _user_files.items() if file in wanted)


def take(file: UserFile) -> None:
    """Register a plug-in as the command has executed it. Its file may have been edited or deleted meanwhile."""
    _user_files[file.folder, file.name] = file.path
    _given_texts[file.path] = file.text


def is_users_own(folder: str, name: str) -> bool:
    """Whether the plug-in is no file of this package: its code may change what others in its process compute."""
    return (folder, name) in _user_files or (folder, name) in installed.found()


def origin(folder: str, name: str) -> str:
    """Where a user's own plug-in comes from: its file, or the package that is installed; "" for one of this package."""
    if (folder, name) in _user_files:
        return str(_user_files[folder, name])
    return installed.found()[folder, name].package if is_users_own(folder, name) else ""


@cache
def load(folder: str, name: str) -> type:
    """The plug-in's class: the one public dataclass defined in its file."""
    path, package = paths(folder).get(name), installed.found().get((folder, name))
    if path is None:
        raise InputError(unknown(folder, name))
    if (folder, name) in _not_run:
        return declared.read(path)
    if (folder, name) in _user_files:
        module = _import_file(path, f"cl_semisup_plugin_{folder}_{name}")
    elif package:
        with _users_code(path):
            _installed_files[package.module] = path
            module = importlib.import_module(package.module)
    else:
        module = importlib.import_module(f"cl_semisup.{folder}.{name}")
    own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    public = [c for c in own if is_dataclass(c) and not c.__name__.startswith("_")]
    if package:
        public = [c for c in public if c.__name__ == package.class_name]
    if len(public) != 1:
        got = f"{len(public)}: {[c.__name__ for c in public]}"
        raise InputError(f"{path}: a plug-in holds one public dataclass. Got {got}.")
    return public[0]


class _Loader(importlib.machinery.SourceFileLoader):
    """Executes the very text that `version` hashes, and no compiled copy: the file may change at any time."""

    def get_code(self, fullname: str) -> CodeType:
        path = Path(self.path)
        text = _given_texts.get(path) or _read(path)
        code: CodeType = self.source_to_code(text, self.path)
        _executed_texts[path] = text
        version.cache_clear()
        return code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the open folders, private ones included, and those of installed plug-ins."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, module = fullname.partition(".")
        folder, _, name = module.partition(".")
        file = _installed_files.get(fullname)
        if package == "cl_semisup" and folder in FOLDERS:
            file = PACKAGE / folder / f"{name}.py"
        if file is None or not file.is_file():
            return None
        inside = [str(file.parent)] if file.name == "__init__.py" else None
        loader = _Loader(fullname, str(file))
        return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=inside)


sys.meta_path.insert(0, _Finder())


def _import_file(path: Path, module_name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, path, loader=_Loader(module_name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up there
    with _users_code(path):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _users_code(path: Path) -> Iterator[None]:
    """Around the import of a user's own file: its errors are told, and what it changes around it is put back."""
    copies.end_where_they_return()
    exits.refuse(path)
    try:
        with process_state.around_import(), exits.without_timers(), guarded():
            yield
    except BaseException as error:
        if type(error) is not KeyboardInterrupt and stops_process(error):
            raise
        raise kinds.cannot_load(path, error, _line_in(error, path)) from error


@contextmanager
def plugin_errors(folder: str, name: str) -> Iterator[None]:
    """Around calls of a plug-in: in a user's own an error of any class becomes an InputError with its place."""
    try:
        with guarded() if is_users_own(folder, name) else nullcontext():
            yield
    except InputError:
        raise
    except BaseException as error:
        if not is_users_own(folder, name) or stops_process(error):
            raise
        path = paths(folder)[name]
        got = f"Got {described(error)}. Mend the {noun(folder)}"
        raise InputError(f"{path}:{_line_in(error, path) or 1}: {name}: must not fail. {got}.") from error


def _line_in(error: BaseException, path: Path) -> int | None:
    """The last line of the user's own file in the error's traceback."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None


@cache
def version(folder: str, name: str) -> str:
    """10 hex digits of what the file does. New comments or moved helpers keep them, a new default does not.

    This is the hash of the syntax tree without comments, docstrings and imports; an imported name is written as in the
    module that defines it (see `canonical`). The folder's private modules that the file imports are hashed with it. A
    version in EQUIVALENT_VERSIONS is replaced by the older one. Of a module that this process has imported the text
    that was executed counts, whatever the file holds now.
    """
    path = paths(folder).get(name)
    code = _own_code(path, folder) if path else []
    if not code:
        return MISSING
    text = "".join([code[0], *sorted(code[1:])])  # the order of imports has no effect
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return EQUIVALENT_VERSIONS.get(digest, digest)


def _own_code(path: Path, folder: str) -> list[str]:
    """The canonical trees of the file and of the private modules of its folder that it imports, directly or not."""
    trees, queue, seen = [], [path], set()
    while queue:
        file = queue.pop(0)
        if file in seen or not (file in _executed_texts or file in _given_texts or file.is_file()):
            continue
        seen.add(file)
        tree = ast.parse(_text(file))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"cl_semisup.{folder}"):
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                private = [str(module).rpartition(".")[2] for module in modules]
                queue += [PACKAGE / folder / f"{stem}.py" for stem in private if stem.startswith("_")]
        trees.append(written(Canonical(tree).visit(tree)))
    return trees


def _text(path: Path) -> str:
    """The text of a plug-in module that this process has executed or was given, else that of the file now."""
    return _executed_texts.get(path) or _given_texts.get(path) or _read(path)


def _read(path: Path) -> str:
    return path.read_text("utf-8-sig")


def field_descriptions(plugin: type) -> dict[str, str]:
    """Field name -> its description in the `Args:` section of the docstring; inherited fields keep theirs."""
    names = {f.name for f in fields(plugin)}
    descriptions: dict[str, str] = {}
    for cls in reversed(plugin.__mro__):
        descriptions |= docstrings.arguments(inspect.cleandoc(vars(cls).get("__doc__") or ""), names)
    return descriptions


def summary(folder: str, name: str) -> str:
    """The first line of the plug-in's docstring, read without importing it."""
    return docstring(folder, name).partition("\n")[0]


def docstring(folder: str, name: str) -> str:
    """The plug-in's docstring, read without importing it."""
    plugin = _class(folder, name)
    return (ast.get_docstring(plugin) or "") if plugin else ""


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
    path, package = paths(folder)[name], installed.found().get((folder, name))
    for node in kinds.dataclasses_of(path, _text(path)):
        if not package or node.name == package.class_name:
            return node
    return None
