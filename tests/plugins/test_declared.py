"""What the text of a plug-in declares, read without its code."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.errors import InputError
from cl_semisup.plugins import declared

OURS = [(folder, name) for folder in plugins.FOLDERS for name in plugins.names(folder)]
HEAD = """\
import pathlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval

pathlib.Path("ran").write_text("yes")
KIND = Literal["a", "b"]
"""
LOSS = """
@dataclass(frozen=True)
class Mine:
    kind: KIND = "a"
    weight: Annotated[float, Interval(gt=0)] = 1.0
    steps: int | None = None
    exempt: ClassVar[dict[str, str]] = {"finite": "it is not"}
    __slots__ = ("weight",)
    odd: ClassVar[dict[str, str]] = {[]: "no key"}

    def __call__(self, z1, z2, labels=None):
        return z1.sum()
"""


@pytest.fixture(autouse=True)
def _no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_user_files", {})
    monkeypatch.setattr(plugins, "_not_run", set())
    plugins.load.cache_clear()


@pytest.mark.parametrize(("folder", "name"), OURS)
def test_the_text_of_a_plugin_declares_the_fields_and_defaults_of_its_class(folder: str, name: str) -> None:
    read, real = declared.read(plugins.paths(folder)[name]), plugins.load(folder, name)
    assert grid.annotations(read) == grid.annotations(real)
    assert grid.defaults(read) == grid.defaults(real)
    assert [f.name for f in fields(read) if f.default is MISSING] == [
        f.name for f in fields(real) if f.default is MISSING
    ]


def test_a_plugin_that_is_not_run_is_known_by_its_text_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(HEAD + LOSS)
    plugins.register(tmp_path / "mine.py", run=False)
    assert grid.canonical(grid._annotation("losses"), {"mine": {"weight": 2}}, "loss") == {
        "mine": {"kind": "a", "weight": 2.0}
    }
    with pytest.raises(InputError, match="must be greater than 0"):
        grid.build("losses", "mine", {"weight": -1.0})
    loss = grid.build("losses", "mine", {})
    assert loss.exempt == {"finite": "it is not"}
    assert not hasattr(loss, "requirements")
    with pytest.raises(InputError, match="'build' must be known without running the plug-in's code"):
        loss.build(None)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "field",
    [
        "weight: float = pathlib.Path('ran').write_text('yes')",
        "weight: pathlib.Path('ran').write_text('yes') = 1.0",
        "weight: Annotated[float, Interval(gt=open('ran', 'w'))] = 1.0",
        "weight: [x for x in (open('ran', 'w'),)] = 1.0",
        "weight: float = (lambda: open('ran', 'w'))()",
        "weight: cl_semisup.__main__.main = 1.0",
        "weight: antigravity.x = 1.0",
    ],
)
def test_a_field_that_only_code_could_tell_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text = HEAD + "import antigravity\nimport cl_semisup.__main__\n" + LOSS
    (tmp_path / "mine.py").write_text(text.replace("weight: Annotated[float, Interval(gt=0)] = 1.0", field))
    with pytest.raises(declared.NotRun, match=r"mine\.py:15: must be a plain field\. Got weight: .* Use literals\."):
        declared.read(tmp_path / "mine.py")
    assert not (tmp_path / "ran").exists()


def test_bases_that_go_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HEAD + LOSS.replace("class Mine:", "class Mine(Mine):"))
    assert [field.name for field in fields(declared.read(tmp_path / "mine.py"))] == ["kind", "weight", "steps"]
