"""The report in a real browser: nothing asked of the network, no console message, sorting, filtering and choosing work.

Needs Debian's packages chromium and chromium-driver; skipped where they are absent.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cl_semisup import report
from tests.helpers.browser import Browser, driven, needs_browser
from tests.helpers.records import curves, grid, select, write

QUESTION = "What does <script>document.title = 'taken'</script> do?"
LONG = "a_loss_with_a_rather_long_name_indeed"
RATES = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0]  # enough that a map is wider than a phone

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of four losses on two label budgets over a grid, one of which diverges at the high rate."""
    results = tmp_path_factory.mktemp("page")
    runs = grid(["nt_xent", LONG, "vicreg", "clop"], 3, learning_rate=RATES, label_fraction=[0.1, 1.0])
    for one in runs:
        score = 0.5 + len(one.loss_name) / 100 + 0.01 * one.repetition
        broken = one.loss_name == "vicreg" and one.learning_rate == RATES[-1]
        write(
            results,
            one,
            score,
            "diverged" if broken else "ok",
            curves=curves(30, 100),
            seconds=len(one.loss_name),
        )
    found = report.make(results, select(runs, question=QUESTION))
    return next(path for path in found.files if path.name == "report.html")


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with driven(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(page)
        yield opened


def test_nothing_is_asked_of_the_network_and_the_console_is_quiet(browser: Browser, page: Path) -> None:
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    mine = page.resolve().as_uri()
    assert [one["request"]["url"] for one in sent if one["documentURL"] == mine] == [mine]
    assert browser.log("browser") == []


def test_hostile_text_is_shown_and_not_run(browser: Browser) -> None:
    assert browser.run("return document.querySelector('h1').textContent") == QUESTION
    assert browser.run("return document.title") == f"made: {QUESTION}"


def test_a_request_would_be_refused(browser: Browser) -> None:
    """The policy works: the test above would otherwise pass for a page that merely asks for nothing."""
    script = """
        const done = [];
        document.addEventListener("securitypolicyviolation", (e) => done.push(e.effectiveDirective));
        const image = new Image(); image.src = "http://127.0.0.1:9/x.png"; document.body.append(image);
        return new Promise((go) => setTimeout(() => { image.remove(); go(done); }, 300));
    """
    assert browser.run(script) == ["img-src"]
    browser.log("browser")  # the refusal is written there


LIVE = "Runs were going on"


def wait_for(browser: Browser, script: str) -> bool:
    for _ in range(50):
        if browser.run(script):
            return True
        time.sleep(0.1)
    return False


def test_an_open_page_follows_the_file_until_it_is_used(browser: Browser, page: Path, tmp_path: Path) -> None:
    runs = grid(["nt_xent"], 1)
    path = tmp_path / "made" / "report.html"
    try:
        for number, question in enumerate(["First?", "Second?", "Third?"]):
            report.make(tmp_path, select(runs, question=question), reload_seconds=1)
            assert LIVE in path.read_text("utf-8")
            if not number:
                browser.open(path)
            assert wait_for(browser, f"return document.querySelector('h1')?.textContent === '{question}'")
        browser.run("document.querySelector('h1').click(); return 0")
        assert browser.run("return document.querySelector('.live input').checked") is False
        report.make(tmp_path, select(runs, question="Fourth?"), reload_seconds=1)
        time.sleep(1.5)
        assert browser.run("return document.querySelector('h1').textContent") == "Third?"
        assert browser.log("browser") == []
    finally:
        browser.open(page)  # as the tests before and after expect it


def test_a_finished_report_does_not_reload_itself(page: Path) -> None:
    text = page.read_text("utf-8")
    assert LIVE not in text
    assert 'http-equiv="refresh"' not in text


def column(browser: Browser, index: int) -> list[str]:
    script = "return [...document.querySelector('table.board').tBodies[0].rows].map(r => r.cells[%d].textContent)"
    found: list[str] = browser.run(script % index)
    return found


def click(browser: Browser, index: int) -> str:
    """Click the first board's heading; what aria-sort then says."""
    head = f"document.querySelector('table.board').tHead.rows[0].cells[{index}]"
    found: str = browser.run(f"{head}.querySelector('button').click(); return {head}.getAttribute('aria-sort')")
    return found


def test_a_table_sorts_by_numbers_and_by_words_with_dashes_last(browser: Browser) -> None:
    def numbers() -> list[float]:
        return [float(text.split()[0]) for text in column(browser, 1)]

    assert click(browser, 1) == "descending"
    assert numbers() == sorted(numbers(), reverse=True)
    assert click(browser, 1) == "ascending"
    assert numbers() == sorted(numbers())
    names = browser.run("return [...document.querySelector('table.board').tHead.rows[0].cells].map(c => c.textContent)")
    worst = names.index("worst %")
    for order in ("descending", "ascending"):
        assert click(browser, worst) == order
        assert column(browser, worst)[-1] == "—"  # the floor has no worst config
    assert click(browser, 0) == "ascending"
    assert column(browser, 0) == sorted(column(browser, 0))
    sorted_heads = "return document.querySelector('table.board').querySelectorAll('[aria-sort]').length"
    assert browser.run(sorted_heads) == 1


def test_runs_are_filtered_by_words(browser: Browser) -> None:
    browser.run("document.querySelector('#runs details').open = true")
    script = """
        const input = document.querySelector('#runs .filter input');
        input.value = '%s'; input.dispatchEvent(new Event('input'));
        return [...document.querySelectorAll('table.runs tbody tr')].filter(r => !r.hidden).map(r => r.textContent);
    """
    broken = browser.run(script % "diverged 100%")
    assert len(broken) == 3
    assert all("vicreg" in text for text in broken)
    assert len(browser.run(script % "")) == 4 * 3 * 6 * 2 + 3 * 2


def test_a_loss_can_be_taken_out_of_every_picture_and_table(browser: Browser) -> None:
    script = """
        const box = document.querySelector('.legend input'); box.click();
        const mine = document.querySelectorAll(`main .k${box.dataset.k}`);
        return [mine.length, [...mine].filter(e => getComputedStyle(e).display !== 'none').length];
    """
    there, shown = browser.run(script)
    assert there > 10
    assert shown == 0
    there, shown = browser.run(script)
    assert shown == there


def test_losses_are_chosen_by_words(browser: Browser) -> None:
    script = """
        const input = document.querySelector('.legend .filter input');
        input.value = '%s'; input.dispatchEvent(new Event('input'));
        return [...document.querySelector('table.board').tBodies[0].rows].filter(r => !r.hidden).map(r => r.cells[0].textContent);
    """
    assert set(browser.run(script % "clop, VIC")) == {"clop", "vicreg"}
    assert browser.run(script % "none of these") == []
    assert len(browser.run(script % "")) == 5


def test_a_picture_is_there_for_every_question(browser: Browser) -> None:
    script = "return [...document.querySelectorAll('section')].map(s => [s.id, s.querySelectorAll('svg, .map').length])"
    counts = dict(browser.run(script))
    assert counts["scores"] == 3  # one over budgets, one a task
    assert counts["stability"] == 8
    assert counts["training"] == 2 * (4 + 3)  # and three of the runs that diverged
    assert counts["embeddings"] == 2 * 5
    assert counts["cost"] == 2
    unnamed = "return [...document.querySelectorAll('main svg')].filter(s => !s.getAttribute('aria-label')).length"
    assert browser.run(unnamed) == 0
    words = browser.run("return [...document.querySelectorAll('.map small')].map(e => e.textContent)")
    assert {"ok", "weak", "unresolved", "diverged"} >= set(words) > {"diverged"}


def test_what_is_folded_is_printed_but_for_the_table_of_runs(browser: Browser) -> None:
    script = """
        const folded = () => [...document.querySelectorAll('details:not([open])')].map(d => d.closest('section').id);
        const before = folded();
        dispatchEvent(new Event('beforeprint')); const printed = folded();
        dispatchEvent(new Event('afterprint')); return [before, printed, folded()];
    """
    browser.run("document.querySelector('#runs details').open = false; return 0")
    before, printed, after = browser.run(script)
    assert {"training", "embeddings", "runs"} <= set(before)
    assert printed == ["runs"]
    assert after == before


@pytest.mark.parametrize("width", [1280, 768, 390])
def test_the_page_is_never_wider_than_the_window(browser: Browser, width: int) -> None:
    browser.resize(width, 900)
    assert browser.run("return window.innerWidth") == width
    assert browser.run("return document.documentElement.scrollWidth") <= width


def test_text_has_enough_contrast_in_the_stability_map(browser: Browser) -> None:
    """WCAG AA asks for 4.5; colours are measured as drawn, on the strongest shade."""
    script = """
        const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        const light = (colour) => {
            canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(v => v / 255)
                .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        return [...document.querySelectorAll('.map td')].map(td => {
            const style = getComputedStyle(td);
            const [x, y] = [light(style.color), light(style.backgroundColor)].sort((a, b) => b - a);
            return (x + 0.05) / (y + 0.05);
        });
    """
    assert min(browser.run(script)) > 4.5


@pytest.mark.parametrize("width", [1280, 768, 390])
def test_every_loss_has_its_whole_name_in_tables(browser: Browser, width: int) -> None:
    browser.resize(width, 900)
    script = """
        return [...document.querySelectorAll('.sheet tbody th')].filter(th => th.offsetParent).map(th => {
            const text = document.createRange(), cell = th.getBoundingClientRect(); text.selectNodeContents(th);
            const box = text.getBoundingClientRect();
            return [th.textContent, box.left >= cell.left && box.right <= cell.right && box.bottom <= cell.bottom];
        });
    """
    found = browser.run(script)
    assert LONG in [name for name, _ in found]
    assert all(whole for _, whole in found)
    assert set(browser.line_ends(".sheet tbody th")) <= set("_(,= -")  # and not inside a word


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser: Browser, theme: str) -> None:
    browser.theme(theme)
    browser.run("for (const part of document.querySelectorAll('details')) part.open = true; return 0")
    assert browser.axe() == []
