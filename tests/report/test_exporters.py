"""Records for TensorBoard and Weights & Biases, read back with those programs' own readers."""

import csv
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from cl_semisup.cli import main
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.report import exporters
from cl_semisup.report.export import write_runs
from cl_semisup.report.exporters import live
from cl_semisup.suite.run import Run
from tests.helpers.records import curves, run, select, write
from tests.system.test_files import SPECIAL

ROOT = Path(__file__).parents[2]


def needs(package: str) -> pytest.MarkDecorator:
    there = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not there, reason=f"needs the package {package}: pip install 'cl-semisup[{package}]'")


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """A good run, a floor, one that diverged with a null in its curves, one without a record."""
    good, bad = run("clop", params={"weight": 0.5, "base": {"nt_xent": {"temperature": 0.2}}}), run(learning_rate=10.0)
    write(tmp_path, good, 0.75, curves=curves(5, 3), seconds=3.5)
    write(tmp_path, good.untrained(), 0.25)
    broken = {"history": {"step": [0, 10, 20], "loss": [4.0, None, 2.0], "gradient_norm": "?"}}
    write(tmp_path, bad, status="diverged", reason="the loss is not finite at step 10", curves=broken)
    found = [good, good.untrained(), bad, run("supcon")]
    select(found).save(tmp_path)
    return found


def test_what_is_exported_is_what_the_record_says(tmp_path: Path, runs: list[Run]) -> None:
    found = {one.id: one for one in exporters.read(tmp_path, runs)}
    assert set(found) == {one.id for one in runs[:3]}
    good, floor, bad = (found[one.id] for one in runs[:3])
    assert good.name == f"digits/clop/labels-10%-lr-0.1-batch-64-r-0-{good.id}"
    assert good.settings["loss.clop.weight"] == 0.5
    assert good.settings["loss.clop.base.nt_xent.temperature"] == 0.2
    assert good.metrics["score/linear_top1"] == 0.75
    assert good.metrics["cost/train_seconds"] == 3.5
    assert good.series["training/effective_rank"] == [(s, 10.0 + s / 10) for s in range(5)]
    assert good.seconds == 1767225600
    assert floor.series == {}
    assert bad.series == {"training/loss": [(0, 4.0), (20, 2.0)]}
    assert (bad.status, bad.last_step) == ("diverged", 20)


def test_settings_have_one_name_each_and_no_containers(tmp_path: Path, runs: list[Run]) -> None:
    for one in exporters.read(tmp_path, runs):
        assert all(isinstance(value, str | int | float) for value in one.settings.values())
        json.dumps(one.settings, allow_nan=False)


def test_a_missing_package_is_told_with_its_remedy(
    tmp_path: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package wandb.*pip install 'cl-semisup\[wandb\]'"):
        exporters.export("wandb", tmp_path, select(runs), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def export(to: str, results: Path, folder: Path) -> str:
    """By the command line, in a process of its own, without the network."""
    words = [sys.executable, "benchmark.py", "export", "made", "--results", str(results), "--to", to, str(folder)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=240).stdout


@needs("tensorboard")
def test_tensorboard_reads_what_was_exported_even_twice(tmp_path: Path, runs: list[Run]) -> None:
    for _ in range(2):  # the second replaces the first
        assert (
            export("tensorboard", tmp_path, tmp_path / "out")
            == f"3 run(s) written for tensorboard to {tmp_path / 'out'}.\n"
        )
    code = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2
read = EventAccumulator(sys.argv[1]); read.Reload()
told = read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
asked = plugin_data_pb2.HParamsPluginData.FromString(told).session_start_info.hparams
scalars = {tag: [(e.step, e.value, e.wall_time) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
print(json.dumps([scalars, asked["loss.clop.weight"].number_value]))
"""
    (folder,) = (tmp_path / "out" / "made" / "digits" / "clop").iterdir()
    reader = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(reader, capture_output=True, text=True, check=True)
    scalars, weight = json.loads(done.stdout.splitlines()[-1])
    assert weight == 0.5
    assert [(step, value) for step, value, _ in scalars["training/effective_rank"]] == [
        (s, pytest.approx(10.0 + s / 10)) for s in range(5)
    ]
    assert scalars["score/linear_top1"] == [[4, 0.75, 1767225600]]


def offline_records(file: Path) -> list[Any]:
    """Pieces of records in blocks of 32 KiB: checksum (4 bytes), length (2), kind (1: whole, 2 to 4: first to last)."""
    from wandb.proto import wandb_internal_pb2

    data, at, found, piece = file.read_bytes(), 7, [], b""  # 7 bytes say what file it is
    while at + 7 <= len(data):
        if (room := 32768 - at % 32768) < 7:
            at += room
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        piece += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            found.append(wandb_internal_pb2.Record.FromString(piece))
            piece = b""
    return found


@needs("wandb")
def test_wandb_keeps_offline_what_was_exported(tmp_path: Path, runs: list[Run]) -> None:
    assert "3 run(s) written for wandb" in export("wandb", tmp_path, tmp_path / "out")
    files = {path.stem.removeprefix("run-"): path for path in (tmp_path / "out").glob("wandb/offline-run-*/*.wandb")}
    assert set(files) == {one.id for one in runs[:3]}
    found = offline_records(files[runs[0].id])
    (begun,) = (one.run for one in found if one.HasField("run"))
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert (begun.project, begun.run_id, begun.run_group) == ("made", runs[0].id, "clop")
    assert config["loss.clop.weight"] == 0.5
    logged = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in one.history.item}
        for one in found
        if one.HasField("history")
    ]
    assert [(row["_step"], row["training/effective_rank"]) for row in logged] == [(s, 10.0 + s / 10) for s in range(5)]
    summary = {
        item.key or ".".join(item.nested_key): json.loads(item.value_json)
        for one in found
        if one.HasField("summary")
        for item in one.summary.update
    }
    assert summary["score/linear_top1"] == 0.75
    assert summary["status"] == "ok"


@needs("mlflow")
@pytest.mark.filterwarnings("default")  # its own dependencies deprecate what it uses
def test_mlflow_keeps_in_its_file_what_was_exported_even_twice(
    tmp_path: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for _ in range(2):  # the second replaces the first
        assert exporters.export("mlflow", tmp_path, select(runs), tmp_path / "out") == 3
    client = MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    found = {
        one.data.tags["cl_semisup.id"]: one
        for one in client.search_runs([client.get_experiment_by_name("made").experiment_id])
    }
    assert set(found) == {one.id for one in runs[:3]}
    good = found[runs[0].id]
    assert good.data.params["loss.clop.weight"] == "0.5"
    assert good.data.metrics["score/linear_top1"] == 0.75
    assert (good.data.tags["status"], good.info.status, good.info.start_time) == ("ok", "FINISHED", 1767225600000)
    history = client.get_metric_history(good.info.run_id, "training/effective_rank")
    assert [(point.step, point.value) for point in history] == [(s, 10.0 + s / 10) for s in range(5)]


def test_runs_that_finish_are_logged_once_and_others_not(tmp_path: Path, runs: list[Run]) -> None:
    """`--log-to`: of four runs one is done before, one finishes, one finishes after the last look, one never."""
    written: list[list[str]] = []

    class Exporter:
        @staticmethod
        def write(found: Iterable[exporters.ExportedRun], folder: Path, suite: str) -> int:
            written.append([one.id for one in found])
            return len(written[-1])

    since = time.time_ns() + 10**9
    looks = []

    def go_on() -> bool:
        looks.append(len(looks))
        if len(looks) in (2, 4):
            path = write(tmp_path, runs[len(looks) // 2], 0.5)
            os.utime(path, ns=(since, since + len(looks)))
        return len(looks) < 4

    assert live.follow(tmp_path, "made", Exporter, tmp_path, since, go_on) == 2
    assert written == [[runs[1].id], [runs[2].id]]


@needs("tensorboard")
def test_another_process_logs_what_finishes_while_it_runs(
    tmp_path: Path, runs: list[Run], capfd: pytest.CaptureFixture[str]
) -> None:
    with live.in_background(tmp_path, "made", "tensorboard"):
        write(tmp_path, runs[3], 0.5)
    folder = tmp_path / "made" / "tensorboard"
    assert capfd.readouterr().out.endswith(f" run(s) logged for tensorboard in {folder}.\n")
    assert [path.name.rpartition(".")[2] for path in folder.rglob("*.tfevents.*") if runs[3].id in path.name] == [
        runs[3].id
    ]


def test_a_program_that_fails_is_told_and_costs_no_run(
    tmp_path: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(to: str) -> None:
        raise RuntimeError("no space")

    monkeypatch.setattr(exporters, "load", fail)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    live.main(str(tmp_path), "made", "wandb", "0")
    assert "--log-to wandb: runs are not logged any more, and go on: RuntimeError: no space" in capsys.readouterr().err


class Opening:
    """An exporter whose program opens a file of its own in the folder."""

    OPENS = ("mlflow.db",)

    @staticmethod
    def write(found: Iterable[exporters.ExportedRun], folder: Path, suite: str) -> int:
        (folder / "mlflow.db").write_text("runs")
        raise RuntimeError("the file is not a database\nof runs")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("place", ["made/mlflow", "made/mlflow/mlflow.db", "made/mlflow/mlflow.db-wal"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "link out", "link to itself"])
def test_a_program_is_led_nowhere_else_and_waits_for_nothing(
    tmp_path: Path,
    runs: list[Run],
    place: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--log-to` writes into a folder of results, which may be a stranger's; `export` into a folder of the user's."""
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    if kind == "link out":
        (tmp_path / place).symlink_to(outside / "new.db" if "." in place else outside)
    else:
        SPECIAL[kind](tmp_path / place)
    monkeypatch.setattr(exporters, "load", lambda to: Opening)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    live.main(str(tmp_path), "made", "mlflow", "0")
    assert str(tmp_path / place) in (told := capsys.readouterr().err)
    assert "behind no link" in told or "a file or a folder of its own" in told
    if "." in place:
        with pytest.raises(InputError, match="a file or a folder of its own"):
            exporters.export("mlflow", tmp_path, select(runs), tmp_path / "made" / "mlflow")
    assert not list(outside.iterdir())


def test_an_error_of_the_program_is_told_in_a_line(
    tmp_path: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters, "load", lambda to: Opening)
    with pytest.raises(
        ResultsError, match=r"must be able to write there. Got RuntimeError: the file is not a database\. "
    ):
        exporters.export("mlflow", tmp_path, select(runs), tmp_path / "out")


# files that need no program -----------------------------------------------------------------------------------------


def command(*words: object) -> int:
    return main([str(word) for word in words])


def test_a_table_of_all_runs_has_every_score_of_every_seed(
    tmp_path: Path, runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("export", "made", "--results", tmp_path, "--to", "csv", tmp_path / "out") == 0
    assert f"3 record(s) written to {tmp_path / 'out' / 'made.csv'}." in capsys.readouterr().out
    with (tmp_path / "out" / "made.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert set(rows) == {one.id for one in runs[:3]}
    assert float(rows[runs[0].id]["linear_top1"]) == 0.75
    assert rows[runs[2].id]["status"] == "diverged"


def test_records_are_packed_moved_and_unpacked_by_the_command(
    tmp_path: Path, runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    own = {path.name: path.read_bytes() for path in (tmp_path / "records").rglob("*.json")}
    assert command("export", "made", "--results", tmp_path, "--to", "parquet", tmp_path, "--move") == 0
    out = capsys.readouterr().out
    assert f"3 record(s) packed into {tmp_path / 'records' / 'made.parquet'}.\n3 record(s) removed that had" in out
    assert not list((tmp_path / "records").rglob("*.json"))
    assert command("export", "made", "--results", tmp_path, "--to", "json", tmp_path / "back") == 0
    back = {path.name: json.loads(path.read_bytes()) for path in (tmp_path / "back").rglob("*.json")}
    curves_of_floor = f"{runs[1].id}.curves.json"  # a record is written with its curves, of which there were none
    assert back.pop(curves_of_floor) == {}
    assert back == {name: json.loads(content) for name, content in own.items()}


def test_files_are_moved_only_within_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("export", "made", "--results", tmp_path, "--to", "parquet", tmp_path / "out", "--move") == 2
    assert "--move: goes with --to parquet into the folder of --results. Got --to parquet" in capsys.readouterr().err


def test_runs_are_written_into_a_folder_that_is_made(tmp_path: Path, runs: list[Run]) -> None:
    folder = tmp_path / "new" / "folder"
    path, rows = write_runs(tmp_path, select(runs), folder)
    assert path.parent == folder
    assert len(list(csv.DictReader(path.read_text("utf-8").splitlines()))) == rows == 3
