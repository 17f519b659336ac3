"""The command line: what a user does wrong becomes a message and an exit code, never a traceback."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cl_semisup import cli, plugins
from cl_semisup.cli import run as run_command
from cl_semisup.results import records, snapshot
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.suite import suite
from tests.helpers.records import grid, select, write

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("forget_plugins")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def suite_file(folder: Path, text: str) -> str:
    path = folder / "s.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["suites/none.yaml"], "suites/none.yaml: no such file. Suites that come along: collapse, digits, "),
        (["suites"], "suites: a suite is a YAML file. Got a folder."),
        (["suites/quickstart.yaml", "--device", "cuda:99"], "--device: 'cuda:99' is not on this machine. Known:"),
        (["suites/quickstart.yaml", "--plugin", "none.py"], "none.py: a plug-in is one Python file. Got no such file."),
        (["suites/quickstart.yaml", "--workers", "0"], "must be a whole number of at least 1. Got '0'."),
        (["suites/quickstart.yaml", "--run-gpus", "1.5"], "must be a whole number or below 1. Got '1.5'."),
        (["suites/quickstart.yaml", "--run-cpus", "0"], "must be a number above 0. Got '0'."),
        (["report", "never_run"], "the suite 'never_run' has not run here."),
    ],
)
def test_bad_arguments_are_reported(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(ROOT)
    code, _, err = run(capsys, *arguments, "--results", str(tmp_path / "results"))
    assert code == cli.BAD_INPUT
    assert message in err


def test_the_exit_code_is_the_same_where_no_message_can_be_written() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "benchmark.py", "check", "no-such.yaml"]
        assert subprocess.run(command, cwd=ROOT, stderr=full, check=False).returncode == cli.BAD_INPUT


def test_a_bad_suite_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    broken = suite_file(tmp_path, text.replace("learning_rate: 0.1", "learning_rate: -1"))
    code, _, err = run(capsys, broken, "--results", str(tmp_path / "results"))
    assert code == cli.BAD_INPUT
    assert f"{broken}:6:16: learning_rate: must be greater than 0" in err
    assert "1 problem(s); nothing was run." in err
    assert not (tmp_path / "results").exists()


def test_a_missing_data_set_says_where_it_looked_and_how_to_get_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    suite = suite_file(tmp_path, text.replace("datasets: digits", "datasets: cifar10"))
    arguments = [suite, "--results", str(tmp_path / "results"), "--data-dir", str(tmp_path / "data")]
    code, _, err = run(capsys, *arguments)
    assert code == cli.BAD_INPUT
    assert str(tmp_path / "data") in err
    assert "download: true" in err


def test_a_read_only_results_folder_is_reported(capsys: pytest.CaptureFixture[str], text: str, tmp_path: Path) -> None:
    code, _, err = run(capsys, suite_file(tmp_path, text), "--results", "/proc/results")
    assert code == cli.NO_RESULTS
    assert "results cannot be written" in err


def test_old_words_of_a_suite_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    suite = suite_file(tmp_path, text + "evaluation: {knn: {k: 5}}\n")
    code, out, err = run(capsys, "check", suite, "--results", str(tmp_path / "results"))
    assert code == 0
    assert "no fault found" in out
    assert err == f"{suite}:10:1: 'evaluation' is now called 'probes'; the old word still works.\n"


def test_check_counts_and_estimates_and_runs_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    suite = suite_file(tmp_path, text)
    code, out, _ = run(capsys, "check", suite, "--results", str(tmp_path / "results"))
    assert code == 0
    assert "3 runs, 0 with a record, 3 to do." in out
    assert "Time left: about" in out
    assert not (tmp_path / "results").exists()


def test_list_names_every_plug_in_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list")
    assert code == 0
    for folder in plugins.FOLDERS:
        for name in plugins.names(folder):
            assert any(line.startswith(f"  {name} ") for line in out.splitlines()), name


def test_a_suite_runs_and_its_second_run_trains_nothing(tmp_path: Path) -> None:
    outputs = []
    for _ in range(2):
        command = [sys.executable, "benchmark.py", "tests/tiny.yaml", "--results", str(tmp_path)]
        outputs.append(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert "tiny: 3 runs, 0 done, 3 to run." in outputs[0]
    assert "[3/3]" in outputs[0]
    assert "tiny: 3 runs, 3 done, 0 to run." in outputs[1]
    assert "[3/3]" not in outputs[1]
    for name in ("leaderboard.md", "leaderboard.csv", "report.html"):
        assert (tmp_path / "tiny" / name).stat().st_size > 100
    report = [sys.executable, "benchmark.py", "report", "tests/tiny.yaml", "--results", str(tmp_path)]
    before = (tmp_path / "tiny" / "leaderboard.md").read_bytes()
    subprocess.run(report, cwd=ROOT, capture_output=True, check=True)
    assert (tmp_path / "tiny" / "leaderboard.md").read_bytes() == before


def test_a_suite_with_failed_runs_fails_until_they_are_done_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    """The first time, the second time with nothing to do, and until `--redo failed` has mended them."""
    path = suite_file(tmp_path, text)
    chosen = suite.read(path)
    for number, one in enumerate(chosen.runs):
        reason = "ValueError: a\x1b[2J\nbug" if number else ""
        write(tmp_path / "results", one, status="failed" if number else "ok", reason=reason)
    options = ["--results", str(tmp_path / "results"), "--redo", "none"]
    for _ in range(2):
        code, out, _ = run(capsys, path, *options)
        assert code == cli.SOME_FAILED
        assert f"{len(chosen.runs) - 1} of {len(chosen.runs)} runs failed:" in out
        assert "ValueError: a\\x1b[2J\\nbug" in out
        assert f"python benchmark.py run {path} --results {tmp_path}/results --redo failed" in out
    line = f"{len(chosen.runs) - 1} of the runs failed. Do them again: `python benchmark.py "
    assert cli.main(["check", str(path), *options[:2]]) == cli.OK
    out = capsys.readouterr().out
    assert line in out and "Nothing is left to do" not in out
    for one in chosen.runs[1:]:
        write(tmp_path / "results", one)
    assert cli.main(["check", str(path), *options[:2]]) == cli.OK
    assert "runs failed" not in capsys.readouterr().out
    code, out, _ = run(capsys, path, *options)
    assert (code, "runs failed" in out) == (cli.OK, False)


def test_the_command_that_mends_failed_runs_names_the_plug_ins_that_they_need(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, forget_plugins: None
) -> None:
    """Without them the suite could not be read."""
    monkeypatch.chdir(tmp_path)
    loss = plugins.paths("losses")["dhel"].read_text().replace("class DHEL", "class Mine")
    (tmp_path / "own files").mkdir()
    (tmp_path / "own files" / "mine.py").write_text(loss)
    path = suite_file(tmp_path, text.replace("clop", "mine"))
    words = [str(path), "--results", "r", "--plugin", "own files/mine.py"]
    assert cli.main(["check", *words]) == cli.OK
    assert "fault found" in capsys.readouterr().out
    for one in suite.read(path).runs:
        write(tmp_path / "r", one, status="failed", reason="a bug")
    assert cli.main(["check", *words]) == cli.OK
    told = f"python benchmark.py {path} --results r --plugin 'own files/mine.py' --redo failed`."
    assert told in capsys.readouterr().out


def test_of_many_failed_runs_ten_and_their_number_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    path = suite_file(tmp_path, text.replace("repetitions: 1", "repetitions: 7"))
    for one in suite.read(path).runs:
        write(tmp_path, one, status="failed", reason="x" * 5000)
    code, out, _ = run(capsys, path, "--results", str(tmp_path))
    assert code == cli.SOME_FAILED
    shown = out[out.index("runs failed:") :]
    assert sum("xxxx" in line for line in shown.splitlines()) == 10
    assert "... and 11 more." in shown
    assert max(map(len, shown.splitlines())) < 500


def test_neither_a_report_nor_a_suite_that_is_done_needs_torch(tmp_path: Path) -> None:
    code = "import sys\nclass NoTorch:\n  def find_spec(self, name, *_):\n    assert name.split('.')[0] != 'torch'\n"
    code += "sys.meta_path.insert(0, NoTorch())\nfrom cl_semisup.cli import main\nsys.exit(main(sys.argv[1:]))"
    suite = ["tests/tiny.yaml", "--results", str(tmp_path)]
    subprocess.run([sys.executable, "benchmark.py", *suite], cwd=ROOT, capture_output=True, check=True)
    for arguments in (["report", *suite], suite):
        command = [sys.executable, "-c", code, *arguments]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
    assert "tiny: 3 runs, 3 done, 0 to run." in process.stdout


def test_a_suite_is_read_again_where_anything_may_have_changed(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(suite_file(tmp_path, text))
    current = SuiteSnapshot.of(suite.read(path))
    for each in current.runs:
        write(tmp_path, each)

    def done(*arguments: str) -> bool:
        options = cli.build_parser().parse_args(["run", str(path), "--results", str(tmp_path), *arguments])
        return run_command.finished_snapshot(options) is not None

    assert not done()
    current.save(tmp_path)
    assert done()
    assert done("--redo", "failed")
    assert not done("--redo", "all")
    assert not done("--plugin", "my_loss.py")
    assert not done("--data-dir", "elsewhere")
    SuiteSnapshot.of(suite.read(path, "elsewhere"), "elsewhere").save(tmp_path)
    assert done("--data-dir", "elsewhere")
    assert not done()
    current.save(tmp_path)
    monkeypatch.setattr(snapshot, "code_hash", lambda: "of another version")
    assert not done()
    monkeypatch.undo()
    assert done()
    path.write_text(text + "# another text\n")
    assert not done()
    path.write_text(text)
    records.path_of(tmp_path, current.runs[0]).unlink()
    assert not done()


def test_compare_puts_two_folders_or_two_losses_side_by_side(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs = grid(["nt_xent", "supcon"], 6)
    for folder, gain in (("a", 0.0), ("b", 0.1)):
        for one in runs:
            write(tmp_path / folder, one, 0.5 + 0.01 * one.repetition + gain * (one.loss_name == "supcon"))
    select(runs).save(tmp_path / "b")
    code, out, _ = run(capsys, "compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert code == 0
    assert re.search(r"^supcon +6 +52\.5 ± 2\.0 +62\.5 ± 2\.0 +\+10\.0 ± 0\.0", out, re.MULTILINE)
    arguments = ["compare", "nt_xent", "supcon", "--suite", "made", "--results", str(tmp_path / "b")]
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert "made: nt_xent and supcon" in out
    assert "+10.0 ± 0.0" in out
    code, _, err = run(capsys, "compare", str(tmp_path / "a"), str(tmp_path / "none"))
    assert code == cli.BAD_INPUT
    assert "must be a folder of results" in err


def test_help_imports_nothing_heavy() -> None:
    start_time = time.perf_counter()
    code = "import sys; from cl_semisup.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'pandas', 'sklearn', 'pydantic') if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - start_time < 10  # 0.06 s on a quiet machine


def test_a_missing_ray_is_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "cl_semisup.engines.ray_engine", raising=False)
    monkeypatch.delattr("cl_semisup.engines.ray_engine", raising=False)  # where another test has used it
    arguments = ("tests/tiny.yaml", "--results", str(tmp_path), "--engine", "ray")
    message = "--engine ray: needs Ray. Got none. Install it: pip install 'cl-semisup[ray]'.\n"
    assert run(capsys, *arguments)[0::2] == (2, message)


def test_a_batch_script_requests_what_runs_need_and_repeats_the_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("tests/tiny.yaml", "--print-sbatch", "--results", str(tmp_path))
    code, script, _ = run(capsys, *arguments, "--workers=3", "--run-timeout", "600")
    assert code == 0
    assert "#SBATCH --array=0-2\n#SBATCH --cpus-per-task=1\n#SBATCH --time" in script
    command = f" run tests/tiny.yaml --results {tmp_path} --run-timeout 600 --workers 1 --no-wait &"
    assert script.endswith(f"{command}\nwork=$!\nwait $work\n")
    assert "gpu" not in script
    _, shared, _ = run(capsys, *arguments, "--workers", "6", "--run-gpus", "0.5", "--run-cpus", "2")
    assert "#SBATCH --array=0-1\n#SBATCH --cpus-per-task=4\n#SBATCH --gres=gpu:1\n" in shared
    assert "--workers 2 --no-wait &" in shared
    assert not (tmp_path / "records").exists()  # nothing was run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run-gpus", "2"], "--run-gpus: at most 1, since a run trains on one GPU. Got 2."),
        (["--redo", "all"], "--print-sbatch: neither --engine nor --redo all goes with it. Leave them out."),
        (["--engine", "ray"], "--print-sbatch: neither --engine nor --redo all goes with it. Leave them out."),
    ],
)
def test_what_an_array_cannot_do_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    code_out_err = run(capsys, "tests/tiny.yaml", "--print-sbatch", "--results", str(tmp_path), *arguments)
    assert code_out_err[0::2] == (2, message + "\n")


def test_too_little_memory_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(_: object) -> int:
        raise MemoryError

    monkeypatch.setattr(cli.COMMANDS["list"], "run", full)
    assert cli.main(["list", "losses"]) == cli.NO_RESULTS
    assert capsys.readouterr().err.startswith("out of memory: this machine has ")
