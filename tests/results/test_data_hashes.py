"""Records of other data are stale, and whether data are other is judged by the files' stamps first."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cl_semisup import cli
from cl_semisup.errors import DataError
from cl_semisup.results import data_hashes, protocol, records, snapshot
from cl_semisup.results.data_hashes import DataHashes
from cl_semisup.scheduling import scheduler
from cl_semisup.suite import suite
from cl_semisup.weights import reader
from tests.helpers.records import run, write

ARRAYS: dict[str, Any] = {"arrays": {"file": "x.npz"}}
FOLDER: dict[str, Any] = {"image_folder": {"folder": "pets", "side": 8}}


def arrays(folder: Path, seed: int = 0, turn: int = 0) -> Path:
    """An archive of 40 training images; `turn` moves every label."""
    folder.mkdir(exist_ok=True)
    draw, labels = np.random.default_rng(seed), (np.arange(40) + turn) % 4
    images = draw.integers(0, 255, (40, 8, 8), np.uint8)
    path = folder / "x.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:8], test_labels=labels[:8])
    return path


def pets(folder: Path) -> Path:
    for number, name in enumerate(("train/cat/1", "train/cat/2", "train/dog/3", "train/dog/4", "test/cat/1")):
        path = folder / "pets" / f"{name}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(path)
    return folder / "pets"


def swap(a: Path, b: Path) -> None:
    """With `mv`: sizes and modification times stay with the pixels."""
    a.rename(a.with_suffix(".tmp"))
    b.rename(a)
    a.with_suffix(".tmp").rename(b)


def rewritten(path: Path, write: Callable[[], object]) -> None:
    """Write again and set the old times."""
    old = path.stat()
    write()
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


def test_the_hash_is_that_of_the_images_and_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays(tmp_path)
    expected = data_hashes.load(ARRAYS, str(tmp_path)).content_hash
    monkeypatch.setattr(data_hashes, "load", None)  # would fail if it were called
    assert data_hashes.current(ARRAYS, str(tmp_path)) == expected
    assert data_hashes.is_known(str(tmp_path)) and not data_hashes.is_known(str(tmp_path / "other"))


@pytest.mark.parametrize("change", [{"seed": 1}, {"turn": 1}])
def test_other_pixels_or_labels_are_noticed_though_size_and_time_stay(change: dict[str, int], tmp_path: Path) -> None:
    path = arrays(tmp_path)
    before = data_hashes.current(ARRAYS, str(tmp_path))
    rewritten(path, lambda: arrays(tmp_path, **change))
    assert data_hashes.current(ARRAYS, str(tmp_path)) not in (before, None)
    rewritten(path, lambda: arrays(tmp_path))
    assert data_hashes.current(ARRAYS, str(tmp_path)) == before


CHANGES: dict[str, Callable[[Path], object]] = {
    "swapped": lambda pets: swap(pets / "train/cat/1.bmp", pets / "train/dog/3.bmp"),
    "swapped in a class": lambda pets: swap(pets / "train/cat/1.bmp", pets / "train/cat/2.bmp"),
    "moved": lambda pets: (pets / "train/cat/1.bmp").rename(pets / "train/dog/1.bmp"),
    "deleted": lambda pets: (pets / "train/cat/1.bmp").unlink(),
    "added": lambda pets: Image.new("RGB", (8, 8), (9, 9, 9)).save(pets / "train/dog/9.bmp"),
    "test moved": lambda pets: (pets / "test/cat").rename(pets / "test/dog"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_image_that_moves_or_goes_is_noticed(change: str, tmp_path: Path) -> None:
    folder = pets(tmp_path)
    before = data_hashes.current(FOLDER, str(tmp_path))
    CHANGES[change](folder)
    assert data_hashes.current(FOLDER, str(tmp_path)) not in (before, None)


def test_data_that_are_not_there_cannot_be_judged_and_broken_ones_are_other(tmp_path: Path) -> None:
    for named in (ARRAYS, FOLDER, {"mnist": {}}, {"digits": {}}):
        assert DataHashes(str(tmp_path)).current(named) is None
    arrays(tmp_path).write_bytes(b"junk")
    (pets(tmp_path) / "train/cat/1.bmp").write_bytes(b"junk")
    for named in (ARRAYS, FOLDER):
        assert DataHashes(str(tmp_path)).current(named) == data_hashes.UNREADABLE
        assert DataHashes("").current(named) is None
        with pytest.raises(DataError):
            data_hashes.current(named, str(tmp_path))
    assert DataHashes(str(tmp_path)).current({"arrays": {"file": 5}}) == data_hashes.UNREADABLE


def test_without_a_cache_the_hash_is_computed_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    before = data_hashes.current(ARRAYS, str(tmp_path))
    assert before == data_hashes.current(ARRAYS, str(tmp_path))
    arrays(tmp_path, seed=1)
    assert data_hashes.current(ARRAYS, str(tmp_path)) != before


def test_data_of_probes_count_too_and_two_of_one_name_are_both_hashed(tmp_path: Path) -> None:
    arrays(tmp_path)
    pets(tmp_path)
    one = run(probes={"transfer": {"datasets": [ARRAYS, FOLDER, {"arrays": {"file": "y.npz"}}], "images": 9}})
    (tmp_path / "x.npz").rename(tmp_path / "y.npz")
    arrays(tmp_path)
    hashes = protocol.probed_hashes(one, DataHashes(str(tmp_path)).current)
    assert hashes.keys() == {"arrays", "image_folder"} and "+" in hashes["arrays"]
    record = records.read(write(tmp_path / "results", one))
    record["protocol"]["settings"]["probed_data"] = hashes
    assert protocol.stale_parts(record, DataHashes(str(tmp_path))) == []
    swap(tmp_path / "pets/train/cat/1.bmp", tmp_path / "pets/train/dog/3.bmp")
    assert protocol.stale_parts(record, DataHashes(str(tmp_path))) == ["data of image_folder"]
    arrays(tmp_path, seed=1)
    assert protocol.stale_parts(record, DataHashes(str(tmp_path))) == ["data of arrays", "data of image_folder"]
    assert protocol.stale_parts(record, DataHashes(str(tmp_path / "elsewhere"))) == []
    assert protocol.stale_parts(record) == []


def test_check_run_and_report_name_the_command_for_other_data(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("s.yaml")
    small = text.replace("batch_size: 128", "batch_size: 16").replace("[nt_xent, clop]", "nt_xent")
    path.write_text(small.replace("digits", "{arrays: {file: x.npz}}"))
    arrays(tmp_path / "v1")
    arrays(tmp_path / "v2", seed=1)
    runs = suite.read(path, "v1").runs
    for each in runs:
        write(Path("results"), each, made={"data": data_hashes.current(ARRAYS, "v1")})
    line = (
        "2 records are stale (data of arrays changed since). Do them again: `python benchmark.py s.yaml --data-dir v{}"
    )

    def said(*arguments: str) -> str:
        assert cli.main(arguments) == 0
        return " ".join(capsys.readouterr().out.split())

    assert "stale" not in said("check", "s.yaml", "--data-dir", "v1")
    assert "stale" not in said("run", "s.yaml", "--data-dir", "v1")
    assert line.format(2) + " --redo stale`." in said("check", "s.yaml", "--data-dir", "v2")
    assert line.format(2) + " --redo stale`." in said("run", "s.yaml", "--data-dir", "v2")
    assert "2 stale runs left out (data of arrays changed since)" in said("report", "s.yaml", "--data-dir", "v2")
    assert scheduler.missing(Path("results"), runs, "stale", "v1") == []
    arrays(tmp_path / "v1", turn=1)
    assert scheduler.missing(Path("results"), runs, "stale", "v1") == list(runs)
    checked = said("check", "s.yaml", "--data-dir", "v1")
    assert line.format(1) in checked and "Nothing is left to do" not in checked
    said("run", "s.yaml", "--data-dir", "v1")
    assert "2 stale runs left out (data of arrays changed since)" in said("report", "s")
    (tmp_path / "v1" / "x.npz").unlink()
    assert "stale" not in said("report", "s")


def test_a_strangers_snapshot_makes_no_report_read_a_folder_outside(tmp_path: Path) -> None:
    whole = snapshot.SuiteSnapshot("made", "made.yaml", "Which?", "", "linear_top1", "hash", (run(),))
    arrays(tmp_path / "private")
    for folder, read in (("data", "data"), ("../x", ""), (str(tmp_path / "private"), "")):
        replace(whole, data_folder=folder).save(tmp_path / "results")
        assert snapshot.load(tmp_path / "results", "made").data_folder == read
    data_hashes.current(ARRAYS, str(tmp_path / "private"))  # this user has read it now
    assert snapshot.load(tmp_path / "results", "made").data_folder == str(tmp_path / "private")


def test_broken_images_are_counted_before_check_finds_no_fault(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = pets(tmp_path / "data") / "train" / "dog"
    small = text.replace("batch_size: 128", "batch_size: 2").replace("[nt_xent, clop]", "nt_xent")
    small = small.replace("label_fraction: 0.1", "label_fraction: 0.5")
    Path("s.yaml").write_text(small.replace("digits", "{image_folder: {folder: pets, side: 8}}"))
    assert cli.main(["check", "s.yaml"]) == 0
    out, err = capsys.readouterr()
    lacking = "the test images lack 1 of 2 classes ('dog'); scores are of the others."
    assert "no fault found" in out and err == f"s.yaml:2:11: datasets: {lacking}\n"
    for number in range(12):
        (folder / f"{number:02}.png").write_bytes(b"no image")
    for command in ("check", "run"):
        assert cli.main([command, "s.yaml"]) == cli.BAD_INPUT
        out, err = capsys.readouterr()
        assert "no fault found" not in out
        lines = [line for line in err.splitlines() if lacking not in line]
        assert [line.partition(":")[0] for line in lines[:10]] == [
            f"data/pets/train/dog/{number:02}.png" for number in range(10)
        ]
        assert lines[10:] == ["image_folder: 12 files are broken; the first 10 are named."]


def test_check_reads_archives_and_the_data_of_probes_whole(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = arrays(tmp_path / "data")
    probes = "probes: {transfer: {datasets: {arrays: {file: x.npz}}}}\n"
    Path("s.yaml").write_text(text + probes)
    content = bytearray(path.read_bytes())
    content[300] ^= 1  # in the pixels, where only the archive's checksum tells
    path.write_bytes(content)
    assert cli.main(["check", "s.yaml"]) == cli.BAD_INPUT
    out, err = capsys.readouterr()
    assert "no fault found" not in out and "data/x.npz: must be an .npz archive that can be read" in err


def test_other_weights_under_the_same_name_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(3)}, "w.pt")
    found = data_hashes.current_weights("w.pt")
    path = write(tmp_path / "r", run(), made={"weights": {"w.pt": found}})
    record = records.read(path)
    assert protocol.stale_parts(record, DataHashes("data")) == []
    rewritten(Path("w.pt"), lambda: torch.save({"w": torch.zeros(3)}, "w.pt"))
    assert protocol.stale_parts(record, DataHashes("data")) == ["weights of w.pt"]
    assert protocol.stale_parts(record, DataHashes("")) == protocol.stale_parts(record) == []
    Path("w.pt").write_bytes(b"junk")
    assert protocol.stale_parts(record, DataHashes("data")) == ["weights of w.pt"]
    Path("w.pt").unlink()
    assert protocol.stale_parts(record, DataHashes("data")) == []


def test_a_strangers_record_makes_nobody_read_weights_outside_the_folder(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(3)}, tmp_path / "w.pt")
    assert DataHashes("data").current_weights(str(tmp_path / "w.pt")) is None
    assert DataHashes("data").current_weights("../w.pt") is None


def test_a_weights_hash_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(3)}, "w.pt")
    found = data_hashes.current_weights("w.pt")
    monkeypatch.setattr(reader, "read", None)  # would fail if it were called
    assert data_hashes.current_weights("w.pt") == found
