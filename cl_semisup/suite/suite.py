"""YAML text -> checked Suite -> list of Runs. Everything is checked before anything runs."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Interval, MinLen

from cl_semisup import plugins
from cl_semisup.config import grid, yaml_source
from cl_semisup.config.grid import Fault, Option, Place
from cl_semisup.config.yaml_source import Source
from cl_semisup.data import labels
from cl_semisup.data.images import Facts
from cl_semisup.data.settings import Imbalance, LabelFraction, LabelNoise, UnlabelledRatio, Views
from cl_semisup.errors import DataError, InputError, SuiteError, unknown
from cl_semisup.plugins import Choice
from cl_semisup.suite.run import Run
from cl_semisup.suite.settings import LearningRate, Projector, Repetitions, Schedule

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # a folder of results: no path, no hidden file
TAKEN = ("records", "checkpoints", "claims")  # folders of results that are no suite's


@dataclass(frozen=True)
class About:
    """What a suite says of itself; one value each.

    Args:
        question: what the suite asks, in a sentence
        name: its folder of results; the file's stem unless given
        baseline: the loss that differences are taken to, by its name in `losses`
        score: the score that orders the leaderboard
        repetitions: paired repetitions of every cell, each with its own labels, first weights and views
        data_dir: folder of data sets, relative to where the command runs
        download: fetch a missing data set
    """

    question: Annotated[str, MinLen(1)]
    name: str = ""
    baseline: str = ""
    score: str = "linear_top1"
    repetitions: Repetitions = 3
    data_dir: str = "data"
    download: bool = False


@dataclass(frozen=True)
class Cells:
    """What a suite varies; every list is a grid.

    Args:
        datasets: data sets
        losses: losses, each a name or one name with its settings
        encoder: the network before the projector
        label_fraction: share of each class that has labels, at least one image a class
        labels_per_class: labelled images of each class; instead of label_fraction
        imbalance: long tail of the classes, in labels and images, or none
        unlabelled_imbalance: the same of the images alone; imbalance then shapes the labels
        unlabelled_ratio: at most so many unlabelled images for each labelled one, or none to keep all
        unseen_classes: classes without any label, drawn for each repetition
        label_noise: wrong labels, or none
        learning_rate: before the scaling rule of `schedule`
        batch_size: images a step, each in two views
        epochs: passes over the training images
        optimizer: what moves the weights
        schedule: how the learning rate is scaled and moves
        projector: the head between features and loss
        precision: arithmetic of the network; auto is bfloat16 on a GPU and float32 elsewhere. Losses use float32
    """

    datasets: Annotated[Any, Choice("datasets")]
    losses: Annotated[Any, Choice("losses")]
    learning_rate: LearningRate
    batch_size: Annotated[int, Interval(ge=2, le=1_000_000)]
    epochs: Annotated[int, Interval(ge=1, le=100_000)]
    encoder: Annotated[Any, Choice("encoders")] = "convnet"
    label_fraction: LabelFraction = 1.0
    labels_per_class: Annotated[int, Interval(ge=1)] = 1
    imbalance: Imbalance | None = None
    unlabelled_imbalance: Imbalance | None = None
    unlabelled_ratio: UnlabelledRatio | None = None
    unseen_classes: Annotated[int, Interval(ge=1)] | None = None
    label_noise: LabelNoise | None = None
    optimizer: Annotated[Any, Choice("optimizers")] = "sgd"
    schedule: Schedule = Schedule()
    projector: Projector = Projector()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


DROPPING = ("imbalance", "unlabelled_imbalance", "unlabelled_ratio")  # what leaves out training images
DRAWN = (*DROPPING, "label_fraction", "labels_per_class", "unseen_classes")  # what decides which
VIEWS = "changes to the data set's own views"
EVALUATION = "probes: settings by name, or false to leave a default probe out"


@dataclass(frozen=True)
class Suite:
    """A checked suite: its question and every run that answers it, floor runs included."""

    name: str
    file: str
    question: str
    baseline: str
    score: str
    data_dir: str
    download: bool
    text_hash: str
    runs: tuple[Run, ...]


def read(path: str | Path, data_dir: str | None = None) -> Suite:
    """Read and check a suite file. A fault of any kind is a SuiteError, which lists all of them."""
    path = Path(path)
    if path.is_dir():
        raise SuiteError([f"{path}: a suite is a YAML file. Got a folder. Name the file inside it."])
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise SuiteError([f"{path}: no such file. Suites that come along: {_shipped()}."]) from None
    except UnicodeDecodeError as error:
        raise SuiteError([f"{path}:1:1: must be UTF-8 text. Got byte {error.object[error.start]:#04x}."]) from None
    except OSError as error:
        raise SuiteError([f"{path}: cannot be read: {error.strerror}."]) from None
    return parse(text, str(path), data_dir)


def parse(text: str, file: str, data_dir: str | None = None) -> Suite:
    """Check a suite's text; `data_dir` overrides the suite's own."""
    source = yaml_source.parse(text, file)
    if source.data is None or source.data == {}:
        raise SuiteError([f"{file}:1:1: must not be empty. Got no keys. Start from suites/quickstart.yaml."])
    if not isinstance(source.data, dict):
        raise SuiteError([f"{file}:1:1: must be a mapping of keys. Got {type(source.data).__name__}."])
    if "descents" in source.data:
        rule = "belongs to the gate: nothing is trained here"
        raise SuiteError([f"{source.where(('descents',), True)}: descents: {rule}. Do `benchmark.py gate {file}`."])
    faults: list[Fault] = []
    about = _about(source.data, Path(file).stem, faults)
    columns = _columns(source.data, faults)
    runs = [] if faults else _runs(columns, about["repetitions"], data_dir or about["data_dir"], faults)
    if not faults:
        _check_names(about, runs, faults)
    if faults:
        raise SuiteError(_lines(source, faults))
    return Suite(
        name=about["name"],
        file=file,
        question=about["question"],
        baseline=about["baseline"],
        score=about["score"],
        data_dir=data_dir or about["data_dir"],
        download=about["download"],
        text_hash=hashlib.sha256(text.encode()).hexdigest()[:16],
        runs=tuple(runs),
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of a suite file, for editors. The checks here are stricter: they also see cells as a whole."""
    collected = grid.Schema()
    found = collected.mapping(Cells)
    about, means = grid.annotations(About), plugins.meanings(About)
    for key, annotation in about.items():
        found["properties"][key] = {"description": means[key], **grid.Schema().grid(annotation)["anyOf"][0]}
    views = collected.mapping(Views)
    for prop in views["properties"].values():
        prop.pop("default")  # the data set decides
    found["properties"]["views"] = {"description": VIEWS, "anyOf": [views, {"type": "array", "items": views}]}
    probes = {}
    for name in plugins.names("evaluation"):
        inside = collected.mapping(plugins.load("evaluation", name))
        collected.definitions[f"evaluation.{name}"] = inside
        probes[name] = {
            "description": plugins.summary("evaluation", name),
            "anyOf": [{"$ref": f"#/$defs/evaluation.{name}"}, {"type": "boolean"}, {"type": "null"}],
        }
    probe_mapping = {"type": "object", "properties": probes, "additionalProperties": False}
    found["properties"]["evaluation"] = {"description": EVALUATION, **probe_mapping}
    found["required"] = sorted({*found["required"], "question"})
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "cl_semisup suite"}
    return {**head, **found, "$defs": dict(sorted(collected.definitions.items()))}


def _about(data: Mapping[str, Any], stem: str, faults: list[Fault]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": stem}
    annotations, means, filled = grid.annotations(About), plugins.meanings(About), grid.defaults(About)
    for key in annotations:
        if isinstance(data.get(key), list):
            faults.append(Fault((key,), f"{key}: must be one value, not a grid. Got a list. Write one value."))
        elif key in data:
            options = grid.options(data[key], annotations[key], (key,), faults, means[key])
            found[key] = options[0].value if options else None
        elif key in filled:
            found.setdefault(key, filled[key])
        else:
            faults.append(Fault((), f"suite: needs {key!r} ({means[key]}). Got nothing. Add '{key}: ...'."))
    if isinstance(found["name"], str) and not NAME.fullmatch(found["name"]):
        rule = "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
        faults.append(Fault(("name",), f"name: {rule} (it names a folder). Got {found['name']!r}. Rename it."))
    elif isinstance(found["name"], str) and found["name"].lower() in TAKEN:
        rule = f"must not be {', '.join(TAKEN)}, which are taken"
        faults.append(Fault(("name",), f"name: {rule}. Got {found['name']!r}. Rename it."))
    if isinstance(found.get("data_dir"), str) and (Path(found["data_dir"]).is_absolute() or ".." in found["data_dir"]):
        rule = "must be a folder inside the one where the command runs, since a suite may come from a stranger"
        faults.append(
            Fault(("data_dir",), f"data_dir: {rule}. Got {found['data_dir']!r}. Name any other with --data-dir.")
        )
    return found


def _check_names(about: Mapping[str, Any], runs: list[Run], faults: list[Fault]) -> None:
    """The baseline must be among the losses, the score among what the probes of every cell give."""
    from cl_semisup import evaluation

    losses = {run.cell[1] for run in runs if run.epochs}
    if about["baseline"] and about["baseline"] not in losses:
        faults.append(Fault(("baseline",), f"baseline: {unknown('loss of this suite', about['baseline'], losses)}."))
    for run in runs:
        scores = {
            score for name, settings in run.evaluation.items() for score in evaluation.score_names(name, settings)
        }
        if about["score"] not in scores:
            faults.append(Fault(("score",), f"score: {unknown('score', about['score'], scores)}."))
            return


def _columns(data: Mapping[str, Any], faults: list[Fault]) -> dict[str, list[Option]]:
    """Key -> all options of that axis of the grid."""
    annotations, means, filled = grid.annotations(Cells), plugins.meanings(Cells), grid.defaults(Cells)
    known = [*annotations, "views", "evaluation", *grid.annotations(About)]
    for key in data:
        if key not in known:
            place: Place = (key,) if isinstance(key, str | int) else ()
            faults.append(Fault(place, f"{key}: {unknown('key', key, known)}.", of_key=True))
    columns: dict[str, list[Option]] = {}
    for key, annotation in annotations.items():
        if key in data:
            columns[key] = grid.options(data[key], annotation, (key,), faults, means[key])
        elif key in filled:
            columns[key] = [Option(filled[key], (key,))]
        else:
            faults.append(Fault((), f"suite: needs {key!r} ({means[key]}). Got nothing. Add '{key}: ...'."))
    if "label_fraction" in data and "labels_per_class" in data:
        text = "must stand alone: label_fraction says the same. Got both. Keep one."
        faults.append(Fault(("labels_per_class",), f"labels_per_class: {text}", of_key=True))
    unasked = "label_fraction" if "labels_per_class" in data else "labels_per_class"
    columns[unasked] = [Option(None, (unasked,))]
    columns["views"] = _views(data.get("views"), faults)
    columns["evaluation"] = _evaluation(data.get("evaluation"), faults)
    return columns


def _views(node: Any, faults: list[Fault]) -> list[Option]:
    """Only what the suite says; the data set's own views fill the rest, cell by cell."""
    members = list(enumerate(node)) if isinstance(node, list) else [(None, node)]
    if not members:
        faults.append(Fault(("views",), "views: must not be an empty list. Got []. Give at least one value."))
    found = []
    for index, member in members:
        place: Place = ("views",) if index is None else ("views", index)
        found += [Option(value, place) for value in grid.mapping(member, Views, place, faults, {})]
    return found


def _evaluation(node: Any, faults: list[Fault]) -> list[Option]:
    """Every combination of probe settings: the default probes, those added by name, less those set to false."""
    asked = {} if node is None else node
    if not isinstance(asked, dict):
        text = f"must be a mapping of probes. Got {node!r}. Probes: {', '.join(plugins.names('evaluation'))}."
        faults.append(Fault(("evaluation",), f"evaluation: {text}"))
        return []
    for name in asked:
        if name not in plugins.paths("evaluation"):
            text = unknown("probe", name, plugins.names("evaluation"))
            faults.append(Fault(("evaluation", name), f"evaluation: {text}.", of_key=True))
    axes: list[list[tuple[str, Any]]] = []
    for name in plugins.names("evaluation"):
        settings = asked[name] if name in asked else plugins.declared("evaluation", name, "default", True)
        if settings is not False:
            plugin = plugins.load("evaluation", name)  # those that run: importing every probe takes a second
            settings = {} if settings is True else settings
            rows = grid.mapping(settings, plugin, ("evaluation", name), faults, grid.defaults(plugin))
            axes.append([(name, row) for row in rows])
    return [Option(dict(row), ("evaluation",)) for row in grid.combinations(axes, ("evaluation",), faults)]


def _runs(columns: dict[str, list[Option]], repetitions: int, data_dir: str, faults: list[Fault]) -> list[Run]:
    """Every cell of the grid, checked as a whole, once a repetition, and the untrained floors that go with them."""
    check = _CellCheck(data_dir, repetitions, faults)
    keys = list(columns)
    cells: list[dict[str, Any]] = []
    for row in grid.combinations(list(columns.values()), (), faults, times=repetitions):
        cell = dict(zip(keys, row, strict=True))
        if check.passes(cell):
            values = {key: option.value for key, option in cell.items()}
            dataset, loss = values.pop("datasets"), values.pop("losses")
            wanted, off = _plugin("datasets", dataset).views | values["views"], grid.defaults(Views)
            views = {key: value for key, value in sorted(wanted.items()) if value != off[key]}  # off leaves no trace
            cells.append({**values, "dataset": dataset, "loss": loss, "views": views})
    first = [Run(**cell, repetition=0) for cell in cells]
    floors = {floor.id: floor for floor in (run.floor() for run in first)}
    unique = {run.id: run for run in first}  # two ways to write the same views are one question
    kinds = (floors.values(), unique.values())
    return [replace(run, repetition=n) for kind in kinds for n in range(repetitions) for run in kind]


class _CellCheck:
    """Rules that need several keys at once. A fault is told once, at the key that breaks the rule."""

    def __init__(self, data_dir: str, repetitions: int, faults: list[Fault]):
        self.data_dir, self.repetitions, self.faults = data_dir, repetitions, faults
        self.facts: dict[str, Facts | None] = {}
        self.kept: dict[str, int] = {}
        self.losses: dict[str, bool] = {}

    def passes(self, cell: dict[str, Option]) -> bool:
        facts = self._facts(cell["datasets"])
        if facts is None:
            return False
        batch, per_class = cell["batch_size"], cell["labels_per_class"]
        if batch.value > facts.train:
            data = next(iter(cell["datasets"].value))
            text = f"must not exceed the data: {data} has {facts.train} training images"
            self._fault(batch, f"{text}. Got {batch.value}. Lower it.")
            return False
        if per_class.value is not None and per_class.value > facts.smallest_class:
            text = f"must fit every class: the smallest has {facts.smallest_class} training images"
            self._fault(per_class, f"{text}. Got {per_class.value}. Lower it.")
            return False
        unseen = cell["unseen_classes"]
        seen = facts.classes - (unseen.value or 0)
        if seen < (2 if cell["label_noise"].value else 1):
            rule = "leave two classes to confuse" if cell["label_noise"].value else "leave a class with labels"
            self._fault(unseen, f"must {rule}: the data have {facts.classes}. Got {unseen.value}. Lower it.")
            return False
        if batch.value > (kept := self._kept(cell, facts)):
            axes = " and ".join(axis for axis in DROPPING if cell[axis].value is not None)
            rule = f"must not exceed the {kept} of {facts.train} training images that {axes} keep"
            self._fault(batch, f"{rule}. Got {batch.value}. Lower it.")
            return False
        return self._loss(cell["losses"], cell["projector"].value["dim"], facts)

    def _kept(self, cell: dict[str, Option], facts: Facts) -> int:
        """The training images of a cell, in the repetition that has fewest: the draw itself, of as many labels."""
        if all(cell[axis].value is None for axis in DROPPING):
            return facts.train
        asked = {axis: cell[axis].value for axis in DRAWN}
        run = {**asked, "dataset": cell["datasets"].value}
        key = repr(run)
        if key not in self.kept:
            drawn = (labels.of_run(facts.labels(), {**run, "repetition": n}) for n in range(self.repetitions))
            self.kept[key] = min(len(each.indices) for each in drawn)
        return self.kept[key]

    def _facts(self, option: Option) -> Facts | None:
        key = repr(option.value)
        if key not in self.facts:
            try:
                self.facts[key] = _plugin("datasets", option.value).facts(Path(self.data_dir))
            except DataError as error:
                self.facts[key] = None
                self._fault(option, str(error))
        return self.facts[key]

    def _loss(self, option: Option, dim: int, facts: Facts) -> bool:
        from cl_semisup import losses

        key = repr((option.value, dim, facts.classes))
        if key not in self.losses:
            (name, params) = next(iter(option.value.items()))
            try:
                losses.build(name, dim=dim, classes=facts.classes, images=facts.train, **params)
                self.losses[key] = True
            except InputError as error:
                self.losses[key] = False
                self._fault(option, str(error))
        return self.losses[key]

    def _fault(self, option: Option, text: str) -> None:
        fault = Fault(option.place, f"{grid.written(option.place)}: {text}")
        if fault not in self.faults:
            self.faults.append(fault)


def _plugin(folder: str, named: dict[str, dict[str, Any]]) -> Any:
    (name, params) = next(iter(named.items()))
    return plugins.load(folder, name)(**params)


def _lines(source: Source, faults: list[Fault]) -> list[str]:
    """`file:line:column: place: text`, in the order of the file."""

    def spot(fault: Fault) -> tuple[int, int]:
        line, column = source.where(fault.place, fault.of_key).rsplit(":", 2)[1:]
        return int(line), int(column)

    ordered = sorted(dict.fromkeys(faults), key=spot)
    return [f"{source.where(fault.place, fault.of_key)}: {fault.text}" for fault in ordered]


def _shipped() -> str:
    folder = Path(__file__).parents[2] / "suites"
    return ", ".join(f"suites/{path.relative_to(folder)}" for path in sorted(folder.rglob("*.yaml"))) or "none"
