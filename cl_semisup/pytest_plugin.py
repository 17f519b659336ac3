"""The gate in the tests of another project: the fixture `gate` compares a loss with its stored reference.

    def test_my_loss(gate):
        gate(my_loss)                   # any loss(z1, z2, labels) -> scalar, or a module of that kind

    pytest --cl-gate                            only the tests that use the fixture
    pytest --cl-gate-update "why it changes"    make new references for these tests and store the reason

References are stored in `cl_gate.json` beside pytest's settings, or in the file that the setting `cl_gate_reference`
names. The fixture checks the function tier and a descent of free embeddings, in float64, to 1e-8. It takes tenths of a
second for each loss and needs no data.

pytest loads this file in every project of an environment, so heavy modules are imported only where a loss is measured.
"""

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

SCHEMA = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cl-gate", "regression gate of contrastive losses")
    group.addoption("--cl-gate", action="store_true", help="run only the tests that use the fixture `gate`")
    group.addoption("--cl-gate-update", metavar="REASON", help="measure the losses of these tests anew, and say why")
    parser.addini("cl_gate_reference", "file of the gate's references", default="cl_gate.json")


def pytest_configure(config: pytest.Config) -> None:
    reason = config.getoption("--cl-gate-update")
    if reason is not None and not reason.strip():
        raise pytest.UsageError("--cl-gate-update: needs a reason, which is kept. Got none. Say why the loss moves.")
    if reason and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("--cl-gate-update: writes one file from one process. Got several. Add -n 0.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--cl-gate") or config.getoption("--cl-gate-update"):
        selected = [item for item in items if "gate" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in selected])
        items[:] = selected


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> "Gate":
    """Call it with a loss; the test fails if the loss has changed since its reference."""
    config = request.config
    path = Path(config.rootpath, config.getini("cl_gate_reference"))
    return Gate(path, request.node.nodeid, config.getoption("--cl-gate-update"))


class Gate:
    """Compares the losses of one test with the references of its project.

    `path` is the file of references, `test` the test's id in it. With a `reason`, new references replace the old ones.
    """

    def __init__(self, path: Path, test: str, reason: str | None):
        self.path, self.test, self.reason = path, test, reason

    def __call__(self, loss: Callable[..., Any], name: str = "", classes: int = 4) -> None:
        """Fail the test if the loss has changed; `name` distinguishes several losses of one test."""
        from cl_semisup.gate import function, trajectory

        def build() -> Any:
            return copy.deepcopy(loss)  # every measurement begins with the same state of the loss

        key = f"{self.test} {name}".strip()
        values = function.measure(build, classes)
        if self.reason is None:
            self._check(key, values, trajectory.embedding_descent(build, classes))
        else:
            self._write(key, values, trajectory.predictable_descent(build, classes))

    def _check(self, key: str, values: Any, descent: Any) -> None:
        from cl_semisup.gate import ci, function, trajectory
        from cl_semisup.gate.gate_check import CHANGED
        from cl_semisup.gate.trajectory import FREE_EMBEDDINGS, Trajectory

        stored = self._read().get(key)
        if stored is None:
            _fail(f'{self.path}: has no reference of {key!r}. Make one: pytest --cl-gate-update "first"')
        checks = function.compare(key, stored["function"], values)
        checks.append(trajectory.compare(key, FREE_EMBEDDINGS, Trajectory(stored["free"]), descent))
        if changed := [f"  {check.tier}: {ci.describe(check)}" for check in checks if check.status == CHANGED]:
            lines = "\n".join(changed)
            _fail(f'the loss has changed:\n{lines}\nIf that is meant: pytest --cl-gate-update "why"')

    def _read(self) -> dict[str, Any]:
        """The references of all tests by name."""
        from cl_semisup.gate import stored
        from cl_semisup.system import files

        try:
            content = stored.read(self.path)
            stored.PROJECT(content, "")
            if content["schema"] != SCHEMA:
                raise ValueError(f"schema: must be {SCHEMA}. Got {content['schema']}")
            stored.require_seal(content)
            return dict(content["losses"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            rule = f"must be a file of references of schema {SCHEMA}"
            return _fail(f"{self.path}: {files.reason(error)}: {rule}. Delete it and make it anew.")

    def _write(self, key: str, values: Any, descent: Any) -> None:
        from cl_semisup.gate import reference

        losses = self._read()
        entry = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "reason": self.reason}
        history = [*losses.get(key, {}).get("history", []), entry]
        losses[key] = {"history": history, "function": values, "free": descent.steps}
        reference.write_rows(self.path, {"schema": SCHEMA, "losses": losses})


def _fail(text: str) -> NoReturn:
    """Fail without a traceback, which would say nothing about the loss."""
    pytest.fail(text, pytrace=False)
