"""Find or make a Python environment for this checkout and print its interpreter: `python tools/environment.py test`.

An interpreter that has all requirements is used as it is, so a machine without downloads works too. Otherwise `.venv`
is made, with uv if it can be installed and with pip if not. A stamp is written last, so an interrupted installation
begins again from nothing. A whole `.venv` that lacks extras gets them. Extras after `--optional` are installed in
`.venv` if they are available; an interpreter that lacks only these is used without them. The script uses the standard
library only: it runs before any installation.

On Linux without an NVIDIA driver torch's CPU wheels are taken, which are 3.3 GB smaller, if PyTorch's own index has the
tested pair and answers soon; CL_SEMISUP_TORCH=default keeps the usual ones.
"""

import argparse
import hashlib
import http.client
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
import venv
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
INTERPRETER = VENV / "bin" / "python"
STAMP = VENV / "complete"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SECONDS = 5.0  # that the index has to answer


def requirements(extras: list[str]) -> list[str]:
    """Requirements of the project and of these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]


def satisfied(requirement: str) -> bool:
    """Does this interpreter have the package in the required range?"""
    name, *bounds = re.split(r"(?=[<>=!~])", requirement.replace(" ", ""), maxsplit=1)
    try:
        installed = release(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False
    for bound in ",".join(bounds).split(","):
        if bound.startswith(">=") and installed < release(bound[2:]):
            return False
        if bound.startswith("<") and installed >= release(bound[1:]):
            return False
    return True


def release(version: str) -> tuple[int, ...]:
    """`2.14.1+cu130` -> (2, 14, 1), without any suffix."""
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", version).group().split("."))  # type: ignore[union-attr]


def install(extras: list[str], optional: list[str]) -> None:
    """Make a new `.venv` with the tested versions, or add the extras to a whole one."""
    if complete([]):
        report(f"Adding {', '.join(extras + optional)} to {VENV} ...")
        STAMP.unlink()
    else:
        shutil.rmtree(VENV, ignore_errors=True)
        report(f"Making {VENV} with {sys.executable} (a minute or two, mostly PyTorch) ...")
        venv.create(VENV, with_pip=True)
    pip = [str(INTERPRETER), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    uv = [str(INTERPRETER), "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(INTERPRETER)]
    installers = [uv, pip] if run([*pip, "uv"]) else [pip]
    pair = cpu_pair()
    if pair and any(run([*installer, "--index-url", CPU_INDEX, *pair]) for installer in installers):
        report("torch and torchvision are those for a CPU.")
    if not install_with_any(installers, extras):
        sys.exit("The installation failed; see the messages above. Start again when the cause is mended.")
    if optional and not install_with_any(installers, [*extras, *optional]):
        report(f"Without {', '.join(optional)}, which could not be installed; the tests that need it are skipped.")


def cpu_pair() -> list[str]:
    """The tested torch and torchvision for a CPU, if this machine is better off with them and the index has both."""
    if platform.system() != "Linux" or shutil.which("nvidia-smi") or os.environ.get("CL_SEMISUP_TORCH") == "default":
        return []
    pins = dict(
        re.findall(r"^(torch|torchvision)==([\d.]+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    )
    try:
        pages = {name: _page(f"{CPU_INDEX}/{name}/") for name in pins}
    except (OSError, http.client.HTTPException):
        return []
    pair = [f"{name}=={pin}+cpu" for name, pin in pins.items()]
    has_all = all(
        f"{name}-{pin}%2Bcpu" in pages[name] or f"{name}-{pin}+cpu" in pages[name] for name, pin in pins.items()
    )
    return pair if has_all else []


def _page(address: str) -> str:
    with urllib.request.urlopen(address, timeout=SECONDS) as answer:
        return str(answer.read().decode("utf-8", "replace"))


def install_with_any(installers: list[list[str]], extras: list[str]) -> bool:
    """Install the requirements with the first installer that succeeds."""
    arguments = ["-c", str(ROOT / "constraints.txt"), *requirements(extras)]
    return any(run([*installer, *arguments]) for installer in installers)


def run(command: list[str]) -> bool:
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0


def report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def stamp(extras: list[str]) -> str:
    """Lines that describe `.venv`: a hash of the files that it was made from, then its extras."""
    files = "".join((ROOT / name).read_text("utf-8") for name in ("pyproject.toml", "constraints.txt"))
    return "\n".join([hashlib.sha256(files.encode()).hexdigest(), *extras])


def complete(extras: list[str]) -> bool:
    """Is the installation of `.venv` complete, with at least these extras?"""
    if not (STAMP.exists() and INTERPRETER.exists()):
        return False
    files, *installed = STAMP.read_text("utf-8").splitlines() or [""]
    return files == stamp([]) and set(extras) <= set(installed)


def main(extras: list[str], optional: list[str]) -> None:
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed. Got {sys.version.split()[0]}. Try: make PYTHON=python3.12 ...")
    if all(map(satisfied, requirements(extras))):
        print(sys.executable)
        return
    if not complete(extras + optional):
        kept = STAMP.read_text("utf-8").splitlines()[1:] if complete([]) else []
        install(extras, optional)
        STAMP.write_text(stamp(sorted({*kept, *extras, *optional})), encoding="utf-8")
    print(INTERPRETER)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", help="required extras of pyproject.toml")
    parser.add_argument("--optional", nargs="*", default=[], help="extras that may be unavailable")
    options = parser.parse_args()
    main(options.extras, options.optional)
