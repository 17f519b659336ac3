"""A run is one cell of a suite's question, in plain data; its id is the hash of what was asked."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

UNTRAINED = "untrained"  # the loss of a floor run; nothing is trained, so it is no plug-in
Named = dict[str, dict[str, Any]]  # a plug-in as asked: {"clop": {"weight": 1.0, ...}}, every default filled in


def digest(asked: dict[str, Any]) -> str:
    """12 hex digits of the SHA-256 of the canonical JSON of what was asked."""
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Run:
    """What is asked, with defaults filled in: the same question has the same id on any machine.

    `None` means "not asked"; such fields leave no trace in the id, so a later version can add axes without moving ids.
    An untrained run (the floor) has no learning rate, batch size, optimizer or schedule.
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
    views: dict[str, Any]
    evaluation: Named
    precision: str
    imbalance: dict[str, Any] | None = None
    unlabelled_imbalance: dict[str, Any] | None = None
    unlabelled_ratio: float | None = None
    unseen_classes: int | None = None
    label_noise: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a record, without what was not asked."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, asked: dict[str, Any]) -> "Run":
        """The run of a record."""
        return cls(**{name: asked.get(name) for name in cls.__dataclass_fields__})  # type: ignore[arg-type]

    @cached_property
    def id(self) -> str:
        """The same question has the same id on any machine, and in a record of any age."""
        asked = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return digest({key: value for key, value in asked.items() if value is not None})  # as_dict without its copies

    @property
    def record_folder(self) -> tuple[str, str]:
        """The folder of its record: (data set, loss)."""
        return next(iter(self.dataset)), next(iter(self.loss))

    def floor(self) -> "Run":
        """The same cell with nothing trained: what the architecture gives for free."""
        return replace(
            self,
            loss={UNTRAINED: {}},
            learning_rate=None,
            batch_size=None,
            epochs=0,
            optimizer=None,
            schedule=None,
        )
