"""Images of which one shows several classes: no run can train on them, but a probe may evaluate on them."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data.images import Images


@dataclass(frozen=True, eq=False)
class MultiLabelImages(Images):
    """Images whose labels are targets (M, C) int8: 1 a class is shown, 0 it is not, -1 it does not count.

    The single labels mean nothing: -1 in train and 0 in test.
    """

    train_targets: NDArray[np.int8] = field(kw_only=True)
    test_targets: NDArray[np.int8] = field(kw_only=True)

    @cached_property
    def content_hash(self) -> str:
        """12 hex digits of the SHA-256 of every image and target."""
        digest = hashlib.sha256(super().content_hash.encode())
        for targets in (self.train_targets, self.test_targets):
            digest.update(f"{targets.shape}".encode())
            digest.update(np.ascontiguousarray(targets).data)
        return digest.hexdigest()[:12]
