import io
import os
import posixpath
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

from annotated_types import Interval, MinLen

from cl_semisup import files
from cl_semisup.data.description import Layout
from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _folders, _labels, _pixels, _sources
from cl_semisup.datasets._decoding import Listing, raise_faults
from cl_semisup.datasets._pixels import Source
from cl_semisup.errors import DataError, first_ten

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
        test: the shards for testing; none with `test_fraction` or `folds`
        label: ending of the member that holds the label, a number or a name; or `json`, for its value `label_key`
        label_key: key of the label in a JSON member
        test_fraction: share of each class that is the test part, drawn once and the same for all runs
        folds: the images are tested in so many folds, repetition r testing fold r mod folds
    """

    train: Annotated[str, MinLen(1)]
    test: str = ""
    label: Annotated[str, MinLen(1)] = "cls"
    label_key: str = "label"
    test_fraction: Annotated[float, Interval(ge=0.01, le=0.9)] | None = None
    folds: Annotated[int, Interval(ge=2, le=1000)] | None = None

    def facts(self, data_dir: Path) -> Facts:
        return self._listing(data_dir).without_pixels(self).facts()

    def layout(self, data_dir: Path) -> Layout:
        return self._listing(data_dir).layout

    def prepare(self, data_dir: Path, download: bool) -> None:
        self.load(data_dir)

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        parts = (self._shards(data_dir, part) for part in self._parts())
        return tuple(path for shards in parts for path in shards)

    def load(self, data_dir: Path) -> Images:
        return self._listing(data_dir).images(self, f"webdataset: {self.train}")

    def _parts(self) -> tuple[str, ...]:
        """The parts that are told; DataError if there is no test part, or two."""
        ways = [name for name in ("test", "test_fraction", "folds") if getattr(self, name)]
        if len(ways) != 1:
            got = " and ".join(ways) or "none"
            raise DataError(f"webdataset: one of test, test_fraction and folds must be set. Got {got}. Set one.")
        return ("train", "test") if self.test else ("train",)

    def _shards(self, data_dir: Path, part: str) -> list[Path]:
        pattern = getattr(self, part)
        _sources.inside(data_dir, pattern, f"webdataset: {part}")
        if "{" in pattern:
            raise DataError(
                f"webdataset: {part}: must be a name or have `*`. Got {pattern!r}. Write `*` for the braces."
            )
        return sorted(path for path in data_dir.glob(pattern) if not _folders.passed_over(path.name))

    def _listing(self, data_dir: Path) -> Listing:
        parts: list[tuple[list[Source], list[str]]] = []
        for part in self._parts():
            shards = self._shards(data_dir, part)
            if not shards:
                got = f"no file {data_dir / getattr(self, part)}"
                raise DataError(f"webdataset: {part}: must name shards in {data_dir}. Got {got}. Mend it.")
            parts.append(self._samples(shards))
        (train, train_labels), (test, test_labels) = parts[0], parts[1] if self.test else ([], [])
        labels = _labels.of_text(train_labels, test_labels, None, f"webdataset: {self.train}")
        listing = Listing(train, labels[0], test, *labels[1:])
        return listing.tested(self.test_fraction, self.folds, "webdataset", self.train)

    def _samples(self, shards: Sequence[Path]) -> tuple[list[Source], list[str]]:
        """The images and labels of some shards."""
        images: list[Source] = []
        labels: list[str] = []
        faults: list[str] = []
        for shard in shards:
            for key, members in _by_key(shard).items():
                image = _image(members)
                if image is None:
                    continue
                label = members.get(self.label)
                if label is None:
                    got = first_ten(sorted(members))
                    others = [ending for ending in sorted(members) if not _folders.is_picture(ending)]
                    remedy = f"Set `label: {others[0]}`" if others else "Set `label`"
                    if "/" in key and not others:
                        remedy = "Class folders are for `image_folder`: `tar xf` unpacks them"
                    faults.append(f"{shard}: {key}: must have a member .{self.label}. Got {got}. {remedy}.")
                    continue
                images.append(Source(f"{shard}: {image.name}", partial(_opened, shard, image, MAX_IMAGE_BYTES)))
                labels.append(self._text(shard, label))
        raise_faults(faults, f"webdataset: {{}} images of {first_ten([str(shard) for shard in shards])} have no label")
        if not images:
            rule = f"must hold images, <key>.jpg or another of {', '.join(_folders.PICTURES)}"
            got = f"none in {first_ten([str(shard) for shard in shards])}"
            raise DataError(f"webdataset: {rule}. Got {got}. Add some.")
        return images, labels

    def _text(self, shard: Path, member: tarfile.TarInfo) -> str:
        """The label in a member."""
        content = _opened(shard, member, MAX_LABEL_BYTES).read()
        try:
            if not self.label.endswith("json"):
                return content.decode().strip()
            held = files.parse_json(content)
            if isinstance(held, dict) and self.label_key not in held:
                raise ValueError(f"the keys {first_ten(list(held))}, and no {self.label_key!r}")
            value = held[self.label_key]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            got = f"{type(error).__name__}: {error}"
            raise DataError(
                f"{shard}: {member.name}: must hold a label. Got {got}. Mend it, or set `label` or `label_key`."
            ) from None
        if isinstance(value, bool) or not isinstance(value, int | str):
            rule = f"{self.label_key} must be a number or a name"
            raise DataError(f"{shard}: {member.name}: {rule}. Got {value!r:.80}. Write it again.")
        return str(value).strip()


def _image(members: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The image of a sample: `key.jpg`, or `key.image.jpg` if no other member is an image."""
    exact = (members[ending] for ending in _folders.PICTURES if ending in members)
    pictures = [member for ending, member in members.items() if _folders.is_picture(ending)]
    return next(exact, pictures[0] if len(pictures) == 1 else None)


def _by_key(shard: Path) -> dict[str, dict[str, tarfile.TarInfo]]:
    """Key -> ending -> member. A key is the path up to the first dot of its last part."""
    found: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in _members(shard):
        folder, _, name = posixpath.normpath(member.name).rpartition("/")
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
        if size % tarfile.BLOCKSIZE:  # tarfile takes half of a header for the end
            raise ValueError("a file that ends within a member")


def _opened(shard: Path, member: tarfile.TarInfo, limit: int) -> BinaryIO:
    """The content of one member."""
    if member.size > limit:
        raise DataError(f"{shard}: {member.name}: must be at most {limit} bytes. Got {member.size}. Leave it out.")
    with files.open_regular(shard) as file:
        file.seek(member.offset_data)
        return io.BytesIO(file.read(member.size))
