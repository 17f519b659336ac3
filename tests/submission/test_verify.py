"""Submissions: a clean one is accepted, and each way of tampering is refused by the name of the rule that it breaks."""

import copy
import json
import math
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cl_semisup import plugins
from cl_semisup.cli import main
from cl_semisup.data import memory_limit
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import TrainingGroup, group
from cl_semisup.results import packed, protocol, records, right_images
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.submission import archive, curve_form, first_points, rerun, verify
from cl_semisup.suite import suite as suites
from cl_semisup.suite.run import Run

pytest.importorskip("pyarrow")

TEXT = """\
question: Is this submission sound?
name: sent
datasets: digits
encoder: {mlp: {width: 16, layers: 1}}
losses: [nt_xent, supcon]
label_fraction: 0.1
batch_size: 256
learning_rate: 0.1
epochs: 1
repetitions: 2
"""
THEIRS = '''\
from dataclasses import dataclass
from pathlib import Path

from cl_semisup.contrast import unit

Path({trace!r}).write_text("loaded")


@dataclass(frozen=True)
class Theirs:
    """Views are alike: L = mean_i |u_i - v_i|^2 + w |mean_i (u_i + v_i)|^2. Source: None. Difference: None

    Args:
        weight: w
    """

    weight: float = 1.0

    def __call__(self, z1, z2, labels=None):
        u, v = unit(z1), unit(z2)
        return (u - v).square().sum(dim=1).mean() + self.weight * (u + v).mean(dim=0).square().sum()
'''
Found = dict[str, tuple[dict[str, Any], dict[str, Any]]]  # run id -> record and curves


@dataclass(frozen=True)
class Sent:
    runs: tuple[Run, ...]
    found: Found
    snapshot: SuiteSnapshot

    @property
    def trained(self) -> list[Run]:
        return [run for run in self.runs if run.epochs]


@pytest.fixture(scope="module")
def sent() -> Sent:
    suite = suites.parse(TEXT, "sent.yaml")
    executor, found = Executor(Machine("cpu", "data")), {}
    for training in group(suite.runs):
        for run, result in zip(training.runs, executor.run_group(training), strict=True):
            result[0]["versions"]["clean"] = True  # whatever the state of this checkout
            found[run.id] = result
    return Sent(suite.runs, found, SuiteSnapshot.of(suite))


def pack(sent: Sent, found: Found, folder: Path, text: str = TEXT) -> Path:
    for run in sent.runs:
        if run.id in found:
            records.write(folder / "results", run, *found[run.id])
    archive.pack(folder / "results", sent.snapshot, text, [], folder / "sent.zip")
    return folder / "sent.zip"


def forged(
    sent: Sent, change: Callable[[dict[str, Any], dict[str, Any]], None], loss: str = "nt_xent"
) -> tuple[dict[str, Any], Run]:
    """A copy of what was found, with a changed record or curves of the loss's first trained run, and that run."""
    found = copy.deepcopy(sent.found)
    run = next(run for run in sent.trained if run.loss_name == loss)
    change(*found[run.id])
    return found, run


def check(file: Path, folder: Path) -> verify.Verified:
    return verify.verify(archive.unpack(file, folder / "unpacked"))


def test_a_clean_submission_is_accepted_also_as_a_folder_and_byte_for_byte_again(sent: Sent, tmp_path: Path) -> None:
    file = pack(sent, sent.found, tmp_path)
    found = check(file, tmp_path)
    assert (found.problems, found.notes, len(found.found)) == ((), (), len(sent.runs))
    assert pack(sent, sent.found, tmp_path / "again").read_bytes() == file.read_bytes()
    archive.pack(tmp_path / "results", sent.snapshot, TEXT, [], tmp_path / "folder")
    assert check(tmp_path / "folder", tmp_path / "other").problems == ()


def raise_score(record: dict[str, Any], curves: dict[str, Any], name: str, images: int) -> None:
    """So many more test images are right, in the score and in the bits that say which."""
    right = right_images.unpack(curves["right"], name)
    assert right is not None
    right[np.flatnonzero(~right)[:images]] = True
    curves["right"]["scores"] |= right_images.pack({name: right})["scores"]
    record["scores"][name] = float(right.mean())


def _set(*path: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(record: dict[str, Any], curves: dict[str, Any]) -> None:
        node: Any = curves if path[0] == "history" else record
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value

    return change


def _settings(key: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """A protocol's setting, with the fingerprint that belongs to it: a careful forger."""

    def change(record: dict[str, Any], curves: dict[str, Any]) -> None:
        record["protocol"]["settings"][key] = value
        record["protocol"]["fingerprint"] = protocol.fingerprint(record["protocol"]["settings"])

    return change


def _stale(record: dict[str, Any], curves: dict[str, Any]) -> None:
    record["versions"]["plugins"]["losses.nt_xent"] = "0123456789"


def _last_digit(record: dict[str, Any], curves: dict[str, Any]) -> None:
    record["scores"]["linear_top1"] += 1e-4


def _faster(record: dict[str, Any], curves: dict[str, Any]) -> None:
    record["cost"]["train_seconds"] /= 2


def _shorter(record: dict[str, Any], curves: dict[str, Any]) -> None:
    curves["history"]["loss"] = curves["history"]["loss"][:-1]


def _thousand_times_faster(record: dict[str, Any], curves: dict[str, Any]) -> None:
    record["cost"]["train_seconds"] /= 1000
    record["cost"]["images_per_second"] *= 1000


def _slower(record: dict[str, Any], curves: dict[str, Any]) -> None:
    factor = 1e4 / record["cost"]["train_seconds"]
    record["cost"]["train_seconds"] *= factor
    record["cost"]["images_per_second"] /= factor


def _without(part: str, name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(record: dict[str, Any], curves: dict[str, Any]) -> None:
        del (record if not part else curves if part == "curves" else record[part])[name]

    return change


def _plot_without_places(record: dict[str, Any], curves: dict[str, Any]) -> None:
    curves["picture"]["x"] = curves["picture"]["x"][:5]


def _longer_spectrum(record: dict[str, Any], curves: dict[str, Any]) -> None:
    curves["singular_values"] = [2 * value for value in curves["singular_values"]]


def _validation(record: dict[str, Any], curves: dict[str, Any]) -> None:
    record["scores"]["linear_top1_validation"] = 0.54321


def _no_scores(record: dict[str, Any], curves: dict[str, Any]) -> None:
    record["scores"] = {}


def _chance(record: dict[str, Any], curves: dict[str, Any]) -> None:
    record["scores"] |= {"linear_top1": 36 / 360, "knn_top1": 36 / 360}


def _no_curves(record: dict[str, Any], curves: dict[str, Any]) -> None:
    curves.clear()


def _exploding(record: dict[str, Any], curves: dict[str, Any]) -> None:
    curves["history"]["loss"][-1] = 1e9


def _later_steps(record: dict[str, Any], curves: dict[str, Any]) -> None:
    curves["history"]["step"][-1] += 1000


def _first_point(record: dict[str, Any], curves: dict[str, Any]) -> None:
    curves["history"] = {name: points[:1] for name, points in curves["history"].items()}


def _rising(record: dict[str, Any], curves: dict[str, Any]) -> None:
    curves["singular_values"].reverse()


def _other_labels(record: dict[str, Any], curves: dict[str, Any]) -> None:
    curves["picture"]["label"].reverse()


def _better(record: dict[str, Any], curves: dict[str, Any]) -> None:
    record["scores"]["linear_top1"] = min(1.0, record["scores"]["linear_top1"] + 10 / 360)


def _without_knn(record: dict[str, Any], curves: dict[str, Any]) -> None:
    del record["scores"]["knn_top1"]


@pytest.mark.parametrize(
    ("rule", "change", "words"),
    [
        ("scores", _last_digit, "which no share of 360 test images is"),
        ("scores", _set("scores", "knn_top1_labelled", value=0.12345), "which no share of 360 test images is"),
        ("scores", _no_scores, "a run that ended ok has no score"),
        ("labels", _set("resolved", "label_set", value="0" * 12), "the visible labels are not those of its repetition"),
        ("data", _set("versions", "data", value="0" * 12), "the images are not those of this data set here"),
        ("fingerprint", _set("protocol", "fingerprint", value="0" * 10), "the fingerprint is not that of the protocol"),
        ("fingerprint", _settings("epochs", 100), "the protocol is not that of the run: epochs"),
        ("fingerprint", _settings("views", {"shift": 0.0}), "the protocol is not that of the run: views"),
        ("stale", _stale, "losses.nt_xent: made by other code than today's"),
        ("stale", _settings("version", 0), "protocol: made by other code than today's"),
        ("cost", _set("cost", "train_seconds", value=0.0), "a training takes time"),
        ("cost", _faster, "images a second are not"),
        ("cost", _set("cost", "images_per_second", value=1e9), "more than any machine trains"),
        ("cost", _set("started_at", value="2999-01-01T00:00:00+00:00"), "it began in the future"),
        ("cost", _set("cost", "energy_joules", value=12.0), "its parts are 0 together"),
        ("cost", _set("cost", "cpu_joules", value=-1.0), "are at least 0"),
        ("cost", _set("cost", "co2_kg", value=0.5), "which 0 joules at 0 g a kWh are not"),
        ("curves", _no_curves, "a training has no curves"),
        ("curves", _shorter, "the curves have different lengths"),
        ("curves", _exploding, "the loss grew from"),
        ("curves", _set("history", "loss", 0, value=None), "the loss is not finite"),  # type: ignore[arg-type]
        ("curves", _later_steps, "the curves' steps do not rise from 0 to"),
        ("status", _set("diagnostics", "feature_std", value=0.001), "all embeddings are nearly one point"),
        ("status", _set("diagnostics", "effective_rank", value=1.01), "embeddings use too few directions"),
        ("status", _chance, "the embeddings tell nothing of the classes"),
        ("status", _set("status", value="diverged"), "told to have diverged, and its loss has not"),
        ("status", _set("status", value="collapsed"), "neither its embeddings nor its loss say so"),
        ("missing", _set("status", value="failed"), "has failed"),
        ("facts", _set("resolved", "classes", value=100), "classes is 100, and 10 in the data"),
        ("facts", _set("resolved", "labelled_images", value=10), "labelled_images is 10, and 1"),
        ("facts", _set("resolved", "effective_learning_rate", value=1.0), "and 0.1 by the run"),
        ("curves", _set("history", "learning_rate", 0, value=0.2), "not those of the schedule"),  # type: ignore[arg-type]
        ("curves", _first_point, "has its points at other steps"),
        ("curves", _set("history", "gradient_norm", 0, value=-1.0), "outside of [0, inf]"),  # type: ignore[arg-type]
        ("curves", _rising, "the singular values do not fall"),
        ("curves", _other_labels, "not those of the test images"),
        ("diagnostics", _set("diagnostics", "effective_rank", value=12.0), "by the singular values"),
        ("diagnostics", _set("diagnostics", "uniformity", value=5e-4), "outside of [-8, 0]"),
        ("scores", _set("scores", "best_top1", value=0.5), "no probe of the run gives it"),
        ("scores", _better, "by the test images that are right"),
        ("scores", _without_knn, "knn_top1: is missing"),
        ("status", _set("reason", value="the best of all"), "has no reason to end"),
        ("status", _set("resolved", "stopped_at_step", value=3), "does not stop before its last step"),
        ("cost", _set("cost", "evaluation_seconds", value=-1.0), "what is spent is at least 0"),
        ("cost", _set("started_at", value="1970-01-01T00:00:00+00:00"), "before there was this package"),
        ("cost", _set("finished_at", value="2020-02-02T00:00:00.000+00:00"), "s before it began"),
        ("cost", _without("", "finished_at"), "finished_at is missing"),
        ("facts", _without("resolved", "device"), "resolved.device is missing"),
        ("facts", _without("versions", "machine"), "versions.machine is missing"),
        ("cost", _without("cost", "peak_memory_bytes"), "cost.peak_memory_bytes is missing"),
        ("cost", _without("cost", "images_per_second"), "cost.images_per_second is missing"),
        ("curves", _without("curves", "picture"), "curves.picture is missing"),
        ("curves", _without("curves", "singular_values"), "curves.singular_values is missing"),
        ("scores", _without("curves", "right"), "linear_top1: which test images are right is missing"),
        ("diagnostics", _without("diagnostics", "uniformity"), "uniformity is missing, and other repetitions have it"),
        ("records", _set("schema", value=2), "it was recorded in form 2, which need not hold what is checked"),
        ("curves", _plot_without_places, "the embedding plot has no place and label for each of its images"),
        ("cost", _thousand_times_faster, "are usual for its network on this machine here"),
        ("cost", _set("cost", "evaluation_seconds", value=1e4), "its evaluation took 1e+04 s, and all of it"),
        ("cost", _slower, "its training took 1e+04 s, and all of it"),
        ("cost", _set("cost", "trained_for", value=0), "a training is for one run or more"),
        ("fingerprint", _set("resolved", "plain", value=True), "the run and its protocol differ in being plain"),
        ("curves", _longer_spectrum, "the squared singular values of 360 unit rows add up to 1440"),
        ("facts", _set("resolved", "validation_images", value=7), "validation_images is 7, and 145 in the data"),
        ("scores", _validation, "linear_top1_validation is 0.54321, which no share of 145 validation images is"),
    ],
)
def test_a_tampered_record_is_refused_by_name(
    sent: Sent, tmp_path: Path, rule: str, change: Callable[[dict[str, Any], dict[str, Any]], None], words: str
) -> None:
    found, run = forged(sent, change)
    problems = check(pack(sent, found, tmp_path), tmp_path).problems
    others = [problem.text for problem in problems if verify.describe(run) not in problem.text]
    assert all(text.endswith("is missing, and other repetitions have it") for text in others)
    assert any(
        problem.rule == rule and words in problem.text and verify.describe(run) in problem.text for problem in problems
    )


def test_a_dropped_seed_is_named_with_its_config(sent: Sent, tmp_path: Path) -> None:
    dropped = sent.trained[-1]
    found = {run_id: result for run_id, result in sent.found.items() if run_id != dropped.id}
    (problem,) = check(pack(sent, found, tmp_path), tmp_path).problems
    assert problem == verify.Problem("missing", f"{verify.describe(dropped)}: has no record")
    assert "supcon on digits, lr" in problem.text and "repetition 1" in problem.text


def test_a_seed_that_is_copied_from_another_is_refused(sent: Sent, tmp_path: Path) -> None:
    first, second = (run for run in sent.trained if run.loss_name == "supcon")
    found = copy.deepcopy(sent.found)
    for part in ("scores", "diagnostics"):
        found[second.id][0][part] = copy.deepcopy(found[first.id][0][part])
    found[second.id][1].update(copy.deepcopy(found[first.id][1]))
    problem, of_curves = check(pack(sent, found, tmp_path), tmp_path).problems
    assert problem.rule == of_curves.rule == "copied" and "has every digit of supcon on digits" in problem.text


def _loss_curve(change: Callable[[list[float]], Any]) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def forge(record: dict[str, Any], curves: dict[str, Any]) -> None:
        curves["history"]["loss"] = [float(np.float32(loss)) for loss in change(curves["history"]["loss"])]

    return forge


def _in_double(record: dict[str, Any], curves: dict[str, Any]) -> None:
    curves["history"]["loss"] = [1.01 * loss for loss in curves["history"]["loss"]]


def _at_one_point(record: dict[str, Any], curves: dict[str, Any]) -> None:
    curves["history"]["loss"][-1] = float(np.float32(math.log(2 * 256 - 1)))


def _stopped(record: dict[str, Any], curves: dict[str, Any]) -> None:
    record["status"], record["reason"] = "collapsed", "all projections are nearly one point"
    record["resolved"]["stopped_at_step"] = 2


def _diverged(record: dict[str, Any], curves: dict[str, Any]) -> None:
    record["status"], record["reason"] = "diverged", "the loss is not finite at step 5"
    record["resolved"] |= {"diverged_at_step": 5, "last_good": {"loss": 1.0}}


@pytest.mark.parametrize(
    ("change", "rule", "words"),
    [
        (_loss_curve(lambda losses: [0.0] * len(losses)), "curves", "loss is 0.0 at all 5 points"),
        (_loss_curve(lambda losses: [losses[0]] * len(losses)), "curves", "at all 5 points, and batches differ"),
        (_loss_curve(lambda losses: np.linspace(losses[0], losses[-1], len(losses))), "curves", "loss is smooth"),
        (_in_double, "curves", "which single precision cannot hold"),
        (_at_one_point, "status", "its value when all projections are one point (6.236), and the run is told to be ok"),
        (_stopped, "curves", "the run stopped at step 2, and its curves end at 4"),
        (_diverged, "curves", "last_good is not the last point of the curves"),
    ],
)
def test_an_invented_curve_is_refused_without_a_training(
    sent: Sent, tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None], rule: str, words: str
) -> None:
    found, run = forged(sent, change)
    problems = check(pack(sent, found, tmp_path), tmp_path).problems
    text = f"{verify.describe(run)}: "
    assert any(one.rule == rule and words in one.text and one.text.startswith(text) for one in problems), problems


@pytest.fixture(scope="module")
def first(sent: Sent, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[TrainingGroup], first_points.Points]:
    folder = tmp_path_factory.mktemp("first")
    groups = first_points.trainings(sent.runs, {run_id: record for run_id, (record, _) in sent.found.items()}, 0)
    first_points.compute(groups, "data", folder)
    with (folder / first_points.FILE).open("a") as file:
        file.write('{"cut off')
    return groups, first_points.read(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("supcon", lambda losses: losses[::-1]),
        ("nt_xent", lambda losses: losses[::-1]),
        ("supcon", lambda losses: [*losses[1:], losses[0]]),
        ("supcon", lambda losses: [1.2 * loss for loss in losses]),
        ("supcon", lambda losses: [loss - 1 for loss in losses]),
    ],
)
def test_a_curve_that_begins_otherwise_is_refused_by_its_first_steps(
    sent: Sent,
    first: tuple[list[TrainingGroup], first_points.Points],
    tmp_path: Path,
    change: Callable[[list[float]], list[float]],
    name: str,
) -> None:
    found, run = forged(sent, _loss_curve(change), name)
    groups, points = first
    submission = archive.unpack(pack(sent, found, tmp_path), tmp_path / "unpacked")
    checked, problems = first_points.compare(submission.folder, groups, points)
    assert checked == len(sent.trained) == 4
    (problem,) = problems
    assert problem.rule == "curves" and f"{verify.describe(run)}: loss begins with" in problem.text


def test_first_points_are_those_of_the_whole_training(
    sent: Sent, first: tuple[list[TrainingGroup], first_points.Points]
) -> None:
    for run in sent.trained:
        history = sent.found[run.id][1]["history"]
        assert first[1][run.id] == {name: history[name][0] for name in curve_form.OF_BATCHES}


def test_a_curve_that_is_copied_from_another_seed_is_refused(sent: Sent, tmp_path: Path) -> None:
    one, other = (run for run in sent.trained if run.loss_name == "supcon")
    found = copy.deepcopy(sent.found)
    found[other.id][1]["history"] = copy.deepcopy(found[one.id][1]["history"])
    (problem,) = check(pack(sent, found, tmp_path), tmp_path).problems
    assert problem.rule == "copied" and "has every loss of supcon on digits" in problem.text


def test_a_run_that_nobody_asked_for_is_refused(sent: Sent, tmp_path: Path) -> None:
    fewer = TEXT.replace("repetitions: 2", "repetitions: 1")
    problems = check(pack(sent, sent.found, tmp_path, fewer), tmp_path).problems
    assert {problem.rule for problem in problems} == {"extra"}


def test_a_suite_that_cannot_be_read_is_refused(sent: Sent, tmp_path: Path) -> None:
    (problem,) = check(
        pack(sent, sent.found, tmp_path, TEXT.replace("learning_rate: 0.1", "learning_rate: -1")), tmp_path
    ).problems
    assert problem.rule == "suite" and "must be greater than 0" in problem.text


def rewrite(file: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the members of an archive."""
    with zipfile.ZipFile(file) as zipped:
        content = {name: zipped.read(name) for name in zipped.namelist()}
    change(content)
    with zipfile.ZipFile(file, "w") as zipped:
        for name, data in content.items():
            zipped.writestr(name, data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.update({"suite.yaml": content["suite.yaml"] + b"\n"}), "is not as its hash says"),
        (lambda content: content.update({"plugins/more.py": b"import os"}), "is there and not told"),
        (lambda content: content.update({"../../evil.py": b""}), "belongs to no submission"),
        (lambda content: content.pop("records/sent.parquet"), "is told and not there"),
        (
            lambda content: content.update({"records/more.parquet": b""}),
            "records/more.parquet: belongs to no submission",
        ),
    ],
)
def test_changed_files_are_refused_by_name(
    sent: Sent, tmp_path: Path, change: Callable[[dict[str, bytes]], None], words: str
) -> None:
    file = pack(sent, sent.found, tmp_path)
    rewrite(file, change)
    problems = check(file, tmp_path).problems
    assert any(problem.rule == "files" and words in problem.text for problem in problems)
    assert not (tmp_path.parent / "evil.py").exists()


@pytest.mark.parametrize(
    ("name", "plugin", "words"),
    [
        ("more.py", THEIRS, "plugins/more.py: no run of the suite uses it"),
        ("nt_xent.py", THEIRS, "plugins/nt_xent.py: the loss 'nt_xent' exists already"),
        ("more.py", "x = 1", "plugins/more.py: a plug-in holds one public dataclass"),
    ],
)
def test_a_plug_in_that_does_not_serve_is_refused(
    sent: Sent,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    forget_plugins: None,
    name: str,
    plugin: str,
    words: str,
) -> None:
    """It would keep cells from being run again."""
    pack(sent, sent.found, tmp_path)
    (tmp_path / name).write_text(plugin.format(trace="/dev/null"))
    archive.pack(tmp_path / "results", sent.snapshot, TEXT, [tmp_path / name], tmp_path / "own.zip")
    assert main(["verify", str(tmp_path / "own.zip"), "--rerun", "0"]) == 1
    assert f"files: {words}" in capsys.readouterr().out


def test_a_suite_under_a_name_of_ours_or_of_two_names_is_refused(sent: Sent, tmp_path: Path) -> None:
    file = pack(sent, sent.found, tmp_path, TEXT.replace("name: sent", "name: fractions"))
    (problem,) = check(file, tmp_path).problems
    assert problem == verify.Problem("suite", "sent: its text has another name, fractions")
    snapshot = replace(sent.snapshot, name="fractions")  # a suite whose file has no line with its name
    archive.pack(tmp_path / "results", snapshot, TEXT.replace("name: sent\n", ""), [], tmp_path / "ours.zip")
    (problem,) = check(tmp_path / "ours.zip", tmp_path / "ours").problems
    assert problem == verify.Problem("suite", "fractions: is not the suite of this name that comes along")


def test_records_from_several_places_and_runs_that_broke_are_noted(sent: Sent, tmp_path: Path) -> None:
    found, _ = forged(sent, _set("versions", "machine", value="arm64, 8 threads"))
    notes = check(pack(sent, found, tmp_path), tmp_path).notes
    assert any(note.startswith("the records differ in machine: arm64, 8 threads (1), ") for note in notes)


def test_records_of_another_run_are_refused(sent: Sent, tmp_path: Path) -> None:

    from tests.results.test_packed import changed

    pack(sent, sent.found, tmp_path)
    archive.pack(tmp_path / "results", sent.snapshot, TEXT, [], tmp_path / "folder")
    changed(tmp_path / "folder" / "records" / "sent.parquet", run=lambda text: text.replace('"epochs":1', '"epochs":2'))
    rules = {problem.rule for problem in check(tmp_path / "folder", tmp_path).problems}
    assert {"files", "records"} <= rules


def test_runs_are_done_again_by_this_package_whatever_the_current_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain checkout is no installed package: from another folder the process found none, and the sender was blamed."""
    started: list[dict[str, str]] = []
    monkeypatch.setattr(rerun.subprocess, "run", lambda words, **options: started.append(options["env"]))
    rerun.run_again(archive.Submission(tmp_path, "s", (), ()), [], [], tmp_path / "again", None, run_code=False)
    monkeypatch.undo()
    (tmp_path / "cl_semisup.py").write_text("raise RuntimeError('not this one')")
    words = [sys.executable, "-c", "import cl_semisup.submission as found; print(found.__file__)"]
    done = subprocess.run(words, cwd=tmp_path, env=started[0], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == Path(rerun.__file__).parent


def test_scores_that_training_does_not_give_are_found_by_running_again(sent: Sent, tmp_path: Path) -> None:
    """The forger has satisfied every other rule: other test images are said to be right."""
    found = copy.deepcopy(sent.found)
    runs = [run for run in sent.trained if run.loss_name == "supcon"]
    for run in runs:
        raise_score(*found[run.id], "linear_top1", 36)
    submission = archive.unpack(pack(sent, found, tmp_path), tmp_path / "unpacked")
    verified = verify.verify(submission)
    assert verified.problems == ()
    cells = rerun.draw(verified, 2, seed=0)
    assert [len(cell) for cell in cells] == [2, 2, 2] and not cells[-1][0].epochs  # of the untrained ones too
    for run in sent.runs:
        records.write(tmp_path / "again", run, *sent.found[run.id])
    problems = rerun.compare(submission, cells, tmp_path / "again", verified.test_images)
    assert {problem.rule for problem in problems} == {"rerun"}
    assert all("supcon" in problem.text and "linear_top1 was told as" in problem.text for problem in problems)
    clean = archive.unpack(pack(sent, sent.found, tmp_path / "clean"), tmp_path / "clean" / "unpacked")
    assert rerun.compare(clean, cells, tmp_path / "again", verified.test_images) == []
    missing, *_ = rerun.compare(clean, cells, tmp_path / "nothing", verified.test_images)
    assert "could not be run again within the limits" in missing.text


def _shifted(record: dict[str, Any], curves: dict[str, Any]) -> None:
    losses = curves["history"]["loss"]
    curves["history"]["loss"] = [*losses[1:], losses[-1] - 0.5]


@pytest.mark.parametrize(
    ("change", "rule", "words"),
    [
        (_shifted, "rerun", "steps away from the one that came out"),
        (_thousand_times_faster, "cost", "s of a thread as told and"),
    ],
)
def test_a_shifted_curve_and_an_impossible_speed_are_found_by_running_again(
    sent: Sent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any], dict[str, Any]], None],
    rule: str,
    words: str,
) -> None:
    monkeypatch.setattr(rerun, "MIN_POINTS", 2)  # of five
    monkeypatch.setattr(rerun, "LONG_SECONDS", 0.0)
    found = copy.deepcopy(sent.found)
    cell = [run for run in sent.trained if run.loss_name == "supcon"]
    for run in cell:
        change(*found[run.id])
    submission = archive.unpack(pack(sent, found, tmp_path), tmp_path / "unpacked")
    for run in sent.runs:
        records.write(tmp_path / "again", run, *sent.found[run.id])
    images = {run.id: 360 for run in sent.runs}
    problems = rerun.compare(submission, [cell], tmp_path / "again", images)
    assert any(one.rule == rule and words in one.text and "supcon" in one.text for one in problems), problems


def test_the_commands_pack_and_verify(
    sent: Sent, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_this_process(submission: Any, cells: Any, firsts: Any, again: Path, data_dir: Any, run_code: bool) -> None:
        first_points.compute(firsts, "data", again)

    monkeypatch.setattr(rerun, "run_again", in_this_process)
    suite = tmp_path / "sent.yaml"
    suite.write_text(TEXT)
    for run in sent.runs:
        records.write(tmp_path / "results", run, *sent.found[run.id])
    file = tmp_path / "sent.zip"
    assert main(["submit", str(tmp_path / "results"), "--suite", str(suite), str(tmp_path / "results")]) == 2
    assert "FILE: must not be the folder of results" in capsys.readouterr().err
    assert main(["submit", str(tmp_path / "results"), "--suite", str(suite), str(file)]) == 0
    assert f"{len(sent.runs)} of {len(sent.runs)} runs packed into {file}." in capsys.readouterr().out
    assert main(["verify", str(file), "--rerun", "0"]) == 0
    assert "note: 4 of 4 other curves have their first point computed again." in (out := capsys.readouterr().out)
    assert "only cells that are run again prove it" in out
    assert f"{len(sent.runs)} of {len(sent.runs)} runs, no fault found." in out
    rewrite(file, lambda content: content.update({"suite.yaml": content["suite.yaml"] + b"\n"}))
    assert main(["verify", str(file), "--rerun", "0"]) == 1
    assert "refused: files 1." in capsys.readouterr().out


@pytest.mark.parametrize("forged", [False, True])
def test_a_plug_in_of_the_sender_runs_only_with_leave_and_then_tells_forged_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], forget_plugins: None, forged: bool
) -> None:
    """The cells are run again in a process of their own; the file leaves a trace wherever it is loaded."""
    own, trace, suite = tmp_path / "theirs.py", tmp_path / "trace", tmp_path / "sent.yaml"
    own.write_text(THEIRS.format(trace=str(trace)))
    suite.write_text(TEXT.replace("[nt_xent, supcon]", "[theirs]"))
    plugins.add(own)
    parsed = suites.read(suite)
    executor = Executor(Machine("cpu", "data"))
    for training in group(parsed.runs):
        for run, (record, curves) in zip(training.runs, executor.run_group(training), strict=True):
            if forged and run.epochs:
                for name in ("linear_top1", "linear_top1_labelled"):
                    raise_score(record, curves, name, 360)
            records.write(tmp_path / "results", run, record, curves)
    words = [str(tmp_path / "results"), "--suite", str(suite), str(tmp_path / "sent.zip"), "--plugin", str(own)]
    assert main(["submit", *words]) == 0
    trace.unlink()
    plugins._user_files.clear()
    plugins.load.cache_clear()  # as in the process of another command
    capsys.readouterr()
    file = str(tmp_path / "sent.zip")
    assert main(["verify", file]) == 0
    assert "nothing is run again, as the suite may use the sender's plug-ins. Add --run-code" in (
        out := capsys.readouterr().out
    )
    assert "curves are checked by their form alone" in out
    assert not trace.exists()
    plugins._user_files.clear()
    assert main(["verify", file, "--run-code", "--rerun", "1", "--seed", "3"]) == (1 if forged else 0)
    out = capsys.readouterr().out
    assert "2 cells, 4 runs, are run again (--seed 3)." in out
    assert "note: 0 of 0 other curves" in out
    assert trace.read_text() == "loaded"
    assert ("rerun: theirs" in out and "linear_top1 was told as 1" in out) if forged else "no fault found" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "must be a ZIP archive"),
        (None, "no such file. Name an archive or a folder that `submit` has written"),
        ("a pipe", "must be a ZIP archive. Got a named pipe, not a regular file. Make it with `submit`.\n"),
    ],
)
def test_what_is_no_submission_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | str | None, message: str
) -> None:
    file = tmp_path / "x.zip"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        os.mkfifo(file)
    assert main(["verify", str(file)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("told", [b"[]", b"{", json.dumps({"format": 2, "suite": "s", "files": {}}).encode()])
def test_a_manifest_that_says_nothing_is_refused(
    sent: Sent, tmp_path: Path, capsys: pytest.CaptureFixture[str], told: bytes
) -> None:
    file = pack(sent, sent.found, tmp_path)
    rewrite(file, lambda content: content.update({"submission.json": told}))
    assert main(["verify", str(file)]) == 2
    assert "submission.json: cannot be read" in capsys.readouterr().err


def test_members_that_claim_too_much_are_not_unpacked(
    sent: Sent, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pack(sent, sent.found, tmp_path)
    monkeypatch.setattr(archive, "MAX_BYTES", {"": 10, ".parquet": 10**6})
    assert main(["verify", str(file)]) == 2
    assert "must be at most 10 bytes" in capsys.readouterr().err


def test_members_that_together_fill_the_memory_are_not_unpacked(
    sent: Sent, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pack(sent, sent.found, tmp_path)
    rewrite(file, lambda content: content.update({f"records/x{n}.parquet": bytes(2**20) for n in range(9)}))
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 2**24)
    assert main(["verify", str(file)]) == 2
    assert "must fit in half of this machine's memory, 8388608 bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "rule", "words"),
    [
        (_set("resolved", "steps", value=10**400), "records", "needs a number as resolved.steps"),
        (_set("started_at", value="9999-12-31T23:59:59-14:00"), "cost", "started_at is no time"),
        (_set("history", "loss", value=5), "curves", "the curves have different lengths"),
        (_set("history", "loss", 0, value=10**400), "curves", "the loss is not finite"),  # type: ignore[arg-type]
        (_settings("probed_data", 7), "records", "needs hashes by their data sets as the probed data"),
    ],
)
def test_odd_values_where_a_verifier_computes_are_named(
    sent: Sent, tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None], rule: str, words: str
) -> None:
    found, _ = forged(sent, change)
    rows = [packed.row(*found[one.id]) for one in sent.runs]
    pack(sent, sent.found, tmp_path)
    archive.pack(tmp_path / "results", sent.snapshot, TEXT, [], tmp_path / "sent")
    (tmp_path / "sent" / "records" / "sent.parquet").write_bytes(packed.to_bytes(rows))
    problems = check(tmp_path / "sent", tmp_path).problems
    assert any(problem.rule == rule and words in problem.text for problem in problems), problems


def test_the_process_for_foreign_code_has_limits() -> None:
    """In a process of its own, which cannot take more memory or time than it was given."""
    import subprocess
    import sys

    code = "from cl_semisup.submission.rerun_process import limit\nlimit(60, 2 * 2**30)\nimport resource as r\n"
    code += "print(r.getrlimit(r.RLIMIT_CPU)[0], r.getrlimit(r.RLIMIT_AS)[0])\nbytearray(3 * 2**30)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["60", str(2 * 2**30)]
    assert "MemoryError" in done.stderr
