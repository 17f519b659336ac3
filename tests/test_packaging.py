"""Dockerfile and environment.yml say what pyproject.toml says; what they copy is there."""

import fnmatch
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
CONDA_NAMES = {"torch": "pytorch"}


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)


def copied() -> list[str]:
    """Files and folders that the image gets."""
    return [word for line in instructions("COPY") for word in shlex.split(line)[:-1]]


def test_the_image_gets_what_the_package_is_built_from() -> None:
    for name in copied():
        assert (ROOT / name).exists(), name
    assert {"pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "cl_semisup", "suites"} <= set(
        copied()
    )


def test_nothing_else_goes_to_the_builder_of_the_image() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied())


def test_the_image_runs_the_command_as_an_ordinary_user() -> None:
    assert instructions("ENTRYPOINT") == ['["cl-semisup"]']
    assert instructions("USER") == ["runner"]
    assert "cl-semisup" in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    base, cuda = instructions("ARG")[0], re.findall(r"nvidia/cuda:[\w.-]+", DOCKERFILE)
    assert base == "BASE=ubuntu:24.04"
    assert all(image.endswith("ubuntu24.04") for image in cuda)  # the same packages of the system on both
    install = (ROOT / "docs" / "install.md").read_text("utf-8")
    assert set(re.findall(r"nvidia/cuda:[\w.-]+", install)) == set(cuda)


def test_the_shell_line_of_the_image_picks_the_pinned_pair() -> None:
    (line,) = [text for text in instructions("RUN") if "constraints.txt" in text]
    pattern = re.findall(r'grep -E "([^"]+)"', line)[0]
    pins = [text for text in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if re.match(pattern, text)]
    assert sorted(pin.partition("==")[0] for pin in pins) == ["torch", "torchvision"]
    assert not any(";" in pin for pin in pins)  # a marker would be words of their own in the shell


def test_the_conda_environment_has_the_ranges_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    for requirement in project["dependencies"]:
        name, bounds = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
        assert CONDA_NAMES.get(name, name) + bounds in conda
    assert {"pip": ["."]} in environment["dependencies"]


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md", "suites", "cl_semisup"])
def test_nothing_that_the_package_needs_is_ignored_by_git(name: str) -> None:
    rules = [line for line in (ROOT / ".gitignore").read_text("utf-8").split() if not line.startswith(("!", "/"))]
    assert not any(fnmatch.fnmatch(name, rule.rstrip("/")) for rule in rules)
