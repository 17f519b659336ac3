"""What every record of today's form holds, so that nothing that could be checked is left out of a submission.

A record says its form, its `schema`. Earlier forms need not hold all of this, so they are refused: an old record looks
like one whose telling parts were removed. What only some runs have (facts of a probe, a plot of prototypes) must
be in all runs of a config or in none.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from cl_semisup.results import right_images
from cl_semisup.results.records import SCHEMA, Record
from cl_semisup.suite.run import Run

OF_ALL = {
    "": ("started_at", "finished_at"),
    "resolved": ("device", "precision", "classes", "train_images", "labelled_images", "label_set"),
    "versions": ("package", "python", "torch", "machine", "commit", "clean", "data"),
    "cost": ("peak_memory_bytes",),
}
OF_TRAINED = {"resolved": ("effective_learning_rate", "steps")}
OF_MEASURED = {"cost": ("evaluation_seconds",), "curves": ("singular_values", "picture")}  # ended ok or collapsed
OF_TRAINED_AND_MEASURED = {"cost": ("train_seconds", "images_per_second", "trained_for")}
RULES = {"resolved": "facts", "versions": "facts", "": "cost", "cost": "cost", "curves": "curves"}
COUNTED = ("knn_top1", "linear_top1")  # shares of test images, with a bit for each that is right
OF_SOME: dict[str, tuple[str, ...]] = {  # part: what a run may lack although its config gives it
    "cost": (
        "resumed",
        "cpu_joules",
        "gpu_joules",
        "energy_joules",
        "co2_kg",
        "grams_co2_per_kwh",
    ),  # where a machine tells
    "diagnostics": (),
    "scores": (),
    "curves": (),
}


def problems(run: Run, record: Record, curves: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(rule, what is wrong) with a run that has not failed."""
    if (schema := record["schema"]) != SCHEMA:
        what = f"it was recorded in form {schema}, which need not hold what is checked, and today's is {SCHEMA}"
        yield "records", f"{what}. Run it again with this version"
        return
    measured = record["status"] in ("ok", "collapsed")
    wanted: list[Mapping[str, tuple[str, ...]]] = [
        OF_ALL,
        *([OF_TRAINED] if run.epochs else []),
        *([OF_MEASURED] if measured else []),
    ]
    wanted += [OF_TRAINED_AND_MEASURED] if run.epochs and measured else []
    for names in wanted:
        for part, members in names.items():
            there = record if not part else curves if part == "curves" else record[part]
            for name in members:
                if name not in there or there[name] is None:
                    yield RULES[part], f"{f'{part}.' if part else ''}{name} is missing"
    if measured:
        yield from _counted(record, curves)
        yield from _plot(curves)


def _counted(record: Record, curves: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every accuracy on test images says which of them are right."""
    for name in record["scores"]:
        plain = name.removeprefix("projection_").removesuffix("_labelled")
        if plain in COUNTED and right_images.unpack(curves.get("right"), name) is None:
            yield "scores", f"{name}: which test images are right is missing"


def _plot(curves: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The embedding plot has a place and a label for each of its images."""
    plot, spectrum = curves.get("picture"), curves.get("singular_values")
    if plot is None:
        return
    columns = [plot.get(name) if isinstance(plot, dict) else None for name in ("x", "y", "label")]
    one_direction = isinstance(spectrum, list) and len(spectrum) == 1
    shown = [column for column in columns if not (one_direction and column == [])]
    if not all(isinstance(column, list) and column for column in shown) or len(set(map(len, shown))) > 1:  # type: ignore[arg-type]
        yield "curves", "the embedding plot has no place and label for each of its images"


class Configs:
    """The runs of each config that ended ok, and which members they have."""

    def __init__(self) -> None:
        self._runs: dict[str, list[tuple[Run, dict[str, set[str]]]]] = defaultdict(list)

    def add(self, run: Run, record: Record, curves: Mapping[str, Any]) -> None:
        if record["status"] == "ok":
            names = {part: {*record[part]} - {*OF_SOME[part]} for part in ("cost", "diagnostics", "scores")}
            key = repr({name: value for name, value in run.settings().items() if name != "repetition"})
            self._runs[key].append((run, names | {"curves": set(curves)}))

    def left_out(self) -> Iterator[tuple[Run, str, str]]:
        """(run, rule, text): what at least half of the runs of a config have and this one has not."""
        for runs in self._runs.values():
            for part in OF_SOME:
                counts = Counter(name for _, names in runs for name in names[part])
                usual = {name for name, count in counts.items() if 2 * count >= len(runs)}
                for run, names in runs:
                    for name in sorted(usual - names[part]):
                        yield run, part, f"{part}.{name} is missing, and other repetitions have it"
