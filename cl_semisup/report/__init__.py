"""Records -> leaderboard and report, for people: terminal, Markdown, CSV, LaTeX, HTML. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

from cl_semisup.report import export, html, latex, markdown, terminal
from cl_semisup.report.report_data import ReportData
from cl_semisup.results import records, snapshot
from cl_semisup.results.snapshot import SuiteSnapshot


@dataclass(frozen=True)
class Report:
    """The text for the terminal and the written files, in the order to read them."""

    text: str
    files: tuple[Path, ...]


def make(results: Path, suite: SuiteSnapshot, reload_seconds: float = 0.0) -> Report:
    """Write leaderboard.{md,csv,tex} and report.html into the suite's folder. Same records, same bytes.

    If pyarrow is installed, leaderboard.parquet too. With `reload_seconds` an open page reloads itself that often.
    InputError if the folder is that of another suite of the same name: also of one that began while this one ran.
    """
    snapshot.require_own_folder(results, suite)
    if not snapshot.exists(results, suite.name):  # runs of other suites can be all that this one needs
        suite.save(results)
    data = ReportData.read(results, suite)
    folder = suite.folder(results)
    texts = {
        "leaderboard.md": markdown.page(data),
        "leaderboard.csv": export.csv(data),
        "leaderboard.tex": latex.document(data),
        "report.html": html.page(data, reload_seconds),
    }
    for name, text in texts.items():
        records.write_text(folder / name, text, results)
    paths = [folder / name for name in texts]
    if table := export.parquet(data):
        paths.append(folder / "leaderboard.parquet")
        records.write_bytes(paths[-1], table, results)
    return Report(terminal.text(data), tuple(paths))
