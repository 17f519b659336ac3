"""Scenarios in suites: refusals with their places, joint runs beside them, and ids that do not move."""

from collections.abc import Callable

import pytest

from cl_semisup.errors import SuiteError
from cl_semisup.suite.suite import Suite

Parse = Callable[[str], Suite]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{}", "s.yaml:10:11: scenario: needs increments or clients. Got neither. Give one."),
        ("{increments: 2, clients: 3}", "s.yaml:10:11: scenario: needs increments or clients. Got both. Give one."),
        ("{increments: 2, rounds: 3}", "scenario: rounds: belongs to clients. Got 3 beside increments. Leave it out."),
        ("{clients: 2, rounds: 3}", "scenario: rounds: must divide the 1 epochs. Got 3. Change one of them."),
        ("{increments: 11}", "scenario: increments: must not exceed the 10 classes of the data. Got 11. Lower it."),
        ("{increments: 10}", "batch_size: must not exceed the 125 training images that the smallest increment has"),
        ("{clients: 20}", "batch_size: must not exceed the 64 training images that a client on average has"),
        ("{clients: 1}", "s.yaml:10:21: scenario.clients: must be greater than or equal to 2"),
        ("{clients: 3, alpha: 0}", "scenario.alpha: must be greater than 0"),
        ("[none, {increment: 2}]", "unknown key 'increment'. Did you mean 'increments'?"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(parse: Parse, text: str, line: str, told: str) -> None:
    with pytest.raises(SuiteError) as error:
        parse(f"{text}scenario: {line}\n")
    assert told in str(error.value)


def test_the_joint_run_stands_beside_each_scenario_and_is_the_run_of_a_suite_without(parse: Parse, text: str) -> None:
    plain = {run.id for run in parse(text).runs}
    runs = parse(f"{text}scenario: {{increments: 2}}\n").runs
    scenarios = [run for run in runs if run.scenario]
    assert {run.id for run in runs} - {run.id for run in scenarios} == plain
    assert {run.joint().id for run in scenarios} < plain
    assert [run.scenario for run in scenarios] == [{"increments": 2}] * 2
    assert {run.id for run in parse(f"{text}scenario: [none, {{increments: 2}}]\n").runs} == {run.id for run in runs}


def test_scenarios_compose_with_label_axes(parse: Parse, text: str) -> None:
    axes = "imbalance: [none, {factor: 10}]\nlabel_noise: {fraction: 0.2}\n"
    runs = parse(f"{text.replace('128', '16')}{axes}scenario: [{{increments: 2}}, {{clients: 3}}]\n").runs
    assert len([run for run in runs if run.scenario]) == 2 * 2 * 2
    assert all(run.label_noise for run in runs if run.scenario)
