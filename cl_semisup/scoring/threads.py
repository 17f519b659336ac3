"""Work that is divided among the cores: pieces in threads, which seldom wait for each other."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def in_threads(work: Callable[[Piece], Result], pieces: Iterable[Piece], workers: int | None = None) -> list[Result]:
    """The results in the order of the pieces; each piece has the cores that the others leave it.

    Args:
        workers: pieces at once; default one a core
    """
    threads = torch.get_num_threads()
    workers = min(workers or threads, threads)
    if threads == 1:
        return [work(piece) for piece in pieces]
    with threads_each(threads // workers), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, pieces))


@contextmanager
def threads_each(count: int) -> Iterator[None]:
    """Libraries for linear algebra take so many threads; those of torch count for threads that are started now."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
