"""Data that is damaged anywhere is read whole or refused in words, never half and never as code.

The long form: python benchmarks/fuzz.py data
"""

import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from cl_semisup.datasets import _pixels, _sources
from cl_semisup.datasets.image_folder import ImageFolder
from cl_semisup.errors import DataError
from tests.helpers.fuzzing import damaged, fuzz

SIDE = 8


def archive() -> bytes:
    held = io.BytesIO()
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (12, 4, 4), dtype=np.uint8)
    labels = np.arange(12) % 3
    np.savez_compressed(held, train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels)
    return held.getvalue()


def image(kind: str) -> bytes:
    held = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(held, kind)
    return held.getvalue()


ARCHIVE = archive()
IMAGES = [image(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")]


@fuzz("damaged `.npz`", short=200, content=damaged(ARCHIVE))
def test_a_damaged_archive_is_read_whole_or_refused(content: bytes, tmp_path: Path) -> bool:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    try:
        facts, images = _sources.read_archive(path, pixels=False).facts(), _sources.read_archive(path)
    except DataError as error:
        assert str(path) in str(error)
        return False
    assert images.facts() == facts
    return True


@fuzz("damaged images of seven formats", short=200, content=st.sampled_from(IMAGES).flatmap(damaged))
def test_a_damaged_image_is_decoded_to_its_size_or_refused(content: bytes, tmp_path: Path) -> bool:
    path = tmp_path / "image"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's, of odd metadata
        try:
            pixels = _pixels.decode(_pixels.of_file(path), _pixels.PixelSettings(side=SIDE))
        except DataError as error:
            assert str(path) in str(error)
            return False
    assert (pixels.shape, pixels.dtype) == ((3, SIDE, SIDE), np.uint8)
    return True


def test_an_image_of_a_hundred_megapixels_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's own, which would let it pass
        with pytest.raises(DataError, match="must have at most 89478485 pixels"):
            _pixels.decode(_pixels.of_file(tmp_path / "x.png"), _pixels.PixelSettings(side=SIDE))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("name", ["train_images", "train_labels", "classes"])
def test_a_pickle_in_an_archive_is_refused_and_does_not_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arrays = {"train_images": np.zeros((4, 4, 4), np.uint8), "train_labels": np.zeros(4, int)}
    arrays |= {"test_images": arrays["train_images"], "test_labels": arrays["train_labels"]}
    np.savez(tmp_path / "a.npz", allow_pickle=True, **(arrays | {name: np.array([Evil()], dtype=object)}))
    for pixels in (False, True):
        with pytest.raises(DataError, match="must be plain data, not pickled objects"):
            _sources.read_archive(tmp_path / "a.npz", pixels=pixels)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match="must be an .npz archive"):
        _sources.read_archive(tmp_path / "b.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("header", ["{", "{'descr': ('|u1',\n", "{'descr': '|u1', 'shape': (1L,"])
def test_a_header_that_breaks_off_is_told(header: str, tmp_path: Path) -> None:
    """Numpy takes such a header for one of Python 2, and its tokenizer raises an error of its own."""
    text = header.encode().ljust(310)
    content = io.BytesIO(archive())
    with zipfile.ZipFile(content) as whole:
        held = {name: whole.read(name) for name in whole.namelist()}
    held["train_images.npy"] = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as made:
        for name, member in held.items():
            made.writestr(name, member)
    with pytest.raises(DataError, match=r"a.npz: must be an .npz archive that can be read. Got TokenError"):
        _sources.read_archive(tmp_path / "a.npz")


@pytest.mark.parametrize("target", ["1.png", "../a/1.png", "loop"])
def test_a_loop_of_links_in_the_place_of_an_image_is_told(target: str, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        (tmp_path / part / "a" / "0.png").write_bytes(IMAGES[0])
    (tmp_path / "train" / "a" / "1.png").symlink_to(target)
    (tmp_path / "train" / "a" / "loop").symlink_to("1.png")
    with pytest.raises(DataError, match=r"1.png: must be a file that can be read. Got Too many levels"):
        ImageFolder(".", side=SIDE).load(tmp_path)
