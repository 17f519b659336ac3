"""Make docs/picture.svg, the README's picture, from the published records: `python tools/picture.py`."""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cl_semisup as cl  # noqa: E402
from cl_semisup.report import svg  # noqa: E402
from tools import figure  # noqa: E402

PICTURE = ROOT / "docs" / "picture.svg"
SUITE, SCORE = "fractions", "linear_top1_labelled"
LOSSES: figure.Losses = {
    "cross_entropy": ("supervised training", "#4d4d4d"),
    "clop(base=nt_xent)": ("CLOP on SimCLR", "#c25200"),
    "nt_xent": ("SimCLR (NT-Xent)", "#0067a3"),
    "supcon": ("SupCon", "#00835f"),
    "untrained": ("untrained network", "#9a9a9a"),
}
WIDTH, HEIGHT, LEGEND = 760, 320, 190


def draw(table: Any) -> str:
    """The picture of a leaderboard: score over the share of labels, a line a loss, with 95 % t-intervals."""
    table = table.assign(share=[float(labels.rstrip("%")) for labels in table["labels"]])
    shares = sorted(set(table["share"]))
    axes = svg.Axes(
        svg.span(shares, 0.08, log=True),
        (40, 101),
        "labelled share of 1,437 training images",
        "accuracy of a linear probe, %",
        log_x=True,
        ticks_x=shares,
        names_x=[f"{share:g} %" for share in shares],
        width=WIDTH - LEGEND,
        height=HEIGHT,
    )
    parts = [axes.frame()]
    for i, (loss, (words, _)) in enumerate(LOSSES.items()):
        rows = table[table["loss"] == loss].sort_values("share")
        points, marks = [], []
        for share, mean, half in zip(rows["share"], 100 * rows[SCORE], 100 * rows[f"{SCORE}_half"], strict=True):
            x = axes.x(share) + 6 * (i - (len(LOSSES) - 1) / 2)  # side by side, or intervals overlap
            points.append((x, axes.y(mean)))
            low, high = axes.y.clamped(mean - half), axes.y.clamped(min(mean + half, 100))
            marks.append(
                svg.whisker(x, low, high) + svg.mark(x, axes.y(mean), i, f"{words}: {mean:.1f} ± {half:.1f} %")
            )
        parts.append(svg.series(i, svg.line(points, i) + "".join(marks)))
    title = "Accuracy of a linear probe on handwritten digits over the share of labels, for five losses"
    parts.append(figure.legend(LOSSES, WIDTH - LEGEND))
    return figure.document(parts, LOSSES, title, WIDTH, HEIGHT)


def picture() -> str:
    """The picture of the published records."""
    return draw(cl.leaderboard(SUITE, ROOT / "results" / "published"))


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(PICTURE)
