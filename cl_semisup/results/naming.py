"""Names of data sets, losses, tasks and configs in tables: a name has only the settings that differ between runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cl_semisup.suite.run import BASIC_VIEW, UNTRAINED, Run
from cl_semisup.suite.settings import Projector

# fields of a run that tables show by themselves; a task's name has the other settings that differ
SHOWN_FIELDS = {"dataset", "label_fraction", "labels_per_class", "loss", "repetition"}
SHOWN_FIELDS |= {"learning_rate", "batch_size", "optimizer", "schedule"}


class RunNames:
    """The names of a set of runs."""

    def __init__(self, runs: Sequence[Run]):
        self.settings = {run.id: flatten(_other_settings(run)) for run in runs}
        trained = [run for run in runs if run.epochs]
        by_dataset: dict[str, list[dict[str, Any]]] = {}
        for run in trained:
            by_dataset.setdefault(repr(run.dataset), []).append(self.settings[run.id])
        # compared within a data set: each has default views of its own, which no name needs
        self.varied_keys = {dataset: varied_keys(settings) for dataset, settings in by_dataset.items()}
        self.datasets, self.losses = _plugin_names(runs, "dataset"), _plugin_names(runs, "loss")
        self.optimizers = _plugin_names(trained, "optimizer")
        self.schedule_keys = varied_keys([run.schedule or {} for run in trained])
        self.tasks_by_floor: dict[str, dict[str, None]] = {}
        for run in trained:
            self.tasks_by_floor.setdefault(self._task(run, without="epochs"), {})[self._task(run)] = None

    def tasks(self, run: Run) -> list[str]:
        """The task of a run; an untrained run is on the boards of all numbers of epochs."""
        return [self._task(run)] if run.epochs else sorted(self.tasks_by_floor.get(self._task(run, "epochs"), {}))

    def config(self, run: Run) -> str:
        """What a loss is tuned over, without what all runs share."""
        if not run.epochs:
            return UNTRAINED
        parts = [f"lr {run.learning_rate:g}", f"batch {run.batch_size}"]
        if len(set(self.optimizers.values())) > 1:
            parts.append(self.optimizers[run.id])
        return ", ".join(parts + [f"{key} {(run.schedule or {})[key]}" for key in self.schedule_keys])

    def _task(self, run: Run, without: str = "") -> str:
        settings, keys = self.settings[run.id], self.varied_keys.get(repr(run.dataset), ())
        varied = [f"{key}={settings.get(key)}" for key in keys if key != without]
        return ", ".join([self.datasets[run.id], f"labels {budget(run)}", *varied])


def budget(run: Run) -> str:
    """The label budget in words: `2%` of each class, or `4/class`."""
    return f"{100 * run.label_fraction:g}%" if run.label_fraction is not None else f"{run.labels_per_class}/class"


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"base": {"nt_xent": {"temperature": 0.5}}} -> {"base": "nt_xent", "base.nt_xent.temperature": 0.5}"""
    flat: dict[str, Any] = {}
    for key, child in value.items():
        name = f"{prefix}{key}"
        if not isinstance(child, Mapping):
            flat[name] = child
            continue
        if len(child) == 1 and isinstance(next(iter(child.values())), Mapping):
            flat[name] = next(iter(child))
        flat |= flatten(child, f"{name}.")
    return flat


def varied_keys(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys whose value is not the same everywhere."""
    keys = dict.fromkeys(key for one in settings for key in one)
    return sorted(key for key in keys if len({repr(one.get(key)) for one in settings}) > 1)


def _other_settings(run: Run) -> dict[str, Any]:
    settings = {key: getattr(run, key) for key in Run.__dataclass_fields__ if key not in SHOWN_FIELDS}
    views = {"chain": " + ".join(run.view_names)} | _settings_of_views(run)
    settings["projector"] = asdict(Projector()) | run.projector  # a run leaves out what came later
    settings["validation"] = run.validated_by
    return {key: value for key, value in settings.items() if value is not None} | {"views": views}


def _settings_of_views(run: Run) -> dict[str, Any]:
    """Settings of the basic recipe as they are, those of other views below their names."""
    if not isinstance(run.views, list):
        return run.views or {}
    chain = {name: settings for view in run.views for name, settings in view.items()}
    return chain.pop(BASIC_VIEW, {}) | chain


def _plugin_names(runs: Iterable[Run], key: str) -> dict[str, str]:
    """Run id -> the plug-in's name with the settings that differ from other plug-ins of the same name."""
    settings: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        (name, params) = next(iter(getattr(run, key).items()))
        settings.setdefault(name, {})[run.id] = flatten(params)
    names: dict[str, str] = {}
    for name, by_run in settings.items():
        varied = varied_keys(list(by_run.values()))
        needed = _without_implied(varied, list(by_run.values()))
        short = {run_id: _with_settings(name, flat, needed) for run_id, flat in by_run.items()}
        distinct = len(set(short.values())) == len({repr(flat) for flat in by_run.values()})
        names |= short if distinct else {run_id: _with_settings(name, flat, varied) for run_id, flat in by_run.items()}
    return names


def _without_implied(varied: Iterable[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Without a base's settings that are the same wherever this base occurs: the base's name implies them."""
    values = {key: {repr(flat[key]) for flat in settings if key in flat} for key in varied}
    return [key for key in varied if "." not in key or len(values[key]) > 1]


def _with_settings(name: str, flat: Mapping[str, Any], keys: Iterable[str]) -> str:
    """`clop(weight=0.5)`"""
    values = {key: flat[key] for key in keys if key in flat}
    text = ", ".join(f"{k}={value:g}" if isinstance(value, float) else f"{k}={value}" for k, value in values.items())
    return f"{name}({text})" if text else name
