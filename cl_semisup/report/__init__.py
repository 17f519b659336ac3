"""Records -> leaderboard and report, for people: terminal, Markdown, CSV, LaTeX, HTML. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

from cl_semisup.report import export, html, latex, markdown, terminal
from cl_semisup.report.findings import Findings
from cl_semisup.results import records
from cl_semisup.results.snapshot import SuiteSnapshot


@dataclass(frozen=True)
class Made:
    """What a report made: the text for the terminal and the files, in the order to read them."""

    text: str
    files: tuple[Path, ...]


def make(results: Path, chosen: SuiteSnapshot, reload_seconds: float = 0.0) -> Made:
    """Write leaderboard.{md,csv,tex} and report.html into the suite's folder. Same records, same bytes.

    leaderboard.parquet too, where pyarrow is installed. With `reload_seconds` an open page loads itself that often.
    """
    findings = Findings.of(results, chosen)
    folder = chosen.folder(results)
    texts = {"leaderboard.md": markdown.page(findings), "leaderboard.csv": export.csv(findings)}
    texts["leaderboard.tex"] = latex.document(findings)
    texts["report.html"] = html.page(findings, reload_seconds)
    for name, text in texts.items():
        records.write_text(folder / name, text)
    files = [folder / name for name in texts]
    if export.parquet(findings, folder / "leaderboard.parquet"):
        files.append(folder / "leaderboard.parquet")
    return Made(terminal.text(findings), tuple(files))
