"""A wheel, built from the source archive, brings the command and the suites: no checkout, compiler or git is needed."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from cl_semisup import plugins
from cl_semisup.system import installation

ROOT = Path(__file__).parents[1]
SOURCES = ("cl_semisup", "suites", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "benchmark.py")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
SHORT = {
    "label_fraction: [0.02, 0.2]": "label_fraction: 0.2",
    "[0.1, 0.5]": "0.1",
    "[64, 256]": "256",
    "epochs: 8": "epochs: 1",
}
SHORT |= {"repetitions: 3": "repetitions: 1", "  - cross_entropy\n": "", "  - vicreg\n": "", "  - supcon\n": ""}
Command = Callable[..., subprocess.CompletedProcess[str]]


def build(kind: str, source: Path, to: Path) -> Path:
    """Build a wheel or an sdist with setuptools, without downloads."""
    command = [sys.executable, "-c", BUILD, f"build_{kind}", str(to)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return to / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, built from a copy of the checkout, and the wheel, built from the sdist."""
    if int(metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("building needs setuptools 77 or newer")
    folder = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / "copy").mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / "copy" / name)
    sdist = build("sdist", folder / "copy", folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    return sdist, build("wheel", next((folder / "unpacked").iterdir()), folder)


@pytest.fixture(scope="module")
def command(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Command:
    """`cl-semisup` in a fresh environment that sees the installed libraries, from an empty folder, without cc and git."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(archives[1])]
    subprocess.run(install, check=True, capture_output=True)
    package = site / "cl_semisup"
    for path in [*package.rglob("*"), package]:  # a user may not write there (root may, so it is looked at in the end)
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path for path in package.rglob("*") if "__pycache__" not in path.parts}
    (folder / "work").mkdir()
    environment = {"PATH": str(folder / "none"), "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}

    def run(
        *words: str, program: tuple[str, ...] = (str(python.with_name("cl-semisup")),)
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*program, *words], cwd=folder / "work", env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert {path for path in package.rglob("*") if "__pycache__" not in path.parts} == before
        return done

    run.folder, run.python, run.package = folder / "work", python, package  # type: ignore[attr-defined]
    return run


@pytest.mark.slow
def test_the_archives_hold_every_file_of_the_package_and_every_suite(archives: tuple[Path, Path]) -> None:
    sdist, wheel = archives
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    with tarfile.open(sdist) as tar:
        sources = {name.partition("/")[2] for name in tar.getnames()}
    for folder in ("cl_semisup", "suites"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(ROOT).as_posix()
                assert name in sources
                assert (name if folder == "cl_semisup" else f"cl_semisup/{name}") in names
    assert not {name for name in names if name.startswith(("tests", "suites", "results"))}


@pytest.mark.slow
def test_another_folder_gets_result_report_and_citations(command: Command) -> None:
    """The quickstart in a short form, after the suite that comes along has been read and checked."""
    assert "126 runs, 0 with a record, 126 to do." in command("check", "quickstart").stdout
    assert "With few labels, what do CLOP's prototypes add" in command("list", "suites").stdout
    text = installation.suites()["quickstart"].read_text("utf-8")
    for long, short in SHORT.items():
        assert long in text
        text = text.replace(long, short)
    (command.folder / "short.yaml").write_text(text)  # type: ignore[attr-defined]
    out = command("short.yaml").stdout
    assert "[3/3]" in out
    assert re.search(r"^\W*clop ", out, re.MULTILINE), out
    assert (command.folder / "results" / "short" / "report.html").stat().st_size > 10_000  # type: ignore[attr-defined]
    again = command("report", "short", program=(str(command.python), "-m", "cl_semisup")).stdout  # type: ignore[attr-defined]
    assert again.splitlines()[-1] == out.splitlines()[-1]
    cited = command("cite", "short.yaml").stdout
    assert "title = {{A Simple Framework for Contrastive Learning of Visual Representations}}" in cited
    assert "cl-semisup short.yaml" in (command.folder / "results" / "short" / "leaderboard.md").read_text()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_versions_of_plug_ins_are_those_of_the_checkout(command: Command) -> None:
    """Else records of a checkout were stale for an installation."""
    code = "import json; from cl_semisup import plugins as p; "
    code += "print(json.dumps([p.version(f, n) for f in ('losses', 'datasets') for n in p.names(f)]))"
    theirs = json.loads(command("-c", code, program=(str(command.python),)).stdout)  # type: ignore[attr-defined]
    assert theirs == [
        plugins.version(folder, name) for folder in ("losses", "datasets") for name in plugins.names(folder)
    ]


@pytest.mark.parametrize("module", ["cl_semisup", "cl_semisup.cli"])
def test_modules_are_commands_too(module: str, tmp_path: Path) -> None:
    """`python -m` runs the command, and does not just import it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", module, "report", "none"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the suite 'none' has not run here" in done.stderr
