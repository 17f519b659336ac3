"""The result of a gate run: a table for people, plain data for machines, an exit code."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cl_semisup.gate.gate_check import CHANGED, INCONCLUSIVE, SAME, TIERS, GateCheck
from cl_semisup.system import installation
from cl_semisup.text import visible

PASSED, REGRESSION = 0, 1


@dataclass(frozen=True)
class GateResult:
    """All checks of a gate run.

    Args:
        suite: the gate suite's file
        checks: every check
        reference: date, commit and reason of the reference
        version_changes: plug-in files and versions that differ from the reference's, "name: old -> new"
        loss_file_changed: loss -> whether one of its plug-in files changed
        seconds: tier -> duration
    """

    suite: str
    checks: tuple[GateCheck, ...]
    reference: str
    version_changes: tuple[str, ...] = ()
    loss_file_changed: Mapping[str, bool] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return REGRESSION if self.changed_checks else PASSED

    @property
    def changed_checks(self) -> tuple[GateCheck, ...]:
        return tuple(check for check in self.checks if check.status == CHANGED)

    @property
    def tiers(self) -> list[str]:
        return list(dict.fromkeys(check.tier for check in self.checks))

    def count(self, tier: str, status: str) -> int:
        return sum(check.tier == tier and check.status == status for check in self.checks)

    def causes(self) -> dict[str, str]:
        """Changed loss -> the likely cause."""
        changed: dict[str, list[GateCheck]] = {}
        for check in self.changed_checks:
            changed.setdefault(check.loss, []).append(check)
        return {loss: likely_cause(checks, self.loss_file_changed.get(loss, False)) for loss, checks in changed.items()}

    def text(self) -> str:
        """A line for each loss and tier that changed or is inconclusive, and a summary."""
        lines = [f"Reference: {visible(self.reference)}"]
        lines += [f"Changed since: {visible(change)}" for change in self.version_changes]
        for tier in self.tiers:
            counts = [(self.count(tier, status), status) for status in (SAME, CHANGED, INCONCLUSIVE)]
            summary = ", ".join(f"{n} {status}" for n, status in counts if n)
            lines.append(f"{tier:11} {summary}  ({self.seconds.get(tier, 0):.0f} s)")
        rows = largest_change_per_loss(check for check in self.checks if check.status != SAME)
        if rows:
            lines += ["", *_table(rows), ""]
        lines += [f"Likely cause, {loss}: {cause}." for loss, cause in self.causes().items()]
        return "\n".join([*lines, self._summary()])

    def _summary(self) -> str:
        if changed := self.changed_checks:
            losses = len({check.loss for check in changed})
            counts = f"MOVED: {len(changed)} of {len(self.checks)} checks, {losses} loss(es)."
            return f'{counts} If that is meant: {installation.COMMAND[-1]} gate {self.suite} --update --reason "..."'
        inconclusive = sum(check.status == INCONCLUSIVE for check in self.checks)
        reason = "noise leaves room for a change above the margin, or a figure is not finite"
        note = f", {inconclusive} inconclusive: {reason}" if inconclusive else ""
        return f"PASSED: {len(self.checks)} checks, none moved{note}."

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "schema": 1,
            "suite": self.suite,
            "exit_code": self.exit_code,
            "reference": self.reference,
            "changed": list(self.version_changes),
            "causes": self.causes(),
            "seconds": {tier: round(value, 1) for tier, value in self.seconds.items()},
            "findings": [check.as_dict() for check in self.checks],
        }


def likely_cause(changed: Iterable[GateCheck], loss_file_changed: bool) -> str:
    """Where to look, from the cheapest tier that changed and the first step at which it did."""
    first = min(changed, key=lambda check: (TIERS.index(check.tier), check.first_step))
    if first.tier == "function":
        return "the loss itself" + ("; its file changed" if loss_file_changed else ", through code it shares or torch")
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


def largest_change_per_loss(checks: Iterable[GateCheck]) -> list[GateCheck]:
    """One check for every tier and loss (and quantity of the outcome tier): the earliest step, then the largest."""
    largest: dict[tuple[str, str, str], GateCheck] = {}
    for check in checks:
        key = (check.tier, check.loss, check.quantity if check.tier == "outcome" else "")
        if key not in largest or _severity(check) > _severity(largest[key]):
            largest[key] = check
    return sorted(largest.values(), key=lambda check: (TIERS.index(check.tier), check.loss, check.quantity))


def _severity(check: GateCheck) -> tuple[bool, float, float]:
    return check.status == CHANGED, -check.first_step, abs(check.relative_change)


def _table(checks: Iterable[GateCheck]) -> list[str]:
    rows = [("tier", "loss", "where", "what", "from", "to", "change", "sigmas", "verdict")]
    for c in checks:
        where = c.where + ("" if c.step is None else ", end" if c.step < 0 else f", step {c.step}")
        quantity = f"{c.quantity}: {c.note}" if c.quantity == "status" and c.note else c.quantity
        numbers = (format_number(c.reference), format_number(c.current), format_change(c))
        sigmas = "" if c.sigmas is None else f"{c.sigmas:+.1f}"
        rows.append((c.tier, c.loss, where, quantity, *numbers, sigmas, c.status))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.7g}"


def format_change(check: GateCheck) -> str:
    """`+0.5 %`; `-` where one of the numbers is missing."""
    if check.reference is None or check.current is None:
        return "-"
    return f"{100 * check.relative_change:+.2g} %"
