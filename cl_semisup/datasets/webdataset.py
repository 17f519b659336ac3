import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

from annotated_types import MinLen

from cl_semisup import files
from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _labels, _pixels, _sources
from cl_semisup.datasets._decoding import Listing, raise_faults
from cl_semisup.datasets._pixels import Source
from cl_semisup.errors import DataError, first_ten

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "ppm", "pgm", "tif", "tiff")
MAX_IMAGE_BYTES = 500_000_000
MAX_LABEL_BYTES = 1_000_000  # of a label, and of what headers hold of a name
LONG_NAMES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


@dataclass(frozen=True)
class WebDataset(_pixels.PixelSettings):
    """Your own images in WebDataset's shards: tar files in which `<key>.jpg` stands beside `<key>.cls`.

    Shards are read in the order of their names, and images in the order in which they stand there. Members that are
    neither an image nor its label are not used. Shards must not be compressed: `gunzip` them.

    Source: the format of github.com/webdataset/webdataset

    Args:
        train: the shards for training, relative to data_dir; `*` stands for any text, `shards/train-*.tar`
        test: the shards for testing
        label: ending of the member that holds the label, a number or a name; or `json`, for its value `label_key`
        label_key: key of the label in a JSON member
    """

    train: Annotated[str, MinLen(1)]
    test: Annotated[str, MinLen(1)]
    label: Annotated[str, MinLen(1)] = "cls"
    label_key: str = "label"

    def facts(self, data_dir: Path) -> Facts:
        return self._listing(data_dir).without_pixels(self).facts()

    def prepare(self, data_dir: Path, download: bool) -> None:
        self.load(data_dir)

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        parts = (self._shards(data_dir, part) for part in ("train", "test"))
        return tuple(path for shards in parts for path in shards)

    def load(self, data_dir: Path) -> Images:
        return self._listing(data_dir).images(self, f"webdataset: {self.train}")

    def _shards(self, data_dir: Path, part: str) -> list[Path]:
        pattern = getattr(self, part)
        _sources.inside(data_dir, pattern, f"webdataset: {part}")
        if "{" in pattern:
            raise DataError(
                f"webdataset: {part}: must be a name or have `*`. Got {pattern!r}. Write `*` for the braces."
            )
        return sorted(data_dir.glob(pattern))

    def _listing(self, data_dir: Path) -> Listing:
        parts: list[tuple[list[Source], list[str]]] = []
        for part in ("train", "test"):
            shards = self._shards(data_dir, part)
            if not shards:
                got = f"no file {data_dir / getattr(self, part)}"
                raise DataError(f"webdataset: {part}: must name shards in {data_dir}. Got {got}. Mend it.")
            parts.append(self._samples(shards))
        (train, train_labels), (test, test_labels) = parts
        labels = _labels.of_text(train_labels, test_labels, None, f"webdataset: {self.train}")
        return Listing(train, labels[0], test, *labels[1:])

    def _samples(self, shards: Sequence[Path]) -> tuple[list[Source], list[str]]:
        """The images and labels of some shards."""
        images: list[Source] = []
        labels: list[str] = []
        faults: list[str] = []
        for shard in shards:
            for key, members in _by_key(shard).items():
                image = next((members[ending] for ending in IMAGES if ending in members), None)
                if image is None:
                    continue
                label = members.get(self.label)
                if label is None:
                    got = first_ten(sorted(members))
                    faults.append(f"{shard}: {key}: must have a member .{self.label}. Got {got}. Set `label`.")
                    continue
                images.append(Source(f"{shard}: {image.name}", partial(_opened, shard, image, MAX_IMAGE_BYTES)))
                labels.append(self._text(shard, label))
        raise_faults(faults, f"webdataset: {{}} images of {first_ten([str(shard) for shard in shards])} have no label")
        if not images:
            got = f"none in {first_ten([str(shard) for shard in shards])}"
            raise DataError(
                f"webdataset: must hold images, <key>.jpg or another of {', '.join(IMAGES)}. Got {got}. Add some."
            )
        return images, labels

    def _text(self, shard: Path, member: tarfile.TarInfo) -> str:
        """The label in a member."""
        content = _opened(shard, member, MAX_LABEL_BYTES).read()
        try:
            if not self.label.endswith("json"):
                return content.decode().strip()
            value = json.loads(content)[self.label_key]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            got = f"{type(error).__name__}: {error}"
            raise DataError(
                f"{shard}: {member.name}: must hold a label. Got {got}. Set `label` or `label_key`."
            ) from None
        if isinstance(value, bool) or not isinstance(value, int | str):
            rule = f"{self.label_key} must be a number or a name"
            raise DataError(f"{shard}: {member.name}: {rule}. Got {value!r:.80}. Write it again.")
        return str(value).strip()


def _by_key(shard: Path) -> dict[str, dict[str, tarfile.TarInfo]]:
    """Key -> ending -> member. A key is the path up to the first dot of its last part."""
    found: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in _members(shard):
        folder, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        if not stem or not ending:  # hidden files, and files without an ending
            continue
        members = found.setdefault(f"{folder}/{stem}".lstrip("/"), {})
        if members.setdefault(ending.lower(), member) is not member:
            raise DataError(f"{shard}: must hold each name once. Got {member.name!r} again. Write the shard again.")
    return found


class _Header(tarfile.TarInfo):
    """A header whose size is sane: tarfile reads long names whole, and goes back where a size is negative."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in LONG_NAMES and self.size > MAX_LABEL_BYTES):
            raise ValueError(f"a member of {self.size} bytes where a name or a file must be")
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found


def _members(shard: Path) -> Iterator[tarfile.TarInfo]:
    """The regular files of a shard, by its headers alone."""
    rule, remedy = f"{shard}: must be an uncompressed tar file that can be read", "Run gunzip, or write it again."
    with (
        _sources._as_data_error(rule, remedy),
        files.open_regular(shard) as file,
        tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as archive,
    ):
        size = os.fstat(file.fileno()).st_size
        for member in archive:
            if member.isreg() and not member.issparse():
                if member.offset_data + member.size > size:
                    raise ValueError(f"{member.name} ends after the file")
                yield member


def _opened(shard: Path, member: tarfile.TarInfo, limit: int) -> BinaryIO:
    """The content of one member."""
    if member.size > limit:
        raise DataError(f"{shard}: {member.name}: must be at most {limit} bytes. Got {member.size}. Leave it out.")
    with files.open_regular(shard) as file:
        file.seek(member.offset_data)
        return io.BytesIO(file.read(member.size))
