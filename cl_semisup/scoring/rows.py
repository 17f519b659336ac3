"""Rows of a stored feature matrix, read chunk by chunk: the matrix stays in the type that it is stored in."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SMALL = 1e-12  # a norm; rows below it are made larger first
CHUNK = 1024  # rows at once: 3 MB of float32 at 768 features


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a matrix (M, F) of float16 to float64, in the order of `indices`; all rows where it is None."""

    matrix: Tensor
    indices: Tensor | None = None

    def __len__(self) -> int:
        return len(self.matrix if self.indices is None else self.indices)

    @property
    def width(self) -> int:
        return self.matrix.shape[1]

    def subset(self, positions: np.ndarray) -> "Rows":
        """The rows at these positions among these rows. All in order are read in place, without gathering them."""
        if np.array_equal(positions, np.arange(len(self))):
            return self
        chosen = torch.from_numpy(positions)
        return Rows(self.matrix, chosen if self.indices is None else self.indices[chosen])

    def part(self, first: int, count: int) -> "Rows":
        """At most `count` rows from the row `first` on."""
        if self.indices is None:
            return Rows(self.matrix[first : first + count])
        return Rows(self.matrix, self.indices[first : first + count])

    def chunks(self, size: int = CHUNK, dtype: torch.dtype = torch.float32) -> Iterator[tuple[slice, Tensor]]:
        """(positions, rows (n, F)); the rows are valid until the next ones are asked for."""
        buffer = torch.empty(min(size, len(self)), self.width, dtype=dtype)
        gathered = None if self.indices is None else torch.empty(buffer.shape, dtype=self.matrix.dtype)
        for first in range(0, len(self), size):
            part = slice(first, min(first + size, len(self)))
            source = self.matrix[part] if gathered is None else gathered[: part.stop - first]
            if self.indices is not None:
                torch.index_select(self.matrix, 0, self.indices[part], out=source)
            yield part, buffer[: len(source)].copy_(source)

    def unit_chunks(self, size: int = CHUNK, dtype: torch.dtype = torch.float32) -> Iterator[tuple[slice, Tensor]]:
        """The same, each row divided by its norm; rows of zeros stay zeros."""
        for part, chunk in self.chunks(size, dtype):
            norm = chunk.norm(dim=1, keepdim=True)
            if (extreme := ~((norm >= SMALL) & norm.isfinite()).squeeze(1)).any():  # its square is beyond the dtype
                largest = chunk[extreme].abs().amax(dim=1, keepdim=True)
                chunk[extreme] /= torch.where(largest > 0, largest, 1.0)
                norm = chunk.norm(dim=1, keepdim=True)
            yield part, chunk.div_(norm.clamp_(min=SMALL))
