"""What the commands do, for programs and notebooks: `import cl_semisup as cl`.

cl.evaluate("features.npz")                       scores of stored features, with intervals
cl.evaluate(features, labels, test_fraction=0.2)  the same of arrays or tensors
cl.evaluate_encoder({"vit": {"layers": 2}}, "digits")
cl.run("suite.yaml")                              run a suite, or a mapping with its keys; its leaderboard
cl.leaderboard("suite.yaml")                      the leaderboard again, from the records alone
cl.results("results")                             every record of a folder, a row each
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Interval, MinLen

from cl_semisup.config.arguments import checked, to_yaml_data
from cl_semisup.errors import InputError
from cl_semisup.system import owner
from cl_semisup.system.progress_bar import progress_bar

if TYPE_CHECKING:
    import pandas as pd

    from cl_semisup.scoring.evaluation_result import Evaluation
    from cl_semisup.scoring.feature_file import StoredFeatures
    from cl_semisup.scoring.scored_again import ScoredAgain

Folder = str | Path
Repetitions = Annotated[int, Ge(1)]


@checked
def evaluate(
    features: Any,
    labels: Any = None,
    *,
    test_features: Any = None,
    test_labels: Any = None,
    test_fraction: Annotated[float, Interval(gt=0, lt=1)] | None = None,
    name: Annotated[str, MinLen(1)] = "features",
    budgets: str | Sequence[str] | None = None,
    repetitions: Repetitions = 5,
    dataset: str | None = None,
    data_dir: Folder | None = None,
    device: str = "auto",
    results: Folder | None = None,
    progress: bool = True,
) -> "Evaluation":
    """Score features that are there already, on several draws of the labels of each budget.

    Args:
        features: a file (.npz, .safetensors, .parquet), a list of files, or an array, tensor or data frame (N, F). A
            file may be a network that a suite has kept; the probes of its run are then measured again (`scored_again`)
        labels: with an array: (N,) integers, text, whole floats, or one-hot rows; -1 where unknown
        test_features, test_labels: with arrays: the test part; without one, `test_fraction` of the rows are
        test_fraction: share of each class that becomes the test part of a single matrix; default 0.2
        name: of arrays, for tables and records
        budgets: `"1%"`, `"0.01"` or `"5/class"`; default 1, 5, 10 a class and 1, 10, 100 %, where they make sense
        repetitions: draws of each budget that does not take all labels
        dataset: the name in the seeds of the draws: runs on a data set of this name see the same labels; default
            `features`, and for a kept network its data set
        data_dir, device: of the data and the encoder of a kept network
        results: folder for records; none are written without it
        progress: show a bar

    Raises:
        InputError: what is wrong with the features, the labels or an argument
    """
    from cl_semisup.scoring import feature_file

    arrays = (labels, test_features, test_labels)
    if isinstance(features, str | Path) or _is_paths(features):
        if any(array is not None for array in arrays):
            raise InputError("evaluate: labels and test arrays come with arrays. Got files. Leave them out.")
        paths = [Path(features)] if isinstance(features, str | Path) else [Path(path) for path in features]
        where = (_data_dir(data_dir), device)
        return _evaluate_files(paths, test_fraction, where, budgets, repetitions, dataset, results, progress)
    if labels is None:
        raise InputError("evaluate: labels: must be given with an array of features. Got none. Add them.")
    if (test_features is None) != (test_labels is None):
        raise InputError("evaluate: test_features and test_labels: must come together. Got one. Add the other.")
    if test_features is None:
        stored_arrays = {"features": features, "labels": labels}
    else:
        stored_arrays = {"train": features, "train_labels": labels, "test": test_features, "test_labels": test_labels}
    stored = feature_file.from_arrays(name, stored_arrays, None, test_fraction)
    return _evaluate([stored], budgets, repetitions, dataset or "features", results, progress)


@checked
def evaluate_encoder(
    encoder: Any,
    dataset: Any,
    *,
    data_dir: Folder | None = None,
    device: str = "auto",
    budgets: str | Sequence[str] | None = None,
    repetitions: Repetitions = 5,
    results: Folder | None = None,
    progress: bool = True,
) -> "Evaluation":
    """Score an encoder as it is: its features of a data set, computed once, as `evaluate` scores stored ones.

    Args:
        encoder, dataset: plug-ins as a suite names them, `"digits"` or `{"vit": {"layers": 2}}`
        data_dir: folder of data sets; default `data`
        device: of the encoder: auto, cpu, cuda or mps
        budgets, repetitions, results, progress: as for `evaluate`
    """
    from cl_semisup.config import grid
    from cl_semisup.execution import encoded
    from cl_semisup.execution.execute import choose_device
    from cl_semisup.plugins import PluginField

    named = grid.canonical(Annotated[Any, PluginField("encoders")], encoder, "encoder")
    data = grid.canonical(Annotated[Any, PluginField("datasets")], dataset, "dataset")
    stored = encoded.features_of(named, data, _data_dir(data_dir), choose_device(device))
    return _evaluate([stored], budgets, repetitions, next(iter(data)), results, progress)


def results(folder: Folder = "results") -> "pd.DataFrame":
    """Every record of a results folder, a row each, see `results.all_records.results`."""
    from cl_semisup.results import all_records

    return all_records.results(folder)


@checked
def run(
    suite: Folder | Mapping[Any, Any],
    results: Folder = "results",
    *,
    data_dir: Folder | None = None,
    device: str = "auto",
    workers: Annotated[int, Ge(1)] | None = None,
    redo: Literal["none", "failed", "stale", "all"] = "none",
    plugins: Folder | Sequence[Folder] = (),
) -> "pd.DataFrame":
    """Run a suite's missing runs on this machine and write its report; returns the leaderboard.

    Args:
        suite: a YAML file, or a mapping with the same keys, which is kept as `<results>/<name>/suite.yaml`
        results: folder of records
        data_dir: folder of data sets; overrides the suite's own
        device: cpu, cuda, cuda:1 or mps; default the fastest there is
        workers: runs at once; default one a core; on a GPU as many as are faster together than one
        redo: none, failed, stale or all: which runs are done again
        plugins: files of losses of your own; their code is run

    Raises:
        SuiteError: every problem of the suite; nothing has run then
        ResultsError: the folder cannot be used
    """
    from cl_semisup import plugins as registry
    from cl_semisup import report
    from cl_semisup.engines.local import local_engine
    from cl_semisup.execution import workers as local_workers
    from cl_semisup.execution.execute import choose_device
    from cl_semisup.execution.machine import Machine, default_threads
    from cl_semisup.scheduling import prepare, suite_run
    from cl_semisup.scheduling.rounds import Rounds

    plugin_files = [Path(plugins)] if isinstance(plugins, str | Path) else list(map(Path, plugins))
    for path in plugin_files:
        registry.add(path)
    folder, data = Path(results), None if data_dir is None else str(data_dir)
    file = _suite_file(suite, folder) if isinstance(suite, Mapping) else Path(suite)
    found = suite_run.read(file, data)
    rounds = Rounds(folder, found, data, redo)
    snapshot = rounds.snapshot()
    suite_run.prepare_folder(folder, snapshot)
    if todo := rounds.todo(snapshot):
        requested = list(found.runs) if found.in_rounds else todo
        prepare.datasets(found, requested)
        chosen = choose_device(device)
        processes = local_workers.of(chosen, len(requested), workers)
        machine = Machine(
            device=chosen,
            data_dir=found.data_dir,
            checkpoints=str(folder / "checkpoints"),
            threads=default_threads(chosen, workers=processes.most),
            early_stop=True,
            state_key=owner.key().hex(),
        )
        snapshot = suite_run.execute(folder, found, rounds, local_engine(processes, machine, plugin_files))
    report.make(folder, snapshot)
    return leaderboard(file, folder, data_dir=data)


@checked
def leaderboard(suite: Folder, results: Folder = "results", *, data_dir: Folder | None = None) -> "pd.DataFrame":
    """The leaderboard of a suite's records as they are now, one row a (task, loss); nothing is run or written.

    Args:
        suite: its YAML file, or the name of a suite that has run in this folder
        results: folder of records
        data_dir: folder of data sets; overrides the suite's own
    """
    from cl_semisup.report import export
    from cl_semisup.report.report_data import ReportData
    from cl_semisup.scheduling import suite_run

    snapshot = suite_run.snapshot_of(Path(results), Path(suite), None if data_dir is None else str(data_dir))
    return export.frame(ReportData.read(Path(results), snapshot))


def _suite_file(suite: Mapping[Any, Any], results: Path) -> Path:
    """Keep a suite that is given as a mapping; it is checked before its name becomes that of a folder."""
    from dataclasses import replace

    import yaml

    from cl_semisup.results import records, snapshot
    from cl_semisup.suite import suite as suites

    try:
        text = yaml.safe_dump({"name": "suite"} | to_yaml_data(suite), sort_keys=False, allow_unicode=True)
    except yaml.YAMLError as error:
        raise InputError(
            f"run: a suite must be plain data. Got {error}. Use numbers, text, lists and mappings."
        ) from None
    checked = suites.parse(text, "suite")
    path = results / checked.name / "suite.yaml"
    records.check_writable(results)
    snapshot.require_own_folder(results, replace(snapshot.SuiteSnapshot.of(checked), file=str(path)))
    records.write_text(path, text, results)
    return path


def _evaluate(
    sets: Sequence["StoredFeatures"],
    budgets: str | Sequence[str] | None,
    repetitions: int,
    dataset: str,
    folder: Folder | None,
    progress: bool,
    scored_again: Sequence["ScoredAgain"] = (),
) -> "Evaluation":
    from cl_semisup.execution import memory
    from cl_semisup.execution.environment import environment
    from cl_semisup.results import evaluation_records, records
    from cl_semisup.scoring import draws, inspection, scores
    from cl_semisup.scoring.draw_record import draw_record
    from cl_semisup.scoring.evaluation_result import Evaluation

    if folder is not None:
        records.check_writable(Path(folder))
    named = [budgets] if isinstance(budgets, str) else budgets
    requested = None if named is None else [draws.parse(text) for text in named]
    found = []
    for features in sets:
        drawn = draws.draw_all(features.train_labels, requested, repetitions, dataset)
        warnings = inspection.inspect(features)
        with progress_bar(scores.steps(drawn), progress, desc=features.name, leave=False) as bar:

            def show_step(text: str, bar: Any = bar) -> None:
                bar.set_postfix_str(text)
                bar.update()
                memory.return_freed_memory()  # draws differ in size, and would leave gaps of all sizes

            memory.return_freed_memory()
            found.append(scores.measure(features, drawn, dataset, show_step, warnings))
        for draw in (one for same in found[-1].budgets for one in same) if folder is not None else ():
            record = draw_record(found[-1], draw, dataset, dict(environment()))
            evaluation_records.write(Path(folder), features.name, record)  # type: ignore[arg-type]
    return Evaluation(tuple(found), tuple(scored_again))


def _evaluate_files(
    paths: Sequence[Path], test_fraction: float | None, where: tuple[str, str], budgets: str | Sequence[str] | None,
    repetitions: int, dataset: str | None, results: Folder | None, progress: bool,
) -> "Evaluation":  # fmt: skip
    """Of files of features and of kept networks; `where` is the folder of data sets and the device of the latter."""
    from cl_semisup.execution import kept_scores
    from cl_semisup.execution.execute import choose_device
    from cl_semisup.scoring import feature_file

    sets, again, names = [], [], set()
    for path in paths:
        if kept_scores.is_kept(path):
            found, stored, seed_name = kept_scores.score_again(path, where[0], choose_device(where[1]))
            again.append(found)
        else:
            stored, seed_name = feature_file.read(path, test_fraction), "features"
        sets.append(stored)
        names.add(seed_name)
    named = dataset or (names.pop() if len(names) == 1 else "features")
    return _evaluate(_distinct(sets, paths), budgets, repetitions, named, results, progress, again)


def _data_dir(folder: Folder | None) -> str:
    """The folder of data sets that suites have by default."""
    from cl_semisup.config import grid
    from cl_semisup.suite.axes import SuiteHeader

    return str(folder or grid.defaults(SuiteHeader)["data_dir"])


def _is_paths(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(path, str | Path) for path in value)


def _distinct(sets: "list[StoredFeatures]", paths: Sequence[Path]) -> "list[StoredFeatures]":
    """Names that tell the files apart: the stem, or the path where two stems are equal."""
    from dataclasses import replace

    names = [features.name for features in sets]
    return [
        replace(features, name=str(path)) if names.count(features.name) > 1 else features
        for features, path in zip(sets, paths, strict=True)
    ]
