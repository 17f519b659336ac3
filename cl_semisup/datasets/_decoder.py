"""Images decoded on all cores: many small files in processes, larger ones in threads, few small ones in this thread."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from cl_semisup.datasets import _pixels
from cl_semisup.datasets._pixels import PixelSettings, Source
from cl_semisup.datasets._processes import Ended, Process
from cl_semisup.errors import DataError
from cl_semisup.system.cgroups import usable_cores

MAX_CORES = 16
TASK_IMAGES = 16  # that a thread decodes before it asks for more
PROCESS_IMAGES = 64  # that a process is asked for at once
SMALL_SECONDS = 0.0004  # of an image, decoded in less, most of the work holds Python's lock; 110 x 110 pixels of JPEG
MANY_FILES = (
    10_000  # small files from which on processes pay, 1.3 times here and 1.6 times from 30,000 on (benchmarks/data.py)
)
BAR_DELAY_SECONDS = 2.0  # less work shows no bar


class Decoder:
    """Decodes `total` images, a chunk at a time.

    Of small images most of the work holds Python's lock, and two threads that wait for it take 1.6 times as long as
    one. Up to `MANY_FILES` of them are decoded in this thread; more are decoded in processes, one a core.

    Args:
        s, clip: see `_pixels.decode`
        total: images that are still to be decoded
        shown: the bar
        faults: what is broken is added to it; its image is then of no use
    """

    def __init__(self, s: PixelSettings, clip: bool, total: int, progress: "tqdm[Any]", faults: list[DataError]):
        Image.init()  # loads PIL's decoders, which several threads must not do at a time
        self._s, self._clip, self._progress, self._faults = s, clip, progress, faults
        self._left = total
        self._cores = min(MAX_CORES, usable_cores())
        self._threads = ThreadPoolExecutor(self._cores)
        self._processes: list[Process] = []
        self._idle: SimpleQueue[Process] = SimpleQueue()

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.end()

    def fill(self, images: NDArray[np.uint8], sources: Sequence[Source]) -> None:
        """Fill (n, channels, side, side) with the next n sources; several in a task, as one an image costs a tenth."""

        def decode(start: int) -> list[DataError]:
            rows = range(start, min(start + TASK_IMAGES, len(sources)))
            return [fault for row in rows if (fault := self._decode(images, sources, row))]

        starts = range(0, len(sources), TASK_IMAGES)
        in_turn: Callable[..., Iterator[list[DataError]]] = self._threads.map
        if not self._processes:
            began, began_work, small = time.perf_counter(), time.thread_time(), TASK_IMAGES * SMALL_SECONDS
            self._collect(starts[:1], map(decode, starts[:1]), len(sources))
            starts = starts[1:]
            if time.thread_time() - began_work < small:
                self._start_processes()
            if time.perf_counter() - began < small:  # threads would wait for a slow disk side by side
                in_turn = map
        if self._processes:
            starts = range(starts.start, len(sources), PROCESS_IMAGES)
            ends = (min(start + PROCESS_IMAGES, len(sources)) for start in starts)
            found = self._threads.map(lambda a, b: self._ask(images[a:b], sources[a:b]), starts, ends)
        else:
            found = in_turn(decode, starts)
        self._collect(starts, found, len(sources))

    def _decode(self, images: NDArray[np.uint8], sources: Sequence[Source], row: int) -> DataError | None:
        try:
            images[row] = _pixels.decode(sources[row], self._s, self._clip)
        except DataError as error:
            return error
        return None

    def _ask(self, images: NDArray[np.uint8], sources: Sequence[Source]) -> list[DataError]:
        """Have a process fill the images. What it leaves is decoded here, and all of them if it has ended."""
        rows: Iterable[int] = range(len(sources))
        try:
            process = self._idle.get_nowait()
            rows = process.fill(images, sources, self._s, self._clip)
            self._idle.put(process)
        except (Empty, Ended):
            pass  # not put back; the images are decoded all the same
        return [fault for row in rows if (fault := self._decode(images, sources, row))]

    def _start_processes(self) -> None:
        if self._left < MANY_FILES or self._cores == 1:
            return
        try:
            for _ in range(self._cores):
                self._processes.append(Process())
                self._idle.put(self._processes[-1])
        except Ended:  # those that were started do the work, or none
            pass

    def _collect(self, starts: range, found: Iterable[list[DataError]], total: int) -> None:
        """Wait for the tasks in order, count their images, and keep what is broken."""
        for start, faults in zip(starts, found, strict=True):
            self._faults += faults
            done = min(starts.step, total - start)
            self._left -= done
            self._progress.update(done)


def bar(text: str, total: int, done: int = 0) -> "tqdm[Any]":
    """Progress of decoding on a terminal, if it takes long."""
    return tqdm(
        total=total, initial=done, desc=text, unit=" images", disable=None, delay=BAR_DELAY_SECONDS, leave=False
    )
