"""Results that training does not move, such as the control of fine-tuning: one for all losses of a repetition.

The network from random weights is the same for every loss and every rate of a repetition, and so are the labels that it
learns from. What the first run that needs them computes is kept in the user's cache, under the signature of all that
decides it: initial weights, images, labels, settings, code, arithmetic. Later runs read it, equal to the bit.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from cl_semisup import native, plugins
from cl_semisup.data.views import ViewMaker
from cl_semisup.execution.feature_cache import KeptArrays, content_hash, context_of
from cl_semisup.execution.machine import Machine
from cl_semisup.results import protocol
from cl_semisup.results.snapshot import code_hash
from cl_semisup.suite.run import Run
from cl_semisup.training import exchange

Results = dict[str, float]


class SharedResults:
    """Computes or finds results of a probe.

    None are kept in reference mode, or with an encoder of the user's own. A run with any other plug-in of the user's
    own reads what others have kept and leaves nothing, as its code may change what its process computes.

    Args:
        initial: makes the encoder with its weights before training
        views: of training images, as the probe may draw them
    """

    def __init__(
        self, initial: Callable[[], nn.Module], views: ViewMaker, run: Run, machine: Machine, device: torch.device
    ):
        self.initial, self.views, self.run, self.machine, self.device = initial, views, run, machine, device
        own = {folder for folder, name in protocol.plugin_names(run) if plugins.is_users_own(folder, name)}
        self.reads = not machine.plain and "encoders" not in own
        self.writes = self.reads and not own

    def __call__(self, what: str, inputs: Mapping[str, Tensor], compute: Callable[[], Results]) -> Results:
        """The results of `compute`, which may use `what`, `inputs`, the initial encoder, geometric views, no more."""
        if not self.reads:
            return compute()
        kept, name = KeptArrays(self._context()), what + content_hash(dict(inputs))
        stored = kept.read(name)
        if stored and all(value.dtype == np.float64 and value.shape == () for value in stored.values()):
            return {key: float(value) for key, value in stored.items()}
        found = compute()
        if self.writes:
            kept.write(name, {key: np.array(value, dtype=np.float64) for key, value in found.items()})
        return found

    def _context(self) -> str:
        encoder = context_of(self.initial(), self.run, self.machine, self.device, 0)
        views = [self.views.settings, self.views.side, self.views.mean.tolist(), self.views.std.tolist()]
        return repr((encoder, views, self.machine.compile, exchange.world_size(), _code()))


@cache
def _code() -> str:
    """Of the whole package and its kernels: what is kept is cheap to make again."""
    return code_hash() + hashlib.sha256(b"".join(source.read_bytes() for source in native.SOURCES)).hexdigest()[:16]
