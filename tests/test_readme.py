"""What the README and the pages beside it say can be done is done here."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import engines
from cl_semisup import api, cli, plugins
from cl_semisup.cli import evaluate, init
from cl_semisup.config import grid, yaml_source
from cl_semisup.suite import suite
from tools import picture, reference

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text("utf-8")
TUTORIAL, PLUGINS, SPEED, INSTALL = (
    (ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("tutorial", "plugins", "speed", "install")
)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_readme_is_a_first_screen() -> None:
    """Two commands, one picture, one small table, and no more lines than one reads."""
    assert len(README.splitlines()) <= 120
    assert blocks(README, "sh")[0].count("\n") == 2
    assert len(re.findall(r"!\[", README)) == 1
    assert len(re.findall(r"^\| ---", README, re.MULTILINE)) == 1
    assert len(re.findall(r"^- \*\*", README, re.MULTILINE)) == 3


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "PROTOCOL.md", "results/README.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    """Those of docs/ are checked when the site is built, and here, for who reads them without it."""
    for path in [ROOT / page, *(DOCS if page == "README.md" else [])]:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            assert link.startswith("http") or (path.parent / link).exists(), f"{path}: {link}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in DOCS)])
def test_every_command_exists_with_its_options(page: str) -> None:
    """Each line of a block of commands; what `pip`, `docker` and `pytest` do is not ours."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in "".join(blocks((ROOT / page).read_text("utf-8"), "sh")).splitlines():
        words = shlex.split(line.partition(" | ")[0].partition(" && ")[0], comments=True)
        if words[:1] == ["torchrun"]:
            words = ["python", *words[words.index("benchmark.py") :]]
        if words[:1] == ["make"]:
            assert f"\n{words[1]}:" in makefile, line
        elif words[:1] == ["cl-semisup"] or words[:2] == ["python", "benchmark.py"]:
            arguments = words[1:] if words[0] == "cl-semisup" else words[2:]
            parsed = cli.build_parser().parse_args(arguments if arguments[0] in cli.COMMANDS else ["run", *arguments])
            if encoder := getattr(parsed, "encoder", None):
                _check_encoder(encoder)
        elif words and words[0] not in ("pip", "docker", "pytest", "eval"):
            pytest.fail(f"unknown command: {line}")


def _check_encoder(text: str) -> None:
    """The encoder exists and has these settings; its file of weights need not be there."""
    ((name, settings),) = yaml_source.parse(text, "--encoder").data.items()
    grid.build("encoders", name, settings)


def test_encoders_of_pages_helps_and_docstrings_have_the_settings_that_are_named() -> None:
    texts = [inspect.getsource(evaluate.add_arguments), inspect.getsource(api)]
    texts += [path.read_text("utf-8") for path in DOCS]
    named = [found for text in texts for found in re.findall(r"\{\"?vit\"?: \{.*?\}\}", text)]
    assert len(named) >= 5
    for text in named:
        _check_encoder(text)


def test_the_example_suite_is_valid() -> None:
    (text,) = blocks(TUTORIAL, "yaml")
    runs = suite.parse(text, "my.yaml").runs
    assert len([run for run in runs if run.epochs]) == (1 + 2 * 3) * 3 * 2 * 5
    line = re.search(r"datasets: \{image_folder: .*\}", README)
    assert line
    text = re.sub("(?m)^datasets: .*$", line.group(), init.SUITE)
    with pytest.raises(suite.SuiteError, match="pets"):  # the folder is missing, and nothing else
        suite.parse(text, "my.yaml")


def examples() -> dict[str, str]:
    """File -> code of the example of each kind."""
    return dict(re.findall(r"`(my_\w+\.py)`[^`]*```python\n(.*?)```", PLUGINS.partition("## Examples")[2], re.DOTALL))


def test_the_loss_of_the_readme_is_the_example() -> None:
    (code,) = blocks(README, "python")
    assert code.split() == examples()["my_loss.py"].split()


@pytest.mark.parametrize("file", examples())
def test_the_example_of_each_kind_keeps_its_contract(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], forget_plugins: None
) -> None:
    code = examples()[file]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    (tmp_path / file).write_text(code)
    assert cli.main(["check-plugin", str(tmp_path / file)]) == 0, capsys.readouterr().out
    assert "clauses hold." in capsys.readouterr().out


def test_the_examples_train_together_in_one_suite(tmp_path: Path) -> None:
    words = ["my.yaml"]
    for file, code in examples().items():
        (tmp_path / file).write_text(code)
        words += ["--plugin", file]
    assert len(words) == 1 + 2 * len(plugins.FOLDERS)
    tiny = (ROOT / "tests" / "tiny.yaml").read_text("utf-8")
    for old, new in {
        "datasets: .*": "datasets: my_data",
        "losses: .*": "losses: my_loss",
        "encoder: .*": "encoder: my_encoder",
    }.items():
        tiny, count = re.subn(old, new, tiny)
        assert count == 1
    rest = "optimizer: my_optimizer\nviews: {crop_and_color: {}, my_view: {}}\n"
    (tmp_path / "my.yaml").write_text(re.sub("(?m)^probes: .*\n", "", tiny) + rest + "probes: {my_probe: {}}\n")
    command = [sys.executable, str(ROOT / "benchmark.py"), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "my_top1_labelled" in (tmp_path / "results" / "my" / "leaderboard.csv").read_text("utf-8")


def test_the_quickstart_is_shown_as_it_prints_it() -> None:
    result = TUTORIAL.partition("<!-- result: make quickstart -->")[2].partition("<!-- end of result -->")[0]
    assert "clop" in result
    assert "nt_xent" in result
    assert "±" in result


def test_the_picture_is_that_of_the_published_records() -> None:
    assert picture.picture() == picture.PICTURE.read_text("utf-8")


def test_losses_and_keys_are_those_of_the_code() -> None:
    assert reference.losses() == reference.LOSSES.read_text("utf-8")
    assert reference.reference() == reference.REFERENCE.read_text("utf-8")


def test_the_size_of_an_installation_is_the_measured_one() -> None:
    measured = (ROOT / "benchmarks" / "results" / "install_size.md").read_text("utf-8")
    shown = INSTALL.partition("<!-- result: python benchmarks/install_size.py -->")[2].partition("<!-- end of result")[
        0
    ]
    figures = re.findall(r"([\d,.]+) MB", shown)
    assert len(figures) == 6
    assert [figure for figure in figures if f"| {figure} |" not in measured] == []


def test_the_predictions_are_those_of_the_model_and_its_measured_figures() -> None:
    text = engines.DOCUMENT.read_text("utf-8")
    assert engines.predictions() == text.partition(engines.MARKS[0])[2].partition(engines.MARKS[1])[0]


def test_the_speeds_are_those_that_were_measured() -> None:
    files = (ROOT / "benchmarks" / "results" / name for name in ("throughput.md", "throughput_float32.md"))
    measured = "".join(file.read_text("utf-8") for file in files)
    rows = SPEED.partition("The ceiling is")[0].splitlines()
    figures = [cell.strip() for row in rows for cell in row.split("|")[2:6] if cell.strip()[:1].isdigit()]
    assert len(figures) == 16
    cells = [f"| {figure} {'|' if figure.endswith('%') else '('}" for figure in figures]
    assert [cell for cell in cells if cell not in measured] == []


def test_where_do_i_names_files_that_exist_and_two_at_most() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Where do I ...?")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:3] for row in section.splitlines() if row.startswith("| a ") or row.startswith("| an ")]
    assert len(rows) == 12
    for task, files in rows:
        named = re.findall(r"`([\w./<>-]+)`", files)
        assert named, task
        for name in named:
            assert list(ROOT.glob(name.replace("<name>", "[a-z]*").rstrip("/"))), f"{task}: {name}"
        assert len([name for name in named if not name.startswith("tests/")]) <= 2, f"{task}: {named}"
