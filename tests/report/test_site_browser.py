"""The static board in a real browser at the widths of a phone, a tablet and a screen, in both themes, by keyboard."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cl_semisup.report import site
from tests.helpers.browser import Browser, driven, needs_browser
from tests.helpers.records import curves, grid, select, write

pytestmark = needs_browser

LONG = "a_loss_with_a_rather_long_name_that_no_telephone_can_show_in_one_line"
SUITES = {"first": 8, "second": 2, "a_suite_with_a_longer_name": 2}  # name -> repetitions


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, suites = tmp_path_factory.mktemp("board"), []
    for name, repetitions in SUITES.items():
        runs = grid(["nt_xent", "clop", LONG], repetitions, label_fraction=[0.1, 1.0])
        for run in runs:
            gain = 0.2 * (run.loss_name == "clop") + 0.2 * bool(run.epochs) + 0.001 * (run.repetition % 3)
            write(folder / name, run, 0.4 + gain, curves=curves(10, 20))
        suites.append((folder / name, select(runs, name=name, question=f"What of {name}?")))
    site.make(suites, folder / "board")
    return folder / "board" / "index.html"


@pytest.fixture(scope="module")
def opened(board: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with driven(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(opened: Browser, board: Path) -> Browser:
    """With the index open."""
    opened.open(board)
    return opened


def test_the_board_asks_no_machine_and_the_console_is_quiet(browser: Browser, board: Path) -> None:
    browser.log("performance")
    pages = [board, board.parent / "first" / "index.html"]
    for page in pages:
        browser.open(page)
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    sent = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert [url for url in sent if not url.startswith("chrome")] == [page.resolve().as_uri() for page in pages]
    assert browser.log("browser") == []


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_names_are_whole_and_the_page_is_no_wider_than_the_window(browser: Browser, width: int) -> None:
    browser.resize(width, 900)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    script = """
        return [...document.querySelectorAll('.matrix tbody th, section.loss h3')].map(part => {
            const text = document.createRange(), cell = part.getBoundingClientRect(); text.selectNodeContents(part);
            const box = text.getBoundingClientRect();
            return [part.textContent, box.left >= cell.left && box.right <= Math.min(cell.right, innerWidth)];
        });
    """
    found = browser.run(script)
    assert [name for name, _ in found].count(LONG) == 2
    assert all(whole for _, whole in found)
    ends = browser.line_ends(".matrix tbody th, section.loss h3")
    assert set(ends) <= set("_(,= -") and ("_" in ends or width > 390)


def test_a_name_stays_when_the_matrix_is_moved_sideways(browser: Browser) -> None:
    browser.resize(390, 900)
    script = """
        const wide = document.querySelector('.matrix').parentElement; wide.scrollLeft = 200;
        return [wide.scrollLeft > 0, wide.querySelector('tbody th').getBoundingClientRect().left];
    """
    moved, left = browser.run(script)
    assert moved and left >= 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", ["index.html", "first/index.html"])
def test_axe_finds_no_serious_fault(browser: Browser, board: Path, page: str, theme: str) -> None:
    browser.theme(theme)
    browser.open(board.parent / page)
    browser.run("for (const part of document.querySelectorAll('details')) part.open = true; return 0")
    assert browser.axe() == []


def test_the_theme_is_the_readers(browser: Browser) -> None:
    colours = []
    for theme in ("light", "dark"):
        browser.theme(theme)
        colours.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 24, 28)"]


def test_search_by_keyboard_shows_matching_losses_in_matrix_and_tables(browser: Browser) -> None:
    browser.run("document.querySelector('#search input').focus(); return 0")
    for letter in "clop 100%":
        browser.press(letter, letter)
    shown = """
        const seen = (css) => [...document.querySelectorAll(css)].filter(e => e.offsetParent).map(e => e.textContent);
        return [seen('.matrix tbody th'), seen('section.loss tbody th'), seen('#search [role=status]')];
    """
    assert browser.run(shown) == [["clop"], ["digits, labels 100%"] * 3, ["1 loss, 3 rows"]]


def test_every_stop_of_the_keyboard_has_a_mark_and_the_first_skips_to_the_board(browser: Browser) -> None:
    browser.press("Tab")
    script = "const e = document.activeElement; return [e.textContent, getComputedStyle(e).outlineStyle]"
    assert browser.run(script) == ["Skip to the board", "solid"]
    browser.press("Enter")
    assert browser.run("return location.hash") == "#board"


def test_links_lead_to_a_row_and_to_a_run_in_the_folded_table(browser: Browser, board: Path) -> None:
    script = "return document.querySelector('.matrix tbody td a').getAttribute('href')"
    page, _, anchor = browser.run(script).partition("#")
    at = "const e = document.querySelector(':target'); const box = e.getBoundingClientRect();"
    at += " return [e.querySelector('th') ? e.querySelector('th').textContent : e.lastElementChild.textContent,"
    at += " box.height > 0 && box.top < innerHeight]"
    browser.run(f"location.href = {str((board.parent / page).as_uri())!r} + '#' + {anchor!r}; return 0")
    assert browser.run(at) == [LONG, True]
    run = browser.run("return document.querySelector('#runs tr[id]').id")
    browser.run(f"location.hash = {run!r}; return 0")
    assert browser.run("return new Promise(go => setTimeout(() => go(0), 100))") == 0
    assert browser.run(at) == [f"{run.removeprefix('run-')} #", True]
