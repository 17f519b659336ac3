"""What makes two numbers comparable, hashed: rows with different fingerprints are never ranked together."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cl_semisup import plugins
from cl_semisup.suite import renamed
from cl_semisup.suite.run import UNTRAINED, Named, Run

VERSION = 1  # raised whenever a change outside the plug-in files moves a score; see "Scores moved" in CHANGELOG.md


def versions(run: Run) -> dict[str, str]:
    """`folder.name` -> version of every plug-in file behind a run: bases of losses, data that probes look at."""
    found = {}
    asked = {"datasets": run.dataset, "encoders": run.encoder, "losses": run.loss, "optimizers": run.optimizer or {}}
    for folder, named in asked.items():
        for name in _names(named, folder):
            found[f"{folder}.{name}"] = plugins.version(folder, name)
    for name in run.probes:
        found[f"evaluation.{name}"] = plugins.version("evaluation", name)
    for named in probed_datasets(run):
        (name,) = named
        found[f"datasets.{name}"] = plugins.version("datasets", name)
    return dict(sorted(found.items()))


def probed_datasets(run: Run) -> list[Named]:
    """The data sets beside its own that a run's probes look at: what a probe's setting `datasets` names."""
    found: list[Named] = []
    for settings in run.probes.values():
        found += [named for named in settings.get("datasets", []) if named not in found]
    return found


def settings(
    run: Run, data_hash: str, precision: str, probed: Mapping[str, str] = MappingProxyType({}), plain: bool = False
) -> dict[str, Any]:
    """Everything that two runs must share for their scores to be compared.

    Args:
        run: as asked
        data_hash, precision: as resolved
        probed: name -> content hash of the data sets that probes looked at beside the run's own
        plain: said only of runs that took no fast path: last digits move, and small differences grow in training
    """
    pieces = {key: value for key, value in versions(run).items() if not key.startswith(("losses.", "optimizers."))}
    kept = {
        "version": VERSION,
        "dataset": run.dataset,
        "data_hash": data_hash,
        "encoder": run.encoder,
        "projector": run.projector,
        "epochs": run.epochs,
        "views": run.views,
        "probes": run.probes,
        "precision": precision,
        "pieces": pieces,
    }
    return kept | ({"probed_data": dict(sorted(probed.items()))} if probed else {}) | ({"plain": True} if plain else {})


def fingerprint(settings: dict[str, Any]) -> str:
    """10 hex digits of the settings."""
    text = json.dumps(renamed.first_words(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def stale(record: dict[str, Any]) -> list[str]:
    """Plug-in files that changed since a record was made, and `protocol` if the rest did; [] while it is current.

    A user's own file that is not at hand cannot be judged and counts as unchanged.
    """
    then, now = record["versions"]["plugins"], versions(Run.from_dict(record["run"]))
    moved = [key for key in now if now[key] != plugins.MISSING and then.get(key) != now[key]]
    return moved + (["protocol"] if record["protocol"]["settings"]["version"] != VERSION else [])


def _names(named: dict[str, Any], folder: str) -> list[str]:
    """The plug-in names in a choice, also those nested as settings: {"clop": {"base": {"nt_xent": {}}}} names two."""
    found = []
    for name, params in named.items():
        if name != UNTRAINED:
            found.append(name)
        for value in params.values():
            if isinstance(value, dict):
                found += _names(value, folder)
    return found
