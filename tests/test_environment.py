"""The environment that `make` uses: an interpreter that has everything, or a virtual environment made whole."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def environment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ranges_are_read_as_pip_reads_them(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.metadata, "version", lambda name: "2.14.1+cu130")
    assert environment.satisfied("torch>=2.11,<3")
    assert environment.satisfied("torch")
    assert environment.satisfied("torch >= 2.14.1")
    assert not environment.satisfied("torch>=2.15")
    assert not environment.satisfied("torch>=2.0,<2.14")


def test_a_missing_package_is_not_satisfied(environment: ModuleType) -> None:
    assert not environment.satisfied("no-such-package-at-all>=1")


def test_this_interpreter_has_what_the_project_needs(environment: ModuleType) -> None:
    assert all(map(environment.satisfied, environment.requirements(["test"])))


def test_an_interrupted_installation_does_not_count(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "STAMP", tmp_path / "complete")
    monkeypatch.setattr(environment, "INTERPRETER", tmp_path / "python")
    (tmp_path / "python").write_text("")
    assert not environment.complete([])  # an interpreter without a stamp
    (tmp_path / "complete").write_text(environment.stamp([]))
    assert environment.complete([])
    assert not environment.complete(["test"])  # made for less than is asked
    (tmp_path / "complete").write_text(environment.stamp(["test", "oracle"]))
    assert environment.complete(["test"])  # made for more than is asked
    (tmp_path / "complete").write_text("made from another pyproject.toml")
    assert not environment.complete([])


def test_what_is_optional_may_be_missing(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where its packages cannot be had the environment is made without them, says so, and counts as complete."""
    monkeypatch.setattr(environment, "VENV", tmp_path)
    monkeypatch.setattr(environment, "STAMP", tmp_path / "complete")
    monkeypatch.setattr(environment, "INTERPRETER", tmp_path / "python")
    monkeypatch.setattr(environment, "satisfied", lambda requirement: False)
    monkeypatch.setattr(environment.venv, "create", lambda folder, **_: (folder.mkdir(), (folder / "python").touch()))
    tried: list[list[str]] = []

    def run(command: list[str]) -> bool:
        tried.append(command)
        return not any(part.startswith("lightly") for part in command)

    monkeypatch.setattr(environment, "run", run)
    monkeypatch.setattr(environment, "cpu_pair", list)
    environment.main(["test"], ["oracle"])
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "python")
    assert "Without oracle" in err
    made = len(tried)
    environment.main(["test"], ["oracle"])
    assert len(tried) == made
    environment.main(["docs"], [])  # added to what is there
    assert "Adding docs" in capsys.readouterr().err
    assert environment.complete(["test", "oracle", "docs"])


@pytest.fixture
def linux_without_gpu(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(environment.platform, "system", lambda: "Linux")
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    monkeypatch.delenv("CL_SEMISUP_TORCH", raising=False)
    return environment


def test_wheels_for_a_cpu_are_taken_where_the_index_has_the_tested_pair(
    linux_without_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line.startswith(("torch==", "torchvision==")))
    pages = {f"/{name}/": f"<a>{name}-{pin}%2Bcpu-cp312-cp312-linux_x86_64.whl</a>" for name, pin in pins.items()}
    monkeypatch.setattr(
        linux_without_gpu, "_page", lambda address: next(pages[end] for end in pages if address.endswith(end))
    )
    assert linux_without_gpu.cpu_pair() == [f"{name}=={pin}+cpu" for name, pin in pins.items()]
    pages["/torchvision/"] = "<a>torchvision-0.1+cpu.whl</a>"  # torch alone is no pair
    assert linux_without_gpu.cpu_pair() == []
    pages["/torchvision/"] = f"torchvision-{pins['torchvision']}+cpu"
    monkeypatch.setenv("CL_SEMISUP_TORCH", "default")
    assert linux_without_gpu.cpu_pair() == []
    monkeypatch.delenv("CL_SEMISUP_TORCH")
    monkeypatch.setattr(linux_without_gpu.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert linux_without_gpu.cpu_pair() == []


def test_an_index_that_does_not_answer_is_left_alone(
    linux_without_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(address: str) -> str:
        raise OSError(address)

    monkeypatch.setattr(linux_without_gpu, "_page", unreachable)
    assert linux_without_gpu.cpu_pair() == []


def test_pins_lie_in_the_ranges_that_are_declared(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(re.match(r"([\w-]+)==([^ ;]+)", line).groups() for line in lines if line[:1] not in "#")  # type: ignore[union-attr]
    monkeypatch.setattr(environment.metadata, "version", lambda name: pins[name.lower()])
    for requirement in environment.requirements(["test"]):
        if requirement.lower().startswith(tuple(pins)):
            assert environment.satisfied(requirement), requirement
