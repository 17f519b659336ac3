"""A plug-in's version follows what its code does, and not where its helpers lie or what an import calls them."""

from pathlib import Path

import pytest

from cl_semisup import plugins

LOSS = '''
from dataclasses import dataclass

import torch.nn.functional as F

from cl_semisup import losses
from cl_semisup.contrast import unit


@dataclass(frozen=True)
class Mine:
    """A loss of one's own."""

    margin: float = 0.1

    def __call__(self, z1, z2, labels=None):
        """The loss."""
        from cl_semisup.seeds import seed

        z2 = F.normalize(z2) if losses.requirements_of(self).labels else unit(z2)
        return ((unit(z1) - z2).square().sum(dim=1) - self.margin).relu().mean() + 0 * seed("x")
'''


pytestmark = pytest.mark.usefixtures("forget_plugins")


def version(folder: Path, content: str) -> str:
    (folder / "mine.py").write_text(content)
    plugins._user_files["losses", "mine"] = folder / "mine.py"  # versions are read, nothing is imported
    plugins.version.cache_clear()
    return plugins.version("losses", "mine")


@pytest.mark.parametrize(
    "changes",
    [
        {"import unit": "import unit as rows", "unit(z": "rows(z"},  # an import is renamed
        {"from cl_semisup.contrast import unit": "from cl_semisup.contrast.elsewhere.rows import unit"},  # a helper moves
        {"from cl_semisup.contrast import unit": "from cl_semisup import contrast", "unit(z": "contrast.unit(z"},
        {"from cl_semisup.contrast import unit": "import cl_semisup.contrast", "unit(z": "cl_semisup.contrast.unit(z"},
        {"import torch.nn.functional as F": "from torch.nn import functional", "F.norm": "functional.norm"},
        {"import torch.nn.functional as F": "import torch", "F.norm": "torch.nn.functional.norm"},
        {"import torch.nn.functional as F": "from torch.nn.functional import normalize", "F.norm": "norm"},
        {"import losses": "import losses as other", "losses.requirements_of": "other.requirements_of"},
        {"losses.requirements_of": "losses.asks"},  # a name of the package is renamed
        {"    margin: float": "    # a comment\n    margin: float", "A loss of one's own.": "Reworded.", "The loss.": ""},
        {"from dataclasses import dataclass\n\nimport torch.nn.functional as F\n": "import torch.nn.functional as F\n"
         "from dataclasses import dataclass\n"},  # imports in another order
    ],
)  # fmt: skip
def test_moving_and_renaming_keep_a_version(tmp_path: Path, changes: dict[str, str]) -> None:
    changed = LOSS
    for old, new in changes.items():
        assert old in changed
        changed = changed.replace(old, new)
    assert version(tmp_path, changed) == version(tmp_path, LOSS)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.1", "0.2"),  # a default
        ("import unit", "import both as unit"),  # another helper under the old name
        ("torch.nn.functional", "torch.special"),
        ("F.normalize", "F.relu"),
        (".relu()", ""),
        ('seed("x")', 'seed("y")'),
        ("margin", "distance"),
        ("losses.requirements_of", "losses.build"),
    ],
)
def test_a_change_of_what_the_code_does_is_another_version(tmp_path: Path, old: str, new: str) -> None:
    assert old in LOSS
    assert version(tmp_path, LOSS.replace(old, new)) != version(tmp_path, LOSS)


def test_a_probe_that_says_what_it_needs_keeps_its_version(tmp_path: Path) -> None:
    """The corruptions say that they need images: a class variable that no score depends on."""
    text = plugins.paths("evaluation")["corruptions"].read_text("utf-8")
    before = text.replace('    inputs: ClassVar[str] = "images"\n', "").replace("rng_seed", "name")
    assert before != text
    (tmp_path / "mine.py").write_text(before)
    plugins._user_files["evaluation", "mine"] = tmp_path / "mine.py"
    plugins.version.cache_clear()
    assert plugins.version("evaluation", "mine") == plugins.version("evaluation", "corruptions") == "86c64b04e1"


@pytest.mark.parametrize("name", ["kmeans", "perturbation"])
def test_nothing_but_the_name_of_a_variable_changed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    recorded = plugins.version("evaluation", name)
    monkeypatch.setattr(plugins, "_text", lambda path: path.read_text("utf-8").replace("rng_seed", "name"))
    monkeypatch.setattr(plugins, "EQUIVALENT_VERSIONS", {})
    plugins.version.cache_clear()
    assert plugins.version("evaluation", name) == recorded


def test_every_equal_version_is_one_of_todays_code(monkeypatch: pytest.MonkeyPatch) -> None:
    known = plugins.EQUIVALENT_VERSIONS.keys()
    monkeypatch.setattr(plugins, "EQUIVALENT_VERSIONS", {})
    plugins.version.cache_clear()
    today = {plugins.version(folder, name) for folder in plugins.FOLDERS for name in plugins.names(folder)}
    assert not known - today, "no code has these versions any more: remove them, or write the new one"
