"""An evaluation of stored features as tables and text, and as a data frame for programs."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_semisup.report import markdown, terminal
from cl_semisup.report.export import plain_cell
from cl_semisup.report.tables import Column, Entry, Table
from cl_semisup.report.wording import format_number, format_percent, format_points
from cl_semisup.results import records
from cl_semisup.results.statistics import MeanCI
from cl_semisup.scoring.comparison import Comparison, compare, score_ci
from cl_semisup.scoring.scored_again import ScoredAgain
from cl_semisup.scoring.scores import SCORES, Scores

if TYPE_CHECKING:
    import pandas as pd

NOTE = (
    "Mean over draws of the labels ± half of the 95 % t-interval, percent of the test rows; with a single draw the"
    " interval is over test rows. Penalties are chosen on a fifth of the labelled rows."
)
COMPARISON_NOTE = "Differences in points, paired by draw, or by test row where there is a single draw."

TEXT_COLUMNS = ("features", "labels")  # of the frame, with names that strangers gave


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The scores of one or more sets of features; printed, it shows the tables, a notebook shows them as HTML."""

    results: tuple[Scores, ...]
    scored_again: tuple[ScoredAgain, ...] = ()  # of networks that suites have kept

    @cached_property
    def _compared(self) -> tuple[list[Comparison], list[str]]:
        return compare(self.results)

    @property
    def comparisons(self) -> list[Comparison]:
        return self._compared[0]

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """One row a (features, budget): scores as fractions in [0, 1], `<score>_half` and `<score>_n`."""
        import pandas as pd

        rows = []
        for scores in self.results:
            for draws in scores.budgets:
                row: dict[str, Any] = {"features": scores.features.name, "labels": draws[0].draw.label}
                row |= {"labelled": len(draws[0].draw.rows), "draws": len(draws), "verdict": scores.verdict}
                for name in SCORES:
                    value = score_ci(draws, name)
                    row |= {name: value.mean, f"{name}_half": value.ci_half_width, f"{name}_n": value.n}
                rows.append(row | scores.geometry)
        return pd.DataFrame(rows)

    def tables(self) -> list[Table]:
        """Kept networks by their runs' probes, a table for each set of features, then one for each pair."""
        tables = [one.table() for one in self.scored_again]
        tables += [_scores_table(scores) for scores in self.results]
        return tables + [_comparison_table(comparison) for comparison in self.comparisons]

    def notes(self) -> list[str]:
        """Warnings first, then what the figures are."""
        notes = [
            f"{scores.features.name}: {warning}"
            for scores in self.results
            for warning in (*scores.warnings, *([f"Collapsed: {scores.reason}."] if scores.reason else []))
        ]
        notes += [note for one in self.scored_again for note in one.notes()]
        notes += self._compared[1]
        return [*notes, NOTE, *([COMPARISON_NOTE] if self.comparisons else [])]

    def text(self) -> str:
        """For a terminal."""
        blocks = ["\n".join(terminal.lines(table)) for table in self.tables()]
        return "\n\n".join([*blocks, "\n".join(terminal.wrapped(self.notes()))])

    def markdown(self) -> str:
        blocks = []
        for table in self.tables():
            blocks += [f"## {markdown.escape(table.caption)}", "", *markdown.lines(table), ""]
        return "\n".join([*blocks, *(f"- {markdown.escape(note)}" for note in self.notes()), ""])

    def csv(self) -> str:
        """`frame` as comma-separated text; what a spreadsheet would run as a formula gets a leading apostrophe."""
        frame = self.frame.copy()
        for column in TEXT_COLUMNS:
            frame[column] = [plain_cell(value) for value in frame[column]]
        text: str = frame.to_csv(index=False, lineterminator="\n")
        return text

    def save(self, path: Path) -> None:
        """Write a file of the user's own: `.md`, `.csv`, or `.json` with the rows of `frame`."""
        texts = {".md": self.markdown, ".csv": self.csv, ".json": self.json}
        records.write_text(path, texts[path.suffix]())

    def json(self) -> str:
        rows = [
            {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
            for row in self.frame.to_dict("records")
        ]
        return records.to_json({"rows": rows, "notes": self.notes()})

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from cl_semisup.text import html

        return f"<pre>{html(self.text())}</pre>"


def _scores_table(scores: Scores) -> Table:
    features = scores.features
    columns = [Column("labels", numeric=False), Column("rows"), Column("draws")]
    columns += [Column(f"{name} %") for name in SCORES]
    rows = []
    for draws in scores.budgets:
        row = [Entry(draws[0].draw.label), Entry(str(len(draws[0].draw.rows))), Entry(str(len(draws)))]
        rows.append((*row, *(_percent(score_ci(draws, name)) for name in SCORES)))
    sizes = f"{len(features.train)} training and {len(features.test)} test rows, {features.train.shape[1]} features"
    shape = ", ".join(f"{name} {format_number(value)}" for name, value in scores.geometry.items())
    caption = f"{features.name}: {sizes}, {features.classes} classes; {shape}; verdict {scores.verdict}"
    return Table(caption, tuple(columns), tuple(rows))


def _comparison_table(comparison: Comparison) -> Table:
    columns = [Column("labels", numeric=False), *(Column(name) for name in SCORES)]
    rows = []
    for draws, differences in zip(comparison.a.budgets, comparison.differences, strict=True):
        cells = (_points(differences[name]) for name in SCORES)
        rows.append((Entry(draws[0].draw.label), *cells))
    return Table(f"{comparison.a.features.name} - {comparison.b.features.name}", tuple(columns), tuple(rows))


def _percent(value: MeanCI) -> Entry:
    return Entry(format_percent(value), value.mean)


def _points(value: MeanCI) -> Entry:
    clear = not math.isnan(value.ci_half_width) and abs(value.mean) > value.ci_half_width
    return Entry(format_points(value) + (" *" if clear else ""), value.mean)
