"""Files that were not copied whole, and shards that hold more than is read: told, and never read as if whole."""

import io
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cl_semisup import plugins
from cl_semisup.datasets import _processes
from cl_semisup.errors import DataError, SuiteError
from cl_semisup.scheduling import suite_run


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def tar(path: Path, endings: tuple[str, ...] = ("png",), more: tuple[str, ...] = ()) -> list[int]:
    """A shard of six keys with an image for each ending; the places where its members end."""
    members = {f"{key}.{ending}": png(10 * key + n) for key in range(6) for n, ending in enumerate(endings)}
    members |= {f"{key}.cls": b"%d" % (key % 2) for key in range(6)} | dict.fromkeys(more, b"x")
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(members):
            member = tarfile.TarInfo(name)
            member.size = len(members[name])
            archive.addfile(member, io.BytesIO(members[name]))
    with tarfile.open(path) as archive:
        return [-(-(member.offset_data + member.size) // 512) * 512 for member in archive]


def shards(**settings: Any) -> Any:
    return plugins.load("datasets", "webdataset")(**{"train": "s*.tar", "test_fraction": 0.34, "side": 8} | settings)


def refusal(data: Any, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        data.facts(folder)
    return str(caught.value)


def test_a_shard_that_is_cut_off_between_two_members_is_refused(tmp_path: Path) -> None:
    ends = tar(tmp_path / "s.tar")
    whole = (tmp_path / "s.tar").read_bytes()
    expected = shards().load(tmp_path).train_images
    for place in (ends[3], ends[-1]):
        (tmp_path / "s.tar").write_bytes(whole[:place])
        got = f"the end of the file at byte {place:,} without the block of zeros that ends a tar file"
        assert f"s.tar: must be a whole tar file. Got {got}. It is cut off" in refusal(shards(), tmp_path)
    with open(tmp_path / "s.tar", "ab") as file:  # the line that the message names
        file.write(bytes(1024))
    assert (shards().load(tmp_path).train_images == expected).all()


def test_a_damaged_header_and_a_second_shard_behind_the_first_are_refused(tmp_path: Path) -> None:
    ends = tar(tmp_path / "s.tar")
    whole = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[: ends[3]] + b"?" + whole[ends[3] + 1 :])
    assert f"Got a header at byte {ends[3]:,} that is damaged. Copy it again." in refusal(shards(), tmp_path)
    (tmp_path / "s.tar").write_bytes(whole + whole)
    assert f"Got more behind its end at byte {ends[-1]:,}" in refusal(shards(), tmp_path)


def test_keys_with_several_images_need_a_setting_and_what_is_not_used_is_told(tmp_path: Path) -> None:
    tar(tmp_path / "s.tar", ("left.png", "right.png"), more=("README.md",))
    rule = "needs `image`, as a key holds several images. Got 'left.png', 'right.png'. Set `image: left.png`."
    lines = refusal(shards(), tmp_path).splitlines()
    assert lines == [f"{tmp_path}/s.tar: {key}: {rule}" for key in range(6)]
    images, layout = shards(image="right.png", folds=3, test_fraction=None), shards(image="left.png").layout(tmp_path)
    assert images.load(tmp_path).train_images[:, 0, 0, 0].tolist() == [1, 11, 21, 31, 41, 51]
    assert layout.unused == (".right.png",)
    assert layout.notes == (f"keys without an image: 1, such as {tmp_path}/s.tar: README.",)
    assert "must hold images, <key>.up.png. Got none in" in refusal(shards(image="up.png"), tmp_path)
    tar(tmp_path / "s.tar", ("png", "jpg"))
    assert "Got 'jpg', 'png'. Set `image: jpg`." in refusal(shards(), tmp_path)


def test_every_offender_has_a_line_of_its_own_in_a_suite(tmp_path: Path) -> None:
    tar(tmp_path / "s.tar", ("left.png", "right.png"))
    tiny = (Path(__file__).parents[1] / "tiny.yaml").read_text()
    chosen = "datasets: {webdataset: {train: 's.tar', test_fraction: 0.34}}"
    (tmp_path / "s.yaml").write_text(tiny.replace("datasets: digits", chosen))
    with pytest.raises(SuiteError) as caught:
        suite_run.read(str(tmp_path / "s.yaml"), str(tmp_path))
    found = [problem for problem in caught.value.problems if "needs `image`" in problem]
    assert len(found) == 6 and all(re.match(r".*s\.yaml:\d+:\d+: datasets: .*s\.tar: \d: ", line) for line in found)


def test_a_table_of_arrow_that_is_cut_off_between_two_batches_is_refused(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; it is in the extra `hf`")
    rows = {"image": [png(n % 250) for n in range(30)], "label": [n % 2 for n in range(30)]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "d")
    (table,) = (tmp_path / "d").glob("*.arrow")
    data = plugins.load("datasets", "huggingface")(folder="d", test_fraction=0.2, side=8)
    assert data.facts(tmp_path).train == 24
    whole = table.read_bytes()
    table.write_bytes(whole[:-8])  # pyarrow reads it as if whole
    got = f"{len(whole) - 8:,} bytes without the mark that ends it. Copy it again."
    assert f"{table.name}: must be a whole table of Arrow. Got {got}" in refusal(data, tmp_path)


def test_parquet_files_that_are_not_all_there_are_told(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; it is in the extra `hf`")
    (tmp_path / "d").mkdir()
    rows = {"image": [png(n) for n in range(4)], "label": [0, 1, 0, 1]}
    for name in ("train-00001-of-00003", "test-00000-of-00001"):
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "d" / f"{name}.parquet")
    notes = plugins.load("datasets", "huggingface")(folder="d").layout(tmp_path).notes
    assert notes == (f"1 of the 3 files of {tmp_path}/d/train are there.",)


def test_images_that_a_table_does_not_name_are_told(tmp_path: Path) -> None:
    for number in range(5):
        (path := tmp_path / "f" / "a" / f"{number}.png").parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    (tmp_path / "f" / "a" / "notes.txt").write_text("x")
    lines = [f"a\\{number}.png,{number % 2}" for number in range(5)]
    data = plugins.load("datasets", "image_table")(csv="t.csv", folder="f", folds=2, side=8)
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *lines]))
    assert not data.layout(tmp_path).notes
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *lines[:4]]))
    assert data.layout(tmp_path).notes == (f"1 images of {tmp_path}/f are not in the table: 'a/4.png'.",)


def test_an_image_in_an_archive_that_cannot_be_read_is_left_by_a_process(tmp_path: Path) -> None:
    def fails() -> io.BytesIO:
        raise DataError("no image")

    sources = [_processes.Source("x", fails), _processes.Source("y", lambda: io.BytesIO(png(7)))]
    assert [_processes._content(source) for source in sources] == [b"", png(7)]
    images, process = np.zeros((2, 3, 8, 8), np.uint8), _processes.Process()
    try:
        assert process.fill(images, sources, _processes.PixelSettings(side=8), False) == [0]
    finally:
        process.end()
    assert images[:, 0, 0, 0].tolist() == [0, 7]
