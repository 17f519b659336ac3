"""Text of strangers, wherever it comes from, never reaches a terminal or a file with a character that steers or fakes.

The long form: python benchmarks/fuzz.py text
"""

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from cl_semisup import cli, plugins, report
from cl_semisup.datasets.arrays import Arrays
from cl_semisup.datasets.image_folder import ImageFolder
from cl_semisup.errors import DataError
from cl_semisup.results import records, snapshot
from cl_semisup.scheduling import progress
from cl_semisup.system import stamps
from cl_semisup.text import show, visible
from tests.helpers.fuzzing import MARKS, fuzz, hidden
from tests.helpers.records import curves, run, select, write

FAKE = "FAKE 99.9 %"  # a line that would seem to be ours
pieces = st.one_of(
    st.sampled_from([*MARKS, f"\n{FAKE}", f"\r{FAKE}", f"\u2028{FAKE}", f"\x0b{FAKE}", "\t", "=1+1", "@x", "<script>", "`", "|"]),
    st.sampled_from(["&", "{{x}}", "$\\input{x}$", "%s", "{0}", "\\", "'", '"', "]]>", "-->", "\ud800", "\U000e0041", "\0", "/"]),
    st.characters(),
    st.text("ab1", max_size=3),
)  # fmt: skip
words = st.lists(pieces, min_size=1, max_size=6).map("".join)


def whole(word: str) -> str:
    """The same without halves of surrogate pairs, which no argument and no record holds."""
    return word.encode("utf-8", "replace").decode()


def name(word: str) -> str:
    """The same as a name of a file."""
    return os.fsdecode(word.replace("/", "_").replace("\0", "_").encode("utf-8", "replace")[:80]).strip(".") or "_"


class Shown(contextlib.ExitStack):
    """What is printed to both streams."""

    def __enter__(self) -> "Shown":
        self.stream = io.StringIO()
        self.enter_context(contextlib.redirect_stdout(self.stream))
        self.enter_context(contextlib.redirect_stderr(self.stream))
        return self

    def check(self) -> None:
        check(self.stream.getvalue())


def check(shown: str) -> None:
    assert not hidden(shown)
    faked = [line for line in shown.splitlines() if line.startswith(FAKE)]
    assert not faked
    shown.encode()


def command(*words: str) -> int:
    """The exit code of a command, whose whole output is checked."""
    with Shown() as shown:
        try:
            code = cli.main(list(words))
        except SystemExit as stop:
            code = int(stop.code or 0)
    shown.check()
    return code


def in_argument(word: str, folder: Path) -> bool:
    number = len(word) % 5
    word = whole(word).lstrip("-").replace("\0", "") or "x"
    if number == 0:
        return command("report", f"x{word}", "--results", str(folder)) == cli.OK
    if number == 1:
        return command("compare", f"a{word}", "b") == cli.OK
    if number == 2:
        return command("list", "losses", "--plugin", f"p{word}.py") == cli.OK
    if number == 3:
        return command("list", f"x{word}") == cli.OK
    return command("gate", f"x{word}.yaml") == cli.OK


def in_suite(word: str, folder: Path) -> bool:
    """In a value, a key, or both, of a file whose name holds it too."""
    path = folder / f"{name(word)}.yaml"
    lines = ["datasets: digits", "losses: nt_xent", "encoder: mlp"]
    quoted = json.dumps(word)
    lines.append([f"question: {quoted}", f"{quoted}: 1", f"baseline: {word}", f"losses: [{quoted}]"][len(word) % 4])
    path.write_text("\n".join(lines), "utf-8", errors="backslashreplace")
    return command("check", str(path), "--results", str(folder / "results")) == cli.OK


def in_record(word: str, folder: Path) -> bool:
    """In a reason and in names; the record is shown in one line."""
    one = run("nt_xent")
    path = write(folder / name(word), one, status="failed", reason=whole(word))
    with Shown() as shown:
        show(progress.format_record(records.read(path)))
        content = json.loads(path.read_text())
        content["scores"][word] = 2.0
        path.write_text(json.dumps(content))
        with contextlib.suppress(Exception):
            records.read(path)
            pytest.fail("a score of 2")
    assert len(shown.stream.getvalue().splitlines()) == 1
    shown.check()
    return command("compare", str(folder / name(word)), str(folder / name(word))) == cli.OK


def in_snapshot(word: str, folder: Path) -> bool:
    suite = select([run()], question=f"Is {word}?", file=word, baseline=word)
    folder_of = folder / "results" / "made"
    folder_of.mkdir(parents=True)
    content = {**vars(suite), "runs": [one.as_dict() for one in suite.runs], "score": word}
    (folder_of / "suite.json").write_text(json.dumps(content | ({word: 1} if len(word) % 3 == 0 else {})))
    with contextlib.suppress(ValueError, OSError):
        check(visible(snapshot.load(folder / "results", "made").command(folder)))
    return command("report", "made", "--results", str(folder / "results")) == cli.OK


def in_plugin(word: str, folder: Path) -> bool:
    """In the text of an exception, an error of syntax, a class and a docstring."""
    path = folder / "mine.py"
    quoted = json.dumps(word)
    texts = [f"raise ValueError({quoted})", f"x = '{word}", f"class {word}: pass", f"'''{word}'''", f"class E(BaseException): __str__ = lambda _: {quoted}\nraise E"]  # fmt: skip
    path.write_text(texts[len(word) % 5], "utf-8", errors="backslashreplace")
    try:
        return command("list", "losses", "--plugin", str(path)) == cli.OK
    finally:
        plugins._user_files.clear()
        plugins.load.cache_clear()


def in_data(word: str, folder: Path) -> bool:
    """In names of folders, files and classes, of which some are broken."""
    for part in ("train", "test"):
        (folder / part / name(word)).mkdir(parents=True)
        (folder / part / name(word) / name(f"{word}.png")).write_bytes(b"no image")
    pixels = np.zeros((2, 4, 4), np.uint8)
    np.savez(folder / name(word), train_images=pixels, train_labels=[0, 1], test_images=pixels, test_labels=[0, 5])
    with Shown() as shown:
        for load in (ImageFolder("."), Arrays(f"{name(word)}.npz")):
            try:
                load.load(folder)
            except DataError as error:
                show(error, error=True)
    shown.check()
    assert len(shown.stream.getvalue().splitlines()) == 3  # two broken images, one archive
    return False


PLACES = [in_argument, in_suite, in_record, in_snapshot, in_plugin, in_data]


@fuzz("escapes, newlines and bidi characters in any text", short=60, word=words, place=st.sampled_from(PLACES))
@pytest.mark.filterwarnings("ignore")  # of PIL and of numpy about what they read
def test_no_text_of_a_stranger_steers_the_terminal(
    word: str, place: Callable[[str, Path], bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stamps, "TICK_NS", 0)  # nobody writes these files a second time within a tick of the clock
    shutil.rmtree(tmp_path / "case", ignore_errors=True)
    (tmp_path / "case").mkdir()
    return place(word, tmp_path / "case")


@fuzz("the same in whole reports", short=5, share=20, word=words.map(whole), other=words.map(whole))
def test_no_report_holds_text_that_steers(word: str, other: str, tmp_path: Path) -> bool:
    shutil.rmtree(tmp_path / "case", ignore_errors=True)
    results = tmp_path / "case" / name(word)
    runs = [run("nt_xent", r, params={"base": x}) for r in range(2) for x in {word: 0, other: 0}]
    for one in runs:
        found = {"diagnostics": {word: 1.0, other: 2.0}, "reason": other, "curves": curves(3, 3) | {word: other}}
        write(results, one, 0.5, "failed" if one.repetition else "ok", made={"machine": word, "torch": other}, **found)
    made = report.make(results, select(runs, question=f"Is {word}?", file=f"{name(other)}.yaml"))
    with Shown() as shown:
        show(made.text)
        for path in made.files:
            show(visible(path))
    assert not hidden(shown.stream.getvalue())  # a paragraph is wrapped anywhere, so a line may begin with any word
    for path in made.files:
        if path.suffix in (".md", ".csv", ".tex", ".html"):
            text = path.read_text("utf-8")
            assert not hidden(text), path
        if path.suffix in (".md", ".csv", ".tex"):  # in HTML a line is no line
            check(text)
        if path.suffix == ".csv":
            assert not any(re.search(r'(^|,)"?[=@]', line) for line in text.splitlines()), text
        if path.suffix == ".html":
            assert "<script>" not in text.replace(page_scripts(text), "")
    return True


def page_scripts(text: str) -> str:
    """The page's own script, the only one."""
    (found,) = re.findall(r"<script>.*?</script>", text, re.DOTALL) or [""]
    return found
