"""Rules that need several keys of a suite at once: the data, the labels and the loss of a cell must fit together."""

from pathlib import Path
from typing import Any

from cl_semisup import plugins
from cl_semisup.config.grid import GridValue, Problem
from cl_semisup.data import labels
from cl_semisup.data.images import Facts
from cl_semisup.errors import DataError, InputError, message, stops_process
from cl_semisup.suite.axes import DRAW_KEYS, SUBSAMPLING_KEYS


def build(folder: str, named: dict[str, dict[str, Any]]) -> Any:
    """The plug-in of `{name: settings}`, whose settings are checked."""
    (name, settings) = next(iter(named.items()))
    return plugins.load(folder, name)(**settings)


class CellCheck:
    """Checks the cells of one suite. A broken rule is reported once, at the key that breaks it.

    `notes` gets what is no fault, yet changes what the scores mean.
    """

    def __init__(self, data_dir: str, repetitions: int, problems: list[Problem], notes: list[Problem]):
        self.data_dir, self.repetitions, self.problems, self.notes = data_dir, repetitions, problems, notes
        self.facts: dict[str, Facts | None] = {}
        self.kept_images: dict[str, int] = {}
        self.losses: dict[str, bool] = {}
        self.reported: set[Problem] = set()

    def passes(self, cell: dict[str, GridValue]) -> bool:
        facts = self._facts(cell["datasets"])
        if facts is None:
            return False
        batch, per_class = cell["batch_size"], cell["labels_per_class"]
        if batch.value > facts.train:
            dataset = next(iter(cell["datasets"].value))
            return self._fails(batch, f"must not exceed the data: {dataset} has {facts.train} training images")
        if per_class.value is not None and per_class.value > facts.smallest_class:
            rule = f"must fit every class: the smallest has {facts.smallest_class} training images"
            return self._fails(per_class, rule)
        unlabelled, noisy = cell["unlabelled_classes"], bool(cell["label_noise"].value)
        if facts.classes - (unlabelled.value or 0) < (2 if noisy else 1):
            rule = "leave two classes to confuse" if noisy else "leave a class with labels"
            return self._fails(unlabelled, f"must {rule}: the data have {facts.classes}")
        if batch.value > (kept := self._kept_images(cell, facts)):
            axes = " and ".join(axis for axis in SUBSAMPLING_KEYS if cell[axis].value is not None)
            return self._fails(batch, f"must not exceed the {kept} of {facts.train} training images that {axes} keep")
        probed = [self._probe(name, settings, cell["datasets"]) for name, settings in cell["probes"].value.items()]
        return self._loss(cell["losses"], cell["projector"].value["dim"], facts) and all(probed)

    def _probe(self, name: str, settings: dict[str, Any], own: GridValue) -> bool:
        """The data sets that a probe names beside the run's own must be there, with labels to learn from."""
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
        if all(cell[axis].value is None for axis in SUBSAMPLING_KEYS):
            return facts.train
        run = {axis: cell[axis].value for axis in DRAW_KEYS} | {"dataset": cell["datasets"].value}
        key = repr(run)
        if key not in self.kept_images:
            draws = (labels.of_run(facts.labels(), {**run, "repetition": n}) for n in range(self.repetitions))
            self.kept_images[key] = min(len(draw.indices) for draw in draws)
        return self.kept_images[key]

    def _facts(self, dataset: GridValue) -> Facts | None:
        key = repr(dataset.value)
        if key not in self.facts:
            try:
                facts = self.facts[key] = build("datasets", dataset.value).facts(Path(self.data_dir))
                if facts.untested:
                    self.notes.append(Problem(dataset.path, _untested_note(facts)))
            except DataError as error:
                self.facts[key] = None
                self._add(dataset, str(error))
        return self.facts[key]

    def _loss(self, loss: GridValue, dim: int, facts: Facts) -> bool:
        from cl_semisup import losses

        key = repr((loss.value, dim, facts.classes, facts.labelled > 0))
        if key not in self.losses:
            (name, settings) = next(iter(loss.value.items()))
            try:
                built = losses.build(name, dim=dim, classes=facts.classes, images=facts.train, **settings)
                self.losses[key] = bool(facts.labelled) or not losses.asks(built).needs_labelled_images
                if not self.losses[key]:
                    rule = "needs training images with labels: the data have none"
                    self._add(loss, f"{rule}. Got {name!r}. Label some, or leave the loss out.")
            except InputError as error:
                self.losses[key] = False
                self._add(loss, str(error))
            except BaseException as error:  # a user's own plug-in may raise anything
                if stops_process(error):
                    raise
                self.losses[key] = False
                self._add(loss, f"must be buildable. Got {type(error).__name__}: {message(error)}. Mend the loss.")
        return self.losses[key]

    def _fails(self, value: GridValue, rule: str) -> bool:
        self._add(value, f"{rule}. Got {value.value}. Lower it.")
        return False

    def _add(self, value: GridValue, rule: str) -> None:
        problem = Problem(value.path, rule)
        if problem not in self.reported:
            self.reported.add(problem)
            self.problems.append(problem)


def _untested_note(facts: Facts) -> str:
    named = ", ".join(map(repr, facts.untested[:3])) + (", ..." if len(facts.untested) > 3 else "")
    return f"the test images lack {len(facts.untested)} of {facts.classes} classes ({named}); scores are of the others."
