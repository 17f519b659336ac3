"""A file with a seal is used only as this user has written it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cl_semisup.system import owner, seal

CONTENT = b"content" * 1000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    owner._key_in.cache_clear()
    yield tmp_path / "cache" / "cl_semisup"
    monkeypatch.undo()
    owner._key_in.cache_clear()


def is_right(path: Path) -> bool:
    with open(path, "rb") as file:
        return seal.is_right(file, path)


def test_a_sealed_file_is_right_under_its_name_alone(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT + seal.of("a", CONTENT))
    assert is_right(path)
    path.rename(tmp_path / "b")
    assert not is_right(tmp_path / "b")


@pytest.mark.parametrize("change", ["a byte", "cut off", "longer", "empty", "the seal alone"])
def test_other_content_is_noticed_also_after_the_seal_was_right(home: Path, tmp_path: Path, change: str) -> None:
    """With the size and the times that the file had."""
    path, sealed = tmp_path / "a", CONTENT + seal.of("a", CONTENT)
    path.write_bytes(sealed)
    assert is_right(path)
    assert len(list((home / seal.FOLDER).iterdir())) == 1
    before = path.stat()
    path.write_bytes(
        {
            "a byte": b"C" + sealed[1:],
            "cut off": sealed[:-1],
            "longer": sealed + b"x",
            "empty": b"",
            "the seal alone": seal.of("a"),
        }[change]
    )
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert is_right(path) == (change == "the seal alone")


def test_a_seal_is_computed_once_and_again_where_the_file_may_be_another(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, computed = tmp_path / "a", []
    path.write_bytes(CONTENT + seal.of("a", CONTENT))
    start = seal.start
    monkeypatch.setattr(seal, "start", lambda name: computed.append(name) or start(name))
    assert is_right(path)
    assert is_right(path)
    assert computed == ["a"]
    path.chmod(0o600)
    assert is_right(path)
    assert computed == ["a", "a"]
    seal.forget(path)
    assert not list((home / seal.FOLDER).iterdir())


def test_what_is_remembered_is_believed_of_this_user_alone(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    with open(path, "rb") as file:
        seal.remember(file, path)
    assert is_right(path)
    (note,) = (home / seal.FOLDER).iterdir()
    note.chmod(0o666)
    assert not is_right(path)


def test_another_users_seal_is_not_right(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT + seal.of("a", CONTENT))
    (home / "key").unlink()
    owner._key_in.cache_clear()
    assert not is_right(path)
