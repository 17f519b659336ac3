"""The static board: pages, ranks, links, badges, and nothing that asks another machine."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from cl_semisup.cli import main
from cl_semisup.report import html, site
from cl_semisup.report.report_data import ReportData
from cl_semisup.results import snapshot
from tests.helpers.records import grid, select, write

EVIL = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Ids, links and scripts of a page; ids are unique, and every tag that must be closed is."""

    VOID = {"meta", "input", "wbr", "img", "br", "link"}

    def __init__(self, text: str):
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids += [values["id"]] if "id" in values else []
        if tag == "a":
            self.links.append(values["href"])
        self.loaded += [values[name] for name in ("src", "data", "action", "srcset") if name in values]
        if tag == "link":
            self.loaded.append(values["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two suites in two folders; in the first clop is better by far, with eight pairs."""
    folder = tmp_path_factory.mktemp("site")
    for name, repetitions, question in (("first", 8, "Which?"), ("second", 3, EVIL)):
        runs = grid(["nt_xent", "clop"], repetitions)
        for run in runs:
            gain = 0.2 * (run.loss_name == "clop") + 0.2 * bool(run.epochs)
            write(folder / name, run, 0.4 + gain + 0.001 * (run.repetition % 3))
        select(runs, name=name, question=question).save(folder / name)
    words = ["site", str(folder / "first"), str(folder / "second"), "--to", str(folder / "board")]
    assert main(words) == 0
    return folder / "board"


def pages(board: Path) -> list[Path]:
    return [board / "index.html", board / "first" / "index.html", board / "second" / "index.html"]


def test_every_link_inside_the_board_leads_somewhere(board: Path) -> None:
    found = {path: Page(path.read_text("utf-8")) for path in pages(board)}
    assert len(found[board / "index.html"].links) > 10
    for path, page in found.items():
        for link in page.links:
            file, _, anchor = unquote(link).partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.is_file(), link
            assert target.is_relative_to(board.resolve()) or target == path
            assert not anchor or target.suffix != ".html" or anchor in Page(target.read_text("utf-8")).ids


def test_no_page_asks_another_machine(board: Path) -> None:
    for path in pages(board):
        text = path.read_text("utf-8")
        assert "default-src &#39;none&#39;" in text
        assert not Page(text).loaded
        assert not re.search(r"(fetch|XMLHttpRequest|import\(|url\(|@import)", text)


def test_ranks_are_the_reports_and_a_few_pairs_have_none(board: Path) -> None:
    folders = {name: board.parent / name for name in ("first", "second")}
    suites = [ReportData.read(folder, snapshot.load(folder, name)) for name, folder in folders.items()]
    (first,), (second,) = map(site.columns_of, suites)
    assert first.squares["clop"].rank == "1" and first.squares["nt_xent"].rank != "1"
    assert {square.rank for square in second.squares.values()} <= {site.NOT_RANKED, "", "1\u20132"}
    text = (board / "index.html").read_text("utf-8")
    for square in first.squares.values():
        assert f"<td>{square.rank}</td><td>{square.score}</td>" in text
    line = next(line for line in text.splitlines() if line.startswith('<tr><th scope="row"><a href="#loss-clop">'))
    assert line.count("<td>") == 2 and f">{first.squares['clop'].rank}</a><small>ok<br>2.0 s/run</small>" in line


def test_a_loss_and_a_run_have_links_of_their_own(board: Path) -> None:
    assert {"loss-clop", "loss-nt_xent", "loss-untrained", "board"} <= set(Page((board / "index.html").read_text()).ids)
    runs = [one for one in Page((board / "first" / "index.html").read_text("utf-8")).ids if one.startswith("run-")]
    assert len(runs) == len(snapshot.load(board.parent / "first", "first").runs)


def test_names_that_are_written_alike_have_anchors_of_their_own() -> None:
    names = ["clop(base=dcl)", "clop-base-dcl", "CLOP", "clop", "(", "x" * 200, "x" * 201]
    found = html.anchors(names, "row-")
    assert list(found) == names and len(set(found.values())) == len(names)
    assert (found["clop(base=dcl)"], found["clop-base-dcl"]) == ("row-clop-base-dcl", "row-clop-base-dcl-2")


def test_text_of_strangers_is_no_markup(board: Path) -> None:
    text = (board / "index.html").read_text("utf-8")
    assert EVIL not in text and "&lt;script&gt;alert" in text


def test_a_badge_says_the_rank_and_is_sound_xml(board: Path) -> None:
    badge = ElementTree.fromstring((board / "badges" / "first" / "clop.svg").read_text("utf-8"))
    assert badge.attrib["aria-label"] == "clop on first: rank 1"
    assert ElementTree.fromstring(site.badge("<a&b>", '"1"')).attrib["aria-label"] == '<a&b>: rank "1"'


def test_the_same_records_make_the_same_bytes(board: Path, tmp_path: Path) -> None:
    suites = [(board.parent / name, snapshot.load(board.parent / name, name)) for name in ("first", "second")]
    for path in site.make(suites, tmp_path / "again"):
        before = (board / path.relative_to(tmp_path / "again")).read_text("utf-8")
        assert path.read_text("utf-8").replace(str(tmp_path / "again"), str(board)) == before


def test_foreground_and_background_differ_enough_in_both_themes() -> None:
    """WCAG 2: 4.5 to 1 for text."""
    style = (Path(site.__file__).parent / "site.css").read_text("utf-8")
    themes = [dict(re.findall(r"--(\w+):(#\w+)", block)) for block in re.findall(r":root\{([^}]*)\}", style)]
    assert len(themes) == 2
    for theme in themes:
        for name in theme.keys() - {"paper", "rule"}:
            assert contrast(theme[name], theme["paper"]) >= 4.5, name


def test_losses_are_legible_in_their_colours_in_both_themes() -> None:
    """Also in a row under the pointer, which has another background."""
    style = (Path(site.__file__).parent / "page.css").read_text("utf-8")
    for block in re.findall(r":root\{([^}]*)\}", style):
        theme = dict(re.findall(r"--(\w+):(#\w+)", block))
        for name in ("floor", "soft", *(f"k{number}" for number in range(8))):
            assert min(contrast(theme[name], theme[paper]) for paper in ("paper", "wash")) >= 4.5, name


def contrast(a: str, b: str) -> float:
    def luminance(color: str) -> float:
        digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{none}", "--to", "{board}"], "must be folders in which suites have run. Got none. Run a suite first."),
        (["{first}", "{first}", "--to", "{none}"], "each suite must be in one folder. Got 'first' in two"),
        (["{first}", "--to", "{first}"], "--to: must not be a folder of results"),
    ],
)
def test_wrong_folders_are_refused(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    places = {"none": tmp_path / "none", "first": board.parent / "first", "board": board}
    assert main(["site", *(word.format(**places) for word in words)]) == 2
    assert message in capsys.readouterr().err


def test_a_suite_whose_snapshot_is_a_dead_link_is_told_and_not_left_out(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(board.parent / "first", tmp_path / "results")
    (tmp_path / "results" / "other").mkdir()
    (tmp_path / "results" / "other" / "suite.json").symlink_to("nowhere")
    assert main(["site", str(tmp_path / "results"), "--to", str(tmp_path / "board")]) == 2
    assert "other/suite.json: cannot be read: the link " in capsys.readouterr().err
    (tmp_path / "results" / "other" / "suite.json").unlink()
    (tmp_path / "board" / "index.html").mkdir(parents=True)
    assert main(["site", str(tmp_path / "results"), "--to", str(tmp_path / "board")]) == 3
    assert "index.html: results cannot be written: Is a directory. Remove this folder." in capsys.readouterr().err
