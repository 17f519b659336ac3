"""The evaluation protocol of a run and its hash: rows with different fingerprints are never ranked together."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cl_semisup import plugins
from cl_semisup.results.data_hashes import DataHashes
from cl_semisup.suite import renamed
from cl_semisup.suite.run import BASIC_VIEW, UNTRAINED, Named, Run

VERSION = 1  # raised whenever a change outside the plug-in files moves a score; see "Scores moved" in CHANGELOG.md


def plugin_names(run: Run) -> set[tuple[str, str]]:
    """(folder, name) of every plug-in of a run, also bases of losses and data sets of probes.

    The basic view is left out: VERSION stands for its code, most of which is in `native/`.
    """
    choices = {"datasets": run.dataset, "encoders": run.encoder, "losses": run.loss, "optimizers": run.optimizer or {}}
    named = {(folder, name) for folder, choice in choices.items() for name in nested_names(choice)}
    named |= {("evaluation", name) for name in run.probes}
    named |= {("views", name) for name in run.view_names if name != BASIC_VIEW}
    return named | {("datasets", name) for (name,) in probed_datasets(run)}


def uses_users_own(runs: Iterable[Run]) -> bool:
    """Whether any of these runs has a plug-in that is no file of this package."""
    return any(plugins.is_users_own(*plugin) for run in runs for plugin in plugin_names(run))


def users_files(runs: Iterable[Run]) -> list[str]:
    """The files of these runs' plug-ins that the command line has named, from the working folder if they lie in it."""
    named = {plugin for run in runs for plugin in plugin_names(run) if plugins.is_users_own(*plugin)}
    paths = {plugins.paths(folder)[name] for folder, name in named}
    files = {path for path in paths if str(path) in {plugins.origin(*plugin) for plugin in named}}
    here = Path.cwd()
    return sorted(str(path.relative_to(here) if path.is_relative_to(here) else path) for path in files)


def versions(run: Run) -> dict[str, str]:
    """`folder.name` -> version of every plug-in file of a run."""
    return {f"{folder}.{name}": plugins.version(folder, name) for folder, name in sorted(plugin_names(run))}


def probed_datasets(run: Run) -> list[Named]:
    """The data sets beside its own that a run reads: those that its probes name, and that of foreign images."""
    datasets: list[Named] = [run.unlabelled_from["dataset"]] if run.unlabelled_from else []
    for settings in run.probes.values():
        datasets += [dataset for dataset in settings.get("datasets", []) if dataset not in datasets]
    return datasets


def optional_datasets(run: Run) -> list[Named]:
    """Those of them that may be missing, because a probe that names them leaves them out."""
    probes = {name: settings for name, settings in run.probes.items() if settings.get("datasets")}
    optional = [
        settings
        for name, settings in probes.items()
        if plugins.class_variable("evaluation", name, "datasets_optional", False)
    ]
    needed = [dataset for settings in probes.values() if settings not in optional for dataset in settings["datasets"]]
    named = [dataset for settings in optional for dataset in settings["datasets"]]
    return [dataset for dataset in named if dataset not in needed and dataset != run.dataset]


def settings(
    run: Run,
    data_hash: str,
    precision: str,
    probed: Mapping[str, str] = MappingProxyType({}),
    plain: bool = False,
    weights: str = "",
) -> dict[str, Any]:
    """Everything that two runs must share for their scores to be compared.

    Args:
        run: its settings
        data_hash, precision: as resolved on the machine
        probed: name -> content hash of the data sets that probes evaluated beside the run's own
        plain: True for runs without fast paths, whose last digits differ; small differences grow in training
        weights: content hash of the file that the encoder's weights are from; "" for random weights
    """
    plugin_versions = {
        key: value for key, value in versions(run).items() if not key.startswith(("losses.", "optimizers."))
    }
    shared = {
        "version": VERSION,
        "dataset": run.dataset,
        "data_hash": data_hash,
        "encoder": run.encoder,
        "projector": run.projector,
        "epochs": run.epochs,
        "views": run.views,
        "probes": run.probes,
        "precision": precision,
        "pieces": plugin_versions,
    }
    shared |= {"probed_data": dict(sorted(probed.items()))} if probed else {}
    shared |= {"weights": weights} if weights else {}
    shared |= {"validation": run.validation} if run.validation else {}
    shared |= {"scenario": run.scenario} if run.scenario else {}
    return shared | ({"plain": True} if plain else {})


def fingerprint(settings: dict[str, Any]) -> str:
    """10 hex digits of the settings."""
    text = json.dumps(renamed.first_words(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def probed_hashes(run: Run, hash_of: Callable[[Named], str | None]) -> dict[str, str]:
    """Name -> content hash of the data sets that probes evaluate; hashes of one name are joined."""
    hashes: dict[str, str] = {}
    for named in probed_datasets(run):
        (name,), found = named, hash_of(named)
        if found is not None:
            hashes[name] = f"{hashes[name]}+{found}" if name in hashes else found
    return hashes


def stale_parts(record: dict[str, Any], data: DataHashes | None = None) -> list[str]:
    """What changed since a record was made: plug-in files, `protocol` (VERSION), `data of <data set>`, `weights of
    <file>`; [] if nothing.

    A user's own file that is not loaded counts as unchanged. So do all data and weights without `data`, and those
    that it cannot judge.
    """
    run = Run.from_dict(record["run"])
    recorded, current = record["versions"]["plugins"], versions(run)
    changed = [key for key in current if current[key] != plugins.MISSING and recorded.get(key) != current[key]]
    changed += ["protocol"] if record["protocol"]["settings"]["version"] != VERSION else []
    return changed + (_changed_data(record, run, data) if data else [])


def _changed_data(record: dict[str, Any], run: Run, data: DataHashes) -> list[str]:
    """`data of <name>` for the run's data set and those of its probes. A run that failed early has no hash."""
    changed = []
    recorded, current = record["versions"].get("data"), data.current(run.dataset)
    if recorded and current and recorded != current:
        changed.append(f"data of {run.dataset_name}")
    probed = record["protocol"]["settings"].get("probed_data", {})
    for name, found in probed_hashes(run, data.current).items():
        if isinstance(probed, dict) and probed.get(name, found) != found:
            changed.append(f"data of {name}")
    weights = record["versions"].get("weights", {})
    for file, found in weights.items() if isinstance(weights, dict) else ():
        if (now := data.current_weights(file)) and now != found:
            changed.append(f"weights of {file}")
    return list(dict.fromkeys(changed))


def nested_names(choice: dict[str, Any]) -> list[str]:
    """The plug-in names in a choice, also the nested ones: {"clop": {"base": {"nt_xent": {}}}} names two."""
    names = [name for name in choice if name != UNTRAINED]
    for params in choice.values():
        for value in params.values() if isinstance(params, dict) else ():
            if isinstance(value, dict) and all(isinstance(inner, dict) for inner in value.values()):
                names += nested_names(value)
    return names
