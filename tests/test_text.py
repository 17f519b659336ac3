"""Text of strangers cannot steer a terminal, fake a line or run in a spreadsheet, and no encoding makes output fail."""

import builtins
import io
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from cl_semisup import cli, report, text
from cl_semisup.report import export
from cl_semisup.scheduling import progress
from tests.report.test_report import run, select, write

ROOT = Path(__file__).parents[1]
EVIL = "\x1b[2Ja\nb\r\x07\x7f\x9b1m\u202ec\u2066d\u200e\u2028e\u2029\x85\ufeff"


def hidden(shown: str) -> set[str]:
    """Characters that would steer a terminal or reorder a line."""
    return {c for c in shown if unicodedata.category(c) in text.HIDDEN and c not in "\n\t"}


@pytest.mark.parametrize("character", sorted({*EVIL, *"\ud800\0\u061c\U000e0041"} - {*"abcdemJ[12"}))
def test_each_hidden_character_becomes_a_visible_escape(character: str) -> None:
    shown = text.visible(f"a{character}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.startswith("a\\")


@pytest.mark.parametrize("name", ["isinstance", "getattr", "setattr", "len", "print", "str", "vars", "dict", "super"])
def test_a_built_in_function_that_a_plug_in_replaces_or_removes_is_put_back(name: str) -> None:
    real = getattr(builtins, name)
    with text.guarded():
        setattr(builtins, name, lambda *_: 1 / 0)
    assert getattr(builtins, name) is real
    with text.guarded():
        delattr(builtins, name)
    assert getattr(builtins, name) is real


def test_words_of_every_language_stay() -> None:
    for words in ("größer ± 2 — …", "对比损失", "שלום", "plain", ""):
        assert text.visible(words) == words
        assert text.one_line(f" {words}\n\t{words} ") == f"{words} {words}".strip()


def test_lines_that_draw_themselves_anew_are_lines_and_no_print_of_a_plug_in_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with text.guarded(), text.guarded():
        print("10 %\r20 %\r\n", end="")
        print("done", flush=True)
    assert capsys.readouterr().out == "10 %\n20 %\ndone\n"
    narrow = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    monkeypatch.setattr(sys, "stderr", None)  # as where there is no terminal on Windows
    with text.guarded():
        print("größer")
    narrow.flush()
    assert narrow.buffer.getvalue().split() == [b"gr\\xf6\\xdfer"]  # type: ignore[attr-defined]


def test_nothing_prints_but_one_function() -> None:
    for path in (ROOT / "cl_semisup").rglob("*.py"):
        if path.name != "text.py":
            assert not re.search(r"(?<![\w.])print\(|std(out|err)\.write", path.read_text("utf-8")), path


@pytest.fixture
def evil(tmp_path: Path) -> Any:
    """A suite whose question, settings, reasons, scores and file name are all hostile."""
    runs = [run("nt_xent", r, params={"base": x}) for r in range(2) for x in (EVIL, "=1+1")]
    results = tmp_path / f"r{EVIL[:6]}"
    for one in runs:
        write(
            results,
            one,
            0.5,
            "failed" if one.repetition else "ok",
            reason=EVIL,
            diagnostics={"=HYPERLINK(1)": 1.0, EVIL: 2.0},
        )
    return results, select(runs, question=EVIL, file=f"{EVIL}.yaml", score="linear_top1")


def test_no_report_holds_a_hidden_character(evil: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = report.make(*evil)
    text.show(made.text)
    assert not hidden(capsys.readouterr().out)
    for path in made.files:
        if path.suffix in (".md", ".csv", ".tex", ".html"):
            assert not hidden(path.read_text("utf-8")), path


def test_no_heading_or_cell_of_the_csv_is_a_formula(evil: Any) -> None:
    path = next(path for path in report.make(*evil).files if path.suffix == ".csv")
    lines = path.read_text("utf-8").splitlines()
    assert "'=HYPERLINK(1)" in lines[0]
    for line in lines:
        assert not re.search(r'(^|,)"?[=@]', line), line
    assert export.plain_cell("\uff1d1+1") == "'\uff1d1+1"


def test_a_finished_run_is_one_line(evil: Any) -> None:
    from cl_semisup.results import records

    results, suite = evil
    line = progress.format_record(records.read(records.path_of(results, suite.runs[0])))
    assert not hidden(line)
    assert "\n" not in line
    assert "\\x1b[2Ja\\nb" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", f"no{EVIL}.yaml"),
        ("report", f"no{EVIL}"),
        ("compare", f"a{EVIL}", "b"),
        ("list", "losses", "--plugin", f"p{EVIL}.py"),
        ("check-loss", f"p{EVIL}.py"),
        ("run", "--redo", EVIL, "tests/tiny.yaml"),
        ("list", "losses", EVIL),
        ("list", "losses", f"--x{EVIL}"),
        ("gate", f"no{EVIL}.yaml"),
        ("gate", "tests/tiny.yaml", "--reference", f"no{EVIL}.json"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_message_holds_a_hidden_character(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(list(arguments))
    except SystemExit as stop:
        code = int(stop.code or 0)
    shown = "".join(capsys.readouterr())
    assert code in (cli.BAD_INPUT, cli.NO_RESULTS)
    assert not hidden(shown)
    assert "\\x1b[2J" in shown
    assert not any(line.startswith(("b\\r", "b\r")) for line in shown.splitlines())


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "cp437"},
    ],
    ids=["ascii", "C", "cp437"],
)
def test_no_encoding_of_a_pipe_makes_output_fail(environment: dict[str, str], tmp_path: Path) -> None:
    suite = os.fsencode(tmp_path) + b"/s\xff\x1b.yaml"
    source = (ROOT / "tests/tiny.yaml").read_text("utf-8").replace("?", " Größe 对比 ±?")
    with open(suite, "w", encoding="utf-8") as file:
        file.write("name: s\n" + source)
    for command in ("report", "list"):
        arguments = [] if command == "list" else [suite, "--results", tmp_path / "größe"]
        process = subprocess.run(
            [sys.executable, "benchmark.py", command, *arguments],
            cwd=ROOT,
            capture_output=True,
            check=False,
            env=os.environ | environment,
        )
        assert process.returncode == 0, process.stderr
        assert process.stdout
        assert b"Traceback" not in process.stderr
    written = (tmp_path / "größe" / "s" / "leaderboard.md").read_text("utf-8")
    assert "Größe 对比" in written


def test_a_stream_without_an_encoding_of_its_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    text.degrade_streams()
    text.show("±")
    assert sys.stdout.getvalue() == "±\n"  # type: ignore[attr-defined]
