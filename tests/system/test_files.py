"""Only regular files are opened, never through a link below the root, never waiting; a write is whole or not at all."""

import contextlib
import errno
import io
import os
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cl_semisup.errors import InputError
from cl_semisup.scoring import feature_file
from cl_semisup.system import files
from cl_semisup.weights import reader


@pytest.fixture(params=["descriptors", "paths"])
def root(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of results; once as other systems reach into it, and once as Windows does."""
    if request.param == "paths":
        monkeypatch.setattr(files, "_BY_DESCRIPTOR", False)
    (tmp_path / "results" / "records").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.json").write_bytes(b"of somebody else")
    return tmp_path / "results"


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket has at most 108 characters
        server.bind(path.name)
        os.chdir(here)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": _socket,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link out": lambda path: path.symlink_to("../../outside/a.json"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_refused_at_once(root: Path, kind: str) -> None:
    path = root / "records" / "a.json"
    SPECIAL[kind](path)
    with pytest.raises(OSError, match=r"regular file|link|No such device|Is a directory") as caught:
        files.read(root, path, 100)
    assert caught.value.strerror
    assert files.state(root, path) is None
    if kind not in ("link out",):  # of the user's own data links are followed
        with pytest.raises(OSError, match=r"."):
            files.open_regular(path)


@pytest.mark.parametrize("linked", ["records", "records/digits"])
def test_nothing_is_read_written_or_removed_behind_a_link(root: Path, tmp_path: Path, linked: str) -> None:
    path = root / linked / "a.json"
    if linked == "records":
        (root / "records").rmdir()
    (root / linked).symlink_to(tmp_path / "outside", target_is_directory=True)
    for action in (
        lambda: files.read(root, path, 100),
        lambda: files.write(root, path, b"ours"),
        lambda: files.create(root, path.with_name("b"), b"ours"),
        lambda: files.remove(root, path),
        lambda: files.touch(root, path),
    ):
        with pytest.raises(files.BehindLink, match="the link .* in its path"):
            action()
    assert files.entries(root, path.parent) == []
    assert sorted(os.listdir(tmp_path / "outside")) == ["a.json"]
    assert (tmp_path / "outside" / "a.json").read_bytes() == b"of somebody else"


def test_a_link_in_the_place_of_a_file_is_replaced_and_removed_itself(root: Path, tmp_path: Path) -> None:
    path = root / "records" / "a.json"
    for action in (lambda: files.write(root, path, b"ours"), lambda: files.remove(root, path)):
        path.unlink(missing_ok=True)
        path.symlink_to(tmp_path / "outside" / "a.json")
        action()
        assert not path.is_symlink()
        assert (tmp_path / "outside" / "a.json").read_bytes() == b"of somebody else"


@pytest.mark.parametrize("inside", ["", "a", "a/b"])
def test_a_folder_in_the_place_of_a_file_is_never_removed(root: Path, inside: str) -> None:
    (root / "records" / "a.json" / inside).mkdir(parents=True)
    files.remove(root, root / "records" / "a.json")
    assert (root / "records" / "a.json" / inside).is_dir()


def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root, target_is_directory=True)
    files.write(tmp_path / "alias", tmp_path / "alias" / "records" / "a.json", b"1", b"2")
    assert files.read(root, root / "records" / "a.json", 2) == b"12"


@pytest.mark.parametrize("path", ["../outside/a.json", "records/../../outside/a.json"])
def test_no_path_leads_out(root: Path, path: str) -> None:
    with pytest.raises(OSError, match="must lie in"):
        files.write(root, root / path, b"ours")


def test_a_large_file_is_refused_with_its_size(root: Path) -> None:
    files.write(root, root / "a", b"x" * 101)
    with pytest.raises(OSError, match="^101 bytes, more than the 100 that are read$"):
        files.read(root, root / "a", 100)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(root, root / "a", b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        files.write(root, root / "a", b"new")
    assert (root / "a").read_bytes() == b"old"
    assert sorted(os.listdir(root)) == ["a", "records"]


def test_one_of_several_callers_creates_a_file(root: Path) -> None:
    assert [files.create(root, root / "claims" / "a", b"me") for _ in range(3)] == [True, False, False]
    assert files.entries(root, root / "claims") == [root / "claims" / "a"]
    files.touch(root, root / "claims" / "a")
    files.remove(root, root / "claims" / "a")
    files.remove(root, root / "claims" / "a")
    assert files.entries(root, root / "nowhere") == []


def test_a_key_that_stands_twice_among_many_is_found_in_one_pass() -> None:
    keys = "".join(f'"{number}":0,' for number in range(100_000))  # a search for each would take minutes
    with pytest.raises(ValueError, match="the key '99999' is there twice"):
        files.parse_json(f'{{{keys}"99999":1}}'.encode())


def test_no_descriptor_is_left_open(root: Path) -> None:
    files.write(root, root / "records" / "a.json", b"1")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a.json", "none.json"):
        for limit in (0, 10):
            with contextlib.suppress(OSError):
                files.read(root, root / "records" / name, limit)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_there_instead_can_follow_the_word_got(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("long")
    told = {}
    for name in ("long", "link", "none"):
        try:
            files.read(tmp_path, tmp_path / name, 4)
        except OSError as error:
            told[name] = files.reason(error)
    assert told == {
        "long": "5 bytes, more than the 4 that are read",
        "link": "the link 'link' in its path",
        "none": "No such file or directory",
    }


def test_a_folder_that_cannot_be_opened_is_named_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may open every folder."""
    if not files._BY_DESCRIPTOR:
        pytest.skip("no folder is opened")
    opened = os.open

    def refuse(path: str, *flags: int, **more: int) -> int:
        if path == "records":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, *flags, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="Permission denied") as caught:
        files.entries(root, root / "records")
    assert caught.value.filename == str(root / "records")


@pytest.mark.parametrize("read", [reader.read, feature_file.read])
@pytest.mark.parametrize("ending", [".pt", ".npz"])
def test_an_archive_whose_end_speaks_of_other_disks_is_told(
    tmp_path: Path, read: Callable[[Path], object], ending: str
) -> None:
    """Python's own test for zip archives raises there."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("features.npy", b"0")
    end = 22  # bytes of the record of the end; before it stands the locator of ZIP64's
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 1, 0, 2)
    path = tmp_path / f"a{ending}"
    path.write_bytes(whole.getvalue()[:-end] + locator + whole.getvalue()[-end:])
    with open(path, "rb") as file:
        assert files.is_zip(file)
    with pytest.raises(InputError, match="Got "):
        read(path)
