"""Settings of pixels: white, fit, channels, bands, orientation and frames, each against PIL and numpy alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cl_semisup.config import grid
from cl_semisup.datasets import _pixels
from cl_semisup.datasets._decoding import Listing
from cl_semisup.datasets._pixels import PixelSettings
from cl_semisup.errors import DataError, InputError

RANDOM = np.random.default_rng(2)


def decoded(path: Path, clip: bool = False, **settings: Any) -> NDArray[np.uint8]:
    return _pixels.decode(_pixels.of_file(path), PixelSettings(**settings), clip)


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        decoded(path, **settings)
    return str(caught.value)


def saved(path: Path, array: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def noise(*shape: int, high: int = 256, dtype: Any = np.uint8) -> NDArray[Any]:
    return RANDOM.integers(0, high, shape).astype(dtype)


# white ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("white", [4095, 4095.0, 65535])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_are_scaled_by_the_white_that_is_told(white: float, ending: str, tmp_path: Path) -> None:
    deep = noise(8, 8, high=4096, dtype=np.uint16)
    path = saved(tmp_path / f"x.{ending}", deep)
    expected = np.array([[round(float(value) * 255 / white) for value in row] for row in deep])
    for channels in (1, 3):
        found = decoded(path, side=8, white=white, channels=channels)
        assert found.shape == (channels, 8, 8) and (found == expected).all()


def test_pixels_brighter_than_white_or_of_unknown_white_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", np.full((4, 4), 5000, np.uint16))
    assert (
        refusal(path, white=4095) == f"{path}: must have no pixel brighter than white, 4095. Got 5000. Raise `white`."
    )
    path = saved(tmp_path / "x.tif", np.full((4, 4), 1.5, np.float32))
    remedy = "Set `white` to the value that stands for white, or to `data` for the brightest training pixel."
    rule = "must have pixels of 8 or 16 bits, or a white that is told"
    assert refusal(path) == f"{path}: {rule}. Got float32 up to 1.5. {remedy}"
    assert (decoded(path, white=3.0, side=4) == 128).all()
    path = saved(tmp_path / "y.tif", np.full((4, 4), 70_000, np.int32))
    assert f"{rule}. Got int32 up to 70000. {remedy}" in refusal(path)
    for value in (-1.0, np.nan, np.inf):
        path = saved(tmp_path / "z.tif", np.array([[0.0, value]], np.float32))
        assert "must have pixels from 0, which is black, and finite ones. Got float32 from" in refusal(path, white=1.0)


def test_the_white_of_the_data_is_their_brightest_training_pixel_and_test_images_are_clipped(tmp_path: Path) -> None:
    train = [saved(tmp_path / f"{n}.png", noise(4, 4, high=top, dtype=np.uint16)) for n, top in enumerate((900, 3000))]
    deep = np.array([[0, 1000], [4000, 60_000]], np.uint16)
    test = saved(tmp_path / "t.png", deep)
    sources = [_pixels.of_file(path) for path in (*train, test)]
    labels = np.zeros(2, np.int64)
    images = Listing(sources[:2], labels, sources[2:], labels[:1], ("a",)).images(
        PixelSettings(side=4, white="data", fit="squash"), "x"
    )
    white = max(int(np.asarray(Image.open(path)).max()) for path in train)
    for image, path in zip(images.train_images, train, strict=True):
        assert (image == np.rint(np.asarray(Image.open(path)) * (255 / white))).all()
    clipped = np.rint(np.minimum(deep * (255 / white), 255)).astype(np.uint8)
    assert (images.test_images[0, 0] == np.asarray(Image.fromarray(clipped).resize((4, 4), 2))).all()


def test_white_is_a_number_or_one_of_two_words() -> None:
    annotation = grid.annotations(PixelSettings)["white"]
    assert grid.canonical(annotation, 4095, "white") == 4095 and grid.canonical(annotation, "data", "white") == "data"
    assert grid.canonical(annotation, None, "white") is None
    for wrong in (0, -1, "dta", True):
        with pytest.raises(InputError, match="white: must be"):
            grid.canonical(annotation, wrong, "white")


# fit ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(20, 12), (12, 20), (16, 16)])
def test_an_oblong_image_is_cropped_padded_or_squashed(size: tuple[int, int], tmp_path: Path) -> None:
    array = noise(*size[::-1], 3)
    path, image = saved(tmp_path / "x.png", array), Image.fromarray(array)
    short, bilinear = min(size), Image.Resampling.BILINEAR
    left, top = (size[0] - short) // 2, (size[1] - short) // 2
    cropped = image.crop((left, top, left + short, top + short))
    expected = np.asarray(cropped.resize((short, short), bilinear))
    assert (decoded(path, side=short, fit="crop").transpose(1, 2, 0) == expected).all()
    assert (decoded(path, side=8, fit="squash").transpose(1, 2, 0) == np.asarray(image.resize((8, 8), bilinear))).all()
    side = max(size)
    bars = np.zeros((side, side, 3), np.uint8)
    up, across = (side - size[1]) // 2, (side - size[0]) // 2
    bars[up : up + size[1], across : across + size[0]] = array
    assert (decoded(path, side=side, fit="pad").transpose(1, 2, 0) == bars).all()


# channels and bands ---------------------------------------------------------------------------------------------------


def test_one_channel_is_the_luma_and_three_of_grey_are_equal(tmp_path: Path) -> None:
    array = noise(8, 8, 3)
    colour = saved(tmp_path / "c.png", array)
    luma = array @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert np.abs(decoded(colour, side=8, channels=1)[0] - luma).max() <= 0.51
    grey = saved(tmp_path / "g.png", array[:, :, 0])
    assert (decoded(grey, side=8, channels=1)[0] == array[:, :, 0]).all()
    assert (decoded(grey, side=8) == array[:, :, 0]).all()


@pytest.mark.parametrize("layout", ["samples", "planes", "pages"])
@pytest.mark.parametrize("bands", [2, 4, 13])
def test_a_tiff_of_many_bands_is_read_whole(layout: str, bands: int, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed; it is in the extra `tiff`")
    array, path = noise(6, 6, bands, high=10_000, dtype=np.uint16), tmp_path / "x.tif"
    first = np.moveaxis(array, -1, 0)
    match layout:
        case "samples":
            tifffile.imwrite(path, array, photometric="minisblack", planarconfig="contig")
        case "planes":
            tifffile.imwrite(path, first, photometric="minisblack", planarconfig="separate")
        case "pages":
            tifffile.imwrite(path, first, photometric="minisblack")
    expected = np.rint(first * (255 / 10_000)).astype(np.uint8)
    assert (decoded(path, side=6, channels=bands, white=10_000) == expected).all()
    smaller = np.stack(
        [np.asarray(Image.fromarray(band).resize((4, 4), Image.Resampling.BILINEAR)) for band in expected]
    )
    assert (decoded(path, side=4, channels=bands, white=10_000) == smaller).all()
    wrong = refusal(path, channels=bands + 2, white=10_000)
    assert wrong == f"{path}: must have {bands + 2} bands. Got {bands}. Set `channels`, or remove it."


def test_bands_of_a_file_that_is_no_tiff_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tifffile", reason="tifffile is not installed; it is in the extra `tiff`")
    path = saved(tmp_path / "x.png", noise(4, 4, 3))
    assert "Got ValueError: no TIFF file, as images of other than 1 or 3 channels must be." in refusal(path, channels=4)
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    assert refusal(path, channels=4) == (
        "channels: images of other than 1 or 3 channels need the package tifffile. Got none. "
        "Run: pip install 'cl-semisup[tiff]'."
    )


def test_images_without_colours_have_views_without_changes_of_colour() -> None:
    assert PixelSettings().views["hue"] > 0
    for channels in (1, 2, 4):
        views = PixelSettings(channels=channels).views
        assert views["jitter"] == 0.0 and not {"brightness", "contrast", "saturation", "hue", "grayscale"} & set(views)
        assert views["crop_area"] == PixelSettings().views["crop_area"]


# orientation and frames -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", range(1, 9))
def test_the_orientation_tag_is_honoured_when_asked(tag: int, tmp_path: Path) -> None:
    array = noise(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = tag
    path = saved(tmp_path / "x.png", array, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert (decoded(path, side=8).transpose(1, 2, 0) == array).all()
    assert (decoded(path, side=8, orientation=True).transpose(1, 2, 0) == upright).all()
    assert (upright == array).all() == (tag == 1)


@pytest.mark.parametrize("ending", ["gif", "tif", "webp", "png"])
def test_a_file_of_several_frames_is_refused_or_its_first_is_used(ending: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((6, 6), value, np.uint8)) for value in (40, 200)]
    path = tmp_path / f"x.{ending}"
    options = {"lossless": True} if ending == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    remedy = "Set `frames: first` to use the first of each file, or split it."
    many = "2" if ending in ("webp", "png") else "several"  # what has no count is not walked to its end
    assert refusal(path) == f"{path}: must hold one image. Got {many} frames or pages. {remedy}"
    assert (decoded(path, side=6, frames="first") == 40).all()


# many files -----------------------------------------------------------------------------------------------------------


def test_ten_broken_files_are_named_and_all_are_counted(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number:02}.png" for number in range(13)]
    for path in paths:
        path.write_bytes(b"junk")
    sources = [_pixels.of_file(path) for path in paths]
    listing = Listing(sources[:12], np.zeros(12, np.int64), sources[12:], np.zeros(1, np.int64), ("a",))
    with pytest.raises(DataError) as caught:
        listing.images(PixelSettings(), "x: y")
    lines = str(caught.value).splitlines()
    assert len(lines) == 11 and lines[-1] == "x: y: 13 images are broken; the first 10 are named."
    assert lines[0].startswith(f"{paths[0]}: must be a whole image file. Got UnidentifiedImageError")


def test_a_pipe_or_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    assert (
        refusal(path) == f"{path}: must be a file that can be read. Got No such file or directory. Mend or remove it."
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.png", noise(20, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 399)
    assert "must have at most 399 pixels, PIL's limit against decompression bombs." in refusal(path)
