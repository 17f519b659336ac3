"""Rules that need several keys of a suite at once: the data, the labels and the loss of a cell must fit together."""

from pathlib import Path

from cl_semisup.config.grid import GridValue, Problem
from cl_semisup.data import labels
from cl_semisup.data.images import Facts
from cl_semisup.errors import DataError, InputError, message, stops_process
from cl_semisup.suite import input_check, views
from cl_semisup.suite.axes import DRAW_KEYS, SUBSAMPLING_KEYS
from cl_semisup.suite.input_check import build
from cl_semisup.suite.run import BASIC_VIEW


class CellCheck:
    """Checks the cells of one suite. A broken rule is reported once, at the key that breaks it.

    `notes` gets what is no fault, yet changes what the scores mean.
    """

    def __init__(self, data_dir: str, repetitions: int, problems: list[Problem], notes: list[Problem]):
        self.data_dir, self.repetitions, self.problems, self.notes = data_dir, repetitions, problems, notes
        self.facts: dict[str, Facts | None] = {}
        self.kept_images: dict[str, int] = {}
        self.losses: dict[str, bool] = {}
        self.views: dict[str, bool] = {}
        self.inputs: dict[str, bool] = {}
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
        if not self._views(cell["views"], cell["datasets"], facts) or not self._inputs(cell, facts):
            return False
        return self._loss(cell["losses"], cell["projector"].value["dim"], facts)

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

    def _views(self, chosen: GridValue, dataset: GridValue, facts: Facts) -> bool:
        """Do the views take what the data set holds? A view may also refuse its settings as a whole."""
        key = repr((chosen.value, dataset.value))
        if key not in self.views:
            self.views[key] = True
            own = input_check.default_views(dataset.value, Path(self.data_dir))
            resolved = views.resolve(chosen.value, own)
            for named in resolved if isinstance(resolved, list) else [{BASIC_VIEW: resolved}] if resolved else []:
                (name,) = named
                try:
                    view = build("views", named)
                    inputs, needs_rows = getattr(view, "inputs", "images"), getattr(view, "needs_rows", False)
                except InputError as error:
                    inputs, needs_rows = "any", False
                    self.views[key] = self._fails_view(chosen, str(error))
                if inputs not in ("any", facts.inputs):
                    rule = f"takes {inputs}, and {next(iter(dataset.value))} has {facts.inputs}"
                    self.views[key] = self._fails_view(chosen, f"{rule}. Got {name!r}. Leave it out.")
                elif needs_rows and facts.rows == 1:
                    rule = f"needs several stored rows an image: {next(iter(dataset.value))} has one"
                    self.views[key] = self._fails_view(chosen, f"{rule}. Got {name!r}. Leave it out.")
        return self.views[key]

    def _inputs(self, cell: dict[str, GridValue], facts: Facts) -> bool:
        key = repr([cell[name].value for name in ("datasets", "encoder", "projector", "probes")])
        if key not in self.inputs:
            broken = input_check.broken_rules(cell, facts, Path(self.data_dir))
            self.inputs[key] = not broken
            for value, rule in broken:
                self._add(value, rule)
        return self.inputs[key]

    def _fails_view(self, chosen: GridValue, rule: str) -> bool:
        self._add(chosen, rule)
        return False

    def _loss(self, loss: GridValue, dim: int, facts: Facts) -> bool:
        from cl_semisup import losses

        key = repr((loss.value, dim, facts.classes, facts.labelled > 0, facts.inputs))
        if key not in self.losses:
            (name, settings) = next(iter(loss.value.items()))
            try:
                built = losses.build(name, dim=dim, classes=facts.classes, images=facts.train, **settings)
                self.losses[key] = bool(facts.labelled) or not losses.asks(built).needs_labelled_images
                if not self.losses[key]:
                    rule = "needs training images with labels: the data have none"
                    self._add(loss, f"{rule}. Got {name!r}. Label some, or leave the loss out.")
                if facts.inputs != "images" and "pixels" in losses.asks(built).needs:
                    self.losses[key] = False
                    rule = "changes pixels between black and white: the data have features"
                    self._add(loss, f"{rule}. Got {name!r}. Leave the loss out.")
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
