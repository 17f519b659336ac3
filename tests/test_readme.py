"""What the README says can be done is done here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import engines
from cl_semisup import cli, plugins
from cl_semisup.suite import suite

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_link_leads_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text("utf-8")):
            assert link.startswith("http") or (ROOT / link).exists(), f"{page}: {link}"


def test_every_command_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in "".join(blocks("sh")).splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["make"]:
            assert f"\n{words[1]}:" in makefile, line
        elif words[:2] == ["python", "benchmark.py"]:
            arguments = words[2:] if words[2] in cli.COMMANDS else ["run", *words[2:]]
            cli.build_parser().parse_args(arguments)
        else:
            pytest.fail(f"unknown command: {line}")


def test_the_example_suite_is_valid() -> None:
    (text,) = blocks("yaml")
    runs = suite.parse(text, "my.yaml").runs
    assert len([run for run in runs if run.epochs]) == (1 + 2 * 3) * 3 * 2 * 5


def examples() -> dict[str, str]:
    """File -> code of the example of each kind."""
    section = README.partition("## Add your own")[2].partition("\n## ")[0]
    return dict(re.findall(r"(?:`|<code>)(my_\w+\.py)(?:`|</code>)[^`]*```python\n(.*?)```", section, re.DOTALL))


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


def test_the_result_on_the_first_screen_names_its_command() -> None:
    result = README.partition("<!-- result: make quickstart -->")[2].partition("<!-- end of result -->")[0]
    assert "clop" in result
    assert "nt_xent" in result
    assert "±" in result


def test_the_predictions_are_those_of_the_model_and_its_measured_figures() -> None:
    text = engines.DOCUMENT.read_text("utf-8")
    assert engines.predictions() == text.partition(engines.MARKS[0])[2].partition(engines.MARKS[1])[0]


def test_the_speeds_are_those_that_were_measured() -> None:
    files = (ROOT / "benchmarks" / "results" / name for name in ("throughput.md", "throughput_float32.md"))
    measured = "".join(file.read_text("utf-8") for file in files)
    rows = README.partition("## Speed")[2].partition("The ceiling is")[0].splitlines()
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
