"""A submission: one ZIP archive, or the same files in a folder.

submission.json            format, suite, package, and the SHA-256 of every other file
suite.yaml                 the suite
records/<suite>.parquet    its records with their curves (results/packed.py)
plugins/<name>.py          plug-ins of the sender's own
"""

import hashlib
import io
import json
import lzma
import re
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_semisup.data import memory_limit
from cl_semisup.errors import InputError
from cl_semisup.results import packed, packing, records
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.system import files
from cl_semisup.version import __version__

FORMAT = 1
MANIFEST, SUITE = "submission.json", "suite.yaml"
SUITE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAME = re.compile(
    rf"{re.escape(MANIFEST)}|{re.escape(SUITE)}|records/{SUITE_NAME}\.parquet|plugins/[A-Za-z][A-Za-z0-9_]{{0,63}}\.py"
)
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
MAX_FILES = 64
MAX_BYTES = {"": 4_000_000, packed.SUFFIX: packed.MAX_BYTES}  # of a file, unpacked
DATE = (1980, 1, 1, 0, 0, 0)  # of every member, so that the same records give the same bytes


@dataclass(frozen=True)
class Submission:
    """The files of a submission, copied to a folder of our own, which is a folder of results."""

    folder: Path
    suite: str
    plugins: tuple[Path, ...]
    problems: tuple[str, ...]


def pack(results: Path, suite: SuiteSnapshot, text: str, plugins: Sequence[Path], to: Path) -> int:
    """Write the submission to `to`, a new `.zip` or a folder; return how many records are in it."""
    with tempfile.TemporaryDirectory() as name:
        done = packing.pack(results, suite.name, suite.runs, Path(name))
        content = {SUITE: text.encode(), f"records/{done.path.name}": done.path.read_bytes()}
    content |= {f"plugins/{path.name}": _read(path) for path in plugins}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(content.items())}
    manifest = {"format": FORMAT, "suite": suite.name, "package": __version__, "files": hashes}
    content[MANIFEST] = (json.dumps(manifest, indent=1) + "\n").encode()
    if to.suffix != ".zip":
        for member, data in content.items():
            records.write_bytes(to / member, data, to)
        return done.count
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for member, data in sorted(content.items()):
            zipped.writestr(zipfile.ZipInfo(member, DATE), data, zipfile.ZIP_DEFLATED)
    to.parent.mkdir(parents=True, exist_ok=True)
    records.write_bytes(to, archive.getvalue())
    return done.count


def unpack(file: Path, folder: Path) -> Submission:
    """Copy the members of a submission, which a stranger may have made, into an empty folder of our own.

    InputError if it cannot be read at all. Nothing is written outside the folder, and nothing is run.
    """
    content = _folder_content(file) if file.is_dir() else _zip_content(file)
    if content.keys() - {MANIFEST} == set() or MANIFEST not in content or SUITE not in content:
        rule = f"must hold {MANIFEST}, {SUITE} and records"
        raise InputError(f"{file}: {rule}. Got {', '.join(sorted(content)) or 'nothing'}. Make it with `submit`.")
    try:
        manifest: Any = files.parse_json(content[MANIFEST])
        suite, hashes = manifest["suite"], manifest["files"]
        if manifest["format"] != FORMAT or not isinstance(hashes, dict) or not re.fullmatch(SUITE_NAME, suite):
            raise ValueError(f"must have the format {FORMAT}, a suite and files")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: {MANIFEST}: cannot be read: {error}. Make it with `submit`.") from None
    found = {name: hashlib.sha256(data).hexdigest() for name, data in content.items() if name != MANIFEST}
    problems = [
        f"{name}: is not as its hash says" for name in found.keys() & hashes.keys() if found[name] != hashes[name]
    ]
    problems += [f"{name}: is told and not there" for name in hashes.keys() - found.keys()]
    problems += [f"{name}: is there and not told" for name in found.keys() - hashes.keys()]
    pack = f"records/{suite}{packed.SUFFIX}"
    own = {name for name in content if NAME.fullmatch(name) and (name == pack or not name.startswith("records/"))}
    problems += [f"{name}: belongs to no submission" for name in content.keys() - own]
    for name in own:
        records.write_bytes(folder / name, content[name], folder)
    if pack not in own:
        problems.append(f"{pack}: is not there")
    plugins = tuple(sorted((folder / "plugins").glob("*.py")))
    return Submission(folder, suite, plugins, tuple(sorted(problems)))


def _zip_content(file: Path) -> dict[str, bytes]:
    try:
        with files.open_regular(file, packed.MAX_BYTES) as opened, files.open_zip(io.BytesIO(opened.read())) as zipped:
            members = [one for one in zipped.infolist() if not one.is_dir()]
            _check_sizes(file, {one.filename: one.file_size for one in members}, len(members))
            return {one.filename: _member(zipped, one) for one in members}
    except FileNotFoundError:
        raise InputError(f"{file}: no such file. Name an archive or a folder that `submit` has written.") from None
    except InputError:
        raise
    except (*_DAMAGED, OSError, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{file}: must be a ZIP archive. Got {files.reason(error)}. Make it with `submit`.") from None


def _member(zipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with zipped.open(member) as opened:
        data = opened.read(member.file_size + 1)
    if len(data) != member.file_size:
        raise ValueError(f"{member.filename} is longer than it says")
    return data


def _folder_content(folder: Path) -> dict[str, bytes]:
    inside = [path for part in (folder, folder / "records", folder / "plugins") for path in files.entries(folder, part)]
    found = [path for path in inside if not path.is_dir()]
    try:
        _check_sizes(folder, {str(path): path.lstat().st_size for path in found}, len(found))
        names = {path.relative_to(folder).as_posix(): path for path in found}
        return {name: files.read(folder, path, _limit(name)) for name, path in names.items()}
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {files.reason(error)}. Make it with `submit`.") from None


def _check_sizes(file: Path, sizes: dict[str, int], count: int) -> None:
    if count > MAX_FILES or len(sizes) < count:
        raise InputError(f"{file}: must hold at most {MAX_FILES} files of different names. Got {count}.")
    if large := next((name for name, size in sizes.items() if size > _limit(name)), ""):
        raise InputError(f"{file}: {large}: must be at most {_limit(large)} bytes. Got {sizes[large]}. Leave it out.")
    memory_limit.require(sum(sizes.values()), str(file), "Leave out what belongs to no submission.")


def _limit(name: str) -> int:
    return MAX_BYTES[packed.SUFFIX if name.endswith(packed.SUFFIX) else ""]


def _read(path: Path) -> bytes:
    with files.open_regular(path, MAX_BYTES[""]) as file:
        return bytes(file.read())
