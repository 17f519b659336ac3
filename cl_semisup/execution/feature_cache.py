"""Features of frozen encoders, computed once on this machine and kept in the user's cache.

Only outputs that the next run would compute again to the bit are kept: of images as they are, of test views, and of the
views of training, whose seeds are names without the loss, so that all losses of a repetition share them. A file's name
holds the signature of all that decides its content: pixels, weights, settings, code, arithmetic. The files that were
used longest ago go first when all are larger than MAX_BYTES.
"""

import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cl_semisup import native
from cl_semisup.execution.machine import Machine
from cl_semisup.results import protocol
from cl_semisup.suite.run import Run
from cl_semisup.system import files, owner

FOLDER = "features"
MAX_BYTES = 4 * 2**30
Compute = Callable[[], Tensor]
Arrays = dict[str, NDArray[Any]]


def is_frozen(encoder: nn.Module) -> bool:
    """Does training leave the whole encoder as it is?"""
    return getattr(encoder, "frozen", ()) == ("",)


class KeptArrays:
    """Arrays in the user's cache; `context` is what decides them beside their names: settings, code, arithmetic."""

    def __init__(self, context: str):
        self.context = context

    def read(self, name: str) -> Arrays:
        """The arrays that are kept under a name; {} where there are none, or no folder for them."""
        with suppress(owner.Unusable, OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            home = owner.folder()
            content = files.read(home, path := self._path(home, name), MAX_BYTES, alone=True)
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays = dict(archive)
            files.touch(home, path)
            return arrays
        return {}

    def write(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under a name, unless they are large or the disk is full."""
        if sum(array.nbytes for array in arrays.values()) > MAX_BYTES // 2:
            return
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        with suppress(owner.Unusable, OSError):
            home = owner.folder()
            files.write(home, self._path(home, name), content.getbuffer(), mode=0o600)
            _remove_oldest(home)

    def _path(self, home: Path, name: str) -> Path:
        return home / FOLDER / f"{owner.signature(self.context + name)}.npz"


class FeatureCache(KeptArrays):
    """Features of one encoder; nothing is kept unless it is frozen as a whole, nor in reference mode."""

    def __init__(self, encoder: nn.Module, run: Run, machine: Machine, device: torch.device, batch: int):
        self.active, self.device = is_frozen(encoder) and not machine.plain, device
        super().__init__(context_of(encoder, run, machine, device, batch) if self.active else "")

    def __call__(self, images: Tensor, how: object, compute: Compute) -> Tensor:
        """(N, F) features of uint8 images; `how` says by which seeds and recipe their views are drawn."""
        if not self.active:
            return compute()
        name = repr(how) + content_hash({"": images})
        stored = self.read(name).get("features")
        if stored is not None and stored.dtype == np.float32 and stored.ndim == 2 and len(stored) == len(images):
            return torch.from_numpy(stored).to(self.device)
        features = compute()
        if features.dtype == torch.float32:
            self.write(name, {"features": features.cpu().numpy()})
        return features


def context_of(encoder: nn.Module, run: Run, machine: Machine, device: torch.device, batch: int) -> str:
    """What decides the outputs of an encoder: its settings and weights, its code, and the arithmetic of the machine."""
    versions = {name: v for name, v in protocol.versions(run).items() if name.startswith("encoders.")}
    layout = [machine.channels_last, machine.threads, native.active(), batch]
    cpu = [platform.machine(), torch.backends.cpu.get_cpu_capability()]
    code = [versions, torch.__version__, _version("timm"), _version("torchvision")]
    return json.dumps([run.encoder, code, device.type, layout, cpu, content_hash(encoder.state_dict())])


def _remove_oldest(home: Path) -> None:
    found = [(state.st_mtime_ns, state.st_size, path) for path in files.entries(home, home / FOLDER)
             if (state := files.state(home, path))]  # fmt: skip
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MAX_BYTES:
            return
        files.remove(home, path)
        total -= size


def content_hash(tensors: dict[str, Tensor]) -> str:
    """64 hex digits of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name}\0{tensor.dtype}{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _version(package: str) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return ""
