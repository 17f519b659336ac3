"""What a report needs of a suite: its question and runs, stored beside the results so that a report needs no torch.

A snapshot is signed with the user's key. Where the suite's file is given, a snapshot stands for it only if it was made
here from the same text by the same code. A stranger's snapshot may lack runs, so the suite is then read again.
"""

import hashlib
import hmac
import os
import shlex
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_semisup.errors import InputError, ResultsError
from cl_semisup.results import data_hashes, protocol, records
from cl_semisup.suite import search as searches
from cl_semisup.suite.published import Published
from cl_semisup.suite.published import problem as published_problem
from cl_semisup.suite.run import Run
from cl_semisup.suite.run import problem as run_problem
from cl_semisup.suite.search import Search
from cl_semisup.system import files, installation, seal
from cl_semisup.text import show, visible

if TYPE_CHECKING:
    from cl_semisup.suite.suite import Suite


MAX_BYTES = 64_000_000  # a run has about 1,100
SIGNATURE = '{"signature": "%s", '


@dataclass(frozen=True)
class SuiteSnapshot:
    """A checked suite as plain data; the hashes `text_hash` (suite file) and `code` (package) detect a stale one."""

    name: str
    file: str
    question: str
    baseline: str
    score: str
    text_hash: str
    runs: tuple[Run, ...]
    published: tuple[Published, ...] = ()
    code: str = ""
    data_dir: str | None = None  # as given on the command line
    data_folder: str = ""  # from which its runs read their data; "" if that is not known
    search: Search | None = None  # `runs` are then those that it has asked for so far
    grid_runs: int = 0  # of the full grid that the search stands for
    tune_repetitions: int = 0  # the first of them choose configs; `runs` are then those that are needed so far
    place: str = field(
        default="", compare=False
    )  # hash of the path from the results folder to the suite file; "" before it is saved

    @classmethod
    def of(
        cls, suite: "Suite", data_dir: str | None = None, requested: tuple[Run, ...] | None = None
    ) -> "SuiteSnapshot":
        """Of a suite as this package reads it; `data_dir` overrode the suite's own.

        Of a suite whose runs are decided in rounds, `requested` are those that it asks for now.
        """
        own = ("code", "data_dir", "data_folder", "place", "runs", "grid_runs")
        shared = {name: getattr(suite, name) for name in cls.__dataclass_fields__ if name not in own}
        shared |= {"runs": suite.runs if requested is None else requested, "grid_runs": len(suite.runs)}
        return cls(**shared, code=code_hash(), data_dir=data_dir, data_folder=suite.data_dir)

    @property
    def in_rounds(self) -> bool:
        """Whether finished runs decide which further ones are needed."""
        return self.search is not None or self.tune_repetitions > 0

    def save(self, results: Path) -> None:
        """Write `<results>/<name>/suite.json`, atomically."""
        content = asdict(replace(self, runs=())) | {
            "runs": [run.settings() for run in self.runs],
            "place": _place(self.file, results),
        }
        text = records.encoded(records.to_json(content, indent=None)[1:])
        records.write_bytes(_path(results, self.name), (SIGNATURE % seal.of("", text).hex()).encode() + text, results)

    def folder(self, results: Path) -> Path:
        """The folder of the suite's leaderboard and report."""
        return results / self.name

    def command(self, results: Path) -> str:
        """The command that runs what is missing and writes the report again."""
        words = [] if results == Path("results") else ["--results", str(results)]
        words += ["--data-dir", self.data_dir] if self.data_dir else []
        words += [word for file in protocol.users_files(self.runs) for word in ("--plugin", file)]
        return shlex.join([*installation.COMMAND, self.file, *words])


def load(results: Path, name: str) -> SuiteSnapshot:
    """The snapshot of a suite that has run in this results folder; InputError says why there is none."""
    path = _path(results, name)
    try:
        suite = _parse(files.read(results, path, MAX_BYTES), path, name)
        return suite if _may_read(suite.data_folder) else replace(suite, data_folder="")
    except FileNotFoundError:
        raise InputError(
            f"{path}: the suite {name!r} has not run here. Run it first, or name another --results."
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. Remove it, and run the suite again.") from None


def exists(results: Path, name: str) -> bool:
    """Has a suite of this name run in this results folder?"""
    return records.exists(_path(results, name))


def _parse(text: bytes, path: Path, name: str) -> SuiteSnapshot:
    """The file may come from a stranger: the suite must have its folder's name, or reports would go elsewhere."""
    try:
        content: dict[str, Any] = files.parse_json(text)
        content.pop("signature", None)
        if wrong := next(filter(None, map(run_problem, content["runs"])), ""):
            raise ValueError(wrong)
        numbers = content.get("published", [])
        if wrong := next(filter(None, map(published_problem, numbers)), ""):
            raise ValueError(f"a published number {wrong}")
        read = {
            "runs": tuple(Run.from_dict(run) for run in content["runs"]),
            "published": tuple(Published(**number) for number in numbers),
            "search": searches.from_dict(content.get("search")),
        }
        suite = SuiteSnapshot(**content | read)
        _check(suite, name)
        paths = [records.path_of(path.parents[1], run) for run in suite.runs]
        if again := files.twice(one.stem for one in paths):
            raise ValueError(f"it has the run {again} twice")
        return suite
    except (ValueError, TypeError, KeyError, AttributeError, ResultsError) as error:
        raise InputError(f"{path}: cannot be read: {error}. Run the suite again; finished runs are kept.") from None


def _check(suite: SuiteSnapshot, name: str) -> None:
    if suite.name != name:
        raise ValueError(f"it is of the suite {suite.name!r}")
    if not suite.runs:
        raise ValueError("it has no runs")
    texts = [suite.file, suite.question, suite.baseline, suite.score, suite.text_hash, suite.code, suite.data_dir or ""]
    texts += [suite.data_folder, suite.place]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("its name, file, question, baseline and score and folders must be text")
    if any("\0" in text for text in texts):
        raise ValueError("its texts must not hold NUL, which no path may hold")
    if type(suite.grid_runs) is not int or type(suite.tune_repetitions) is not int:
        raise TypeError("its numbers of runs and repetitions must be whole numbers")
    if suite.grid_runs < 0 or suite.tune_repetitions < 0:
        raise ValueError("its numbers of runs and repetitions must be at least 0")


def require_own_folder(results: Path, suite: SuiteSnapshot) -> None:
    """InputError if the folder of this suite's tables is that of another file; the same text may move."""
    if other_name := _written_otherwise(results, suite.name):
        rule = f"must differ from {other_name!r} in {results} by more than case on this file system"
        raise InputError(f"{suite.file}: name: {rule}. Got {suite.name!r}. Set another `name:` or --results.")
    try:
        other = load(results, suite.name)
    except InputError:  # there is none, or one that is made anew
        return
    moved = other.place != _place(suite.file, results) if other.place else not _same_file(other.file, suite.file)
    if moved and other.text_hash != suite.text_hash:
        rule = f"must not be that of another suite in {results}, whose tables would be overwritten"
        remedy = "Set another `name:` or --results. If this suite has moved and changed, delete"
        remedy += f" {_path(results, suite.name)}."
        raise InputError(f"{suite.file}: name: {rule}. Got {suite.name!r}, of {other.file}. {remedy}")


def _written_otherwise(results: Path, name: str) -> str:
    """The name of a suite whose folder is that of this name too, as it differs in case alone; "" if there is none."""
    for path in files.entries(results, results):
        same = path.name != name and path.name.casefold() == name.casefold() and exists(results, path.name)
        if same and os.path.exists(results / name) and os.path.samefile(path, results / name):
            return path.name
    return ""


def _place(suite_file: str, results: Path) -> str:
    """Stays the same where both are moved together, and where the command runs in another folder."""
    path = os.path.relpath(installation.locate(suite_file).resolve(), results.resolve())
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _same_file(a: str, b: str) -> bool:
    return installation.locate(a).resolve() == installation.locate(b).resolve()


def _may_read(folder: str) -> bool:
    """A stranger's file may name a folder inside the working one; any other only if this user has used it before."""
    return (not Path(folder).is_absolute() and ".." not in folder) or data_hashes.is_known(folder)


def current(
    results: Path, suite_file: Path, data_dir: str | None = None, own_only: bool = True
) -> SuiteSnapshot | None:
    """The stored snapshot of a suite file that has not changed since; with `data_dir`, only if that was given then.

    With `own_only`, it was made by this user and this code.
    """
    try:
        with files.open_regular(installation.locate(suite_file), MAX_BYTES) as file:
            text_hash = hashlib.sha256(file.read()).hexdigest()[:16]
    except OSError:  # no file, which may be the name of a suite, or one that the reader of suites refuses
        return None
    paths = [_path(results, folder.name) for folder in files.entries(results, results)]
    for path in sorted(filter(records.exists, paths), key=lambda path: path.parent.name != suite_file.stem):
        try:
            text = files.read(results, path, MAX_BYTES)
            if own_only and not _is_own(text):
                continue
            suite = _parse(text, path, path.parent.name)
        except OSError as error:
            show(f"{visible(path)}: is not used: {visible(files.reason(error))}.", error=True)
            continue
        except InputError as error:
            show(visible(error), error=True)
            continue
        same_text = suite.text_hash == text_hash and data_dir in (None, suite.data_dir)
        if same_text and (not own_only or suite.code == code_hash()):
            return suite
    return None


def _is_own(text: bytes) -> bool:
    length = len(SIGNATURE % ("0" * 64))
    return hmac.compare_digest(text[:length], (SIGNATURE % seal.of("", text[length:]).hex()).encode())


def code_hash() -> str:
    """Hash of the package, without a user's own plug-ins: another version may make other runs of the same suite."""
    package = Path(__file__).parents[1]
    sources = sorted(package.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def _path(results: Path, name: str) -> Path:
    return results / name / "suite.json"
