"""All findings of a gate run, and what they amount to: a table for people, plain data for machines, an exit code."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cl_semisup.gate.finding import INCONCLUSIVE, MOVED, SAME, TIERS, Finding

PASSED, REGRESSION = 0, 1


@dataclass(frozen=True)
class Verdict:
    """What a run of the gate says.

    Args:
        suite: the gate suite's file
        findings: every check
        since: what the reference is: date, commit, reason
        changed: plug-in files and versions that differ from the reference's, "what: then -> now"
        files: loss -> whether a plug-in file behind it changed
        seconds: tier -> time it took
    """

    suite: str
    findings: tuple[Finding, ...]
    since: str
    changed: tuple[str, ...] = ()
    files: Mapping[str, bool] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return REGRESSION if self.moved else PASSED

    @property
    def moved(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.verdict == MOVED)

    @property
    def tiers(self) -> list[str]:
        return list(dict.fromkeys(finding.tier for finding in self.findings))

    def count(self, tier: str, verdict: str) -> int:
        return sum(f.tier == tier and f.verdict == verdict for f in self.findings)

    def causes(self) -> dict[str, str]:
        """Loss -> the likely cause of its first tier that moved."""
        found: dict[str, str] = {}
        for loss in dict.fromkeys(finding.loss for finding in self.moved):
            found[loss] = cause([f for f in self.moved if f.loss == loss], self.files.get(loss, False))
        return found

    def text(self) -> str:
        """A short table: one line a loss and tier that moved or stayed open, and the sum of it all."""
        lines = [f"Reference: {self.since}"]
        lines += [f"Changed since: {what}" for what in self.changed]
        for tier in self.tiers:
            counts = [(self.count(tier, verdict), verdict) for verdict in (SAME, MOVED, INCONCLUSIVE)]
            said = ", ".join(f"{n} {verdict}" for n, verdict in counts if n)
            lines.append(f"{tier:11} {said}  ({self.seconds.get(tier, 0):.0f} s)")
        shown = one_a_loss(f for f in self.findings if f.verdict != SAME)
        if shown:
            lines += ["", *_table(shown), ""]
        lines += [f"Likely cause, {loss}: {why}." for loss, why in self.causes().items()]
        return "\n".join([*lines, self._sum()])

    def _sum(self) -> str:
        if self.moved:
            losses = len({finding.loss for finding in self.moved})
            says = f"MOVED: {len(self.moved)} of {len(self.findings)} checks, {losses} loss(es)."
            return f'{says} If that is meant: benchmark.py gate {self.suite} --update --reason "..."'
        open_ = sum(f.verdict == INCONCLUSIVE for f in self.findings)
        note = f", {open_} inconclusive: noise leaves room for a change above the margin" if open_ else ""
        return f"PASSED: {len(self.findings)} checks, none moved{note}."

    def as_dict(self) -> dict[str, Any]:
        """Plain data: everything that the table is made of."""
        return {
            "schema": 1,
            "suite": self.suite,
            "exit_code": self.exit_code,
            "reference": self.since,
            "changed": list(self.changed),
            "causes": self.causes(),
            "seconds": {tier: round(value, 1) for tier, value in self.seconds.items()},
            "findings": [asdict(f) | {"change": plain(f.change)} for f in self.findings],
        }


def cause(moved: Iterable[Finding], file_changed: bool) -> str:
    """Where to look, from the cheapest tier that moved and the first step at which it did."""
    first = min(moved, key=lambda f: (TIERS.index(f.tier), f.steps))
    if first.tier == "function":
        return "the loss itself" + ("; its file changed" if file_changed else ", through code it shares or torch")
    if first.tier == "outcome":
        return "what float64 and 20 steps do not show: single precision, long training or the probes on all data"
    if first.where.startswith("free"):
        return "what the loss remembers between steps: its own parameters, queue or averages"
    if first.step == -1:
        return "evaluation, or statistics that only evaluation uses: every training step is the same"
    if first.step == 0:
        return "what comes before the loss: views, labels, batches, network or first weights"
    return (
        f"what moves the weights: optimizer, schedule or momentum copy; steps 0 to {(first.step or 0) - 1} are the same"
    )


def one_a_loss(findings: Iterable[Finding]) -> list[Finding]:
    """The most telling finding of every tier and loss: the earliest step, then the largest change."""
    kept: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        key = (finding.tier, finding.loss, finding.quantity if finding.tier == "outcome" else "")
        if key not in kept or _telling(finding) > _telling(kept[key]):
            kept[key] = finding
    return sorted(kept.values(), key=lambda f: (TIERS.index(f.tier), f.loss, f.quantity))


def _telling(finding: Finding) -> tuple[bool, float, float]:
    return finding.verdict == MOVED, -finding.steps, abs(finding.change)


def _table(findings: Iterable[Finding]) -> list[str]:
    head = ("tier", "loss", "where", "what", "from", "to", "change", "sigmas", "verdict")
    rows = [head]
    for f in findings:
        size = "" if f.sigmas is None else f"{f.sigmas:+.1f}"
        where = f.where + ("" if f.step is None else ", end" if f.step < 0 else f", step {f.step}")
        change = relative(f)
        what = f"{f.quantity}: {f.note}" if f.quantity == "status" and f.note else f.quantity
        rows.append((f.tier, f.loss, where, what, number(f.then), number(f.now), change, size, f.verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.7g}"


def relative(finding: Finding) -> str:
    """`+0.5 %`; `-` where a number came or went."""
    if finding.then is None or finding.now is None:
        return "-"
    return f"{100 * finding.change:+.2g} %"


def plain(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if abs(value) < float("inf") else None
