"""The gate inside another project's tests: a fixture `gate` that holds a loss to what it was.

    def test_my_loss(gate):
        gate(my_loss)                   # any loss(z1, z2, labels) -> scalar, or a module of that kind

    pytest --cl-gate                            only the tests that use the fixture
    pytest --cl-gate-update "why it moves"      measure anew and keep the reason

References lie in one file, `cl_gate.json` beside pytest's settings, or where `cl_gate_reference` in them says. Checked
are the function tier and a descent of free embeddings, in float64, to 1e-8: tenths of a second a loss and no data.
"""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from cl_semisup.gate.finding import Finding

SCHEMA = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cl-gate", "regression gate of contrastive losses")
    group.addoption("--cl-gate", action="store_true", help="run only the tests that use the fixture `gate`")
    group.addoption("--cl-gate-update", metavar="REASON", help="measure the losses of these tests anew, and say why")
    parser.addini("cl_gate_reference", "file of the gate's references", default="cl_gate.json")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--cl-gate"):
        chosen = [item for item in items if "gate" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> "Gate":
    """Call it with a loss; the test fails if the loss has changed since its reference."""
    config = request.config
    path = Path(config.rootpath, config.getini("cl_gate_reference"))
    return Gate(path, request.node.nodeid, config.getoption("--cl-gate-update"))


class Gate:
    """One test's access to the references of a project.

    Args:
        path: the file of references
        test: the test's own name in it
        reason: why references are measured anew; None checks
    """

    def __init__(self, path: Path, test: str, reason: str | None):
        self.path, self.test, self.reason = path, test, reason

    def __call__(self, loss: Callable[..., Any], name: str = "", classes: int = 4) -> None:
        """Hold a loss to its reference; `name` tells several losses of one test apart."""
        from cl_semisup.gate import function, trajectory

        def build() -> Any:
            return copy.deepcopy(loss)  # a loss with state starts every measurement from the same one

        key = f"{self.test} {name}".strip()
        one = trajectory.free(build, classes)
        measured = {"function": function.measure(build, classes), "free": one.steps}
        if self.reason is not None:
            nudged = trajectory.free(build, classes, trajectory.FREE_RATE * (1 + trajectory.NUDGE))
            self._write(key, {**measured, "free": trajectory.within_horizon(one, nudged).steps})
            return
        moved = [finding for finding in self._compare(key, measured) if finding.verdict == "moved"]
        if moved:
            from cl_semisup.gate.ci import sentence

            lines = "\n".join(f"  {finding.tier}: {sentence(finding)}" for finding in moved)
            pytest.fail(
                f'the loss has changed:\n{lines}\nIf that is meant: pytest --cl-gate-update "why"', pytrace=False
            )

    def _compare(self, key: str, measured: dict[str, Any]) -> "list[Finding]":
        from cl_semisup.gate import function, trajectory
        from cl_semisup.gate.trajectory import FREE, Trajectory

        stored = self._read()["losses"].get(key)
        if stored is None:
            pytest.fail(
                f'{self.path}: no reference of {key!r}. Make one: pytest --cl-gate-update "first"', pytrace=False
            )
        found = function.compare(key, stored["function"], measured["function"])
        return [*found, trajectory.compare(key, FREE, Trajectory(stored["free"]), Trajectory(measured["free"]))]

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {"schema": SCHEMA, "losses": {}}
        stored: dict[str, Any] = json.loads(self.path.read_text("utf-8"))
        if stored.get("schema") != SCHEMA:
            pytest.fail(
                f"{self.path}: must have schema {SCHEMA}. Got {stored.get('schema')}. Make it anew.", pytrace=False
            )
        return stored

    def _write(self, key: str, measured: dict[str, Any]) -> None:
        from cl_semisup.gate import reference

        stored = self._read()
        history = stored["losses"].get(key, {}).get("history", [])
        entry = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "reason": self.reason}
        stored["losses"][key] = {"history": [*history, entry], **measured}
        reference.write_rows(self.path, stored)


def _fail(text: str) -> NoReturn:
    """The message alone: the way here says nothing of the loss."""
    pytest.fail(text, pytrace=False)
