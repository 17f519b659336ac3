"""A user's own plug-in on its way from the command to its workers."""

from pathlib import Path
from typing import NamedTuple


class UserFile(NamedTuple):
    """The folder of its kind, its name, its file, and the text of it that the command has executed."""

    folder: str
    name: str
    path: Path
    text: str
