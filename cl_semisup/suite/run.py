"""A run is one training and evaluation that a suite asks for, in plain data; its id is the hash of its settings."""

import hashlib
import json
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from cl_semisup.suite import renamed

UNTRAINED = "untrained"  # stands for the loss of a run that trains nothing; it is no plug-in
BASIC_VIEW = "crop_and_color"  # the view whose settings a suite may write alone
Named = dict[str, dict[str, Any]]  # a plug-in and its settings: {"clop": {"weight": 1.0, ...}}, every default filled in


canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def digest(settings: dict[str, Any]) -> str:
    """12 hex digits of the SHA-256 of the settings' canonical JSON. Hash `renamed.first_words` of a run's settings."""
    return digest_of_text(canonical(settings))


def digest_of_text(text: str) -> str:
    """The same of the settings' canonical JSON."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def problem(plain: Any, upgraded: bool = False) -> str:
    """The first broken rule of a run in plain data, which a stranger may have written; "" if there is none.

    It has the types that reports rely on. Whether a plug-in knows the settings is not asked. `upgraded` says that it is
    in today's words.
    """
    if not isinstance(plain, dict):
        return f"a run must be a mapping. Got {type(plain).__name__}."
    run = plain if upgraded else renamed.upgrade(plain)
    for name, value in run.items():
        if name in _RULES and not _holds(name, value):
            return f"a run needs {_RULES[name]} as {name!r}. Got {value!r:.60}."
    for name, settings in run.get("probes", {}).items():
        probed = settings.get("datasets", [])
        if not isinstance(probed, list) or not all(_holds("dataset", one) for one in probed):
            return f"a run needs data sets and their settings as the datasets of {name!r}. Got {probed!r:.60}."
    required = (*_REQUIRED, *_TRAINED) if run.get("epochs") else _REQUIRED
    missing = next((name for name in required if run.get(name) is None), None)
    return f"a run needs {_RULES[missing]} as {missing!r}. Got nothing." if missing else ""


_PLUGIN, _SETTINGS, _NUMBER, _COUNT = "one plug-in and its settings", "settings", "a number", "a whole number"
_VIEWS = "settings or a list of plug-ins and their settings"
_RULES = {
    **dict.fromkeys(("dataset", "encoder", "loss", "optimizer"), _PLUGIN),
    **dict.fromkeys(("label_fraction", "learning_rate", "unlabelled_ratio"), _NUMBER),
    **dict.fromkeys(("labels_per_class", "batch_size", "epochs", "repetition", "unlabelled_classes"), _COUNT),
    **dict.fromkeys(("schedule", "projector", "imbalance", "unlabelled_imbalance", "label_noise"), _SETTINGS),
    "unlabelled_from": _SETTINGS,
    "scenario": _SETTINGS,
    "views": _VIEWS,
    "probes": "plug-ins and their settings",
    **dict.fromkeys(("precision", "validation"), "text"),
}
_MOST = 10**15  # of any number of a run; the largest learning rate is 1e12
_REQUIRED = ("dataset", "encoder", "loss", "epochs", "repetition", "projector", "views", "probes", "precision")
_TRAINED = ("learning_rate", "batch_size")  # which a run without epochs lacks


def _holds(name: str, value: Any) -> bool:
    if value is None:
        return name not in _REQUIRED
    return bool(_TESTS[_RULES[name]](value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _MOST


def _is_plugins(value: Any) -> bool:
    return isinstance(value, dict) and _are_settings(value.values())


def _is_plugin(value: Any) -> bool:
    return _is_plugins(value) and len(value) == 1


def _are_settings(values: Iterable[Any]) -> bool:
    return next((False for one in values if not isinstance(one, dict)), True)  # a report asks for thousands of runs


_TESTS: dict[str, Callable[[Any], bool]] = {
    _PLUGIN: _is_plugin,
    _NUMBER: _is_number,
    _COUNT: lambda value: type(value) is int and abs(value) <= _MOST,
    _SETTINGS: lambda value: isinstance(value, dict),
    _VIEWS: lambda value: isinstance(value, dict) or (isinstance(value, list) and all(map(_is_plugin, value))),
    _RULES["probes"]: _is_plugins,
    _RULES["precision"]: lambda value: isinstance(value, str),
}


@dataclass(frozen=True)
class Run:
    """All settings of a run, with defaults filled in.

    A field that is None is not hashed into the id, so a later version can add axes and keep the ids. An untrained run
    has no learning rate, batch size, optimizer or schedule. `views` are settings of the basic recipe, or a chain: views
    with their settings in the order in which they are applied.
    """

    dataset: Named
    encoder: Named
    loss: Named
    label_fraction: float | None
    labels_per_class: int | None
    learning_rate: float | None
    batch_size: int | None
    epochs: int
    repetition: int
    optimizer: Named | None
    schedule: dict[str, Any] | None
    projector: dict[str, Any]
    views: dict[str, Any] | list[Named]
    probes: Named
    precision: str
    imbalance: dict[str, Any] | None = None
    unlabelled_imbalance: dict[str, Any] | None = None
    unlabelled_ratio: float | None = None
    unlabelled_classes: int | None = None
    label_noise: dict[str, Any] | None = None
    unlabelled_from: dict[str, Any] | None = None
    scenario: dict[str, Any] | None = None
    validation: str | None = None  # None is `all`, which runs had before there was a choice

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a record, without fields that are None."""
        return deepcopy(self.settings())

    def settings(self) -> dict[str, Any]:
        """The same without copies, which are slow: what lies inside must stay as it is."""
        fields = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return {key: value for key, value in fields.items() if value is not None}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Run":
        """The run of a record of any version."""
        plain = renamed.upgrade(plain)
        return cls(**{name: plain.get(name) for name in cls.__dataclass_fields__})  # type: ignore[arg-type]

    @cached_property
    def id(self) -> str:
        """Equal settings have the same id on any machine and in every version."""
        return digest(renamed.first_words(self.settings()))

    @property
    def dataset_name(self) -> str:
        return next(iter(self.dataset))

    @property
    def loss_name(self) -> str:
        return next(iter(self.loss))

    @property
    def validated_by(self) -> str:
        """What chooses among the configs of its loss: the suite's word."""
        return self.validation or "all"

    @property
    def view_names(self) -> tuple[str, ...]:
        """The views of the run's chain in their order; settings of the basic recipe alone stand for it."""
        return tuple(name for view in self.views for name in view) if isinstance(self.views, list) else (BASIC_VIEW,)

    @property
    def local_views(self) -> int:
        """Local views of an image, which the setting `local_views` of a view in the chain asks for."""
        chain = self.views if isinstance(self.views, list) else []
        return sum(settings.get("local_views", 0) for view in chain for settings in view.values())

    def joint(self) -> "Run":
        """The same run on all its images at once, which one with a scenario is compared with."""
        return replace(self, scenario=None)

    def untrained(self) -> "Run":
        """The same run without training: its scores are those of the initial weights."""
        nothing = dict.fromkeys(("learning_rate", "batch_size", "optimizer", "schedule", "scenario"))
        return replace(self, loss={UNTRAINED: {}}, epochs=0, **nothing)  # type: ignore[arg-type]
