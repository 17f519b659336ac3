"""A worker runs a user's plug-in, which may write anything into its pipe: the right answer counts, or the worker is lost.

The long form: python benchmarks/fuzz.py pipe
"""

import os
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from torch.torch_version import TorchVersion

from cl_semisup.engines import worker_main
from cl_semisup.engines.worker import LocalWorker, WorkerLost
from cl_semisup.engines.worker_main import READY, SIZE_BYTES, TOKEN_BYTES, Answer
from tests.helpers.fuzzing import fuzz, hidden

TOKEN = bytes(range(TOKEN_BYTES))
PROCESS, TRAINING = 4242, "abc"
RIGHT = Answer(PROCESS, TRAINING, ())


class _Process:
    pid, exitcode = PROCESS, 3
    sentinel, _never_closed = os.pipe()

    def join(self, _: float) -> None:
        pass


class _Training:
    id = TRAINING


class _Pipe:
    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def fileno(self) -> int:
        return self.descriptor


def handle(descriptor: int, busy: bool) -> LocalWorker:
    """A worker's handle whose pipe the test fills."""
    made: Any = object.__new__(LocalWorker)
    made.pipe, made.process, made.training = _Pipe(descriptor), _Process(), _Training() if busy else None
    made._token, made._received = TOKEN, bytearray()
    return made  # type: ignore[no-any-return]


def message(content: bytes, token: bytes = TOKEN, size: int | None = None) -> bytes:
    return token + (len(content) if size is None else size).to_bytes(SIZE_BYTES) + content


RIGHT_BYTES = message(pickle.dumps(RIGHT))
answers = st.builds(
    Answer,
    st.one_of(st.just(PROCESS), st.integers(-1, 2**70)),
    st.one_of(st.just(TRAINING), st.just(READY), st.text(max_size=5)),
    st.one_of(st.none(), st.just(()), st.integers()),
)
messages = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=40).map(message),
    st.binary(max_size=TOKEN_BYTES).map(lambda token: message(pickle.dumps(RIGHT), token)),
    st.integers(0, 2**64 - 1).map(lambda size: message(pickle.dumps(RIGHT), size=size)),
    st.one_of(answers, st.integers(), st.text(max_size=20), st.none()).map(lambda value: message(pickle.dumps(value))),
    st.just(RIGHT_BYTES),
    st.integers(0, len(RIGHT_BYTES)).map(lambda end: RIGHT_BYTES[:end]),
    st.sampled_from(
        [
            b"cbuiltins\nexit\n.",
            b"cbuiltins\nexit\n(tR.",
            b"cbuiltins\nKeyboardInterrupt\n.",
            b"\x80\x05\x8c\xff",
            b"(" * 300,
            b"\x80\x04]\x94(h\x00",
            b"I9\n.",
        ]
    ).map(message),
)


@fuzz(
    "what a worker sends through its pipe",
    pieces=st.lists(messages, min_size=1, max_size=3),
    busy=st.booleans(),
    read_bytes=st.sampled_from([1, 7, 2**20]),
)
def test_any_bytes_in_a_pipe_are_the_answer_or_a_lost_worker(pieces: list[bytes], busy: bool, read_bytes: int) -> bool:
    ours, theirs = os.pipe()
    content = b"".join(pieces)
    os.write(theirs, content)
    os.close(theirs)
    lost = handle(ours, busy)
    before, worker_main.READ_BYTES = worker_main.READ_BYTES, read_bytes
    try:
        while (answer := lost.receive()) is None:
            pass
    except WorkerLost as error:
        assert str(error)
        assert not hidden(str(error))
        return False
    finally:
        worker_main.READ_BYTES = before
        os.close(ours)
    assert isinstance(answer, Answer)
    assert (answer.process, answer.training) == (PROCESS, TRAINING if busy else READY)
    assert content.startswith(TOKEN)
    return True


@pytest.mark.parametrize("read_bytes", [1, 50, 2**20])
def test_the_right_answer_comes_whole_in_any_pieces(read_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_main, "READ_BYTES", read_bytes)
    ours, theirs = os.pipe()
    os.write(theirs, RIGHT_BYTES)
    asked = handle(ours, busy=True)
    while (answer := asked.receive()) is None:
        pass
    assert answer == RIGHT
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\nexit\n(tR.",
        b"cbuiltins\nexec\n(Vraise GeneratorExit\ntR.",
        b"cos\n_exit\n(I0\ntR.",
        b"\x80\x04\x8c\x05posix\x8c\x05_exit\x93K\x00\x85R.",
        b"ccl_semisup.engines.worker_main\nos._exit\n(I0\ntR.",
        b"ctorch\nTensor\n.",
    ],
)
def test_an_answer_calls_nothing_of_whoever_reads_it(content: bytes) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, message(content))
    with pytest.raises(WorkerLost, match="an answer that cannot be read: UnpicklingError"):
        handle(ours, busy=True).receive()
    os.close(ours)
    os.close(theirs)


def test_results_of_other_types_reach_the_command_as_plain_data() -> None:
    ours, theirs = os.pipe()
    results: Any = (({"score": np.float64(0.5), "torch": TorchVersion("2.11")}, {"curve": (1.0, 0.1)}),)
    os.write(theirs, message(pickle.dumps(Answer(PROCESS, TRAINING, worker_main.to_json_data(results)))))
    answer = handle(ours, busy=True).receive()
    assert isinstance(answer, Answer)
    assert answer.results == (({"score": 0.5, "torch": "2.11"}, {"curve": [1.0, 0.1]}),)
    os.close(ours)
    os.close(theirs)
