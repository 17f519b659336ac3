"""The tensors in files of weights. Files of torch.save may hold code: tensors and plain values alone are read."""

import hashlib
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cl_semisup.errors import InputError, first_ten
from cl_semisup.system import fetched, files
from cl_semisup.weights import source

MAX_DEPTH = 8  # of dictionaries in one another
MAX_NAME = 1000  # characters of a tensor's name
# The code runs what is in the file, so it is for its owner to run; names of strangers' files do not stand in it.
KEEP_TENSORS = (
    'Where you trust the file, keep its tensors alone: python -c "import torch;'
    " x = torch.load('IN', map_location='cpu', weights_only=False);"
    " x = x.state_dict() if hasattr(x, 'state_dict') else x.get('state_dict', x);"
    " torch.save({k: v for k, v in x.items() if isinstance(v, (dict, torch.Tensor))}, 'OUT')\"."
)
MAX_ENTRIES = 1_000_000  # of all dictionaries; a few that hold each other many times can stand for billions


@dataclass(frozen=True, eq=False)
class Stored:
    """What files hold: tensors by their dotted names, and the texts that a safetensors file has beside them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    @property
    def hash(self) -> str:
        """12 hex digits of all names, dtypes, shapes and values: another format of the same tensors has the same."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name}\0{tensor.dtype}{tuple(tensor.shape)}\0".encode("utf-8", "surrogateescape"))
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:12]


def read(path: Path) -> Stored:
    """The tensors of a file or a Hugging Face folder, on the CPU. InputError says what is wrong with it."""
    paths = source.paths(path)
    source.require_memory(paths)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for part in paths:
        with files.open_regular(part) as file:
            got, remedy = fetched.instead(file)
        if got:
            raise InputError(f"{part}: must hold weights. Got {got}. {remedy}.")
        if part.suffix.lower() == source.SAFETENSORS:
            found, texts = _safetensors(part)
            metadata |= texts
        else:
            found = _pickled(part)
        if twice := tensors.keys() & found.keys():
            rule, got = "must hold each tensor in one of its files", f"{first_ten(sorted(twice))} again"
            raise InputError(f"{part}: {rule}. Got {got}. Fetch the folder again.")
        tensors |= found
    if not tensors:
        raise InputError(f"{path}: must hold weights by their names. Got no tensor. Save a state_dict.")
    if (longest := max(map(len, tensors))) > MAX_NAME:
        raise InputError(f"{path}: names must have at most {MAX_NAME} characters. Got {longest}. Do not use it.")
    source.require_size(path, sum(tensor.nbytes for tensor in tensors.values()))  # many may share what is held once
    return Stored(tensors, metadata)


def texts(path: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors; {} if it is none, which those say that read it."""
    with suppress(InputError, OSError):
        first = source.paths(path)[0]
        source.require_memory([first])
        return _safetensors(first, tensors=False)[1]
    return {}


def _safetensors(path: Path, tensors: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    if problem := source.missing_safetensors():
        raise InputError(f"{path}: {problem}")
    from safetensors import SafetensorError, safe_open

    try:
        with files.open_regular(path) as header:
            files.check_safetensors(header)
        with safe_open(path, framework="pt", device="cpu") as file:
            names = list(file.keys()) if tensors else []
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: must be a whole safetensors file. Got {files.reason(error)}. Fetch it again."
        ) from None


def _pickled(path: Path) -> dict[str, Tensor]:
    """The tensors in what torch.save wrote, in dictionaries at any depth."""
    try:
        with files.open_regular(path) as file:
            _require_stored(file, path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of how long sparse tensors take; they are refused below
                content = torch.load(file, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # a file from elsewhere can raise anything
        rule = "must hold tensors and plain values alone, since other objects run code when they are read"
        raise InputError(f"{path}: {rule}. Got {_cause(error)}. {KEEP_TENSORS}") from None
    tensors = {}
    for number, (name, value) in enumerate(_flat(content)):
        if number >= MAX_ENTRIES:
            raise InputError(f"{path}: must hold at most {MAX_ENTRIES} names. Got more. Save its state_dict alone.")
        if isinstance(value, Tensor):
            tensors[name] = _require_dense(value.detach(), f"{path}: {name}")
    return tensors


def _require_stored(file: Any, path: Path) -> None:
    """Members that are packed could unpack to any size; torch.save never packs them."""
    if files.is_zip(file):
        file.seek(0)
        try:
            archive = files.open_zip(file)
        except zipfile.BadZipFile as error:
            raise InputError(f"{path}: must be as torch.save writes it. Got {error}. Save it again.") from None
        with archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
            if "constants.pkl" in names or any(name.startswith("code/") for name in names):
                save = "torch.save(torch.jit.load('IN').state_dict(), 'OUT')"
                remedy = f"Where you trust the file, save its weights alone: {save}"
                raise InputError(f"{path}: must hold weights alone. Got TorchScript, which is code. {remedy}.")
            if all(name.endswith(".npy") for name in archive.namelist()):
                save = "torch.save({k: torch.from_numpy(v) for k, v in numpy.load('IN').items()}, 'OUT')"
                raise InputError(f"{path}: must be as torch.save writes it. Got numpy's arrays. Run: {save}.")
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise InputError(f"{path}: must be as torch.save writes it. Got packed members. Save it again.")
    file.seek(0)


def _cause(error: Exception) -> str:
    """The object that torch's long message names, or the line of it that says most."""
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"an object of {named[1][:200]}"
    lines = [line.strip() for line in str(error).splitlines() if "nsupported" in line]
    text = (lines or str(error).splitlines() or [type(error).__name__])[0]
    return text.removeprefix("WeightsUnpickler error: ")[:300].rstrip(".")


def _flat(content: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """(dotted name, value): `{"teacher": {"backbone.x": t}}` has the names `teacher` and `teacher.backbone.x`."""
    if not isinstance(content, Mapping) or depth > MAX_DEPTH:
        return
    for key, value in content.items():
        known = isinstance(key, str) and len(key) <= MAX_NAME  # other keys are of an optimizer's state
        yield f"{prefix}{key}", value if known else None
        if known:
            yield from _flat(value, f"{prefix}{key}.", depth + 1)


def _require_dense(tensor: Tensor, what: str) -> Tensor:
    """A dense tensor that is no larger than what the file holds of it."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "cpu":
        raise InputError(f"{what}: must be a dense tensor. Got {tensor.layout} on {tensor.device}. Convert it.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(f"{what}: must hold every value. Got {tuple(tensor.shape)}, expanded. Save a copy of it.")
    return tensor
