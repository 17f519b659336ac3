"""A file is a plug-in."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cl_semisup import plugins
from cl_semisup.errors import InputError
from cl_semisup.plugins.canonical import written

LOSS = '''
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    """A loss of one's own.

    Args:
        scale: factor, > 0
            over two lines
    """

    scale: float = 1.0

    def __call__(self, z1, z2, labels=None):
        return (z1 - z2).square().mean() * self.scale
'''


pytestmark = pytest.mark.usefixtures("forget_plugins")


def test_a_users_file_becomes_a_loss_under_its_stem(tmp_path: Path) -> None:
    from cl_semisup import losses

    (tmp_path / "mine.py").write_text(LOSS)
    assert plugins.add(tmp_path / "mine.py") == ("losses", "mine")
    assert "mine" in plugins.names("losses")
    assert plugins.summary("losses", "mine") == "A loss of one's own."
    assert plugins.field_descriptions(plugins.load("losses", "mine")) == {"scale": "factor, > 0 over two lines"}
    assert callable(losses.build("mine", scale=2.0))
    with pytest.raises(InputError, match="loss.mine.scale: must be a valid number"):
        losses.build("mine", scale="2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.py", "def (:\n", "broken.py:1: the plug-in cannot be loaded. SyntaxError"),
        ("failing.py", "x = 1\ny = x / 0\n" + LOSS, "failing.py:2: the plug-in cannot be loaded. ZeroDivisionError"),
        ("empty.py", "", "a plug-in holds one public dataclass. Got 0"),
        ("clop.py", LOSS, "the loss 'clop' exists already. Rename the file."),
        ("not-a-name.py", LOSS, "the file's stem is the plug-in's name. Got 'not-a-name'"),
    ],
)
def test_a_bad_plug_in_file_is_told_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        plugins.add(tmp_path / name)
    assert message in str(caught.value)
    assert Path(name).stem not in plugins.names("losses") or name == "clop.py"


def test_a_file_of_the_package_can_be_named_and_stays_the_packages() -> None:
    assert plugins.add(plugins.paths("views")["solarize"]) == ("views", "solarize")
    assert not plugins.is_users_own("views", "solarize")


def test_a_missing_plug_in_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a plug-in is one Python file. Got no such file"):
        plugins.add(tmp_path / "none.py")


def test_rewording_keeps_a_version_and_a_changed_default_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(content: str) -> str:
        (tmp_path / "mine.py").write_text(content)
        plugins.version.cache_clear()
        plugins.load.cache_clear()
        plugins.add(tmp_path / "mine.py")
        return plugins.version("losses", "mine")

    first = version(LOSS)
    assert version(LOSS.replace("A loss of one's own.", "Reworded.") + "\n# a comment\n") == first
    changed = version(LOSS.replace("1.0", "2.0"))
    assert changed != first
    monkeypatch.setattr(plugins, "EQUIVALENT_VERSIONS", {changed: first})
    assert version(LOSS.replace("1.0", "2.0")) == first


def test_a_version_does_not_depend_on_the_version_of_python() -> None:
    """Python 3.12 knows type parameters and puts empty texts into f-strings, Python 3.13 leaves out empty lists."""
    tree = ast.parse('def f(x: int = None) -> str:\n    return f"{x:>{2}} a" f"{x}" "" + str([None, 1.5])')
    later = ast.parse(ast.unparse(tree))
    (function,) = later.body
    function.type_params = []  # type: ignore[attr-defined]
    joined = next(node for node in ast.walk(later) if isinstance(node, ast.JoinedStr))
    joined.values.append(ast.Constant(""))
    argument = "arg(arg='x', annotation=Name(id='int', ctx=Load()))"
    width = "JoinedStr(values=[Constant(value='>'), FormattedValue(value=Constant(value=2), conversion=-1)])"
    texts = (
        f"FormattedValue(value=Name(id='x', ctx=Load()), conversion=-1, format_spec={width}), Constant(value=' a'), "
        "FormattedValue(value=Name(id='x', ctx=Load()), conversion=-1)"
    )
    called = (
        "Call(func=Name(id='str', ctx=Load()), args=[List(elts=[Constant(value=None), Constant(value=1.5)], "
        "ctx=Load())], keywords=[])"
    )
    expected = (
        f"Module(body=[FunctionDef(name='f', args=arguments(posonlyargs=[], args=[{argument}], kwonlyargs=[], "
        "kw_defaults=[], defaults=[Constant(value=None)]), "
        f"body=[Return(value=BinOp(left=JoinedStr(values=[{texts}]), op=Add(), right={called}))], "
        "decorator_list=[], returns=Name(id='str', ctx=Load()))], type_ignores=[])"
    )
    assert written(tree) == written(later) == expected
    if sys.version_info[:2] == (3, 11):
        assert ast.dump(tree) == expected


@pytest.mark.parametrize("folder", plugins.FOLDERS)
def test_every_plug_in_says_what_it_is_and_what_its_settings_mean(folder: str) -> None:
    from cl_semisup.config import grid

    for name in plugins.names(folder):
        plugin = plugins.load(folder, name)
        assert plugins.summary(folder, name), name
        assert set(plugins.field_descriptions(plugin)) == set(grid.annotations(plugin)), name
        grid.defaults(plugin)  # a default that breaks its own rule raises


def test_a_private_module_beside_a_plug_in_counts_in_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "losses"
    folder.mkdir()
    (folder / "mine.py").write_text("from cl_semisup.losses._shared import f\n" + LOSS)
    versions = []
    monkeypatch.setattr(plugins, "PACKAGE", tmp_path)
    monkeypatch.setattr(plugins, "_package_paths", plugins._package_paths.__wrapped__)
    for content in ("f = 1", "f = 1  # reworded", "f = 2"):
        (folder / "_shared.py").write_text(content)
        plugins.version.cache_clear()
        versions.append(plugins.version("losses", "mine"))
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize("name", plugins.names("evaluation"))
def test_what_a_probe_declares_is_known_without_importing_it(name: str) -> None:
    assert plugins.class_variable("evaluation", name, "default", True) is getattr(
        plugins.load("evaluation", name), "default", True
    )
    assert plugins.class_variable("evaluation", name, "no_such_variable", 7) == 7


def test_a_file_is_parsed_once_however_often_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 cells ask what their probes declare: parsed each time, `check` took 25 s of them."""
    calls: list[object] = []
    whole = plugins.kinds.public_dataclasses
    monkeypatch.setattr(plugins.kinds, "public_dataclasses", lambda source: calls.append(source) or whole(source))
    plugins.kinds.dataclasses_of.cache_clear()
    for name in ("default", "datasets_optional", "inputs"):
        plugins.class_variable("evaluation", "linear", name, None)
    assert len(calls) == 1


EDIT = """
import sys
from pathlib import Path
from cl_semisup import plugins

folder, name, file, old, new = sys.argv[1:]
if folder == "losses":
    plugins.register(Path(file))
text = Path(file).read_text()
assert old in text
stale = plugins.version(folder, name)  # of the file: nothing is imported yet
Path(file).write_text(text + "x = 1")
plugins.load(folder, name)
executed = plugins.version(folder, name)
Path(file).write_text(text.replace(old, new))
print(stale == executed, plugins.version(folder, name) == executed)
"""


@pytest.mark.parametrize(
    ("folder", "name", "file", "old", "new"),
    [
        ("datasets", "digits", "cl_semisup/datasets/digits.py", "def facts", "def facta"),  # a plug-in
        ("datasets", "cifar10", "cl_semisup/datasets/_sources.py", "def ", "def x"),  # a private module beside it
        ("losses", "mine", "mine.py", "1.0", "2.0"),  # a user's own file
    ],
)
def test_a_version_is_that_of_the_code_which_this_process_executes(
    tmp_path: Path, folder: str, name: str, file: str, old: str, new: str
) -> None:
    shutil.copytree(plugins.PACKAGE, tmp_path / "cl_semisup", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "mine.py").write_text(LOSS)

    def run(program: str, *words: str) -> str:
        command = [sys.executable, "-c", program, *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    read = "import pathlib; from cl_semisup import plugins; plugins.register(pathlib.Path('mine.py')); "
    read += f"print(plugins.version({folder!r}, {name!r}))"
    first = run(read)
    assert run(EDIT, folder, name, file, old, new) == "False True"
    assert run(read) != first  # a process that only reads records compares with the file
