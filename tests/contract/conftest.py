"""Other processes are asked where a test is about them: each costs as much as all other clauses of a plug-in."""

import pytest

from cl_semisup.contract import other_process


@pytest.fixture(autouse=True)
def only_tests_of_other_processes_ask_them(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    params = getattr(request.node, "callspec", None)
    clauses = params.params.get("clauses", "") if params else ""
    is_about_them = "other_process" in clauses or request.node.get_closest_marker("slow")
    if not is_about_them and "without_a_fault" not in request.node.name:
        monkeypatch.setattr(other_process, "_answers", lambda asked: [])
