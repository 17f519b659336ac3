"""What the pictures of committed results share: the colours of losses, the legend, the document around all parts."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cl_semisup.report import svg  # noqa: E402

Losses = dict[str, tuple[str, str]]  # loss as the leaderboard names it -> (its words in the legend, its colour)
TEXT = "text{font:13px system-ui,sans-serif;fill:#222}.grid{stroke:#ddd;fill:none}"
LINES = ".k path{stroke-width:2}.k .thin{stroke-width:1.2}"


def legend(losses: Losses, left: float) -> str:
    """A line, a mark and the words of every loss, from x = `left` on."""
    parts = []
    for i, (words, _) in enumerate(losses.values()):
        y = 40 + 26 * i
        key = svg.line([(left + 8, y), (left + 36, y)], i) + svg.mark(left + 22, y, i, words)
        parts += [svg.series(i, key), svg.text(left + 44, y + 4, words)]
    return "".join(parts)


def document(parts: list[str], losses: Losses, title: str, width: int, height: int) -> str:
    """A file of its own, on white, with the losses' colours."""
    colours = "".join(f".k{i}{{color:{colour}}}" for i, (_, colour) in enumerate(losses.values()))
    head = [f"<style>{TEXT}{LINES}{colours}</style>", f'<rect width="{width}" height="{height}" fill="#fff"/>']
    picture = svg.picture("".join(head + parts), title, width, height)
    return picture.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1) + "\n"
