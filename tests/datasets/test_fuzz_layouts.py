"""Shards and tables of images that are damaged anywhere are read whole or refused in words.

The long form: python benchmarks/fuzz.py layouts
"""

import io
import tarfile
from pathlib import Path

from hypothesis import strategies as st
from PIL import Image

from cl_semisup.datasets.image_table import ImageTable
from cl_semisup.datasets.webdataset import WebDataset
from cl_semisup.errors import InputError
from tests.helpers.fuzzing import MARKS, damaged, fuzz, hidden

SIDE = 4


def picture() -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(held, "PNG")
    return held.getvalue()


PICTURE = picture()


def shard(names: list[str]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as made:
        for number, name in enumerate(names):
            for ending, content in (("png", PICTURE), ("cls", b"%d" % (number % 2)), ("json", b'{"label": 1}')):
                info = tarfile.TarInfo(f"{name}.{ending}")
                info.size = len(content)
                made.addfile(info, io.BytesIO(content))
    return held.getvalue()


SHARD = shard(["a/0", "a/1", "a/" + "long" * 40, "ä"])
NUMBERS = st.sampled_from([b"00000000000\0", b"77777777777\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-1", b"\0" * 12])
KINDS = st.sampled_from([b"0", b"1", b"2", b"5", b"6", b"7", b"L", b"K", b"x", b"g", b"S", b"\0", b"z"])


@st.composite
def headers_that_lie(draw: st.DrawFn) -> bytes:
    """A shard in which sizes, kinds and sums of some headers are others; the sums are made right again."""
    content = bytearray(SHARD)
    for block in draw(st.lists(st.integers(0, len(SHARD) // 512 - 1), min_size=1, max_size=3)):
        head = content[512 * block : 512 * (block + 1)]
        number, kind = draw(st.none() | NUMBERS), draw(st.none() | KINDS)
        head[124 : 124 + len(number or b"")] = number or b""
        head[156:157] = kind or head[156:157]
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % (sum(head) % 8**6)
        content[512 * block : 512 * (block + 1)] = head
    return bytes(content)


def read(data_set: WebDataset | ImageTable, folder: Path) -> bool:
    try:
        facts, images = data_set.facts(folder), data_set.load(folder)
    except InputError as error:
        assert str(error).startswith((str(folder), "webdataset: ", "image_table: "))
        assert not hidden(str(error))
        return False
    assert images.facts() == facts
    return True


@fuzz("damaged shards of images", content=damaged(SHARD) | headers_that_lie(), label=st.sampled_from(["cls", "json"]))
def test_a_damaged_shard_is_read_whole_or_refused(content: bytes, label: str, tmp_path: Path) -> bool:
    (tmp_path / "train.tar").write_bytes(content)
    (tmp_path / "test.tar").write_bytes(SHARD)
    return read(WebDataset("train.tar", "test.tar", label=label, side=SIDE), tmp_path)


CELLS = st.sampled_from(["0.png", "1.png", "a", "b", "train", "test", "val", "-1", "0", "1", "", " ", "../0.png", "/dev/zero", "pipe",
                         "0.png/1", "x" * 5000, '"', '"a', "a\x00b", "=1+1", "\u0661", "1e5", *MARKS])  # fmt: skip


@fuzz(
    "tables of images with odd cells",
    rows=st.lists(st.lists(CELLS, max_size=4), max_size=5),
    sound=st.booleans(),
    delimiter=st.sampled_from(",;\t"),
    suffix=st.sampled_from(["csv", "tsv", "txt"]),
)
def test_a_table_with_odd_cells_is_read_whole_or_refused(
    rows: list[list[str]], sound: bool, delimiter: str, suffix: str, tmp_path: Path
) -> bool:
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(PICTURE)
    first = [[f"{i}.png", "ab"[i], part] for part in ("train", "test") for i in range(2)] if sound else []
    lines = [delimiter.join(row) for row in [["file", "label", "split"], *first, *rows]]
    (tmp_path / f"t.{suffix}").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    return read(ImageTable(f"t.{suffix}", ".", side=SIDE), tmp_path)
