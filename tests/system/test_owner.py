"""The cache folder and the key are this user's alone, whoever made what lies there."""

import multiprocessing
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cl_semisup.system import files, owner

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows tells no owner")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a" / "cache"))
    forget()
    yield tmp_path / "a" / "cache" / "cl_semisup"
    monkeypatch.undo()
    forget()


def forget() -> None:
    owner._key_in.cache_clear()
    owner._fallback_key.cache_clear()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_private_whatever_the_umask_is(home: Path) -> None:
    before = os.umask(0)
    try:
        owner.folder()
        owner.key()
    finally:
        os.umask(before)
    assert {mode(folder) for folder in (home, *list(home.parents)[:2])} == {0o700}
    assert mode(home / "key") == 0o600


def test_a_folder_that_others_may_read_is_closed(home: Path) -> None:
    home.mkdir(parents=True, mode=0o755)
    assert mode(owner.folder()) == 0o700


def _link(key: Path) -> None:
    key.rename(key.parents[2] / "elsewhere")
    key.symlink_to(key.parents[2] / "elsewhere")


KNOWN: dict[str, Callable[[Path], object]] = {
    "readable": lambda key: key.chmod(0o644),
    "writable": lambda key: key.chmod(0o620),
    "of another user": lambda key: os.chown(key, 12345, 12345),
    "link": _link,
    "link to nothing": lambda key: (key.unlink(), key.symlink_to("nothing")),
    "of two names": lambda key: os.link(key, key.parents[2] / "elsewhere"),
    "pipe": lambda key: (key.unlink(), os.mkfifo(key, 0o600)),
    "too long": lambda key: key.write_bytes(bytes(1000)),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KNOWN)
def test_a_key_that_others_may_know_is_made_anew(home: Path, kind: str) -> None:
    if kind == "of another user" and os.getuid():
        pytest.skip("only root can give files away")
    before = owner.key()
    KNOWN[kind](home / "key")
    forget()
    made = owner.key()
    assert made != before
    assert (mode(home / "key"), (home / "key").is_symlink()) == (0o600, False)
    forget()
    assert owner.key() == made == (home / "key").read_bytes()


def test_what_cannot_be_replaced_by_a_key_is_told(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    (home / "key").mkdir(parents=True)
    with pytest.raises(owner.Unusable, match="key: no key can be kept: .* Set XDG_CACHE_HOME"):
        owner.signature("text")
    assert len(owner.key()) == owner.KEY_BYTES


def test_a_link_among_temporary_files_leads_no_key_elsewhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can make one there, under the name that we use where the cache folder is of no use."""
    home.parents[1].write_text("no folder")
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "own" / "key").write_bytes(b"known to who made the link")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"cl_semisup-{os.getuid()}").symlink_to("own")
    assert owner.key() not in (b"", b"known to who made the link")
    assert (tmp_path / "own" / "key").read_bytes() == b"known to who made the link"


def _key(_: int) -> bytes:
    return owner.key()


def test_processes_that_start_together_have_one_key(home: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        assert len(set(pool.map(_key, range(32), chunksize=1))) == 1


def test_a_file_in_the_cache_that_others_may_write_to_is_not_believed(home: Path) -> None:
    path = owner.folder() / "a"
    path.write_bytes(b"x")
    assert files.read(home, path, 10, alone=True) == b"x"
    path.chmod(0o664)
    with pytest.raises(files.Refused, match="a file that others may write to"):
        files.read(home, path, 10, alone=True)
