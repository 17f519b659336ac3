"""Rules that need several keys of a suite at once: the data, the labels and the loss of a cell must fit together."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from cl_semisup import plugins
from cl_semisup.config.grid import GridValue, Problem
from cl_semisup.data import labels, scenario
from cl_semisup.data.images import Facts
from cl_semisup.errors import MAX_NAME_LENGTH, DataError, InputError, cut, described, stops_process
from cl_semisup.suite import cell_notes, encoder_check, input_check, own_validation, views
from cl_semisup.suite.axes import DRAW_KEYS, SUBSAMPLING_KEYS
from cl_semisup.suite.input_check import build
from cl_semisup.suite.run import BASIC_VIEW, Named
from cl_semisup.system import files

FOR_PROBES = {  # what a data set says of itself -> why no run can train on it
    "several_labels": "its images show several classes each, and a run needs one class an image",
    "test_only": "it has test images alone",
}

OF_IMAGES = {  # a need of a loss -> what it does that features have no place for
    "pixels": "changes pixels between black and white",
    "patches": "cuts patches out of images",
}
KEEPS_ALL = (None, "labelled", "all")  # values of axes that leave out no training image


class CellCheck:
    """Checks the cells of one suite. A broken rule is reported once, at the key that breaks it.

    `notes` gets what is no fault, yet changes what the scores mean.
    """

    def __init__(self, data_dir: str, repetitions: int, problems: list[Problem], notes: list[Problem]):
        self.data_dir, self.repetitions, self.problems, self.notes = data_dir, repetitions, problems, notes
        self.facts: dict[str, Facts | None] = {}
        self.kept_images: dict[str, int] = {}
        self.losses: dict[str, bool] = {}
        self.views: dict[str, int | None] = {}
        self.encoders: dict[str, bool] = {}
        self.inputs: dict[str, bool] = {}
        self.reported: set[Problem] = set()

    def passes(self, cell: dict[str, GridValue]) -> bool:
        facts = self._facts(cell["datasets"])
        if facts is None:
            return False
        if own_validation.is_used(cell["datasets"].value):  # nothing is held out
            cell = cell | {"validation": replace(cell["validation"], value="all")}
        batch, per_class = cell["batch_size"], cell["labels_per_class"]
        if batch.value > facts.train:
            dataset = next(iter(cell["datasets"].value))
            return self._fails(batch, f"must not exceed the data: {dataset} has {facts.train} training images")
        held_out = cell["validation"].value == "held_out"
        smallest = facts.smallest_class - (labels.held_out_of(facts.smallest_class) if held_out else 0)
        if per_class.value is not None and per_class.value > smallest:
            rule = f"must fit every class: the smallest has {smallest} training images"
            rule += " beside those held out for validation" if held_out else ""
            return self._fails(per_class, rule)
        unlabelled, noisy = cell["unlabelled_classes"], bool(cell["label_noise"].value)
        if facts.classes - (unlabelled.value or 0) < (2 if noisy else 1):
            rule = "leave two classes to confuse" if noisy else "leave a class with labels"
            return self._fails(unlabelled, f"must {rule}: the data have {facts.classes}")
        if batch.value > (kept := self._kept_images(cell, facts)):
            axes = " and ".join(axis for axis in SUBSAMPLING_KEYS if cell[axis].value not in KEEPS_ALL)
            return self._fails(batch, f"must not exceed the {kept} of {facts.train} training images that {axes} keep")
        if not self._scenario(cell, facts) or not self._foreign(cell, facts):
            return False
        if problem := encoder_check.projector_problem(cell["projector"].value):
            self._add(cell["projector"], problem)
            return False
        probed = [self._probe(name, settings, cell["datasets"]) for name, settings in cell["probes"].value.items()]
        if not self._inputs(cell, facts) or not all(probed):
            return False
        if not self._encoder(cell["encoder"], facts):
            return False
        local_views = self._views(cell["views"], cell["datasets"], facts)
        if local_views is None or not self._loss(cell["losses"], cell["projector"].value["dim"], facts):
            return False
        if local_views:
            self._note_local_views(cell["losses"])
        self.notes += (note for note in cell_notes.notes(cell, facts) if note not in self.notes)
        return True

    def _scenario(self, cell: dict[str, GridValue], facts: Facts) -> bool:
        """Every increment must have a batch of images in every repetition, and clients one each on average."""
        axis, batch = cell["scenario"], cell["batch_size"]
        setting, epochs = axis.value, cell["epochs"].value
        if setting is None:
            return True
        if rule := scenario.problem(setting, epochs):
            self._add(axis, rule)
            return False
        if (setting["increments"] or 0) > facts.classes:
            rule = f"increments: must not exceed the {facts.classes} classes of the data"
            self._add(axis, f"{rule}. Got {setting['increments']}. Lower it.")
            return False
        kept, name = self._kept_images(cell, facts), next(iter(cell["datasets"].value))
        smallest = kept // setting["clients"] if setting["clients"] else kept
        for n in range(self.repetitions if setting["increments"] else 0):
            drawn = self._draw(cell, facts, n)
            own = facts.labels()[drawn.indices]
            smallest = min(smallest, *map(len, scenario.parts(own, facts.classes, scenario.used(setting), name, n)))
        if batch.value > smallest:
            what = "the smallest increment" if setting["increments"] else "a client on average"
            return self._fails(batch, f"must not exceed the {smallest} training images that {what} has")
        return True

    def _draw(self, cell: dict[str, GridValue], facts: Facts, repetition: int) -> labels.Subset:
        run = {axis: cell[axis].value for axis in DRAW_KEYS} | {"dataset": cell["datasets"].value}
        return labels.of_run(facts.labels(), {**run, "repetition": repetition})

    def _encoder(self, encoder: GridValue, facts: Facts) -> bool:
        key = repr((encoder.value, facts.channels, facts.side))
        if key not in self.encoders:
            problem, notes = encoder_check.check(encoder.value, facts.channels, facts.side)
            self.encoders[key] = not problem
            self.notes.extend(Problem(encoder.path, note) for note in notes)
            if problem:
                self._add(encoder, problem)
        return self.encoders[key]

    def _foreign(self, cell: dict[str, GridValue], facts: Facts) -> bool:
        """The other data set must have as many images as any repetition takes of it."""
        axis = cell["unlabelled_from"]
        setting, own = axis.value, next(iter(cell["datasets"].value))
        if setting is None:
            return True
        other = self._facts(GridValue(setting["dataset"], (*axis.path, "dataset")))
        if other is None:
            return False
        if (setting["share"] is None) == (setting["count"] is None):
            got = "neither" if setting["share"] is None else "both"
            self._add(axis, f"needs a share, which is replaced, or a count, which is added. Got {got}. Give one.")
            return False
        if setting["dataset"] == cell["datasets"].value:
            self._add(axis, f"must be another data set than the run's own. Got {own!r}. Name another.")
            return False
        wanted = setting["count"] or math.floor(setting["share"] * facts.train + 0.5)
        if wanted > other.train:
            name = next(iter(setting["dataset"]))
            return self._fails(axis, f"must not take {wanted} images, more than the {other.train} of {name}")
        return True

    def _probe(self, name: str, settings: dict[str, Any], own: GridValue) -> bool:
        """The data sets that a probe names beside the run's own must be there, with labels to learn from."""
        if plugins.class_variable(
            "evaluation", name, "datasets_optional", False
        ):  # the probe leaves it out, and says so
            return True
        passes = True
        for named in settings.get("datasets", []):
            value = GridValue(named, ("probes", name, "datasets"))
            if next(iter(named)) == next(iter(own.value)):
                continue
            facts = self._facts(value)
            if facts and not facts.labelled:
                rule = "needs training images with labels: these data have none"
                self._add(value, f"{rule}. Got {next(iter(named))!r}. Leave them out.")
            passes = passes and facts is not None and facts.labelled > 0
        return passes

    def _kept_images(self, cell: dict[str, GridValue], facts: Facts) -> int:
        """The cell's training images in the repetition that has fewest, by the real draw."""
        if all(cell[axis].value in KEEPS_ALL for axis in SUBSAMPLING_KEYS):
            return facts.train
        key = repr([cell[axis].value for axis in (*DRAW_KEYS, "datasets")])
        if key not in self.kept_images:
            draws = (self._draw(cell, facts, n) for n in range(self.repetitions))
            self.kept_images[key] = min(len(draw.indices) for draw in draws)
        return self.kept_images[key]

    def _facts(self, dataset: GridValue) -> Facts | None:
        key = repr(dataset.value)
        if key not in self.facts:
            try:
                with plugins.plugin_errors("datasets", next(iter(dataset.value))):
                    data_set = build("datasets", dataset.value)
                    for kind, reason in FOR_PROBES.items():
                        if getattr(data_set, kind, False):
                            got = "Got it as the data set of runs. Name it in a probe alone"
                            raise DataError(f"{next(iter(dataset.value))}: {reason}. {got}.")
                    facts = self.facts[key] = data_set.facts(Path(self.data_dir))
                self.notes += [Problem(dataset.path, note) for note in _class_notes(facts)]
            except InputError as error:
                self.facts[key] = None
                for line in error.args:  # one for each offender
                    self._add(dataset, str(line))
            except OSError as error:  # a name that no file system takes, a folder that may not be entered
                self.facts[key] = None
                got = f"Got {files.reason(error)}: {str(error.filename or '')!r:.200}"
                self._add(dataset, f"{next(iter(dataset.value))}: its files must be readable. {got}. Mend the path.")
        return self.facts[key]

    def _views(self, chosen: GridValue, dataset: GridValue, facts: Facts) -> int | None:
        """The number of local views; None if a view does not take what the data set holds, or refuses its settings."""
        key = repr((chosen.value, dataset.value))
        if key not in self.views:
            own = input_check.default_views(dataset.value, Path(self.data_dir))
            resolved = views.resolve(chosen.value, own)
            chain = resolved if isinstance(resolved, list) else [{BASIC_VIEW: resolved}] if resolved else []
            local_views = [self._local_views(view, chosen, dataset, facts) for view in chain]
            self.views[key] = None if None in local_views else sum(filter(None, local_views))
        return self.views[key]

    def _local_views(self, named: Named, chosen: GridValue, dataset: GridValue, facts: Facts) -> int | None:
        """Those that one view asks for; None if it cannot be used."""
        (name,) = named
        try:
            view = build("views", named)
        except InputError as error:
            self._add(chosen, str(error))
            return None
        rule = ""
        if (inputs := getattr(view, "inputs", "images")) not in ("any", facts.inputs):
            rule = f"takes {inputs}, and {next(iter(dataset.value))} has {facts.inputs}"
        elif getattr(view, "needs_rows", False) and facts.rows == 1:
            rule = f"needs several stored rows an image: {next(iter(dataset.value))} has one"
        if rule:
            self._add(chosen, f"{rule}. Got {name!r}. Leave it out.")
            return None
        return int(getattr(view, "local_views", 0))

    def _note_local_views(self, loss: GridValue) -> None:
        from cl_semisup import losses

        (name, settings) = next(iter(loss.value.items()))
        note = Problem(loss.path, f"{name} takes no local views; it trains on the global crops alone.")
        if note not in self.notes:
            built = losses.build(name, dim=2, classes=2, images=2, **settings)  # its needs do not depend on sizes
            if "local_projections" not in losses.requirements_of(built).needs:
                self.notes.append(note)

    def _inputs(self, cell: dict[str, GridValue], facts: Facts) -> bool:
        key = repr([cell[name].value for name in ("datasets", "encoder", "projector", "optimizer", "probes")])
        if key not in self.inputs:
            broken = input_check.broken_rules(cell, facts, Path(self.data_dir))
            self.inputs[key] = not broken
            for value, rule in broken:
                self._add(value, rule)
        return self.inputs[key]

    def _loss(self, loss: GridValue, dim: int, facts: Facts) -> bool:
        from cl_semisup import losses

        key = repr((loss.value, dim, facts.classes, facts.labelled > 0, facts.inputs))
        if key not in self.losses:
            (name, settings) = next(iter(loss.value.items()))
            try:
                built = losses.build(name, dim=dim, classes=facts.classes, images=facts.train, **settings)
                self.losses[key] = bool(facts.labelled) or not losses.requirements_of(built).needs_labelled_images
                if not self.losses[key]:
                    rule = "needs training images with labels: the data have none"
                    self._add(loss, f"{rule}. Got {name!r}. Label some, or leave the loss out.")
                for need, what in OF_IMAGES.items():
                    if facts.inputs != "images" and need in losses.requirements_of(built).needs:
                        self.losses[key] = False
                        self._add(loss, f"{what}: the data have features. Got {name!r}. Leave the loss out.")
            except InputError as error:
                self.losses[key] = False
                self._add(loss, str(error))
            except BaseException as error:  # a user's own plug-in may raise anything
                if stops_process(error):
                    raise
                self.losses[key] = False
                self._add(loss, f"must be buildable. Got {described(error)}. Mend the loss.")
        return self.losses[key]

    def _fails(self, value: GridValue, rule: str) -> bool:
        self._add(value, f"{rule}. Got {value.value}. Lower it.")
        return False

    def _add(self, value: GridValue, rule: str) -> None:
        problem = Problem(value.path, rule)
        if problem not in self.reported:
            self.reported.add(problem)
            self.problems.append(problem)


def _class_notes(facts: Facts) -> list[str]:
    """What is told of classes that one of the two parts lacks."""
    notes = []
    if facts.untested:
        of = _of_classes(facts.untested, facts)
        notes.append(f"the test images lack {of}; scores are of the others.")
    if facts.untrained:
        of = _of_classes(facts.untrained, facts)
        notes.append(f"no training image is labelled with {of}, which test images have: none of these can be right.")
    return notes


def _of_classes(names: tuple[str, ...], facts: Facts) -> str:
    named = ", ".join(cut(repr(name), MAX_NAME_LENGTH) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} of {facts.classes} classes ({named})"
