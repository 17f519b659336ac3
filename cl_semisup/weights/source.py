"""Which files hold the weights that a user names: one file, or a Hugging Face folder. This module needs no torch."""

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from cl_semisup.errors import InputError, described
from cl_semisup.system import cgroups, files

SAFETENSORS = ".safetensors"
PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".tar")  # written by torch.save; of these only tensors are read
WHOLE = ("model.safetensors", "pytorch_model.bin")
INDEXES = tuple(f"{name}.index.json" for name in WHOLE)  # of a folder whose tensors are spread over several files
MAX_INDEX_BYTES = 50_000_000
# other endings of files -> what makes weights of them
OTHERS = {
    ".json": "Name its folder",
    ".npz": "Run: torch.save({k: torch.from_numpy(v) for k, v in numpy.load('IN').items()}, 'OUT.pt')",
    ".zip": "Unpack it, and name the file or folder in it",
} | dict.fromkeys((".h5", ".keras", ".msgpack", ".onnx", ".pb"), "Save the tensors of a PyTorch network instead")
SHARE = 0.5  # of the memory that a file's tensors may take; the network takes as much again


def is_inside(file: str) -> bool:
    """Does the path stay in the folder where the command runs? A suite may come from a stranger."""
    flavours = PurePosixPath(file), PureWindowsPath(file)
    return bool(file) and "\0" not in file and not any(path.anchor or ".." in path.parts for path in flavours)


def paths(source: Path) -> list[Path]:
    """The files that hold the tensors. InputError if there is none, or one of another format."""
    found = _in_folder(source) if source.is_dir() else [source]
    for path in found:
        if not os.path.lexists(path):
            raise InputError(f"{path}: weights must be in a file. Got none there. Nothing is downloaded: put it there.")
        if path.suffix.lower() not in (SAFETENSORS, *PICKLED):
            known, remedy = ", ".join((SAFETENSORS, *PICKLED)), OTHERS.get(path.suffix.lower(), "Rename it")
            raise InputError(f"{path}: weights must be in a file that ends in {known}. Got {path.suffix!r}. {remedy}.")
    return found


def missing_safetensors() -> str:
    """What is wrong where the package safetensors is not installed, or ""."""
    if importlib.util.find_spec("safetensors") is not None:
        return ""
    return "needs the package safetensors. Got none. Install it: pip install 'cl-semisup[safetensors]'."


def require_memory(found: Iterable[Path]) -> None:
    """InputError unless every file is a regular one and all together fit in half of this machine's memory."""
    total = 0
    for path in found:
        try:
            with files.open_regular(path) as file:
                total += os.fstat(file.fileno()).st_size
        except OSError as error:
            raise InputError(f"{path}: weights cannot be read: {files.reason(error)}. Name another file.") from None
        require_size(path, total)


def require_size(path: Path, size: int) -> None:
    """InputError unless so many bytes fit in half of this machine's memory."""
    if size > (limit := int(SHARE * cgroups.machine_bytes())):
        rule = f"must fit in half of this machine's memory, {limit} bytes"
        raise InputError(f"{path}: weights {rule}. Got {size}. Use a smaller network or a larger machine.")


def _in_folder(folder: Path) -> list[Path]:
    """The files of a Hugging Face folder."""
    for name in WHOLE:
        if (folder / name).is_file():
            return [folder / name]
    index = next((folder / name for name in INDEXES if (folder / name).is_file()), None)
    if index is None:
        names = ", ".join((*WHOLE, *INDEXES))
        there = sorted(path for path in folder.iterdir() if path.suffix.lower() in (SAFETENSORS, *PICKLED))
        remedy = f"Name the file itself, such as {there[0]}" if there else "Name the file itself"
        raise InputError(f"{folder}: a folder of weights must hold one of {names}. Got none. {remedy}.")
    try:
        shards = set(files.read_json(folder, index, MAX_INDEX_BYTES)["weight_map"].values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        what = described(error)
        raise InputError(f"{index}: must map tensors to files. Got {what}. Fetch the folder again.") from None
    if not all(isinstance(name, str) and name == Path(name).name for name in shards):
        raise InputError(f"{index}: files must lie in its folder. Got {sorted(map(str, shards))[:3]}. Do not use it.")
    return [folder / name for name in sorted(shards)]
