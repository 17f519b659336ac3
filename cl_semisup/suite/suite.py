"""YAML text -> checked Suite -> list of Runs. Everything is checked before anything runs."""

import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from cl_semisup import plugins
from cl_semisup.config import booleans_meant, grid, yaml_source
from cl_semisup.config.grid import GridValue, Problem
from cl_semisup.config.shown import short
from cl_semisup.config.yaml_source import Source, YamlPath
from cl_semisup.data import scenario
from cl_semisup.errors import SuiteError, unknown
from cl_semisup.suite import cell_check, input_check, own_validation, renamed, views
from cl_semisup.suite import published as published_numbers
from cl_semisup.suite import search as searches
from cl_semisup.suite.axes import Axes, SuiteHeader
from cl_semisup.suite.published import Published
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import Search
from cl_semisup.system import files, installation
from cl_semisup.weights.source import missing_safetensors

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of a folder of results: no path, no hidden file
RESERVED_NAMES = ("records", "checkpoints", "claims")  # folders of results that belong to no suite


@dataclass(frozen=True)
class Suite:
    """A checked suite: its header and all its runs, untrained ones included; those of the full grid of a search."""

    name: str
    file: str
    question: str
    baseline: str
    score: str
    data_dir: str
    download: bool
    keep: str
    text_hash: str
    runs: tuple[Run, ...]
    published: tuple[Published, ...] = ()  # numbers of others that it repeats
    notes: tuple[str, ...] = ()  # old words, cut warm-ups, classes without test images; with their places
    search: Search | None = None  # which of the runs are needed is then decided round by round
    tune_repetitions: int = 0  # the first of them choose configs, which alone run in the others

    @property
    def in_rounds(self) -> bool:
        """Whether finished runs decide which of the runs are needed."""
        return self.search is not None or self.tune_repetitions > 0


def read(path: str | Path, data_dir: str | None = None, with_data: bool = True) -> Suite:
    """Read and check a suite file. SuiteError lists all its problems."""
    return parse(read_text(Path(path)), str(path), data_dir, with_data)


def read_text(path: Path) -> str:
    """The text of a YAML file, or of a suite that comes along and is named; SuiteError if it cannot be read as text."""
    try:
        with io.TextIOWrapper(files.open_regular(installation.locate(path), yaml_source.MAX_BYTES), "utf-8") as file:
            return file.read()
    except FileNotFoundError:
        if path.is_symlink():
            raise SuiteError([f"{path}: must be a file. Got a link to nowhere. Mend or remove it."]) from None
        raise SuiteError(
            [f"{path}: no such file. Suites that come along: {', '.join(installation.suites())}."]
        ) from None
    except UnicodeDecodeError as error:
        raise SuiteError([f"{path}:1:1: must be UTF-8 text. Got byte {error.object[error.start]:#04x}."]) from None
    except OSError as error:
        if os.path.isdir(path):
            raise SuiteError([f"{path}: a suite is a YAML file. Got a folder. Name the file inside it."]) from None
        raise SuiteError([f"{path}: cannot be read: {error.strerror}."]) from None


def parse(text: str, file: str, data_dir: str | None = None, with_data: bool = True) -> Suite:
    """Check a suite's text; `data_dir` overrides the suite's own.

    Without `with_data` its data sets may be missing: what they decide is not checked, and nothing can be trained.
    """
    source = yaml_source.parse(text, file)
    if source.data is None or source.data == {}:
        raise SuiteError([f"{file}:1:1: must not be empty. Got no keys. `init` writes one to start from."])
    if not isinstance(source.data, dict):
        raise SuiteError([f"{file}:1:1: must be a mapping of keys. Got {type(source.data).__name__}."])
    if "descents" in source.data:
        rule = "belongs to the gate: nothing is trained here"
        raise SuiteError(
            [f"{source.where(('descents',), True)}: descents: {rule}. Do `{installation.COMMAND[-1]} gate {file}`."]
        )
    problems: list[Problem] = []
    source, notes = _upgrade(source, problems)
    of_search: list[Problem] = []
    data, search, places = searches.take(source.data, of_search)
    problems += of_search
    source = replace(source, data=data)
    header = _header(source.data, Path(file).stem, problems)
    columns = _columns(source.data, problems)
    published = published_numbers.read(source.data.get("published"), problems)
    repetitions = (header.pop("repetitions") or 0) + (header["tune_repetitions"] or 0)
    header["data_dir"] = data_dir or installation.data_dir(file, header["data_dir"] or "")
    data_notes: list[Problem] = []
    check = cell_check.CellCheck(header["data_dir"], repetitions, problems, data_notes) if with_data else None
    runs = [] if problems else _runs(columns, repetitions, header["data_dir"], problems, check)
    if not problems:
        cells = [run for run in runs if run.repetition == 0]  # the others have the same names
        _check_names(header, cells, problems)
        published_numbers.check(published, _published_of(cells), problems)
        problems += searches.contradictions(search, runs, header["baseline"], header["tune_repetitions"])
    if problems:
        raise SuiteError(_lines(source, searches.settle(problems, of_search, search, places)))
    notes += tuple(_warmup_notes(columns, source))
    text_hash = hashlib.sha256(text.encode()).hexdigest()[:16]
    notes += tuple(_lines(source, data_notes))
    shared: dict[str, Any] = {"published": published, "notes": notes, "search": search}
    return Suite(**header, file=file, text_hash=text_hash, runs=tuple(runs), **shared)


def _upgrade(source: Source, problems: list[Problem]) -> tuple[Source, tuple[str, ...]]:
    """The suite in today's words with the places of its own, and a note for each old word."""
    old_words: set[tuple[tuple[int, int], str, str]] = set()
    for path, position in source.keys.items():
        old, new = path[-1], renamed.upgrade_path(path)[-1]
        if (*path[:-1], new) not in source.keys:
            old_words.add((position, str(old), str(new)))
        elif old != new:
            problems.append(Problem(path, f"is now called {new!r}. Got both. Keep {new!r}.", of_key=True))
    for path, position in source.values.items():
        if [part for part in path if isinstance(part, str)] == ["label_noise", "kind"]:
            old = reduce(getitem, path, source.data)
            if isinstance(old, str) and old in renamed.NOISE_KINDS:
                old_words.add((position, old, renamed.NOISE_KINDS[old]))
    upgraded = replace(
        source,
        data=renamed.upgrade(source.data),
        values={renamed.upgrade_path(path): position for path, position in source.values.items()} | source.values,
        keys={renamed.upgrade_path(path): position for path, position in source.keys.items()} | source.keys,
    )
    notes = (
        f"{source.file}:{line}:{column}: {old!r} is now called {new!r}; the old word still works."
        for (line, column), old, new in sorted(old_words)
    )
    return upgraded, tuple(notes)


def _warmup_notes(columns: Mapping[str, list[GridValue]], source: Source) -> Iterator[str]:
    """A note for each warm-up that the shortest training does not leave room for."""
    epochs = min(value.value for value in columns["epochs"])
    for schedule in columns["schedule"]:
        if (warmup := schedule.value["warmup_epochs"]) > epochs / 2:
            rule = f"a warm-up ends after half of the training, here {epochs / 2:g} of {epochs} epochs"
            path = (*schedule.path, "warmup_epochs")
            yield f"{source.where(path)}: {grid.format_path(path)}: {rule}. Got {warmup:g}."


def _header(data: Mapping[str, Any], stem: str, problems: list[Problem]) -> dict[str, Any]:
    """The fields of SuiteHeader; None where one is wrong."""
    header: dict[str, Any] = dict.fromkeys(grid.annotations(SuiteHeader)) | grid.defaults(SuiteHeader) | {"name": stem}
    descriptions = plugins.field_descriptions(SuiteHeader)
    for key, annotation in grid.annotations(SuiteHeader).items():
        if isinstance(data.get(key), list):
            problems.append(Problem((key,), "must be one value, not a grid. Got a list. Write one value."))
        elif key in data:
            values = grid.expand(data[key], annotation, (key,), problems, descriptions[key])
            header[key] = values[0].value if values else None
        elif key not in grid.defaults(SuiteHeader):
            problems.append(_missing_key(key, descriptions[key]))
    name, data_dir = header["name"], header["data_dir"]
    if isinstance(name, str) and not NAME.fullmatch(name):
        rule = "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit (it names a folder)"
        problems.append(Problem(("name",), f"{rule}. Got {name!r}. Rename it."))
    elif isinstance(name, str) and name.lower() in RESERVED_NAMES:
        rule = f"must not be {', '.join(RESERVED_NAMES)}, which are taken"
        problems.append(Problem(("name",), f"{rule}. Got {name!r}. Rename it."))
    if isinstance(data_dir, str) and (Path(data_dir).is_absolute() or ".." in data_dir):
        rule = "must be a folder inside the one where the command runs, since a suite may come from a stranger"
        problems.append(Problem(("data_dir",), f"{rule}. Got {data_dir!r}. Name any other with --data-dir."))
    return header


def _missing_key(key: str, description: str) -> Problem:
    return Problem((), f"needs {key!r} ({description}). Got nothing. Add '{key}: ...'.")


def _check_names(header: Mapping[str, Any], runs: list[Run], problems: list[Problem]) -> None:
    """The suite must have the baseline among its losses, and every run the score among those of its probes."""
    from cl_semisup import evaluation

    losses = {run.loss_name for run in runs if run.epochs}
    if header["baseline"] and header["baseline"] not in losses:
        problems.append(Problem(("baseline",), f"{unknown('loss of this suite', header['baseline'], losses)}."))
    if header["keep"] != "none" and (problem := missing_safetensors()):
        problems.append(Problem(("keep",), problem))
    for run in runs:
        if input_check.is_frozen(run.encoder) and not (header["score"] or "").startswith(evaluation.PROJECTION):
            encoder = next(iter(run.encoder))
            rule = (
                f"must start with {evaluation.PROJECTION}: {encoder} has no weights, so all losses share its features"
            )
            remedy = "Write `score: projection_linear_top1` and `probes: {linear: {layer: both}}`"
            problems.append(Problem(("score",), f"{rule}. Got {header['score']!r}. {remedy}."))
            return
        scores = {score for name, settings in run.probes.items() for score in evaluation.score_names(name, settings)}
        if header["score"] not in scores:
            problems.append(Problem(("score",), f"{unknown('score', header['score'], scores)}."))
            return


def _loss_settings(run: Run) -> list[str]:
    """`clop(base=dcl)` for each of a loss's settings; of a plug-in its name alone."""
    settings = next(iter(run.loss.values()))
    named = {key: next(iter(value)) if isinstance(value, dict) and value else value for key, value in settings.items()}
    return [f"{run.loss_name}({key}={value})" for key, value in named.items()]


def _published_of(runs: list[Run]) -> dict[str, set[Any]]:
    """What a published number may speak of: the values that the trained runs have."""
    from cl_semisup import evaluation

    trained = [run for run in runs if run.epochs]
    probes = [probe for run in trained for probe in run.probes.items()]
    return {
        "loss": {run.loss_name for run in trained} | {text for run in trained for text in _loss_settings(run)},
        "dataset": {run.dataset_name for run in trained},
        "batch_size": {run.batch_size for run in trained},
        "label_fraction": {run.label_fraction for run in trained},
        "score": {score for name, settings in probes for score in evaluation.score_names(name, settings)},
    }


def _columns(data: Mapping[str, Any], problems: list[Problem]) -> dict[str, list[GridValue]]:
    """Axis -> its values."""
    axes, descriptions, defaults = grid.annotations(Axes), plugins.field_descriptions(Axes), grid.defaults(Axes)
    known = [*axes, "views", "probes", "published", *grid.annotations(SuiteHeader)]
    for key in data:
        if key not in known:
            path: YamlPath = (key,) if isinstance(key, str | int) else ()
            problems.append(Problem(path, f"{unknown('key', key, known)}.", of_key=True, name=str(key)))
    columns: dict[str, list[GridValue]] = {}
    for key, annotation in axes.items():
        if key in data:
            columns[key] = grid.expand(data[key], annotation, (key,), problems, descriptions[key])
        elif key in defaults:
            columns[key] = [GridValue(defaults[key], (key,))]
        else:
            problems.append(_missing_key(key, descriptions[key]))
    if "label_fraction" in data and "labels_per_class" in data:
        rule = "must stand alone: label_fraction says the same. Got both. Keep one."
        problems.append(Problem(("labels_per_class",), rule, of_key=True))
    unused = "label_fraction" if "labels_per_class" in data else "labels_per_class"
    columns[unused] = [GridValue(None, (unused,))]
    columns["views"] = views.expand(data.get("views"), problems)
    columns["probes"] = _probes(data.get("probes"), problems)
    return columns


def _probes(node: Any, problems: list[Problem]) -> list[GridValue]:
    """Every combination of probe settings: of the default probes and of those named, without those set to false.

    A probe of a user's own is never a default: what else is installed or loaded must not change a suite's runs.
    """
    named = {} if node is None else node
    if not isinstance(named, dict):
        rule = f"must be a mapping of probes. Got {short(node)}. Probes: {', '.join(plugins.names('evaluation'))}."
        meant = [name for name in (node if isinstance(node, list) else [node]) if name in plugins.names("evaluation")]
        example = "{name: false} for a default that shall not run, {name: true} for another that shall"
        rule += f" Write {{{', '.join(f'{name}: true' for name in meant)}}}." if meant else f" Write {example}."
        problems.append(Problem(("probes",), rule))
        return []
    for name in named:
        if name not in plugins.paths("evaluation"):
            rule = plugins.unknown("evaluation", name)
            problems.append(Problem(("probes", name), rule, of_key=True, name="probes"))
    named = _by_their_own_names(named, problems)
    axes: list[list[tuple[str, Any]]] = []
    for name in plugins.names("evaluation"):
        settings = named.get(name, _is_default(name))
        if settings is not False:
            plugin = plugins.load("evaluation", name)  # only probes that run: importing all of them takes a second
            settings = {} if settings is True else settings
            advice = booleans_meant.advice(settings, "true", "false") or " Write `true` or `false`." * (settings == [])
            rows = grid.mapping(settings, plugin, ("probes", name), problems, grid.defaults(plugin), advice)
            axes.append([(name, row) for row in rows])
    return [GridValue(dict(row), ("probes",)) for row in grid.combinations(axes, ("probes",), problems)]


def _by_their_own_names(named: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """The probes without those that stand for another one: `transfer: simclr12` is `simclr12: true`."""
    own = dict(named)
    for name, settings in named.items():
        if settings in plugins.names("evaluation") and name == plugins.class_variable(
            "evaluation", settings, "named_by", ""
        ):
            del own[name]
            if settings in own:
                rule = f"must not name {settings} twice. Got it as a probe too. Remove one."
                problems.append(Problem(("probes", name), rule))
            own.setdefault(settings, True)
    return own


def _is_default(probe: str) -> bool:
    own = plugins.is_users_own("evaluation", probe)
    return not own and bool(plugins.class_variable("evaluation", probe, "default", True))


def _runs(
    columns: dict[str, list[GridValue]],
    repetitions: int,
    data_dir: str,
    problems: list[Problem],
    check: cell_check.CellCheck | None,
) -> list[Run]:
    """All repetitions of every cell, each checked as a whole, after those of the untrained networks."""
    cells: list[dict[str, Any]] = []
    for row in grid.combinations(list(columns.values()), (), problems, times=repetitions):
        cell = own_validation.resolved(dict(zip(columns, row, strict=True)), problems)
        if cell is not None and (check is None or check.passes(cell)):
            values = {key: value.value for key, value in cell.items()}
            values["validation"] = None if values["validation"] == "all" else values["validation"]
            values["scenario"] = scenario.used(values["scenario"]) if values["scenario"] else None
            dataset, loss = values.pop("datasets"), values.pop("losses")
            with plugins.plugin_errors("datasets", next(iter(dataset))):
                own = input_check.default_views(dataset, Path(data_dir), with_data=check is not None)
            values["views"] = views.resolve(values["views"], own)
            cells.append({**values, "dataset": dataset, "loss": loss})
    trained = {run.id: run for run in (Run(**cell, repetition=0) for cell in cells)}  # different views may be equal
    trained = {run.id: run for one in trained.values() for run in (one.joint(), one)}
    untrained = {run.id: run for run in (run.untrained() for run in trained.values())}
    kinds = (untrained.values(), trained.values())
    return [replace(run, repetition=n) for kind in kinds for n in range(repetitions) for run in kind]


def _lines(source: Source, problems: list[Problem]) -> list[str]:
    """`file:line:column: path: rule`, in the order of the file."""

    def position(problem: Problem) -> tuple[int, int]:
        line, column = source.where(problem.path, problem.of_key).rsplit(":", 2)[1:]
        return int(line), int(column)

    ordered = sorted(dict.fromkeys(problems), key=position)
    return [f"{source.where(problem.path, problem.of_key)}: {problem.text}" for problem in ordered]
