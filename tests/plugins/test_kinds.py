"""The kind of a plug-in is read from its text: exactly one of six, or a message that names them all."""

from pathlib import Path

import numpy as np
import pytest

from cl_semisup import cli, plugins
from cl_semisup.errors import InputError, SuiteError
from cl_semisup.plugins import kinds, modules
from cl_semisup.results.data_hashes import DataHashes
from cl_semisup.suite import suite

pytestmark = pytest.mark.usefixtures("forget_plugins")

CLASS = """\
import dataclasses as d
from dataclasses import dataclass
{imports}
@dataclass(frozen=True)
class Mine{bases}:
    \"\"\"Mine.\"\"\"
    view: int = 0
{body}
"""


def write(folder: Path, body: str, bases: str = "", imports: str = "") -> Path:
    path = folder / "mine.py"
    path.write_text(CLASS.format(body=body, bases=bases, imports=imports))
    return path


def define(*signatures: str) -> str:
    return "\n".join(f"    def {signature}: ...\n" for signature in signatures)


@pytest.mark.parametrize(
    ("signatures", "folder"),
    [
        (["__call__(self, z1, z2, labels=None)"], "losses"),
        (["__call__(self, z1, z2, labels=None, *, epoch)", "per_image(self, z1, z2)"], "losses"),
        (["build(self, setting)"], "losses"),
        (["build(self, s)", "__call__(self, z1, z2, labels)"], "losses"),
        (["build(self, channels, side)"], "encoders"),
        (["build(self, channels: int, side: int = 32, extra=1)"], "encoders"),
        (["build(self, weights, others)"], "optimizers"),
        (["load(self, data_dir)", "facts(self, data_dir)", "data_files(self, data_dir)"], "datasets"),
        (["measure(self, features)"], "evaluation"),
        (["view(self, images, draw)"], "views"),
    ],
)
def test_each_kind_is_known_by_its_methods(tmp_path: Path, signatures: list[str], folder: str) -> None:
    assert plugins.register(write(tmp_path, define(*signatures))) == (folder, "mine")


@pytest.mark.parametrize(
    ("signatures", "words"),
    [
        ([], "Got Mine with none of these. Rename its methods."),
        (["score(self, features)"], "Got Mine with none of these."),
        (["build(self, width, height)"], "Got Mine with build(width, height)."),
        (["build(self, a, b, c)"], "Got Mine with build(a, b, c)."),
        (["build(self, *sizes)"], "Got Mine with build()."),
        (["build(self)"], "Got Mine with build()."),
        (["__call__(self, z)"], "Got Mine with __call__(z)."),
        (["load(self, data_dir)"], "Got Mine with load(data_dir)."),
        (["measure(self, a, b)"], "Got Mine with measure(a, b)."),
        (
            ["measure(self, features)", "view(self, images, draw)"],
            "Got Mine with measure(features), view(images, draw), which is like probe and view.",
        ),
        (
            ["__call__(self, z1, z2, labels=None)", "build(self, channels, side)"],
            "Got Mine with __call__(z1, z2, labels), build(channels, side), which is like loss and encoder.",
        ),
    ],
)
def test_no_kind_is_guessed(tmp_path: Path, signatures: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        plugins.register(write(tmp_path, define(*signatures)))
    rule = "a plug-in has the methods of exactly one kind (loss: __call__(z1, z2, labels=None) or build(setting); "
    rule += "dataset: load(data_dir) and facts(data_dir); encoder: build(channels, side); "
    rule += "optimizer: build(weights, others); probe: measure(features); view: view(images, draw)). "
    assert str(caught.value).startswith(f"{tmp_path}/mine.py: {rule}{words}")


@pytest.mark.parametrize("folder", plugins.FOLDERS)
def test_the_text_of_every_plug_in_of_the_package_says_its_kind(folder: str) -> None:
    for name, path in plugins.paths(folder).items():
        source = kinds.Source.read(path, f"cl_semisup.{folder}.{name}")
        assert kinds.kind(source) == (folder, plugins.load(folder, name).__name__)


@pytest.mark.parametrize(
    ("imports", "bases", "folder"),
    [
        ("from cl_semisup.datasets import Generated", "(Generated)", "datasets"),
        ("from cl_semisup import datasets as there", "(there.Generated)", "datasets"),
        ("import cl_semisup.datasets", "(cl_semisup.datasets.Generated)", "datasets"),
        ("class Above:\n    def measure(self, features): ...\n", "(Above)", "evaluation"),
        ("class A:\n    def view(self, images, draw): ...\n\nclass B(A): ...\n", "(B)", "views"),
    ],
)
def test_inherited_methods_count(tmp_path: Path, imports: str, bases: str, folder: str) -> None:
    body = "    def load(self, data_dir): ..." if folder == "datasets" else ""
    assert plugins.register(write(tmp_path, body, bases, imports)).folder == folder


def test_an_own_method_replaces_an_inherited_one(tmp_path: Path) -> None:
    above = "class Above:\n    def build(self, weights, others): ...\n"
    assert plugins.register(write(tmp_path, define("build(self, setting)"), "(Above)", above)).folder == "losses"


def test_bases_that_are_not_found_or_lead_to_themselves_are_left_out(tmp_path: Path) -> None:
    for imports, bases in (
        ("from no_such_module import Base", "(Base)"),
        ("from json import NoSuchClass", "(NoSuchClass)"),
        ("", "(d.no.such)"),
        ("", "(list[int], Mine)"),
    ):
        body = define("view(self, images, draw)")
        assert plugins.register(write(tmp_path, body, bases, imports)).folder == "views"


def test_reading_a_kind_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "was_run"
    path = write(
        tmp_path, define("measure(self, features)"), imports=f"__import__('pathlib').Path({str(mark)!r}).touch()"
    )
    assert plugins.register(path) == ("evaluation", "mine")
    assert plugins.summary("evaluation", "mine") == "Mine."
    assert not mark.exists()
    plugins.add(path)
    assert mark.exists()


def test_the_decorator_may_have_another_name_and_other_classes_do_not_count(tmp_path: Path) -> None:
    path = write(tmp_path, define("measure(self, features)"), imports="class Public: ...\n\nclass _P: ...\n")
    for decorator in ("@d.dataclass", "@d.dataclass(frozen=True)"):
        path.write_text(path.read_text().replace("@dataclass(frozen=True)", decorator))
        assert plugins.register(path).folder == "evaluation"
    path.write_text(path.read_text() + "\n@dataclass\nclass Second:\n    ...\n")
    with pytest.raises(InputError, match=r"one public dataclass. Got 2: \['Mine', 'Second'\]"):
        plugins.register(path)


def test_a_probe_and_a_loss_may_have_one_name(tmp_path: Path) -> None:
    for folder, signature in (("a", "measure(self, features)"), ("b", "__call__(self, z1, z2, labels=None)")):
        (tmp_path / folder).mkdir()
        plugins.add(write(tmp_path / folder, define(signature)))
    assert "mine" in plugins.names("evaluation")
    assert "mine" in plugins.names("losses")


@pytest.mark.parametrize("module", ["json.decoder", "cl_semisup.losses.clop", "cl_semisup", "tests.helpers"])
def test_a_modules_file_is_found_without_importing_it(module: str) -> None:
    import importlib

    assert modules.file_of(module) == Path(importlib.import_module(module).__file__ or "")


@pytest.mark.parametrize("module", ["no_such_module", "json.no_such", "json.decoder.no_such", "math"])
def test_what_has_no_python_file_is_not_found(module: str) -> None:
    assert modules.file_of(module) is None


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("losses: [nt_xent, clop]", "losses: my_loss", "losses: unknown loss 'my_loss'."),
        ("encoder: {mlp: {width: 16, layers: 1}}", "encoder: my_net", "encoder: unknown encoder 'my_net'."),
        ("datasets: digits", "datasets: my_data", "datasets: unknown dataset 'my_data'."),
        ("epochs: 1", "epochs: 1\noptimizer: my_step", "optimizer: unknown optimizer 'my_step'."),
        ("epochs: 1", "epochs: 1\nprobes: {my_probe: {}}", "probes: unknown probe 'my_probe'."),
        ("epochs: 1", "epochs: 1\nviews: {crop_and_color: {}, my_view: {}}", "unknown view 'my_view'."),
    ],
)
def test_a_suite_that_names_a_file_which_is_not_given_says_how(text: str, old: str, new: str, place: str) -> None:
    with pytest.raises(SuiteError) as caught:
        suite.parse(text.replace(old, new), "s.yaml")
    assert place in str(caught.value)
    assert "One of your own is named on the command line: --plugin FILE." in str(caught.value)


@pytest.mark.parametrize(
    ("signatures", "old", "new", "words"),
    [
        (
            ["load(self, data_dir)", "facts(self, data_dir)"],
            "datasets: digits",
            "datasets: mine",
            "s.yaml:2:11: datasets: {path}:8: mine: must not fail. Got ZeroDivisionError: division by zero.",
        ),
        (
            ["build(self, channels, side)"],
            "encoder: {mlp: {width: 16, layers: 1}}",
            "encoder: mine",
            "{path}:8: mine: must not fail. Got ZeroDivisionError: division by zero. Mend the encoder.",
        ),
        (
            ["measure(self, features)"],
            "epochs: 1",
            "epochs: 1\nprobes: {mine: {}}",
            "{path}:1: mine: must not fail. Got AttributeError: type object 'Mine' has no attribute 'scores'.",
        ),
    ],
)
def test_an_error_in_a_plug_in_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, signatures: list[str], old: str, new: str, words: str
) -> None:
    body = "".join(f"    def {signature}: 1 / 0\n" for signature in reversed(signatures))
    path = write(tmp_path, body)
    (tmp_path / "s.yaml").write_text(text.replace(old, new))
    arguments = ["check", str(tmp_path / "s.yaml"), "--plugin", str(path), "--results", str(tmp_path / "results")]
    assert cli.main(arguments) == cli.BAD_INPUT
    assert words.format(path=path) in capsys.readouterr().err


def test_files_of_a_users_data_set_take_part_in_the_data_hash(tmp_path: Path) -> None:
    load = "    def load(self, data_dir):\n        x = np.load(data_dir / 'x.npy')\n"
    load += "        return Images(x, np.arange(4) % 2, x, np.arange(4) % 2, ('a', 'b'))\n"
    imports = (
        "import numpy as np\nfrom cl_semisup.data.images import Images\nfrom cl_semisup.datasets import Generated\n"
    )
    body = load + "    def data_files(self, data_dir):\n        return (data_dir / 'x.npy',)\n"
    plugins.add(write(tmp_path, body, "(Generated)", imports))
    hashes = []
    for value in (0, 1, 1):
        np.save(tmp_path / "x.npy", np.full((4, 1, 4, 4), value, np.uint8))
        hashes.append(DataHashes(str(tmp_path)).current({"mine": {"view": 0}}))
    assert hashes[0] != hashes[1] == hashes[2] is not None
