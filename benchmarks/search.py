"""The edges of eight losses on digits, by search and by the full grid: do they agree, and what does each cost?

    python benchmarks/search.py               # ten minutes on one core
    python benchmarks/search.py --epochs 9    # longer trainings
    python benchmarks/search.py --folder DIR  # keep the records; a second call with the same folder trains nothing

Writes results/search.md and search.json. Both commands train the same small network on handwritten digits at the
same learning rates and repetitions, one run at a time, each in a results folder of its own. The edges of the grid are
the ends of the stretch of good rungs around the best of all its rungs.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.report.edges import EdgeLine, edge_lines
from cl_semisup.scheduling.rounds import Rounds
from cl_semisup.search.outcomes import Outcomes
from cl_semisup.suite import suite
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
Key = tuple[str, int]  # loss, repetition


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
        folder = options.folder or Path(temporary)
        grid, own = folder / "grid", folder / "search"
        folder.mkdir(parents=True, exist_ok=True)
        grid_records = _common.run_suite(grid_text, grid, "--workers", "1")[1]
        search_records = _common.run_suite(search_text, own, "--workers", "1")[1]
        all_records = _common.run_suite(search_text, grid, "--workers", "1")[1]
        of_grid = _lines(grid, asked, list(asked.runs))
        of_search = _lines(own, asked, list(Rounds(own, asked).snapshot().runs))
    asked_ids = {one["id"] for one in search_records}  # timed by the grid's records: both at one speed of the machine
    commands = [
        ("full grid", len(grid_records), _seconds(grid_records)),
        ("search", len(search_records), _seconds(one for one in grid_records if one["id"] in asked_ids)),
        ("search in the grid's folder", len(all_records) - len(grid_records), 0.0),
    ]
    save(commands, asked.search, of_grid, of_search, options.epochs)


def _seconds(records: Iterable[dict[str, Any]]) -> float:
    """Of training and evaluation; the starts of commands and their reports are left out."""
    return sum(one["cost"].get(key, 0.0) for one in records for key in ("train_seconds", "evaluation_seconds"))


def _lines(results: Path, asked: suite.Suite, runs: list[Any]) -> dict[Key, EdgeLine]:
    assert isinstance(asked.search, Edge)
    found = edge_lines(runs, asked.search, Outcomes(results, asked.score, asked.data_dir))
    return {(line.loss, line.repetition): line for line in found}


def save(
    commands: list[tuple[str, int, float]],
    search: Edge,
    grid: dict[Key, EdgeLine],
    found: dict[Key, EdgeLine],
    epochs: int,
) -> None:
    """Write both tables."""
    rows = []
    for key in sorted(grid):
        both = (grid[key], found[key])
        row: dict[str, Any] = {"loss": key[0], "repetition": key[1]}
        for name in ("low", "high"):
            rungs = [getattr(line.region, name) for line in both]
            for who, rung in zip(("grid", "search"), rungs, strict=True):
                row[f"{name}, {who}"] = f"{search.values[rung]:g}" if rung >= 0 else "none"
            row[f"{name}, rungs apart"] = abs(rungs[0] - rungs[1])
        row["grid not monotone"] = "yes" if both[0].region.exceptions else ""
        row["runs"] = f"{len(both[1].outcomes)} of {len(both[0].outcomes)}"
        rows.append(row)
    apart = [row[f"{name}, rungs apart"] for row in rows for name in ("low", "high")]
    agree = f"{sum(one <= 1 for one in apart)} of {len(apart)} edges agree within one rung; {apart.count(0)} are equal."
    costs = _common.table(["command", "runs", "seconds"], commands)
    about = (
        f"Ladder of {len(search.values)} learning rates from {search.values[0]:g} to {search.values[-1]:g},"
        f" {search.per_decade} a decade; digits with 10 % of the labels, mlp of width 32, batch 128, {epochs} epochs;"
        f" a good rung keeps {search.share:g} of the best score. {agree}\n\n{costs}\n\n"
        "Among those that agree are the upper edges of VICReg, where it diverges. The others lie where scores cross the"
        " bounds slowly, so that single verdicts are noise: most of these grids are not monotone themselves, and their"
        " bar is the best of 41 noisy scores, that of a search the best of fewer. Such edges need more repetitions or"
        " longer trainings, whichever way they are looked for."
    )
    _common.write("search", about, rows)


if __name__ == "__main__":
    main()
