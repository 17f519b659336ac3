import io
import os
import posixpath
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, BinaryIO

from annotated_types import Interval, MinLen

from cl_semisup.data.description import Layout
from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _folders, _labels, _pixels, _sources
from cl_semisup.datasets._decoding import Listing, raise_faults
from cl_semisup.datasets._pixels import Source
from cl_semisup.errors import DataError, described, first_ten
from cl_semisup.system import files

MAX_FOLDERS = 50  # in the name of shards
MAX_IMAGE_BYTES = 500_000_000
MAX_LABEL_BYTES = 1_000_000  # of a label, and of what headers hold of a name
MAX_PADDING_BYTES = 1_000_000  # behind the end of a shard that are looked at; tar pads to 10,240
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
    neither an image nor its label are not used, which is told. Shards must not be compressed: `gunzip` them.

    Source: the format of github.com/webdataset/webdataset

    Args:
        train: the shards for training, relative to data_dir; `*` stands for any text, `shards/train-*.tar`
        test: the shards for testing; none with `test_fraction` or `folds`
        label: ending of the member that holds the label, a number or a name; or `json`, for its value `label_key`
        label_key: key of the label in a JSON member
        image: ending of the member that holds the image; needed where a key has several images
        test_fraction: share of each class that is the test part, drawn once and the same for all runs
        folds: the images are tested in so many folds, repetition r testing fold r mod folds
    """

    train: Annotated[str, MinLen(1)]
    test: str = ""
    label: Annotated[str, MinLen(1)] = "cls"
    label_key: str = "label"
    image: Annotated[str, MinLen(1)] | None = None
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
        if not 0 < len(PurePath(pattern).parts) <= MAX_FOLDERS:
            rule = f"must name files, in at most {MAX_FOLDERS} folders"
            raise DataError(f"webdataset: {part}: {rule}. Got {pattern!r:.80}. Write `folder/train-*.tar`.")
        if "{" in pattern:
            raise DataError(
                f"webdataset: {part}: must be a name or have `*`. Got {pattern!r}. Write `*` for the braces."
            )
        return sorted(path for path in data_dir.glob(pattern) if not _folders.passed_over(path.name))

    def _listing(self, data_dir: Path) -> Listing:
        parts: list[_Samples] = []
        for part in self._parts():
            shards = self._shards(data_dir, part)
            if not shards:
                got = f"no file {data_dir / getattr(self, part)}"
                raise DataError(f"webdataset: {part}: must name shards in {data_dir}. Got {got}. Mend it.")
            parts.append(self._samples(shards))
        train, test = parts[0], parts[1] if self.test else _Samples()
        labels = _labels.of_text(train.labels, test.labels, None, f"webdataset: {self.train}")
        notes = tuple(f"keys without an image: {len(p.bare):,}, such as {p.bare[0]}." for p in parts if p.bare)
        layout = Layout(unused=tuple(sorted(train.unused | test.unused)), notes=notes)
        listing = Listing(train.images, labels[0], test.images, *labels[1:], raw_layout=layout)
        return listing.tested(self.test_fraction, self.folds, "webdataset", self.train)

    def _samples(self, shards: Sequence[Path]) -> "_Samples":
        """The images and labels of some shards."""
        found, faults, several = _Samples(), list[str](), list[str]()
        for shard in shards:
            for key, members in _by_key(shard).items():
                pictures, label = self._pictures(members), members.get(self.label)
                if len(pictures) > 1:
                    rule = f"needs `image`, as a key holds several images. Got {first_ten(pictures)}"
                    several.append(f"{shard}: {key}: {rule}. Set `image: {pictures[0]}`.")
                elif not pictures:
                    found.bare.append(f"{shard}: {key}")
                elif label is None:
                    faults.append(f"{shard}: {key}: {self._no_label(key, members)}")
                else:
                    image = members[pictures[0]]
                    opened = partial(_opened, shard, image, MAX_IMAGE_BYTES)
                    found.images.append(Source(f"{shard}: {image.name}", opened))
                    found.labels.append(self._text(shard, label))
                    found.unused.update(f".{ending}" for ending in members if ending not in (pictures[0], self.label))
        names = first_ten([str(shard) for shard in shards])
        raise_faults(several, f"webdataset: {{}} keys of {names} hold several images")
        raise_faults(faults, f"webdataset: {{}} images of {names} have no label")
        if not found.images:
            wanted = f".{self.image}" if self.image else f".jpg or another of {', '.join(_folders.PICTURES)}"
            raise DataError(f"webdataset: must hold images, <key>{wanted}. Got none in {names}. Add some.")
        return found

    def _pictures(self, members: Mapping[str, tarfile.TarInfo]) -> list[str]:
        """The endings that may be the image's: that of the setting, or `jpg` and its like, or `<word>.jpg`."""
        if self.image:
            return [self.image] if self.image in members else []
        exact = [ending for ending in members if ending in _folders.PICTURES]
        return exact or [ending for ending in members if _folders.is_image_file(ending)]

    def _no_label(self, key: str, members: Mapping[str, tarfile.TarInfo]) -> str:
        """What is told of a key that has an image and no label."""
        others = [ending for ending in sorted(members) if not _folders.is_image_file(ending)]
        remedy = f"Set `label: {others[0]}`" if others else "Set `label`"
        if "/" in key and not others:
            remedy = "Class folders are for `image_folder`: `tar xf` unpacks them"
        return f"must have a member .{self.label}. Got {first_ten(sorted(members))}. {remedy}."

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
            got = described(error)
            raise DataError(
                f"{shard}: {member.name}: must hold a label. Got {got}. Mend it, or set `label` or `label_key`."
            ) from None
        if isinstance(value, bool) or not isinstance(value, int | str):
            rule = f"{self.label_key} must be a number or a name"
            raise DataError(f"{shard}: {member.name}: {rule}. Got {value!r:.80}. Write it again.")
        return str(value).strip()


@dataclass(frozen=True)
class _Samples:
    """The images and labels of one part, endings of members that are not used, and keys that hold no image."""

    images: list[Source] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    unused: set[str] = field(default_factory=set)
    bare: list[str] = field(default_factory=list)


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
        file.seek(archive.offset)
        _require_end(file, archive.offset, shard)


def _require_end(file: BinaryIO, place: int, shard: Path) -> None:
    """DataError unless a block of zeros is where tarfile has stopped, and nothing follows it but zeros.

    It stops without a word at the end of a file that is cut off, and at a header that is damaged.
    """
    rule = f"{shard}: must be a whole tar file"
    block, rest = file.read(tarfile.BLOCKSIZE), file.read(MAX_PADDING_BYTES)
    if len(block) < tarfile.BLOCKSIZE:
        got = f"the end of the file at byte {place + len(block):,} without the block of zeros that ends a tar file"
        remedy = f"It is cut off: copy it again. If its writer was not closed: head -c 1024 /dev/zero >> {shard.name}"
        raise DataError(f"{rule}. Got {got}. {remedy}")
    if any(block):
        raise DataError(f"{rule}. Got a header at byte {place:,} that is damaged. Copy it again.")
    if any(rest):
        got = f"more behind its end at byte {place:,}, which no program reads, as of `cat` of two shards"
        raise DataError(f"{rule}. Got {got}. Give each shard a file of its own.")


def _opened(shard: Path, member: tarfile.TarInfo, limit: int) -> BinaryIO:
    """The content of one member."""
    if member.size > limit:
        raise DataError(f"{shard}: {member.name}: must be at most {limit} bytes. Got {member.size}. Leave it out.")
    with files.open_regular(shard) as file:
        file.seek(member.offset_data)
        return io.BytesIO(file.read(member.size))
