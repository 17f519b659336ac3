"""Make docs/findings/collapse.svg from the published records: `python tools/collapse_picture.py`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cl_semisup.report import svg  # noqa: E402
from cl_semisup.report.report_data import ReportData  # noqa: E402
from cl_semisup.results import snapshot  # noqa: E402
from cl_semisup.results.leaderboard import Board, Row  # noqa: E402
from tools import figure  # noqa: E402

PICTURE = ROOT / "docs" / "findings" / "collapse.svg"
PUBLISHED, SUITE = ROOT / "results" / "published", "trial_collapse"
LOSSES: figure.Losses = {
    "cross_entropy": ("supervised training", "#4d4d4d"),
    "supcon": ("SupCon", "#00835f"),
    "nt_xent": ("SimCLR (NT-Xent)", "#0067a3"),
    "clop(weight=1)": ("CLOP, weight 1", "#c25200"),
    "clop(weight=5)": ("CLOP, weight 5", "#8e3fa0"),
}
PANEL, HEIGHT, LEGEND = 330, 310, 180
WIDTH = 2 * PANEL + LEGEND


def broken(row: Row) -> list[tuple[float, float]]:
    """(learning rate, percent of its repetitions that collapsed or diverged), ascending."""
    cells = sorted(row.cells, key=lambda cell: cell.learning_rate)
    return [
        (cell.learning_rate, 100 * sum(s in ("collapsed", "diverged") for s in statuses) / len(statuses))
        for cell in cells
        for statuses in [list(cell.runs["status"])]
    ]


def panel(board: Board) -> str:
    """Broken runs over the learning rate on one board, a line a loss."""
    rates = sorted({cell.learning_rate for row in board.trained_rows for cell in row.cells})
    axes = svg.Axes(
        svg.span(rates, 0.08, log=True),
        (-3, 103),
        f"learning rate; {board.labels.replace('%', ' %')} of the labels visible",
        "collapsed or diverged runs, %",
        log_x=True,
        ticks_x=[0.03, 0.1, 0.3, 1, 3],
        names_x=["0.03", "0.1", "0.3", "1", "3"],
        width=PANEL,
        height=HEIGHT,
    )
    parts = [axes.frame()]
    for i, (loss, (words, _)) in enumerate(LOSSES.items()):
        row = board.row_of(loss)
        assert row is not None, f"{SUITE} has no {loss}"
        points = [(axes.x(rate) + 2 * (i - 2), axes.y(share)) for rate, share in broken(row)]
        marks = "".join(
            svg.mark(x, y, i, f"{words}, learning rate {rate:g}: {share:.0f} % broken")
            for (x, y), (rate, share) in zip(points, broken(row), strict=True)
        )
        parts.append(svg.series(i, svg.line(points, i) + marks))
    return "".join(parts)


def picture() -> str:
    """The picture of the published records: few labels on the left, all labels on the right."""
    data = ReportData.read(PUBLISHED, snapshot.load(PUBLISHED, SUITE))
    parts = []
    for i, board in enumerate(sorted(data.boards, key=lambda board: board.budget)):
        parts.append(f'<g transform="translate({i * PANEL} 0)">{panel(board)}</g>')
    parts.append(figure.legend(LOSSES, 2 * PANEL))
    title = "Share of collapsed or diverged runs over the learning rate, for five losses, with few labels and with all"
    return figure.document(parts, LOSSES, title, WIDTH, HEIGHT)


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(PICTURE)
