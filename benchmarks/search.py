"""The edges of eight losses on digits, by search and by the full grid: do they agree, and what does each cost?

    python benchmarks/search.py               # ten minutes on one core
    python benchmarks/search.py --epochs 9    # longer trainings
    python benchmarks/search.py --folder DIR  # keep the records; a second call with the same folder trains nothing

Writes results/search.md and search.json. The full grid is trained: a small network on handwritten digits, one run at a
time. The search is decided by the records of the runs that it asks for, so it is what a search from nothing would find;
its command in the grid's folder then trains nothing. The edges of the grid are fitted in the same way, to all rungs.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.report.edges import EdgeRow, edge_lines, edge_rows
from cl_semisup.search.outcomes import Outcomes
from cl_semisup.search.plan import plan
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import Edge

SUITE = """\
question: Where does each loss stop learning?
name: {name}
datasets: digits
encoder: {{mlp: {{width: 32, layers: 1}}}}
losses: [nt_xent, supcon, clop, vicreg, barlow_twins, byol, dcl, align_uniform]
baseline: nt_xent
label_fraction: 0.1
learning_rate: {rates}
batch_size: 128
repetitions: {repetitions}
epochs: {epochs}
probes: {{knn: false}}
validation: all
"""
SEARCH = "{edge: [0.001, 100], per_decade: 8}"


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for the records; by default a temporary one")
    options = parser.parse_args()

    def text(name: str, rates: str) -> str:
        return SUITE.format(name=name, rates=rates, epochs=options.epochs, repetitions=options.repetitions)

    search_text = text("search", SEARCH)
    asked = suite.parse(search_text, "search.yaml")
    assert isinstance(asked.search, Edge)
    grid_text = text("grid", str(list(asked.search.values)))
    with TemporaryDirectory() as temporary:
        grid = options.folder or Path(temporary)
        grid.mkdir(parents=True, exist_ok=True)
        grid_records = _common.run_suite(grid_text, grid, "--workers", "1")[1]
        outcomes = Outcomes(grid, asked.score, asked.data_dir)
        runs = list(plan(asked.runs, asked.search, outcomes, asked.baseline).runs)
        of_grid, of_search = (_rows(some, asked, outcomes) for some in (list(asked.runs), runs))
        all_records = _common.run_suite(search_text, grid, "--workers", "1")[1]
    ids = {run.id for run in runs}
    commands = [
        ("full grid", len(grid_records), _seconds(grid_records)),
        ("search", len(runs), _seconds(one for one in grid_records if one["id"] in ids)),
        ("search in the grid's folder", len(all_records) - len(grid_records), 0.0),
    ]
    save(commands, asked.search, of_grid, of_search, options.epochs)


def _seconds(records: Iterable[dict[str, Any]]) -> float:
    """Of training and evaluation; the starts of commands and their reports are left out."""
    return sum(one["cost"].get(key, 0.0) for one in records for key in ("train_seconds", "evaluation_seconds"))


def _rows(runs: list[Run], asked: suite.Suite, outcomes: Outcomes) -> dict[str, EdgeRow]:
    """The fitted edges of every loss."""
    assert isinstance(asked.search, Edge)
    lines = edge_lines(runs, asked.search, outcomes)
    return {row.loss: row for row in edge_rows(lines, asked.search, asked.baseline)}


def save(
    commands: list[tuple[str, int, float]],
    search: Edge,
    grid: dict[str, EdgeRow],
    found: dict[str, EdgeRow],
    epochs: int,
) -> None:
    """Write both tables."""
    rows, apart = [], []
    for loss in sorted(grid):
        both = (grid[loss], found[loss])
        row: dict[str, Any] = {"loss": loss}
        for name in ("low", "high"):
            rungs = [getattr(one.fitted, name) for one in both]
            for who, rung in zip(("grid", "search"), rungs, strict=True):
                row[f"{name}, {who}"] = f"{search.values[rung]:g}" if rung >= 0 else "none"
            known_to = getattr(both[0], name).ci_half_width * search.per_decade
            row[f"{name}, known to"] = f"{known_to:.0f}"
            row[f"{name}, rungs apart"] = abs(rungs[0] - rungs[1])
            apart.append((abs(rungs[0] - rungs[1]), known_to))
        row["runs"] = f"{both[1].tried} of {both[0].tried}"
        rows.append(row)
    near = sum(one <= 1 for one, _ in apart)
    equal = sum(one == 0 for one, _ in apart)
    in_interval = sum(one <= max(known_to, 1) for one, known_to in apart)
    agree = f"{near} of {len(apart)} edges agree within one rung, {equal} are equal, and {in_interval} agree within"
    agree += " one rung or the interval of the grid's."
    costs = _common.table(["command", "runs", "seconds"], commands)
    about = (
        f"Ladder of {len(search.values)} learning rates from {search.values[0]:g} to {search.values[-1]:g},"
        f" {search.per_decade} a decade; digits with 10 % of the labels, mlp of width 32, batch 128, {epochs} epochs;"
        f" a good rung keeps {search.share:g} of the best level. {agree}\n\n{costs}\n\n"
        "An edge is fitted to three paired repetitions (docs/search.md). `known to` is half of its 95 % interval in"
        " rungs, from a jackknife over the repetitions of the full grid: how well these trainings tell at all where it"
        " is. They gain 2 to 11 points over the untrained network, and scores of neighbouring rungs scatter by 1."
    )
    _common.write("search", about, rows)


if __name__ == "__main__":
    main()
