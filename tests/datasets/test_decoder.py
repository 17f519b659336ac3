"""Many small files are decoded in processes, to the same pixels and the same messages as in this thread."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cl_semisup.datasets import _decoder, _mapped, _pixels, _processes
from cl_semisup.datasets._decoder import Decoder, bar
from cl_semisup.datasets.image_folder import ImageFolder
from cl_semisup.errors import DataError

SIDE, COUNT = 8, 180
SETTINGS = _pixels.PixelSettings(side=SIDE)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Small PNG files; the last ones are of several kinds that a process leaves."""
    folder, random = tmp_path_factory.mktemp("small"), np.random.default_rng(0)
    for number in range(COUNT):
        Image.fromarray(random.integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(folder / f"{number:03}.png")
    found = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    Path(found[100]).write_bytes(b"no image")
    Path(found[150]).write_bytes(Path(found[150]).read_bytes()[:60])
    Path(found[160]).unlink()
    Image.new("L", (2100, 2000), 77).save(found[170])  # more pixels than a process decodes
    os.rename(found[179], strange := os.fsdecode(os.fsencode(folder) + b"/\xff \xc3\xa9\n.png"))
    return [*found[:179], strange]


@pytest.fixture
def processes_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_decoder, "MANY_FILES", 100)
    monkeypatch.setattr(_decoder, "SMALL_SECONDS", 1e9)
    monkeypatch.setattr(_decoder, "usable_cores", lambda: 2)


def in_an_archive(path: str) -> _pixels.Source:
    """The same image as one that lies in another file."""
    return _pixels.of_file(path)._replace(path=None)


def decoded(
    paths: list[str], source: Callable[[str], _pixels.Source] = _pixels.of_file
) -> tuple[NDArray[np.uint8], list[str], list[int]]:
    """Pixels, messages, and the exit codes of the processes."""
    faults: list[DataError] = []
    images = np.zeros((len(paths), 3, SIDE, SIDE), np.uint8)
    with bar("x", len(paths)) as shown, Decoder(SETTINGS, False, len(paths), shown, faults) as decoder:
        for start in (0, 90):
            decoder.fill(images[start : start + 90], [source(path) for path in paths[start : start + 90]])
        assert decoder._left == 0
    return images, [str(fault) for fault in faults], [process._process.wait() for process in decoder._processes]


def expected(paths: list[str]) -> tuple[NDArray[np.uint8], list[str]]:
    images, faults = np.zeros((len(paths), 3, SIDE, SIDE), np.uint8), []
    for number, path in enumerate(paths):
        try:
            images[number] = _pixels.decode(_pixels.of_file(path), SETTINGS)
        except DataError as error:
            faults.append(str(error))
    return images, faults


@pytest.mark.parametrize("source", [_pixels.of_file, in_an_archive])
def test_processes_give_the_same_pixels_and_messages(
    source: Callable[[str], _pixels.Source], paths: list[str], processes_for_few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of images in archives, which are sent unless they are large."""
    monkeypatch.setattr(_processes, "MAX_SENT_BYTES", os.path.getsize(paths[0]))  # the last ones are larger
    images, faults, exits = decoded(paths, source)
    wanted, messages = expected(paths)
    assert len(exits) == 2
    np.testing.assert_array_equal(images, wanted)
    assert faults == messages
    assert len(messages) == 3
    assert (images[170] == 77).all()


@pytest.mark.parametrize("way", ["cannot start", "one cannot start", "end at once"])
def test_without_processes_the_images_are_decoded_all_the_same(
    paths: list[str], processes_for_few: None, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    started: list[object] = []
    popen = _processes.subprocess.Popen

    def start(command: list[str], **arguments: object) -> object:
        started.append(command)
        if len(started) > {"cannot start": 0, "one cannot start": 1}.get(way, 2):
            raise OSError("Resource temporarily unavailable")
        return popen([command[0], "-c", ""] if way == "end at once" else command, **arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(_processes.subprocess, "Popen", start)
    images, faults, exits = decoded(paths)
    wanted, messages = expected(paths)
    assert len(exits) == {"cannot start": 0, "one cannot start": 1, "end at once": 2}[way]
    np.testing.assert_array_equal(images, wanted)
    assert faults == messages


def test_an_interruption_ends_the_processes(paths: list[str], processes_for_few: None) -> None:
    held: list[Decoder] = []

    def interrupted() -> None:
        with bar("x", 180) as shown, Decoder(SETTINGS, False, 180, shown, []) as decoder:
            held.append(decoder)
            decoder.fill(np.zeros((90, 3, SIDE, SIDE), np.uint8), [_pixels.of_file(path) for path in paths[:90]])
            assert [process._process.poll() for process in decoder._processes] == [None, None]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(process._process.poll() is not None for process in held[0]._processes)


def test_few_files_large_ones_and_one_core_need_no_process(
    paths: list[str], processes_for_few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_decoder, "Process", lambda: pytest.fail("a process was started"))
    sources = [_pixels.of_file(path) for path in paths[:90]]
    images = np.zeros((90, 3, SIDE, SIDE), np.uint8)
    for total, cores, seconds in ((99, 2, 1e9), (100, 1, 1e9), (100, 2, 0.0)):
        monkeypatch.setattr(_decoder, "usable_cores", lambda cores=cores: cores)
        monkeypatch.setattr(_decoder, "SMALL_SECONDS", seconds)
        with bar("x", total) as shown, Decoder(SETTINGS, False, total, shown, []) as decoder:
            decoder.fill(images, sources)


def test_a_large_folder_of_small_images_is_mapped_as_before(
    tmp_path: Path, processes_for_few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of 16 bits with the white of the data, which the processes are told."""
    random = np.random.default_rng(1)
    for part, count in (("train", 120), ("test", 3)):
        for number in range(count):
            (folder := tmp_path / "mine" / part / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 4096, (8, 8)).astype(np.uint16)).save(folder / f"{number:03}.png")
    monkeypatch.setattr(_mapped, "CHUNK", 40)
    data_set = ImageFolder(folder="mine", side=8, channels=1, white="data")
    images = data_set.load(tmp_path)
    files = [path for name in "ab" for path in sorted((tmp_path / "mine" / "train" / name).iterdir())]
    raw = np.stack([np.asarray(Image.open(path)) for path in files]).astype(float)
    np.testing.assert_array_equal(images.train_images[:, 0], np.rint(raw / raw.max() * 255))
