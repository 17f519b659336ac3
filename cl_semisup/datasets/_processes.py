"""Processes that decode small image files: threads that do so mostly wait for Python's lock.

Each is a new interpreter that runs this module; nothing is forked. A request is a line of JSON, paths and settings, and
then the images that have no path because they lie in an archive. The answer is a line of JSON, the numbers of the
images that are left to the one who asks because they are large or broken, and then the pixels. A process ends when its
input does, so that it never outlives the one who asks.
"""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cl_semisup.datasets import _pixels
from cl_semisup.datasets._pixels import PixelSettings, Source
from cl_semisup.errors import DataError

HOME = Path(__file__).parents[2]
MAX_SENT_BYTES = 1_000_000  # of an image in an archive; larger ones are left


class Ended(Exception):
    """The process has ended, or could not be started: the system may lack the memory for it."""


class Process:
    """One that decodes. It imports this very package, whatever lies in the current folder."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        command, pipe = [sys.executable, "-m", "cl_semisup.datasets._processes"], subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment
            )
        except OSError as error:
            raise Ended from error

    def fill(self, images: NDArray[np.uint8], sources: Sequence[Source], s: PixelSettings, clip: bool) -> list[int]:
        """Fill (n, channels, side, side) with the images, and say which of them are left."""
        settings = {field.name: getattr(s, field.name) for field in fields(PixelSettings)}
        contents = [_content(source) for source in sources]
        from_where = [source.path or len(content) for source, content in zip(sources, contents, strict=True)]
        request = {"from": from_where, "clip": clip, "settings": settings}
        pixels = images.data.cast("B")
        try:
            pipe = _pipe(self._process.stdin)
            pipe.write(b"".join([json.dumps(request).encode(), b"\n", *contents]))
            pipe.flush()
            answers, done = _pipe(self._process.stdout), 0
            left = json.loads(answers.readline())
            while done < len(pixels):
                if not (count := answers.readinto(pixels[done:])):  # type: ignore[attr-defined]  # of io.BufferedReader
                    raise EOFError
                done += count
        except (OSError, ValueError, EOFError) as error:
            raise Ended from error
        return list(map(int, left))

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def _content(source: Source) -> bytes:
    """What is sent of an image: nothing of a file, nor of one that is large or cannot be read, which is left."""
    if source.path is not None:
        return b""
    try:
        with source.open() as file:
            content = file.read(MAX_SENT_BYTES + 1)
    except (OSError, DataError):
        return b""
    return content if len(content) <= MAX_SENT_BYTES else b""


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


# in the other process ------------------------------------------------------------------------------------------------


def decode_requests() -> None:
    """An answer for each line of JSON, until there are no more. What a decoder prints is thrown away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the one who asks, who ends this process
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    Image.init()
    Image.MAX_IMAGE_PIXELS = _pixels.LARGE_PIXELS  # the one who asks decodes larger ones, one at a time
    for line in sys.stdin.buffer:
        job = json.loads(line)
        s, sources = PixelSettings(**job["settings"]), [_source(path_or_size) for path_or_size in job["from"]]
        pixels = np.zeros((len(sources), s.bands, s.side, s.side), np.uint8)
        left = []
        for number, source in enumerate(sources):
            try:
                pixels[number] = _pixels.decode(source, s, job["clip"])
            except (DataError, MemoryError):
                left.append(number)
        answers.write(json.dumps(left).encode() + b"\n")
        answers.write(pixels.data)
        answers.flush()


def _source(path_or_size: str | int) -> Source:
    """A file, or the next so many bytes of the input."""
    if isinstance(path_or_size, str):
        return _pixels.of_file(path_or_size)
    content = sys.stdin.buffer.read(path_or_size)
    return Source("", lambda: io.BytesIO(content))


if __name__ == "__main__":
    decode_requests()
