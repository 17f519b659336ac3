"""The drill for a real GPU runs, so that a quarter of an hour on one tests the GPU and not the script."""

import json
import sys
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import _gpu_stages as stages
from benchmarks import gpu as drill
from tests.gpu import trials

FEW = {
    "losses": ["adversarial_distribution", "moco_v2", "sgeg"],
    "evaluation": ["knn", "linear_sgd", "retrieval"],
}


@pytest.fixture(autouse=True)
def few_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    names = trials.names
    monkeypatch.setattr(trials, "names", lambda folder: FEW.get(folder) or names(folder))


@pytest.mark.parametrize("device", ["cpu", "imitated"])
@pytest.mark.parametrize(
    "name", ["views", "kernels", "waits", "graph", "probes", "training", "resume", "memory", "shared"]
)
def test_a_proof_of_the_drill_finds_no_fault(name: str, device: str) -> None:
    with stages.there(device, tiny=True) as place:
        found = stages.STAGES[name](place)
    assert not found.faults
    assert found.rows
    json.dumps(found.rows)


@pytest.mark.usefixtures("forget_plugins")
def test_the_drill_tries_a_loss_that_reads_out_of_range() -> None:
    with stages.there("imitated", tiny=True) as place:
        found = stages.lost(place)
    assert not found.faults
    assert [row["status"] == "failed" for row in found.rows] == [True, False]


@pytest.mark.parametrize("name", ["machine", "profile", "throughput", "question"])
def test_a_measurement_of_the_drill_can_be_made(name: str, tmp_path: Path) -> None:
    with stages.there("cpu", tiny=True, out=tmp_path) as place:
        found = stages.STAGES[name](place)
    assert not found.faults
    assert found.rows


@pytest.mark.slow  # three processes import lightly and Lightning
def test_the_drill_compares_with_lightly(tmp_path: Path) -> None:
    pytest.importorskip("lightly")
    pytest.importorskip("pytorch_lightning")
    with stages.there("cpu", tiny=True, out=tmp_path) as place:
        (row,) = stages.lightly(place).rows
    assert row["lightly_images_per_s"] > 0
    assert row["ratio"] == row["images_per_s"] / row["lightly_images_per_s"]  # ours, of a few steps, may be all noise


def test_the_drill_sees_a_kernel_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    value = stages._value_and_gradients

    def wrong(loss: Any, z1: Any, z2: Any, labels: Any) -> Any:
        found = value(loss, z1, z2, labels)
        return found if z1.device.type == "cpu" else (found[0] * (1 + 1e-7), *found[1:])

    monkeypatch.setattr(stages, "_value_and_gradients", wrong)
    with stages.there("imitated", tiny=True) as place:
        faults = stages.kernels(place).faults
    assert len(faults) == len(FEW["losses"])
    assert all("in float64" in fault for fault in faults)


ROWS: dict[str, list[dict[str, Any]]] = {
    "throughput": [
        {"job": job, "how": how, "images_per_s": speed}
        for job, speeds in zip(stages.JOBS, ((90e3, 10e3), (60e3, 10e3), (20e3, 9e3), (40e3, 30e3)), strict=True)
        for how, speed in zip(("graph", "before"), speeds, strict=True)
    ],
    "workers": [
        {"workers": "--workers 1", "runs_per_minute": 50.0},
        {"workers": "--workers 8", "runs_per_minute": 300.0},
        {"workers": "default", "runs_per_minute": 200.0},
    ],
    "profile": [{"job": list(stages.JOBS)[1], "busy": 0.4, "launches": 70, "longest": "sgemm"}],
}


def test_the_targets_are_told_with_what_was_measured_and_the_profile() -> None:
    found = list(stages.targets_of(ROWS))
    assert [(row["measured"], row["holds"]) for row in found] == [
        (1.25, "yes"), (0.5, "yes"), (9.0, "yes"), (6.0, "no"), (6.0, "yes"), (None, "not measured"), (None, "not measured")
    ]  # fmt: skip
    assert [row["longest"] for row in found] == ["", "", "", "sgemm", "", "", ""]
    assert {row["holds"] for row in stages.targets_of({})} == {"not measured"}


def test_the_drill_is_a_command_on_the_imitated_gpu_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = options(tmp_path, "targets", until=600.0)
    wanted.device = "imitated"
    assert drill.main(wanted) == 0
    printed = capsys.readouterr().out
    assert "resnet18 32x32, batch 64, times lightly: wanted 8" in printed
    assert "Targets MISSED: none" in printed


def test_a_missed_target_and_a_stage_that_has_not_run_are_told_first(tmp_path: Path) -> None:
    stages_of = {name: {"rows": rows, "faults": [], "seconds": 1.0} for name, rows in ROWS.items()}
    stages_of["targets"] = {"rows": list(stages.targets_of(ROWS)), "faults": [], "seconds": 1.0}
    stages_of["waits"] = {"rows": [], "faults": ["a fault"], "seconds": 1.0}
    told = dict(line.split(": ", 1) for line in drill.summary(stages_of))
    assert told["Targets MISSED"] == f"{list(stages.JOBS)[1]}, times the eager step of before: wanted 8, measured 6"
    assert told["Targets reached"].count("measured") == 4
    assert told["Targets not measured"].count("times lightly") == 2
    assert told["Stages with faults"] == "waits"
    assert "kernels" in told["Stages that have not run"].split("; ")
    assert "profile" not in told["Stages that have not run"].split("; ")
    page = drill.page(stages_of, options(tmp_path))
    assert page.index("Targets MISSED") < page.index("| stage |")
    assert "its speeds say nothing about a GPU" in page
    assert not [line for line in drill.summary({}) if line.startswith("Targets")]


def test_a_slow_processor_has_longer_than_a_gpu() -> None:
    for name, seconds in drill.STAGES.items():
        assert drill.limit_of(name, "cuda:0") == seconds
        assert drill.limit_of(name, "cpu") == drill.limit_of(name, "imitated") == drill.SLOWER * seconds


def test_the_calls_for_what_is_left_give_each_stage_its_limit_in_seven_and_five_minutes() -> None:
    page = (Path(drill.__file__).parents[1] / "docs" / "gpu.md").read_text("utf-8").splitlines()
    calls = [line.split() for line in page if line.startswith("python benchmarks/gpu.py OUT ") and "--call" not in line]
    names = list(drill.STAGES)
    assert len(calls) == 2
    for words, minutes in zip(calls, (7, 5), strict=True):
        until = float(words[words.index("--until") + 1])
        stages_of = [word for word in words if word in names and word != "question"]  # which takes what is left
        proofs = [drill.STAGES[name] for name in stages_of if names.index(name) < names.index(drill.SECOND_CALL)]
        measured = [drill.STAGES[name] for name in stages_of if names.index(name) >= names.index(drill.SECOND_CALL)]
        assert not proofs or len(proofs) <= int(words[words.index("--together") + 1])
        assert max(proofs, default=0) + sum(measured) <= until - drill.MARGIN
        assert until <= 60 * minutes


def test_without_a_gpu_what_one_has_found_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drill.fork_server, "GPU_DRIVER_FILES", ())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = options(tmp_path / "out", "machine")
    asked.device = "cuda:0"
    assert drill.main(asked) == 2
    assert not (tmp_path / "out").exists()
    assert "cuda:0 is not on this machine; nothing is run or written" in capsys.readouterr().out
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not drill.is_missing("cuda:0")
    assert not drill.is_missing("imitated")


def test_both_files_of_the_drill_name_the_same_stages() -> None:
    assert list(drill.STAGES) == list(stages.STAGES)


def options(folder: Path, *names: str, until: float = 60.0) -> Namespace:
    return Namespace(
        out=folder,
        stages=list(names),
        device="cpu",
        until=until,
        tiny=True,
        wheels=None,
        inside=False,
        call=0,
        together=1,
    )


def test_a_stage_that_fails_or_hangs_stops_no_other_and_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "stage.py"
    script.write_text(
        "import sys, time\nname = sys.argv[-1]\n"
        "if name == 'waits': sys.exit('a fault')\n"
        "if name == 'probes': time.sleep(60)\n"
        'print("noise")\nprint(\'{"rows": [{"loss": "clop", "found": 1.5}], "faults": []}\')\n'
    )
    monkeypatch.setattr(drill, "__file__", str(script))
    monkeypatch.setattr(drill, "SECOND_CALL", "waits")
    monkeypatch.setattr(drill, "STAGES", {"kernels": 20.0, "waits": 20.0, "probes": 0.1, "memory": 20.0})
    assert drill.main(options(tmp_path / "out", "kernels", "waits", "probes")) == 1
    assert drill.main(options(tmp_path / "out", "memory")) == 1  # adds to the first call's
    kept = json.loads((tmp_path / "out" / "gpu.json").read_text())["stages"]
    assert {name: stage["faults"] for name, stage in kept.items()} == {
        "kernels": [], "waits": ["a fault"], "probes": ["took longer than 2 s"], "memory": []
    }  # fmt: skip
    assert "| clop | 1.5 |" in (tmp_path / "out" / "gpu.md").read_text()
    assert drill.main(options(tmp_path / "late", "kernels", until=1.0)) == 0
    assert "kernels: no time is left for it" in capsys.readouterr().out


def test_packages_that_a_machine_lacks_are_carried_as_wheels(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lacking-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("lacking_package.py", "VALUE = 3\n")
    (site,) = [Path(part) for part in drill.unpacked(tmp_path).split(":") if Path(part).parent == tmp_path]
    assert (site / "lacking_package.py").read_text() == "VALUE = 3\n"
    assert str(site) not in sys.path  # only the processes of the stages see them
