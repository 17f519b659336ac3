"""Words of suites and records that have changed. The old words are still read, and ids are still hashed in them.

A run, the settings of a protocol and a suite have the same keys; in a suite any value may also be a list.
"""

from collections.abc import Mapping
from typing import Any

KEYS = {"evaluation": "probes", "unseen_classes": "unlabelled_classes"}
PROBE_KEYS = {"of": "layer"}  # settings of any probe
NOISE_KINDS = {"class_dependent": "pair_flip"}  # values of label_noise.kind
MEASURES = {"spread": "feature_std", "projection_spread": "projection_feature_std"}  # diagnostics and curves

_UPGRADE = (KEYS, PROBE_KEYS, NOISE_KINDS)
_DOWNGRADE = tuple({new: old for old, new in table.items()} for table in _UPGRADE)


def upgrade(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A run, protocol settings or a suite in today's words."""
    return _translate(plain, *_UPGRADE)


def first_words(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The same in the words of the first version. Hashes are made of these, so that a new word changes no id."""
    return _translate(plain, *_DOWNGRADE)


def upgrade_measures(values: Any) -> Any:
    """Diagnostics, or curves of a history, by today's names."""
    return _rename_keys(values, MEASURES)


def upgrade_path(path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The path of a suite's node in today's words."""
    match path:
        case (str(key), *rest) if key in KEYS:
            return upgrade_path((KEYS[key], *rest))
        case ("probes", probe, str(key), *rest) if key in PROBE_KEYS:
            return ("probes", probe, PROBE_KEYS[key], *rest)
    return path


def _translate(
    plain: Mapping[str, Any], keys: dict[str, str], probe_keys: dict[str, str], noise_kinds: dict[str, str]
) -> dict[str, Any]:
    if keys.keys().isdisjoint(plain):
        translated = dict(plain)
    else:
        translated = {keys.get(key, key): value for key, value in plain.items()}
    for name in ("probes", "evaluation"):
        if isinstance(probes := translated.get(name), dict):
            translated[name] = {probe: _rename_keys(settings, probe_keys) for probe, settings in probes.items()}
    if "label_noise" in translated:
        translated["label_noise"] = _rename_kind(translated["label_noise"], noise_kinds)
    return translated


def _rename_keys(node: Any, words: dict[str, str]) -> Any:
    if not isinstance(node, dict) or words.keys().isdisjoint(node):
        return node
    return {words.get(key, key): value for key, value in node.items()}


def _rename_kind(node: Any, words: dict[str, str]) -> Any:
    if isinstance(node, list):
        return [_rename_kind(member, words) for member in node]
    if isinstance(node, dict):
        return {key: _rename_kind(value, words) if key == "kind" else value for key, value in node.items()}
    return words.get(node, node) if isinstance(node, str) else node
