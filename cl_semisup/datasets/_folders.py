"""Folders of images: their entries in one order on any file system, without what systems leave in them."""

import os
from pathlib import Path

from cl_semisup.errors import DataError

PASSED_OVER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found", "icon\r")
PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "ppm", "pgm", "tif", "tiff")


def is_image_file(name: str) -> bool:
    """Does the name end as those of images do?"""
    return name.lower().rpartition(".")[2] in PICTURES


def passed_over(name: str) -> bool:
    """Is it a hidden file or folder, or one that a system leaves in folders?"""
    return name.startswith(".") or name.lower() in PASSED_OVER


def names(folder: Path, what: str) -> list[str]:
    """The names in a folder, sorted, without those that systems leave there."""
    try:
        return sorted(name for name in os.listdir(folder) if not passed_over(name))
    except OSError as error:
        raise DataError(f"{what}: {folder} must be a folder that can be read. Got {error.strerror}. Mend it.") from None


def images(folder: Path, what: str) -> list[Path]:
    """The files of a folder in the order of their names."""
    return [folder / name for name in names(folder, what)]
