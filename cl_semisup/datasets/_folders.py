"""Folders of images: their entries in one order on any file system."""

import os
from pathlib import Path

from cl_semisup.errors import DataError

PASSED_OVER = ("thumbs.db", "desktop.ini", "__macosx")  # and hidden files: what systems leave in folders


def names(folder: Path, what: str) -> list[str]:
    """The names in a folder, sorted, without those that systems leave there."""
    try:
        return sorted(
            name for name in os.listdir(folder) if not name.startswith(".") and name.lower() not in PASSED_OVER
        )
    except OSError as error:
        raise DataError(f"{what}: {folder} must be a folder that can be read. Got {error.strerror}. Mend it.") from None


def images(folder: Path, what: str) -> list[Path]:
    """The files of a folder in the order of their names."""
    return [folder / name for name in names(folder, what)]
