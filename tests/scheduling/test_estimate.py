"""The time left that `check` prints: measured on the images that a run trains on, in the run's precision."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cl_semisup.scheduling import estimate
from cl_semisup.suite.suite import Suite

Parse = Callable[[str], Suite]


def test_only_the_images_that_a_run_keeps_are_counted(parse: Parse, text: str) -> None:
    whole, part = (parse(f"{text}{axis}").runs[-1] for axis in ("", "unlabelled_ratio: 1\n"))
    suite = parse(text)
    images = [estimate._Trial(run, suite, "cpu").images for run in (whole, part)]
    assert 0.15 < images[1] / images[0] < 0.25  # as many unlabelled as labelled ones, which are a tenth
    assert estimate._cost_key(whole) != estimate._cost_key(part)


def test_views_are_made_in_single_precision_also_for_a_run_in_half(parse: Parse, text: str) -> None:
    suite = parse(f"{text}views: {{jitter: 1, contrast: 0.4}}\n")
    run = replace(suite.runs[-1], precision="bfloat16")
    training, probes = estimate._Trial(run, suite, "cpu").seconds()
    assert training > 0
    assert probes > estimate.PROBE_SECONDS


@pytest.mark.parametrize(
    ("precision", "speed", "long_seconds", "advice"),
    [
        ("auto", 250.0, 10.0, "2.5 times as fast"),  # an epoch of digits takes 14 s
        ("auto", 250.0, 20.0, ""),
        ("auto", 110.0, 10.0, ""),
        ("float32", 250.0, 10.0, ""),
    ],
)
def test_bfloat16_is_advised_where_runs_are_long_it_gains_and_nobody_has_chosen(
    parse: Parse,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    speed: float,
    long_seconds: float,
    advice: str,
) -> None:
    speeds = {"float32": 100.0, "bfloat16": speed}
    monkeypatch.setattr(estimate._Trial, "_images_per_second", lambda trial, precision: speeds[precision])
    monkeypatch.setattr(estimate, "LONG_RUN_SECONDS", long_seconds)
    suite = parse(f"{text}precision: {precision}\n")
    output = estimate.describe(tmp_path, suite, list(suite.runs), "cpu", 1)
    assert ("bfloat16" in output) == bool(advice)
    assert advice in output
