"""The gate's result for machines: JUnit XML, and annotations that GitHub shows at the suite's file."""

from xml.etree import ElementTree

from cl_semisup.gate.gate_check import CHANGED, INCONCLUSIVE, GateCheck
from cl_semisup.gate.result import GateResult, format_change, format_number, largest_change_per_loss


def junit(result: GateResult) -> str:
    """One test case for each check; a changed check is a failure, an inconclusive one is skipped."""
    suites = ElementTree.Element("testsuites", name="gate")
    for tier in result.tiers:
        checks = [check for check in result.checks if check.tier == tier]
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=tier,
            tests=str(len(checks)),
            failures=str(result.count(tier, CHANGED)),
            skipped=str(result.count(tier, INCONCLUSIVE)),
            time=f"{result.seconds.get(tier, 0):.1f}",
        )
        for check in checks:
            quantity = check.quantity if tier == "outcome" or not check.where else ""
            name = f"{check.where} {quantity}".strip()
            case = ElementTree.SubElement(suite, "testcase", classname=f"gate.{tier}.{check.loss}", name=name)
            if check.status == CHANGED:
                ElementTree.SubElement(case, "failure", message=describe(check)).text = result.reference
            elif check.status == INCONCLUSIVE:
                ElementTree.SubElement(case, "skipped", message=describe(check))
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode", xml_declaration=False)
    # a message may hold what a loss printed, and XML 1.0 has no control characters
    printable = "".join(c for c in text if c >= " " or c in "\n\t")
    return f"<?xml version='1.0' encoding='utf-8'?>\n{printable}\n"


def annotations(result: GateResult) -> str:
    """GitHub workflow commands: an error for a change, a notice for an inconclusive check."""
    causes = result.causes()
    lines = []
    for check in largest_change_per_loss(c for c in result.checks if c.status in (CHANGED, INCONCLUSIVE)):
        level = "error" if check.status == CHANGED else "notice"
        cause = f" Likely cause: {causes[check.loss]}." if check.loss in causes else ""
        title = _property(f"gate, {check.tier}: {check.loss}")
        lines.append(f"::{level} file={_property(result.suite)},title={title}::{_data(describe(check) + cause)}")
    return "\n".join(lines)


def describe(check: GateCheck) -> str:
    """One check as a sentence."""
    where = f" ({check.where})" if check.where else ""
    step = "" if check.step is None else " at the end" if check.step < 0 else f" at step {check.step}"
    numbers = f"{format_number(check.reference)} -> {format_number(check.current)}"
    change = f", {format_change(check)}" if check.reference is not None and check.current is not None else ""
    note = f"; {check.note}" if check.note else ""
    return f"{check.loss}{where}: {check.quantity}{step} {numbers}{change}{note}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
