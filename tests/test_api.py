"""What the commands do, from Python."""

import builtins
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.datasets import load_digits

import cl_semisup as cl
from cl_semisup import cli
from cl_semisup.config.arguments import to_yaml_data
from cl_semisup.errors import InputError, ResultsError, SuiteError
from cl_semisup.system.progress_bar import in_notebook, progress_bar

X, Y = (array[:500] for array in load_digits(return_X_y=True))
SMALL = {"budgets": ["2/class", "100%"], "repetitions": 2}
SUITE = {
    "question": "Does it run?",
    "name": "mine",
    "datasets": "digits",
    "encoder": {"mlp": {"width": 16, "layers": 1}},
    "losses": ["nt_xent"],
    "label_fraction": 0.1,
    "learning_rate": 0.1,
    "batch_size": 256,
    "repetitions": 1,
    "epochs": 1,
    "validation": "all",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("features")
    noisy = X + np.random.default_rng(0).normal(size=X.shape) * 8
    np.savez(folder / "clean.npz", features=X.astype(np.float16), labels=Y)
    np.savez(folder / "noisy.npz", features=noisy.astype(np.float32), labels=Y)
    return [folder / "clean.npz", folder / "noisy.npz"]


def test_importing_the_package_stays_cheap() -> None:
    code = "import sys, cl_semisup; assert not {'torch', 'pandas', 'tqdm', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_arrays_tensors_and_a_file_have_the_same_scores(files: list[Path]) -> None:
    x = X.astype(np.float16)
    results = [cl.evaluate(f, Y, **SMALL, progress=False) for f in (x, torch.from_numpy(x))]  # type: ignore[arg-type]
    results.append(cl.evaluate(files[0], **SMALL, progress=False))  # type: ignore[arg-type]
    first, *others = (result.frame.drop(columns="features") for result in results)
    for other in others:
        pd.testing.assert_frame_equal(first, other)
    assert first["labelled"].tolist() == [20, 400] and first["draws"].tolist() == [2, 1]


def test_files_on_the_same_images_are_compared_by_draw(files: list[Path]) -> None:
    result = cl.evaluate(files, **SMALL, progress=False)  # type: ignore[arg-type]
    (comparison,) = result.comparisons
    clean, noisy = (scores.budgets[0] for scores in result.results)
    differences = [b.score("knn_top1") - a.score("knn_top1") for a, b in zip(clean, noisy, strict=True)]
    assert comparison.differences[0]["knn_top1"].mean == pytest.approx(np.mean(differences))
    assert "noisy - clean" in str(result) and result._repr_html_().startswith("<pre>clean: 400 training")


def test_features_of_other_images_are_not_compared(files: list[Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", features=X, labels=Y[::-1])
    result = cl.evaluate([files[0], tmp_path / "other.npz"], budgets=["2/class"], repetitions=2, progress=False)
    assert result.comparisons == []
    assert "clean and other are not compared: their t" in " ".join(result.notes())


def test_the_command_prints_writes_and_keeps_records(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [str(tmp_path / f"table{ending}") for ending in (".md", ".csv", ".json")]
    words = ["evaluate", *map(str, files), "--budgets", "2/class", "100%", "--repetitions", "2"]
    words += ["--results", str(tmp_path / "r")] + [word for name in outputs for word in ("--output", name)]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "2 a class" in printed and "constant in the training part" in printed
    assert json.loads(Path(outputs[2]).read_text())["rows"][0]["features"] == "clean"
    assert len(pd.read_csv(outputs[1])) == 4
    assert "| 2 a class |" in Path(outputs[0]).read_text()
    frame = cl.results(tmp_path / "r")
    assert len(frame) == 6 and set(frame["kind"]) == {"evaluation"}
    assert frame["knn_top1"].between(0, 1).all()
    assert frame.groupby(["labels", "repetition"])["protocol"].nunique().max() == 1  # the two files may be compared
    path = next((tmp_path / "r" / "evaluations").rglob("*.json"))
    path.write_text("{}")
    with pytest.raises(ResultsError, match="must be the record of an evaluation with schema 1. Delete it"):
        cl.results(tmp_path / "r")


def test_an_encoder_is_scored_on_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--encoder", "{mlp: {width: 16, layers: 1}}", "--dataset", "digits", "--budgets", "100%"]
    assert cli.main([*words, "--results", str(tmp_path)]) == 0
    assert "mlp on digits: 1437 training and 360 test rows, 16 features" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "evaluate: needs files of features, or --encoder with --dataset. Got both or neither."),
        (["--encoder", "mlp"], "--dataset: must name the images for --encoder. Got none."),
        (["--encoder", "nothing", "--dataset", "digits"], "unknown encoder 'nothing'"),
        (["f.npz", "--output", "t.txt"], "--output: must end in .md, .csv or .json."),
        (["f.npz"], "f.npz: must be a file of features. Got no such file. Check the name."),
    ],
)
def test_bad_arguments_are_told(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *words]) == 2
    assert message in capsys.readouterr().err


def test_arguments_of_evaluate_must_fit_together(files: list[Path]) -> None:
    with pytest.raises(InputError, match="labels: must be given with an array"):
        cl.evaluate(X)
    with pytest.raises(InputError, match="must come together"):
        cl.evaluate(X, Y, test_features=X)
    with pytest.raises(InputError, match="come with arrays. Got files"):
        cl.evaluate(files, Y)
    with pytest.raises(InputError, match="repetitions: must be greater than or equal to 1. Got 0"):
        cl.evaluate(X, Y, repetitions=0)


def test_a_suite_runs_from_a_mapping_and_its_records_are_read(tmp_path: Path) -> None:
    board = cl.run(SUITE, tmp_path, device="cpu", workers=1)
    assert set(board["loss"]) == {"nt_xent", "untrained"}
    pd.testing.assert_frame_equal(board, cl.leaderboard("mine", tmp_path))
    frame = cl.results(tmp_path)
    assert len(frame) == 2 and set(frame["kind"]) == {"run"} and set(frame["dataset"]) == {"digits"}
    assert (tmp_path / "mine" / "report.html").exists()


def test_bad_suites_and_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="lossess"):
        cl.run(SUITE | {"lossess": 1}, tmp_path)
    with pytest.raises(InputError, match="redo: must be 'none', 'failed', 'stale' or 'all'. Got 'x'"):
        cl.run(SUITE, tmp_path, redo="x")
    with pytest.raises(InputError, match="a suite must be plain data"):
        cl.run(SUITE | {"name": object()}, tmp_path)
    with pytest.raises(InputError, match="must be a folder of results. Got none"):
        cl.results(tmp_path / "none")
    (tmp_path / "trial").mkdir()  # as the folder of a suite's tables: an empty table would say that nothing was run
    with pytest.raises(
        InputError, match="trial: must be a folder of results, with a folder `records` or `evaluations`"
    ):
        cl.results(tmp_path / "trial")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cl.nothing  # noqa: B018


def test_a_bar_is_drawn_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    assert progress_bar(3).disable  # a test's output is no terminal
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    assert in_notebook()
    bar = progress_bar(3, leave=False)
    assert not bar.disable
    bar.close()
    assert progress_bar(3, show=False).disable


def test_a_mapping_whose_name_is_taken_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    from cl_semisup import api
    from cl_semisup.results.snapshot import SuiteSnapshot
    from cl_semisup.suite import suite as suites

    asked: dict[str, object] = {"name": "exp", "question": "Whose is it?", "datasets": "digits", "losses": "nt_xent"}
    asked |= {"encoder": "mlp", "label_fraction": 0.1, "learning_rate": 0.1, "batch_size": 64, "repetitions": 1}
    (tmp_path / "exp.yaml").write_text(json.dumps(asked | {"epochs": 2}))
    SuiteSnapshot.of(suites.read(tmp_path / "exp.yaml")).save(tmp_path / "results")
    with pytest.raises(InputError, match="must not be that of another suite"):
        api._suite_file(asked | {"epochs": 1}, tmp_path / "results")
    assert [path.name for path in (tmp_path / "results" / "exp").iterdir()] == ["suite.json"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cl.run([SUITE]), "run: suite: must be a valid string or .*Got "),  # type: ignore[arg-type]
        (lambda: cl.run(SUITE, None), "run: results: must be .*Got null"),  # type: ignore[arg-type]
        (lambda: cl.run(SUITE, workers=0), "run: workers: must be greater than or equal to 1. Got 0"),
        (lambda: cl.run(SUITE, redo="some"), "run: redo: must be 'none', 'failed', 'stale' or 'all'. Got 'some'"),  # type: ignore[arg-type]
        (lambda: cl.run(SUITE, plugins="mine"), "mine: a plug-in is one Python file"),
        (lambda: cl.run({**SUITE, "losses": {"clop"}}), "set"),
        (lambda: cl.run({**SUITE, "losses": object()}), "must be plain data"),
        (lambda: cl.run({**SUITE, 1: 2}), "must have words as keys. Got .1., which is int"),
        (lambda: cl.leaderboard(SUITE), "leaderboard: suite: must be"),  # type: ignore[arg-type]
        (lambda: cl.results(3), "results: folder: must be"),  # type: ignore[arg-type]
        (lambda: cl.evaluate(X, Y, budgets=[0.1]), "evaluate: budgets: must be .*Got "),  # type: ignore[list-item]
        (lambda: cl.evaluate(X, Y, budgets="many"), "budgets: must be a share"),
        (lambda: cl.evaluate(X, Y, repetitions="3"), "evaluate: repetitions: must be a valid integer. Got '3'"),  # type: ignore[arg-type]
        (lambda: cl.evaluate(X, Y, test_fraction=1), "evaluate: test_fraction: must be less than 1. Got 1"),
        (lambda: cl.evaluate(X, Y, name=""), "evaluate: name: must have at least 1 character"),
    ],
)
def test_an_argument_of_another_type_or_range_is_told_by_its_name(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_a_suite_that_contains_itself_is_told() -> None:
    suite = dict(SUITE)
    suite["losses"] = [suite]
    with pytest.raises(SuiteError, match="must not contain itself or nest"):
        cl.run(suite)


def test_a_mapping_may_hold_what_numpy_computes() -> None:
    computed = {
        "rate": np.float32(0.1),
        "rates": np.array([0.1, 0.2], np.float32),
        "single": np.array(3),
        "epochs": (np.int64(1), np.uint8(2)),
        "held": np.bool_(True),
        "text": np.str_("digits"),
        "folder": {np.str_("data_dir"): Path("data")},
    }
    found = to_yaml_data(computed)
    expected = {"rate": 0.1, "rates": [0.1, 0.2], "single": 3, "epochs": [1, 2], "held": True, "text": "digits"}
    assert found == {**expected, "folder": {"data_dir": "data"}}
    assert yaml.safe_load(yaml.safe_dump(found)) == found


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """Workers do not import the program that calls `run`."""
    script = tmp_path / "script.py"
    script.write_text(f"import cl_semisup as cl\nprint('once')\ncl.run({SUITE!r}, 'results', workers=2)\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    words = [sys.executable, str(script)]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines().count("once") == 1 and "Traceback" not in done.stderr
    assert len(cl.results(tmp_path / "results")) == 2
