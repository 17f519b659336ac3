"""Are data and weights still those of a record? The content hash of a data set, or of weights, as its files are now.

A hash is computed once and kept in the user's cache with the stamp of the files (names, sizes, times, inodes); it is
computed again only where the stamp differs.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cl_semisup import plugins
from cl_semisup.data.pixel_facts import PixelFacts
from cl_semisup.errors import InputError
from cl_semisup.suite.run import Named
from cl_semisup.system import files, owner, stamps
from cl_semisup.weights import source

UNREADABLE = "unreadable"  # stands for the hash of data that are there and cannot be read
MAX_BYTES = 100_000  # of a file in the cache
LARGE_BYTES = 10**9  # of images that are not read whole again while their files are the same


class DataHashes:
    """Hashes of the data sets in one folder, each judged once. No folder ("") stands for data that are elsewhere."""

    def __init__(self, data_dir: str):
        self.data_dir = data_dir
        self._hashes: dict[str, str | None] = {}

    def current_weights(self, file: str) -> str | None:
        """The hash of the weights in a file now; None if it cannot be judged: not there, or outside of this folder."""
        key = f"weights {file}"
        if key not in self._hashes:
            try:
                judged = bool(self.data_dir) and source.is_inside(file) and os.path.lexists(file)
                self._hashes[key] = current_weights(file) if judged else None
            except (ImportError, MemoryError):  # no torch here, or a smaller machine
                self._hashes[key] = None
            except (InputError, OSError, ValueError):
                self._hashes[key] = UNREADABLE
        return self._hashes[key]

    def current(self, named: Named) -> str | None:
        """The hash of a data set now; None if it cannot be judged: it is generated, or not in the folder."""
        key = repr(named)
        if key not in self._hashes:
            try:
                self._hashes[key] = current(named, self.data_dir) if self.data_dir else None
            except (ImportError, MemoryError):  # no torchvision here, or a smaller machine
                self._hashes[key] = None
            except (InputError, OSError, TypeError, ValueError):  # settings from a stranger can be of any type
                self._hashes[key] = UNREADABLE
        return self._hashes[key]


def current_weights(file: str) -> str:
    """The content hash of the weights in a file or folder now. InputError if they cannot be read."""
    before = stamps.stamp(source.paths(Path(file)))
    with suppress(OSError, owner.Unusable):
        path = _weights_path(home := owner.folder(), file)
        if (kept := _read_file(home, path)).get("stamp") == before:
            return str(kept["hash"])
    from cl_semisup.weights import reader

    found = reader.read(Path(file)).hash
    with suppress(OSError, InputError, owner.Unusable):  # then the hash is computed each time
        if stamps.stamp(source.paths(Path(file))) == before:
            home = owner.folder()
            files.write(home, _weights_path(home, file), json.dumps({"stamp": before, "hash": found}).encode())
    return found


def current(named: Named, data_dir: str) -> str | None:
    """The content hash of a data set now; None if it is generated or not there. DataError if it cannot be read."""
    with plugins.plugin_errors("datasets", next(iter(named))):
        paths = _plugin(named).data_files(Path(data_dir))
    if not paths:
        return None
    kept = _read(named, data_dir)
    if kept.get("stamp") == stamps.stamp(paths):
        return str(kept["hash"])
    return str(load(named, data_dir).content_hash)


def load(named: Named, data_dir: str) -> Any:
    """The `Images` of a data set. Hash and pixel facts are kept, unless the files change while they are read.

    Of large data, which may be mapped, what is kept is taken and not computed again: every worker loads them.
    """
    with plugins.plugin_errors("datasets", next(iter(named))):
        data_set = _plugin(named)
        before = stamps.stamp(data_set.data_files(Path(data_dir)))
        images = data_set.load(Path(data_dir))
        paths = data_set.data_files(Path(data_dir))
    if not paths or stamps.stamp(paths) != before:
        return images
    kept = _read(named, data_dir)
    if kept.get("stamp") == before and images.train_images.nbytes > LARGE_BYTES:
        images.remember(str(kept["hash"]), _pixel_facts(kept))
    else:
        content = {"stamp": before, "hash": images.content_hash, "pixels": asdict(images.pixel_facts)}
        with suppress(OSError, owner.Unusable):  # then they are computed each time
            home = owner.folder()
            files.write(home, _path(home, named, data_dir), json.dumps(content).encode())
    return images


def kept_pixel_facts(named: Named, data_dir: str) -> PixelFacts | None:
    """What is kept of the pixels of a data set whose files are the same; None if nothing is."""
    with plugins.plugin_errors("datasets", next(iter(named))):
        paths = _plugin(named).data_files(Path(data_dir))
    kept = _read(named, data_dir)
    return _pixel_facts(kept) if paths and kept.get("stamp") == stamps.stamp(paths) else None


def _pixel_facts(kept: dict[str, Any]) -> PixelFacts:
    pixels = kept["pixels"]
    return PixelFacts(tuple(tuple(map(int, row)) for row in pixels["counts"]), int(pixels["duplicates"]))


def is_known(data_dir: str) -> bool:
    """Has this user read data from this folder before, on this machine?"""
    with suppress(OSError, owner.Unusable):
        home = owner.folder()
        return bool(files.entries(home, _folder(home, data_dir)))
    return False


def _plugin(named: Named) -> Any:
    (name, settings) = next(iter(named.items()))
    return plugins.load("datasets", name)(**settings)


def _read(named: Named, data_dir: str) -> dict[str, Any]:
    """What is kept of a data set; {} if nothing is."""
    with suppress(OSError, owner.Unusable):
        home = owner.folder()
        content = _read_file(home, _path(home, named, data_dir))
        return content if content.keys() == {"stamp", "hash", "pixels"} else {}
    return {}


def _read_file(home: Path, path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads(files.read(home, path, MAX_BYTES, alone=True))
        return content if isinstance(content, dict) and content.keys() >= {"stamp", "hash"} else {}
    return {}


def _path(home: Path, named: Named, data_dir: str) -> Path:
    version = plugins.version("datasets", next(iter(named)))
    return _folder(home, data_dir) / f"{_digest(json.dumps(named, sort_keys=True) + version)}.json"


def _weights_path(home: Path, file: str) -> Path:
    return home / "weights" / f"{_digest(str(Path(file).resolve()))}.json"


def _folder(home: Path, data_dir: str) -> Path:
    return home / "data" / _digest(str(Path(data_dir).resolve()))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
