"""Features of frozen encoders, computed once on this machine and kept in the user's cache.

Only outputs that the next run would compute again to the bit are kept: of images as they are, and of test views, whose
seeds are names. Views of training are drawn anew in every step, so they are encoded in every step. A file's name holds
the signature of all that decides its content: pixels, weights, settings, code, arithmetic. The files that were used
longest ago go first when all are larger than MAX_BYTES.
"""

import hashlib
import io
import json
import platform
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cl_semisup import files, native, owner
from cl_semisup.execution.machine import Machine
from cl_semisup.results import protocol
from cl_semisup.suite.run import Run

FOLDER = "features"
MAX_BYTES = 4 * 2**30
Compute = Callable[[], Tensor]


def is_frozen(encoder: nn.Module) -> bool:
    """Does training leave the whole encoder as it is?"""
    return getattr(encoder, "frozen", ()) == ("",)


class FeatureCache:
    """Features of one encoder; nothing is kept unless it is frozen as a whole, nor in reference mode."""

    def __init__(self, encoder: nn.Module, run: Run, machine: Machine, device: torch.device, batch: int):
        self.active, self.device = is_frozen(encoder) and not machine.plain, device
        if self.active:
            versions = {name: v for name, v in protocol.versions(run).items() if name.startswith("encoders.")}
            layout = [machine.channels_last, machine.threads, native.active(), batch]
            cpu = [platform.machine(), torch.backends.cpu.get_cpu_capability()]
            code = [versions, torch.__version__, _version("timm"), _version("torchvision")]
            self.context = json.dumps([run.encoder, code, device.type, layout, cpu, _hash(encoder.state_dict())])

    def __call__(self, images: Tensor, how: object, compute: Compute) -> Tensor:
        """(N, F) features of uint8 images; `how` says by which seeds and recipe their views are drawn."""
        if not self.active:
            return compute()
        try:
            home = owner.folder()
            path = home / FOLDER / f"{owner.signature(self.context + repr(how) + _hash({'': images}))}.npy"
        except (owner.Unusable, OSError):  # then they are computed each time
            return compute()
        with suppress(OSError, ValueError, EOFError):
            stored = np.load(io.BytesIO(files.read(home, path, MAX_BYTES)), allow_pickle=False)
            if stored.dtype == np.float32 and stored.ndim == 2 and len(stored) == len(images):
                files.touch(home, path)
                return torch.from_numpy(stored).to(self.device)
        features = compute()
        if features.dtype == torch.float32 and features.nbytes <= MAX_BYTES // 2:
            content = io.BytesIO()
            np.save(content, features.cpu().numpy(), allow_pickle=False)
            with suppress(OSError):  # a full disk
                files.write(home, path, content.getbuffer(), mode=0o600)
                _remove_oldest(home)
        return features


def _remove_oldest(home: Path) -> None:
    found = [(state.st_mtime_ns, state.st_size, path) for path in files.entries(home, home / FOLDER)
             if (state := files.state(home, path))]  # fmt: skip
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MAX_BYTES:
            return
        files.remove(home, path)
        total -= size


def _hash(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name}\0{tensor.dtype}{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _version(package: str) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return ""
