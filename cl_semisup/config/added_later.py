"""Settings that came after records were made. This module needs no pydantic."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AddedLater:
    """Marks a field that is left out at its default where defaults are filled in, so that no id and no hash moves.

    `norm: Annotated[Literal["batch", "none"], AddedLater()] = "batch"`
    """
