"""What makes two numbers comparable, and what does not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cl_semisup import plugins
from cl_semisup.results import protocol
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite


@pytest.fixture
def run(parse: Callable[[str], Suite], text: str) -> Run:
    return parse(text).runs[-1]


def fingerprint(run: Run, data_hash: str = "d", precision: str = "float32") -> str:
    return protocol.fingerprint(protocol.settings(run, data_hash, precision))


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 2},
        {"dataset": {"mnist": {}}},
        {"encoder": {"mlp": {"width": 32, "layers": 1}}},
        {"projector": {"layers": 2, "hidden": 0, "dim": 64}},
    ],
    ids=str,
)
def test_what_is_embedded_and_for_how_long_is_part_of_the_protocol(run: Run, change: dict[str, Any]) -> None:
    assert fingerprint(replace(run, **change)) != fingerprint(run)


def test_views_probes_data_and_precision_are_part_of_the_protocol(run: Run) -> None:
    others = [
        fingerprint(replace(run, views=run.views | {"flip": 0.5})),
        fingerprint(replace(run, probes=run.probes | {"knn": run.probes["knn"] | {"k": 20}})),
        fingerprint(replace(run, probes={k: v for k, v in run.probes.items() if k != "knn"})),
        fingerprint(run, data_hash="e"),
        fingerprint(run, precision="bfloat16"),
    ]
    assert len({*others, fingerprint(run)}) == len(others) + 1


def test_the_code_of_a_probe_is_part_of_the_protocol(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before, version = fingerprint(run), protocol.plugins.version
    monkeypatch.setattr(protocol.plugins, "version", lambda f, n: "changed" if n == "linear" else version(f, n))
    assert fingerprint(run) != before


def test_what_is_compared_is_not_part_of_the_protocol(run: Run) -> None:
    same = replace(run, loss={"nt_xent": {"temperature": 0.1}}, learning_rate=3.0, batch_size=64, repetition=7)
    assert fingerprint(same) == fingerprint(run)


def test_private_modules_count_as_part_of_the_probes_that_use_them() -> None:
    """A change of the neighbours' vote must make every record of the kNN probe stale."""
    for probe, module in (("knn", "_neighbours"), ("linear", "_linear"), ("neural_collapse", "_classes")):
        (code, *_) = plugins._own_code(plugins.PACKAGE / "evaluation" / f"{module}.py", "evaluation")
        assert code in plugins._own_code(plugins.paths("evaluation")[probe], "evaluation")[1:]


def test_the_page_names_every_probe() -> None:
    page = (Path(__file__).parents[2] / "PROTOCOL.md").read_text("utf-8")
    assert not [name for name in plugins.names("evaluation") if f"`{name}`" not in page]
