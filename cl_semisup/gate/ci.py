"""The verdict as machines read it: JUnit XML, and annotations that GitHub shows with the suite's file."""

from xml.etree import ElementTree

from cl_semisup.gate.finding import INCONCLUSIVE, MOVED, Finding
from cl_semisup.gate.verdict import Verdict, number, one_a_loss, relative


def junit(verdict: Verdict) -> str:
    """One test case a check; what moved is a failure, what stayed open is skipped."""
    suites = ElementTree.Element("testsuites", name="gate")
    for tier in verdict.tiers:
        mine = [f for f in verdict.findings if f.tier == tier]
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=tier,
            tests=str(len(mine)),
            failures=str(verdict.count(tier, MOVED)),
            skipped=str(verdict.count(tier, INCONCLUSIVE)),
            time=f"{verdict.seconds.get(tier, 0):.1f}",
        )
        for finding in mine:
            what = finding.quantity if tier == "outcome" or not finding.where else ""
            name = f"{finding.where} {what}".strip()
            case = ElementTree.SubElement(suite, "testcase", classname=f"gate.{tier}.{finding.loss}", name=name)
            if finding.verdict == MOVED:
                ElementTree.SubElement(case, "failure", message=sentence(finding)).text = verdict.since
            elif finding.verdict == INCONCLUSIVE:
                ElementTree.SubElement(case, "skipped", message=sentence(finding))
    ElementTree.indent(suites)
    # XML 1.0 has no control characters, and a message may hold what a loss printed
    text = ElementTree.tostring(suites, encoding="unicode", xml_declaration=False)
    kept = "".join(c for c in text if c >= " " or c in "\n\t")
    return f"<?xml version='1.0' encoding='utf-8'?>\n{kept}\n"


def annotations(verdict: Verdict) -> str:
    """GitHub workflow commands: an error for what moved, a notice for what stayed open."""
    causes = verdict.causes()
    lines = []
    for finding in one_a_loss(f for f in verdict.findings if f.verdict in (MOVED, INCONCLUSIVE)):
        level = "error" if finding.verdict == MOVED else "notice"
        why = f" Likely cause: {causes[finding.loss]}." if finding.loss in causes else ""
        title = _property(f"gate, {finding.tier}: {finding.loss}")
        lines.append(f"::{level} file={_property(verdict.suite)},title={title}::{_data(sentence(finding) + why)}")
    return "\n".join(lines)


def sentence(finding: Finding) -> str:
    """One finding in words."""
    place = f" ({finding.where})" if finding.where else ""
    at = "" if finding.step is None else " at the end" if finding.step < 0 else f" at step {finding.step}"
    moved = f"{finding.loss}{place}: {finding.quantity}{at} {number(finding.then)} -> {number(finding.now)}"
    size = f", {relative(finding)}" if finding.then is not None and finding.now is not None else ""
    note = f"; {finding.note}" if finding.note else ""
    return f"{moved}{size}{note}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
