"""Copies of a process, made by a plug-in that forks: none may train on beside it, or answer for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended() -> Iterator[None]:
    """A copy of this process that is made within ends where the context ends."""
    process = os.getpid()
    try:
        yield
    finally:
        end_if_copy_of(process)


def end_if_copy_of(process: int) -> None:
    """Ends this process if it is another one: asked in every step, as copies of copies would double in each."""
    if os.getpid() != process:
        os._exit(0)
