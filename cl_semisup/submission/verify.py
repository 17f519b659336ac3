"""Checks of a submission: each problem has the name of the rule that it breaks.

files         hashes of the archive's members
suite         the suite cannot be read, or differs from the one of its name that comes along
records       a record cannot be read, has another id than its settings, or breaks a rule of records
missing       runs of the suite without a record: dropped seeds, with loss, config and repetition
extra         records that the suite does not ask for
stale         plug-in files, or the protocol, were others
fingerprint   the protocol's hash or settings are not those of the run
data          the images were others
labels        the visible labels were others
facts         images, classes, steps or learning rate are not those of the run and its data (recomputed.py)
scores, cost, curves, diagnostics, status, copied     what no such run writes (plausibility.py, recomputed.py)
rerun         a run that was done again came out otherwise
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cl_semisup.data import labels
from cl_semisup.errors import DataError, InputError, ResultsError, SuiteError
from cl_semisup.results import data_hashes, pack_index, packed, protocol, records
from cl_semisup.results.packed import Pack
from cl_semisup.results.records import Record
from cl_semisup.submission import plausibility, recomputed, required, times
from cl_semisup.submission.archive import SUITE, Submission
from cl_semisup.suite import suite as suites
from cl_semisup.suite.run import Named, Run
from cl_semisup.system import installation

MAX_NAMED = 20  # problems of one rule that are written out


@dataclass(frozen=True)
class Problem:
    rule: str
    text: str


@dataclass(frozen=True)
class Verified:
    """What was checked, and what is wrong; `notes` say what could not be checked here."""

    runs: tuple[Run, ...]
    found: dict[str, Record]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    test_images: dict[str, int] = field(default_factory=dict)  # run id -> number, where the data are at hand


def verify(submission: Submission, data_dir: str | None = None) -> Verified:
    """All checks that run nothing of the sender's code and train nothing."""
    problems = [Problem("files", text) for text in submission.problems]
    try:
        suite = _suite(submission, data_dir, problems)
        problems += _unused(submission, suite.runs)
        found = _records(submission, suite.runs, problems)
    except (InputError, ResultsError) as error:
        rule = "records" if isinstance(error, ResultsError) else "suite"
        texts = error.problems if isinstance(error, SuiteError) else [str(error)]
        recorded = [Problem(rule, text.removeprefix(f"{submission.folder}/")) for text in texts]
        return Verified((), {}, (*problems, *recorded), ())
    notes: list[str] = []
    data = _Data(suite.data_dir, notes)
    digits: dict[tuple[str, int], list[Run]] = defaultdict(list)
    config = required.Configs()
    for run in suite.runs:
        if run.id in found:
            curves = records.read_curves(records.path_of(submission.folder, run))
            problems += _problems_of(run, found[run.id], curves, data)
            config.add(run, found[run.id], curves)
            for key in _digits(run, found[run.id], curves):
                digits[key].append(run)
    problems += _copied(digits)
    problems += [Problem(rule, f"{describe(run)}: {text}") for run, rule, text in config.left_out()]
    problems += [Problem("cost", f"{describe(run)}: {text}") for run, text in times.together(suite.runs, found)]
    notes += [*_origins([*found.values()]), *times.notes(suite.runs, found)]
    images = {run.id: len(facts.test_labels) for run in suite.runs if (facts := data.of(run.dataset)) is not None}
    return Verified(suite.runs, found, tuple(problems), tuple(dict.fromkeys(notes)), images)


def describe(run: Run) -> str:
    """`clop on digits, lr 0.1, batch 64, repetition 3 (0054a50d5840)`"""
    config = f", lr {run.learning_rate:g}, batch {run.batch_size}" if run.epochs else ""
    return f"{run.loss_name} on {run.dataset_name}{config}, repetition {run.repetition} ({run.id})"


def _suite(submission: Submission, data_dir: str | None, problems: list[Problem]) -> suites.Suite:
    path = submission.folder / SUITE
    text = path.read_text("utf-8", "replace")
    suite = suites.parse(text, str(path), data_dir, with_data=not submission.plugins)
    if suite.name not in (submission.suite, path.stem):
        problems.append(Problem("suite", f"{submission.suite}: its text has another name, {suite.name}"))
    ours = [text for name, text in _suites_that_come_along() if name == submission.suite]
    if ours and text not in ours:
        problems.append(Problem("suite", f"{submission.suite}: is not the suite of this name that comes along"))
    return suite


def _suites_that_come_along() -> Iterator[tuple[str, str]]:
    """(name, text)"""
    for path in installation.suites().values():
        text = path.read_text("utf-8")
        named = re.search(r"^name: *(\S+)", text, re.MULTILINE)
        yield named[1] if named else path.stem, text


def _unused(submission: Submission, runs: Iterable[Run]) -> Iterator[Problem]:
    """Plug-ins that no run uses: they would only keep cells from being run again."""
    if submission.plugins:
        used = {name.partition(".")[2] for run in runs for name in protocol.versions(run)}
        for path in submission.plugins:
            if path.stem not in used:
                yield Problem("files", f"plugins/{path.name}: no run of the suite uses it")


def _records(submission: Submission, runs: Iterable[Run], problems: list[Problem]) -> dict[str, Record]:
    expected_runs, found = {run.id: run for run in runs}, dict[str, Record]()
    pack = Pack.read(submission.folder, packed.path_of(submission.folder, submission.suite))
    if len(set(pack.texts["id"])) < len(pack.texts["id"]):
        problems.append(Problem("records", "a run has two records"))
    rows = pack_index.rows(submission.folder)
    for name in sorted(rows):
        try:
            record = records.read(submission.folder / name)
        except ResultsError as error:
            problems.append(Problem("records", str(error).removeprefix(f"{submission.folder}/")))
            expected_runs.pop(rows[name].id, None)
            continue
        if record["id"] in expected_runs:
            found[record["id"]] = record
        else:
            problems.append(
                Problem("extra", f"{describe(Run.from_dict(record['run']))}: the suite does not ask for it")
            )
    missing = [run for run_id, run in expected_runs.items() if run_id not in found]
    problems += [Problem("missing", f"{describe(run)}: has no record") for run in missing]
    problems += [
        Problem("missing", f"{describe(expected_runs[run_id])}: has failed: {record['reason'][:200]}")
        for run_id, record in found.items()
        if record["status"] == "failed"
    ]
    return found


def _problems_of(run: Run, record: Record, curves: dict[str, Any], data: "_Data") -> Iterator[Problem]:
    def problem(rule: str, text: str) -> Problem:
        return Problem(rule, f"{describe(run)}: {text}")

    if record["status"] == "failed":
        return
    if stale := protocol.stale_parts(record):
        yield problem("stale", f"{', '.join(stale)}: made by other code than today's")
    recorded = record["protocol"]
    if bool(record["resolved"].get("plain")) != bool(recorded["settings"].get("plain")):
        yield problem("fingerprint", "the run and its protocol differ in being plain")
    if protocol.fingerprint(recorded["settings"]) != recorded.get("fingerprint"):
        yield problem("fingerprint", "the fingerprint is not that of the protocol's settings")
    expected = protocol.settings(
        run,
        str(record["versions"].get("data")),
        str(record["resolved"].get("precision")),
        recorded["settings"].get("probed_data", {}),
        bool(recorded["settings"].get("plain")),
        recorded["settings"].get("weights", ""),
    )
    if not stale and protocol.fingerprint(expected) != recorded.get("fingerprint"):
        differs = [key for key in expected if expected[key] != recorded["settings"].get(key)]
        yield problem("fingerprint", f"the protocol is not that of the run: {', '.join(differs)}")
    facts = data.of(run.dataset)
    if facts is not None:
        if record["versions"].get("data") != facts.content_hash:
            yield problem("data", "the images are not those of this data set here")
        elif record["resolved"].get("label_set") != labels.of_run(facts.train_labels, record["run"]).fingerprint:
            yield problem("labels", "the visible labels are not those of its repetition")
    for rule, text in (*required.problems(run, record, curves), *times.problems(run, record)):
        yield problem(rule, text)
    for rule, text in plausibility.problems(run, record, curves, None if facts is None else facts.test_labels):
        yield problem(rule, text)
    same_data = facts is not None and record["versions"].get("data") == facts.content_hash
    for rule, text in recomputed.problems(run, record, curves, facts if same_data else None):
        yield problem(rule, text)


def _origins(found: Collection[Record]) -> Iterator[str]:
    """Where the records were made, if not all in one place by unchanged code, and which of them are not ok."""
    recorded = [record["versions"] for record in found if record["status"] != "failed"]
    for name in ("package", "commit", "torch", "python", "machine"):
        counts = Counter(str(versions.get(name)) for versions in recorded)
        if len(counts) > 1:
            values = ", ".join(f"{value} ({count})" for value, count in sorted(counts.items()))
            yield f"the records differ in {name}: {values}"
    broken = Counter(record["status"] for record in found if record["status"] in ("collapsed", "diverged"))
    if broken:
        what = " and ".join(f"{count} have {status}" for status, count in sorted(broken.items()))
        yield f"of the runs {what}; that this is so, only those that are run again prove"
    changed = sum(bool(versions.get("commit")) and not versions.get("clean") for versions in recorded)
    if changed:
        yield f"{changed} records were made in a checkout whose package was changed"


class _Data:
    """Data sets that are at hand, each loaded once."""

    def __init__(self, data_dir: str, notes: list[str]):
        self.data_dir, self.notes = data_dir, notes
        self._loaded: dict[str, Any] = {}

    def of(self, named: Named) -> Any:
        """Its images; None if it is not here, which is noted."""
        key = repr(named)
        if key not in self._loaded:
            try:
                self._loaded[key] = data_hashes.load(named, self.data_dir)
            except (InputError, DataError, OSError, ImportError) as error:
                self._loaded[key] = None
                name = next(iter(named))
                self.notes.append(f"data and labels of {name} are not checked, as it is not here: {str(error)[:200]}")
        return self._loaded[key]


def _digits(run: Run, record: Record, curves: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """What two trainings from different seeds do not have in common: all results, and the curve of losses."""
    history = curves.get("history")
    losses = history.get("loss") if isinstance(history, dict) else None
    if run.epochs and record["status"] == "ok" and record["diagnostics"]:
        yield "digit", hash(repr((sorted(record["scores"].items()), sorted(record["diagnostics"].items()))))
    if run.epochs and isinstance(losses, list) and len(set(map(repr, losses))) > 2:
        yield "loss", hash(repr(losses))


def _copied(digits: dict[tuple[str, int], list[Run]]) -> Iterator[Problem]:
    for (kind, _), same in digits.items():
        first, *others = same
        if other := next((run for run in others if run.repetition != first.repetition), None):
            yield Problem("copied", f"{describe(other)}: has every {kind} of {describe(first)}")
