"""Every benchmark can be imported, and the module that they share keeps its promises."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import _common, collapse_onset, fuzz, gate_power, mechanism
from cl_semisup import losses
from cl_semisup.data import labels

SCRIPTS = sorted(path.stem for path in (_common.ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("_"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_benchmark_can_be_imported(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.__doc__ is not None
    assert f"python benchmarks/{name}.py" in module.__doc__


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_benchmark_times_commits_or_lays_out_tables_by_itself(name: str) -> None:
    text = (_common.ROOT / "benchmarks" / f"{name}.py").read_text()
    for phrase in ("|---", "| ---", "sched_getaffinity", "rev-parse", "/proc/cpuinfo", "ArgumentParser("):
        assert phrase not in text


def test_a_script_runs_from_any_folder(tmp_path: Path) -> None:
    script = str(_common.ROOT / "benchmarks" / "engines.py")
    done = subprocess.run([sys.executable, script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--predict" in done.stdout


def test_fuzz_has_a_row_for_every_kind_of_cases() -> None:
    kinds = {what for path in fuzz.FILES.values() for what in re.findall(r'@fuzz\(\s*"([^"]+)"', path.read_text())}
    rows = {row["cases"]: row for row in _common.load("fuzz")["rows"]}
    assert rows.keys() == kinds
    assert len(kinds) == sum(path.read_text().count("@fuzz(") for path in fuzz.FILES.values())
    for row in rows.values():
        assert row["number"] == row["refused"] + row["accepted"] > 0
        assert (row["crashes"], row["hangs"]) == (0, 0)


def test_a_table_has_a_header_and_short_numbers() -> None:
    text = _common.table(["what", "seconds"], [["one", 1.23456], ["two", 12345.6], ["three", 3]])
    assert text == "| what | seconds |\n| --- | --- |\n| one | 1.23 |\n| two | 12,346 |\n| three | 3 |"
    assert "| --- | ---: |" in _common.table(["what", "seconds"], [], numbers=True)


def test_a_result_is_written_as_a_table_and_as_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys, "argv", ["somewhere/start_up.py", "--quick"])
    rows = [{"command": "a", "seconds": 0.5}, {"command": "b", "seconds": 1.0}]
    text = _common.write("start_up", "About it.", rows, packages=("torch", "no-such-package"))
    assert text == (tmp_path / "results" / "start_up.md").read_text()
    assert text.startswith("# Start up\n\nAbout it.\n\n`python benchmarks/start_up.py --quick` on ")
    assert "no-such-package not installed" in text
    assert text.endswith("| command | seconds |\n| --- | --- |\n| a | 0.5 |\n| b | 1 |\n")
    data = json.loads((tmp_path / "results" / "start_up.json").read_text())
    assert data == _common.load("start_up")
    assert data["rows"] == rows
    assert set(data) == {"command", "machine", "versions", "commit", "rows"}
    assert _common.load("absent") == {}


def test_calls_are_repeated_until_they_took_long_enough() -> None:
    times = iter(range(100))

    def clock() -> float:
        return float(next(times))

    assert _common.timed(lambda: "result", clock) == (1.0, "result")
    assert _common.repeated(lambda: None, least=3, most=9, clock=clock) == [1.0] * 3
    assert _common.repeated(lambda: None, least=1, most=9, enough=4.5, clock=clock) == [1.0] * 5
    assert _common.repeated(lambda: None, least=1, most=2, enough=4.5, clock=clock) == [1.0] * 2


def test_a_script_s_last_line_is_its_result(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import json, os, sys\nprint(1)\nprint(json.dumps([sys.argv[1], os.environ['KEY']]))")
    assert _common.run_json(str(script), "word", KEY="value") == ["word", "value"]


def test_random_images_are_the_same_every_time(tmp_path: Path) -> None:
    _common.save_random_images(tmp_path, (4, 4, 3), 12, 5)
    with np.load(tmp_path / "random.npz") as arrays:
        random = np.random.default_rng(0)
        for part, count in (("train", 12), ("test", 5)):
            expected = random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
            np.testing.assert_array_equal(arrays[f"{part}_images"], expected)
            np.testing.assert_array_equal(arrays[f"{part}_labels"], np.arange(count) % 10)


def test_stored_tables_of_shared_scripts_are_rendered_alike() -> None:
    """The rendering of stored data gives the stored page, so pages change only with their numbers."""
    for name in ("scaling", "step", "start_up"):
        data = _common.load(name)
        figures = _common.table(list(data["rows"][0]), [list(row.values()) for row in data["rows"]])
        assert (_common.RESULTS / f"{name}.md").read_text().endswith(f"\n\n{figures}\n")


def test_the_common_share_of_a_gradient_is_that_of_a_plain_loop() -> None:
    gradient = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    mean = [sum(float(row[d]) for row in gradient) / 7 for d in range(3)]
    wanted = 7 * sum(m * m for m in mean) / sum(float(x) ** 2 for x in gradient.flatten())
    assert mechanism.common_share(gradient) == pytest.approx(wanted)
    assert mechanism.common_share(gradient[:1].expand(7, 3)) == pytest.approx(1)
    assert mechanism.common_share(torch.eye(5)) == pytest.approx(1 / 5)
    assert mechanism.common_share(torch.zeros(4, 2)) == 0


def test_a_watched_loss_has_the_value_gradient_and_needs_of_the_loss() -> None:
    z = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labels = torch.tensor([0, 1, -1, 0, 1, -1])
    plain = losses.build("clop", dim=8, classes=2, seed=0)
    shares: list[float] = []
    seen = mechanism.watched(losses.build("clop", dim=8, classes=2, seed=0), shares)
    assert losses.requirements_of(seen) == losses.requirements_of(plain)
    (wanted,) = torch.autograd.grad(plain(z[0], z[1], labels), z)
    (found,) = torch.autograd.grad(seen(z[0], z[1], labels), z)
    assert torch.equal(found, wanted)
    assert shares == [pytest.approx(mechanism.common_share(wanted.reshape(12, 8)))]


def test_pairs_are_of_one_setting_and_ties_count_half() -> None:
    def ending(*values: float) -> list[dict[str, list[float]]]:
        return [{"s": [value]} for value in values]

    settings = {
        ("a",): {"collapsed": ending(1.0, 3.0), "ok": ending(2.0, 3.0)},  # below in 1 + 1 + 0, equal in one of 4
        ("b",): {"collapsed": ending(9.0), "ok": ending()},  # no pair, and never compared with those of a
    }
    assert collapse_onset.smaller(settings, "s", 0) == (2.5 / 4, 4)


def test_planted_faults_replace_what_is_there_and_a_leak_shows_every_label() -> None:
    run = {"dataset": {"digits": {}}, "repetition": 0, "label_fraction": 0.1}
    true = np.arange(200) % 4
    for fault in gate_power.FAULTS:
        with gate_power.planted(fault):
            shown = labels.of_run(true, run).visible_labels
        assert ((shown >= 0).all()) == fault.name.startswith("label leak"), fault.name
