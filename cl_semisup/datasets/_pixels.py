"""How an image file becomes bytes (channels, side, side): the settings that data sets of image files share."""

import io
import logging
import math
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, BinaryIO, ClassVar, Literal, NamedTuple

import numpy as np
from annotated_types import Gt, Interval
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cl_semisup.data import memory_limit
from cl_semisup.datasets import _other_formats
from cl_semisup.errors import DataError, InputError, described
from cl_semisup.system import fetched, files

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # not PIL's EPS, which would start a program
STACKS = ("GIF", "TIFF", "WEBP", "PNG")  # that may hold several frames; a telephone's JPEG may hold a small copy
DECODING_BYTES = 12  # of memory that a pixel takes while it is decoded
LARGE_PIXELS = 4_000_000  # images with more are decoded one at a time
WHITE_16_BIT = 65_535
WHITE_REMEDY = "Set `white` to the value that stands for white, or to `data` for the brightest training pixel"

# Views of natural images: SimCLR's, as `_sources.NATURAL`; images without colours have no colour to change
COLOURLESS: dict[str, Any] = {"crop_area": 0.2, "flip": 0.5, "jitter": 0.0}
NATURAL: dict[str, Any] = {
    "crop_area": 0.2,
    "flip": 0.5,
    "jitter": 0.8,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "grayscale": 0.2,
}
_one_large_image = Lock()
for _name in ("PIL.TiffImagePlugin", "tifffile"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # what they log of a broken file is raised too


@dataclass(frozen=True, kw_only=True)
class PixelSettings:
    """Settings of data sets that are made of image files.

    Args:
        side: pixels of a side after resizing, which is bilinear and antialiased
        channels: 3 for RGB, 1 for grey (colours become their luma, ITU-R 601), or the number of bands of TIFF files; 3
            if not set
        fit: how an oblong image becomes a square: its centre, the whole between black bars, or squashed; its centre if
            not set
        white: pixel value that stands for white, or `data` for the brightest pixel of the training images, beyond which
            others are clipped; if not set 255 in files of 8 bits and 65535 in those of 16, others being refused
        orientation: turn photographs as their EXIF tag says; not if not set
        frames: what to do with a file of several frames or pages, refuse it or take its first; refuse if not set
        stored_side: training images are stored at this larger side too, and training views are crops of these, resized
            to `side`; if not set, crops are of images of `side`
    """

    side: Annotated[int, Interval(ge=4, le=1024)] = 64
    channels: Annotated[int, Interval(ge=1, le=16)] | None = None
    fit: Literal["crop", "pad", "squash"] | None = None
    white: Annotated[float, Gt(0)] | Literal["data"] | None = None
    orientation: bool | None = None
    frames: Literal["refuse", "first"] | None = None
    stored_side: Annotated[int, Interval(ge=5, le=1024)] | None = None
    views: ClassVar[dict[str, Any]] = NATURAL

    def __post_init__(self) -> None:
        if self.stored_side is not None and self.stored_side <= self.side:
            got = f"Got {self.stored_side} for a side of {self.side}"
            raise InputError(f"stored_side: must exceed side. {got}. Raise it, or leave it out.")
        if self.bands != 3:  # the default views of this one object
            object.__setattr__(self, "views", COLOURLESS)

    @property
    def bands(self) -> int:
        """Channels of an image."""
        return self.channels or 3

    @property
    def pixel_settings(self) -> "PixelSettings":
        """These settings alone."""
        return PixelSettings(**{field.name: getattr(self, field.name) for field in fields(PixelSettings)})

    @property
    def larger(self) -> "PixelSettings | None":
        """These settings with the larger side that training views are cropped from, if there is one."""
        if self.stored_side is None:
            return None
        return replace(self.pixel_settings, side=self.stored_side, stored_side=None)


class Source(NamedTuple):
    """An image file, wherever it lies: its name for messages, and what opens it (OSError if that fails).

    Another process can open it too if it is a file of its own, which lies at `path`.
    """

    name: str
    open: Callable[[], BinaryIO]
    path: str | None = None


def of_file(path: Path | str) -> Source:
    """A file of its own. Pipes and devices are refused when it is opened."""
    return Source(str(path), partial(files.open_regular, path), str(path))


def decode(source: Source, s: PixelSettings, clip: bool = False) -> NDArray[np.uint8]:
    """(channels, side, side) of one image; DataError with its name if that cannot be.

    With `clip` pixels brighter than `white` are white; else they are refused.
    """
    return _opened(source, s, lambda image: _square(image, s, source.name, clip))


def brightest(source: Source, s: PixelSettings) -> float:
    """The largest pixel value of one image."""
    return _opened(source, s, lambda image: float(_values(image, s).max()))


def _opened(source: Source, s: PixelSettings, use: Callable[[Any], Any]) -> Any:
    """`use` of the image opened by PIL, whose header is checked. Anything that goes wrong is a DataError."""
    limit, name = Image.MAX_IMAGE_PIXELS, source.name
    try:
        file = source.open()
    except OSError as error:
        reason = str(error.strerror or error).rpartition("Got ")[2]
        raise DataError(f"{name}: must be a file that can be read. Got {reason}. Mend or remove it.") from None
    try:
        with file, _image(file, s, name) as image:
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError
            memory_limit.require(image.width * image.height * DECODING_BYTES * max(1, s.bands // 3), name)
            if s.frames != "first" and (frames := _frames(image)):
                rule = "must hold one image"
                remedy = "Set `frames: first` to use the first of each file"
                raise DataError(f"{name}: {rule}. Got {frames} frames or pages. {remedy}, or split it.")
            if s.white not in (None, 255) and _is_deep_colour(image):
                rule, got = "white is for grey of 16 bits and for 8 bits", "colours of 16 bits, of which PIL reads 8"
                remedy = "Leave `white` out, or store 8 bits, for instance `round(255 / white * x)`"
                raise DataError(f"{name}: {rule}. Got {got}. {remedy}.")
            with _one_large_image if image.width * image.height > LARGE_PIXELS else nullcontext():
                return use(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        rule = f"must have at most {limit} pixels, PIL's limit against decompression bombs"
        raise DataError(f"{name}: {rule}. Got more. Shrink or remove it.") from None
    except (DataError, MemoryError):
        raise
    except Exception as error:  # PIL's decoders raise nearly anything on broken files
        reason = described(error).rstrip(".").replace(repr(file), repr(name))
        remedy = _other_formats.image_remedy(name)
        with suppress(OSError, ValueError), source.open() as again:
            got, otherwise = fetched.instead(again)
            reason, remedy = (got, otherwise) if got else (reason, remedy)
        raise DataError(f"{name}: must be a whole image file. Got {reason}. {remedy}.") from error


def _image(file: BinaryIO, s: PixelSettings, name: str) -> Any:
    """The image opened by PIL; for many bands one that tells the same of a TIFF that tifffile opens."""
    return Image.open(file, formats=FORMATS) if s.bands in (1, 3) else _Bands(file, name)


def _frames(image: Any) -> str:
    """How many frames or pages there are, if several, else "". A chain of a million pages is not walked to its end."""
    if image.format not in STACKS or not getattr(image, "is_animated", False):
        return ""
    return "several" if image.format in ("GIF", "TIFF") else str(image.n_frames)


def _is_deep_colour(image: Any) -> bool:
    """Has it more than 8 bits of red, green and blue? PIL keeps the upper 8, which are black where white is 4095."""
    return getattr(image, "mode", "") in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in image.tile)


class _Bands:
    """A TIFF of any number of bands, which PIL does not read: its size and pages, and (height, width, bands)."""

    format = "TIFF"

    def __init__(self, file: BinaryIO, name: str):
        try:
            import tifffile
        except ImportError:
            rule = "images of other than 1 or 3 channels need the package tifffile"
            raise DataError(f"channels: {rule}. Got none. Run: pip install 'cl-semisup[tiff]'.") from None
        memory_limit.require(file.seek(0, io.SEEK_END), name)
        file.seek(0)
        try:
            self._file = tifffile.TiffFile(io.BytesIO(file.read()))  # it cannot use a file opened by descriptor
        except tifffile.TiffFileError:
            raise ValueError("no TIFF file, as images of other than 1 or 3 channels must be") from None
        series = self._file.series
        shape, axes = series[0].shape, series[0].axes
        if len(axes) > 3 or not {"Y", "X"} <= set(axes):
            raise ValueError(f"axes {axes} {shape}, which are not height, width and bands")
        memory_limit.require(DECODING_BYTES * math.prod(shape) * series[0].dtype.itemsize, name)
        self.n_frames, self.is_animated = len(series), len(series) > 1
        self.height, self.width = shape[axes.index("Y")], shape[axes.index("X")]
        self._axes = axes

    def __enter__(self) -> "_Bands":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def pixels(self) -> NDArray[Any]:
        """(height, width, bands)."""
        array = np.asarray(self._file.series[0].asarray())
        if array.ndim == 2:
            return array[:, :, None]
        (band,) = (n for n, axis in enumerate(self._axes) if axis not in "YX")  # samples of a pixel, or pages
        return np.moveaxis(array, band, -1)


def _values(image: Any, s: PixelSettings) -> NDArray[Any]:
    """(height, width) or (height, width, bands): the pixels as they are in the file, for a `white` of their own."""
    if isinstance(image, _Bands):
        return image.pixels()
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    return np.asarray(_eight_bits(image, s.bands))


def _square(image: Any, s: PixelSettings, name: str, clip: bool) -> NDArray[np.uint8]:
    """(channels, side, side)."""
    if isinstance(image, _Bands):
        bands = image.pixels()
        if bands.shape[2] != s.bands:
            raise DataError(f"{name}: must have {s.bands} bands. Got {bands.shape[2]}. Set `channels`, or remove it.")
        scaled = to_bytes(bands, s.white, name, clip)
        return np.stack([np.asarray(_fitted(Image.fromarray(band), s)) for band in np.moveaxis(scaled, -1, 0)])
    if s.orientation:
        image = ImageOps.exif_transpose(image)
    deep = image.mode == "F" or image.mode.startswith("I")
    pil_image = image if deep else _eight_bits(image, s.bands)
    if deep or s.white is not None:
        pil_image = Image.fromarray(to_bytes(np.asarray(pil_image), s.white, name, clip))
    if deep:
        pil_image = pil_image.convert("RGB" if s.bands == 3 else "L")
    pixels = np.asarray(_fitted(pil_image, s))
    return pixels[None] if s.bands == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _eight_bits(image: Image.Image, channels: int) -> Image.Image:
    """RGB or grey of an image of 8 bits. Transparency is dropped."""
    if "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns when a palette's transparency is dropped in one step
    if channels == 1 and image.mode in ("L", "LA", "1"):
        return image.convert("L")
    if image.mode != "RGB":  # else PIL copies it
        image = image.convert("RGB")
    return image.convert("L") if channels == 1 else image


def to_bytes(values: NDArray[Any], white: float | str | None, name: str, clip: bool = False) -> NDArray[np.uint8]:
    """Pixels of any kind as bytes, 0 staying black and `white` becoming 255; rounded to the nearest.

    Raises DataError for pixels that are negative, not finite, or brighter than `white` (unless `clip`), and for a white
    that the kind of pixel does not tell.
    """
    if values.dtype == np.uint8 and white in (None, 255):
        return values
    lowest, highest = (float(f(values)) for f in (np.min, np.max))  # NaN if any is
    if not (math.isfinite(highest) and lowest >= 0):
        got = f"{values.dtype} from {lowest:g} to {highest:g}"
        finite = math.isfinite(lowest) and math.isfinite(highest)
        remedy = "Shift them, for instance `x - x.min()`" if finite else "Mend them, for instance `np.nan_to_num(x)`"
        raise DataError(f"{name}: must have pixels from 0, which is black, and finite ones. Got {got}. {remedy}.")
    if white is None:
        if values.dtype.kind == "f" or highest > WHITE_16_BIT:
            rule = "must have pixels of 8 or 16 bits, or a white that is told"
            raise DataError(f"{name}: {rule}. Got {values.dtype} up to {highest:g}. {WHITE_REMEDY}.")
        white = 255 if values.dtype == np.uint8 else WHITE_16_BIT
    if highest > float(white) and not clip:
        rule = f"must have no pixel brighter than white, {float(white):g}"
        raise DataError(f"{name}: {rule}. Got {highest:g}. Raise `white`.")
    scaled = np.rint(np.minimum(values / float(white), 1.0) * 255)
    return scaled.astype(np.uint8)


def _fitted(image: Image.Image, s: PixelSettings) -> Image.Image:
    """(side, side), as the setting `fit` says."""
    size, method = (s.side, s.side), Image.Resampling.BILINEAR
    if image.size == size:  # else PIL copies it
        return image
    if s.fit == "squash":
        return image.resize(size, method)
    if s.fit == "pad":
        return ImageOps.pad(image, size, method)
    short = min(image.size)  # as resizing the shorter side and cropping, but a ribbon of 1 x 10,000 pixels never grows
    left, top = (image.width - short) / 2, (image.height - short) / 2
    return image.resize(size, method, box=(left, top, left + short, top + short))
