"""What a kept network scores when the probes of its run are measured again, beside what the record says."""

from dataclasses import dataclass

from cl_semisup.report.tables import Column, Entry, Table


@dataclass(frozen=True)
class ScoredAgain:
    """Scores as fractions in [0, 1].

    Args:
        name: of the network, for the caption
        record: the scores in the record
        scores: the same measured again; those of projections lack where the projector was not kept
        warnings: what else than the network may make a difference
    """

    name: str
    record: dict[str, float]
    scores: dict[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def differences(self) -> dict[str, float]:
        """Measured again minus recorded, for every score that could be measured."""
        return {name: self.scores[name] - value for name, value in self.record.items() if name in self.scores}

    def table(self) -> Table:
        columns = (Column("score", numeric=False), Column("record %"), Column("again %"), Column("difference"))
        rows = []
        for name, value in sorted(self.record.items()):
            cells = ["—", "—"]
            if name in self.scores:
                cells = [f"{100 * self.scores[name]:.2f}", f"{100 * self.differences[name]:+.3f}"]
            rows.append(tuple(Entry(text) for text in (name, f"{100 * value:.2f}", *cells)))
        return Table(f"{self.name}: the probes of its run, measured again", columns, tuple(rows))

    def notes(self) -> list[str]:
        notes = [f"{self.name}: {warning}" for warning in self.warnings]
        if self.record.keys() - self.scores.keys():
            notes.append(f"{self.name}: the projector was not kept (`keep: all`), so its scores are not measured.")
        return notes
