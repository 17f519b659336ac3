"""What becomes of a machine that has no compiler, and how the compiled file is kept."""

import ctypes
import fnmatch
import hashlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from cl_semisup import cli, native
from cl_semisup.native import library
from cl_semisup.system import seal
from tests.helpers.kernels import needs_kernels


def test_kernels_are_active_only_within_used() -> None:
    with native.used(False):
        assert not native.active()
        assert library.get() is None
        with native.used():
            assert native.active() != bool(native.missing())
        assert not native.active()


def test_only_native_calls_compiled_code() -> None:
    """Elsewhere `ctypes` may talk to the system alone, and nobody asks for the library."""
    package = Path(library.__file__).parents[1]
    for path in package.rglob("*.py"):
        room, text = path.relative_to(package).parts[0], path.read_text("utf-8")
        if room != "native":
            assert not re.search(r"native\.library|native import .*\blibrary\b", text), path
            assert room in ("engines", "execution") or not re.search(r"^\s*(import|from) ctypes", text, re.M), path


def report(**environment: str) -> str:
    """The path of the compiled kernels in a process with this environment, or why there are none; compiled in a hurry."""
    program = "from cl_semisup import native; from cl_semisup.native import library; print(native.missing() or library._compiled())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"CL_SEMISUP_CFLAGS": "-O0"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@needs_kernels
def test_kernels_are_compiled_once_for_a_compiler_and_a_processor(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    path = Path(report(**cache))
    made = path.stat().st_mtime_ns
    assert path.parent == tmp_path / "cl_semisup"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert report(**cache) == str(path)
    assert path.stat().st_mtime_ns == made
    assert report(**cache, CC="cc -g") != str(path)
    assert len(list(path.parent.iterdir())) == 3  # both and the key; nothing half done


def test_a_machine_without_a_compiler_says_so_and_what_to_do(tmp_path: Path) -> None:
    named = "there is no C compiler 'no-such', which CC names. Set CC to another, or unset it."
    assert report(CC="no-such -O2") == named
    unset = "there is no C compiler 'cc'. Install gcc or clang, or name yours in CC."
    assert report(CC="", PATH=str(tmp_path)) == unset
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    assert "the C compiler ended with 1" in report(CC="false", **cache)
    (tmp_path / "broken").write_text("#!/bin/sh\n[ \"$1\" = --version ] || { echo 'no such flag' >&2; exit 4; }\n")
    (tmp_path / "broken").chmod(0o755)
    assert report(CC=str(tmp_path / "broken"), CL_SEMISUP_CFLAGS="", **cache) == (
        "the C compiler ended with 4: no such flag. Set CC to another."
    )
    assert not list((tmp_path / "cl_semisup").glob("*[!y]"))  # but the key


@needs_kernels
def test_nothing_is_executed_from_a_folder_that_others_can_write(tmp_path: Path) -> None:
    (tmp_path / "cl_semisup").mkdir()
    (tmp_path / "cl_semisup").chmod(0o777)
    assert "must be writable by its owner, who must be you, alone" in report(XDG_CACHE_HOME=str(tmp_path))


@needs_kernels
def test_a_cache_that_cannot_be_made_or_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "no folder can be made for them" in report(XDG_CACHE_HOME=str(tmp_path / "file"))
    (tmp_path / "full").mkdir(mode=0o500)
    if os.getuid():  # root may write anywhere
        assert "no folder can be made for them" in report(XDG_CACHE_HOME=str(tmp_path / "full"))


@needs_kernels
@pytest.mark.parametrize(
    "damage", ["truncate", "empty", "flip", "text", "hash made anew", "of another user", "link", "link to nothing"]
)
def test_a_damaged_library_is_never_loaded_but_compiled_again(tmp_path: Path, damage: str) -> None:
    """The system kills a process (SIGBUS) that loads a file which was cut off."""
    path = Path(report(XDG_CACHE_HOME=str(tmp_path)))
    content, short = path.read_bytes(), path.read_bytes()[: 4096 * 3]
    if damage in ("link", "link to nothing"):
        path.rename(tmp_path / "elsewhere.so")
        path.symlink_to(tmp_path / ("elsewhere.so" if damage == "link" else "nothing"))
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        with_hash, with_seal = (short + end for end in (hashlib.sha256(short).digest(), seal.of(path.name, short)))
        damaged = {"truncate": short, "empty": b"", "flip": flipped, "text": b"no library"}
        path.write_bytes((damaged | {"hash made anew": with_hash, "of another user": with_seal})[damage])
    assert report(XDG_CACHE_HOME=str(tmp_path)) == str(path)
    assert not path.is_symlink()
    assert path.read_bytes()[:-32] == content[:-32]


@needs_kernels
def test_a_library_that_others_can_write_is_not_executed(tmp_path: Path) -> None:
    path = Path(report(XDG_CACHE_HOME=str(tmp_path)))
    path.chmod(0o666)
    rule = "must be writable by its owner, who must be you, alone. Mend its mode."
    assert report(XDG_CACHE_HOME=str(tmp_path)) == f"{path} {rule}"
    path.chmod(0o644)
    assert report(XDG_CACHE_HOME=str(tmp_path)) == str(path)


@needs_kernels
@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_library_of_another_user_is_not_executed(tmp_path: Path) -> None:
    path = Path(report(XDG_CACHE_HOME=str(tmp_path)))
    os.chown(path, 12345, 12345)
    assert "who must be you" in report(XDG_CACHE_HOME=str(tmp_path))


def compiler(tmp_path: Path, body: str) -> dict[str, str]:
    """The environment in which the C compiler is this shell script."""
    (tmp_path / "compiler").write_text(f"#!/bin/sh\n[ \"$1\" = --version ] && exec printf '1\\377'\n{body}\n")
    (tmp_path / "compiler").chmod(0o755)
    return {"CC": str(tmp_path / "compiler"), "XDG_CACHE_HOME": str(tmp_path), "CL_SEMISUP_CFLAGS": ""}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("exit 0", "the C compiler has made no file of a sane size. Set CC to another."),
        (
            'while [ "$1" != -o ]; do shift; done; mkdir "$2"',
            "the C compiler has made no file of a sane size. Set CC to another.",
        ),
        (
            'while [ "$1" != -o ]; do shift; done; mkfifo "$2"',
            "the C compiler has made no file of a sane size. Set CC to another.",
        ),
        (
            'while [ "$1" != -o ]; do shift; done; truncate -s 1T "$2"',
            "the C compiler has made no file of a sane size. Set CC to another.",
        ),
        ('while [ "$1" != -o ]; do shift; done; echo x > "$2"', "cannot be loaded: *. Set CC to another."),
        ("printf 'kaputt \\374\\n' >&2; exit 1", "the C compiler ended with 1: kaputt \ufffd. Set CC to another."),
        (
            "printf 'a.c:1:9: fatal error: math.h: none\n  1 | #include\ncompilation terminated.\n' >&2; exit 1",
            "the C compiler ended with 1: a.c:1:9: fatal error: math.h: none. Set CC to another.",
        ),
        (
            "printf 'ld: failed: No space left on device\ncollect2: error: ld returned 1\n' >&2; exit 1",
            "No space left on device. Make room in {cache}, or set XDG_CACHE_HOME to a folder of yours with some.",
        ),
        (
            'echo "error: $TMPDIR" >&2; exit 1',  # a compiler's own files need no second place with room
            "error: {cache}/*. Set CC to another.",
        ),
    ],
)
def test_a_compiler_that_makes_no_library_is_told_and_what_to_do(tmp_path: Path, body: str, text: str) -> None:
    text = text.replace("{cache}", str(tmp_path / "cl_semisup"))
    assert fnmatch.fnmatchcase(report(**compiler(tmp_path, body)), f"*{text}")


@needs_kernels
@pytest.mark.parametrize(("work", "told"), [("_exit(0)", "kills"), ("_exit(3)", "kills"), ("sleep(60)", "hangs")])
def test_a_library_that_ends_or_stops_who_loads_it_is_never_loaded(
    tmp_path: Path, work: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "LOAD_SECONDS", 2)
    source = tmp_path / "x.c"
    source.write_text(f"#include <unistd.h>\n__attribute__((constructor)) static void now(void) {{ {work}; }}\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "x.so", source], check=True)
    with pytest.raises(library.MissingError, match=f"made {told} who loads it. Set CC to another."):
        library._try_to_load(tmp_path / "x.so")


def test_own_flags_that_the_compiler_refuses_are_told_with_their_variable(tmp_path: Path) -> None:
    told = report(**compiler(tmp_path, "echo 'no such flag' >&2; exit 1") | {"CL_SEMISUP_CFLAGS": "-no-such"})
    assert told.endswith("no such flag. Set CC to another, or unset CL_SEMISUP_CFLAGS.")


@needs_kernels
@pytest.mark.parametrize("kept", [5_000, 20_000, 40_000])
def test_a_library_that_its_compiler_has_cut_off_is_never_loaded(tmp_path: Path, kept: int) -> None:
    cut = f'cc "$@" || exit; while [ "$1" != -o ]; do shift; done; truncate -s {kept} "$2"'
    told = report(**compiler(tmp_path, cut) | {"CL_SEMISUP_CFLAGS": "-O0"})
    assert "what the C compiler has made kills who loads it. Set CC" in told or " cannot be loaded: " in told


def test_of_what_a_compiler_writes_only_the_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "STREAM_SECONDS", 0.2)
    many = "head -c 3000000 /dev/zero | tr '\\0' x"
    output = library._run(["sh", "-c", f"{many}; {many} >&2; echo end"])
    assert output.endswith("xend\n")
    assert len(output) == library.KEPT_BYTES
    with pytest.raises(library.MissingError, match=rf"ended with 3: x{{{library.MAX_LINE}}}\. Set CC"):
        library._run(["sh", "-c", f"{many} >&2; exit 3"])
    assert library._run(["sh", "-c", "sleep 3 & echo 1"]) == "1\n"  # what it leaves behind is not waited for
    with pytest.raises(library.MissingError, match="timed out after 0.1 seconds. Set CC"):
        library._run(["sh", "-c", "sleep 3"], 0.1)


def test_a_folder_whose_files_must_not_be_executed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels.so").write_text("no library")
    monkeypatch.setattr(os, "ST_NOEXEC", 8, raising=False)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=8))
    with pytest.raises(library.MissingError, match="Set XDG_CACHE_HOME to a folder of yours on a mount without noexec"):
        library._load(tmp_path / "kernels.so")


def test_without_kernels_a_suite_says_so_and_runs(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    library._load_once.cache_clear()
    (tmp_path / "s.yaml").write_text(text.replace(", clop", ""))
    words = [str(tmp_path / "s.yaml"), "--results", str(tmp_path / "r"), "--device", "cpu", "--workers", "1"]
    assert cli.main(words) == 0
    assert "without compiled kernels: there is no C compiler" in capsys.readouterr().out


def test_a_compiler_that_fails_is_asked_once_a_command_and_by_no_worker(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in compiler(tmp_path, f"echo asked >> {tmp_path / 'asked'}; exit 1").items():
        monkeypatch.setenv(name, value)
    library._load_once.cache_clear()
    (tmp_path / "s.yaml").write_text(text)
    words = [str(tmp_path / "s.yaml"), "--results", str(tmp_path / "r"), "--device", "cpu", "--workers", "2"]
    assert cli.main(words) == 0
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_an_installed_package_has_all_that_is_compiled() -> None:
    """Headers too: a wheel without them would find no kernels on any machine."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    shipped = project["tool"]["setuptools"]["package-data"]["cl_semisup"]
    assert len(library.SOURCES) == 5
    assert "native/*.cu" in shipped
    for source in library.SOURCES:
        assert any(source.match(pattern) for pattern in shipped), source


def members(file: str, struct: str) -> list[str]:
    """Names of a C struct's members in order; one for each entry of an array."""
    source = re.sub(r"/\*.*?\*/", "", (Path(library.__file__).parent / file).read_text(), flags=re.S)
    match = re.search(rf"typedef struct {{([^}}]*)}} {struct};", source)
    assert match
    found: list[str] = []
    for name, array in re.findall(r"(\w+)(\[CHANGES\])?\s*[,;]", match[1]):
        found += [f"{name} {change}" for change in library.CHANGES] if array else [name]
    return found


def fields(struct: type[ctypes.Structure]) -> list[str]:
    """The same of its twin in Python."""
    found: list[str] = []
    for name, kind, *_ in struct._fields_:
        found += [f"{name} {change}" for change in library.CHANGES] if issubclass(kind, ctypes.Array) else [name]
    return found


@needs_kernels
def test_structs_have_the_same_members_in_python_and_c() -> None:
    """A member more or less on one side would move all that follow."""
    rule = "change the struct in native/*.c and its twin in native/library.py together"
    assert members("blocks.c", "shape") == fields(library.Shape), rule
    assert members("blocks.c", "batch_norm") == fields(library.BatchNorm), rule
    assert members("views.c", "recipe") == fields(library.Recipe), rule
    assert [name.removeprefix("change ") for name in members("views.c", "draws")] == fields(library.Draws), rule
    kernels = library.get()
    assert kernels is not None
    assert kernels.views_scratch(library.Recipe(n=1, channels=3, h=5, w=7)) == 8 + 3 * 8 * 10
