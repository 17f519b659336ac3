"""Find or make a Python environment for this checkout and print its interpreter: `python tools/environment.py test`.

An interpreter that already has everything is used as it is (that serves a machine without downloads). Else `.venv` is
made, with uv where it can be had and with pip otherwise. A stamp is written last, so an interrupted installation
is started again from nothing. Extras after `--optional` go into a `.venv` too if they can be had; an interpreter that
lacks nothing else is used without them. Standard library only: it runs before anything is installed.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
INTERPRETER = VENV / "bin" / "python"
STAMP = VENV / "complete"


def requirements(extras: list[str]) -> list[str]:
    """What the project needs, with those extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]


def satisfied(requirement: str) -> bool:
    """Does this interpreter have the package in the range asked for?"""
    name, *bounds = re.split(r"(?=[<>=!~])", requirement.replace(" ", ""), maxsplit=1)
    try:
        have = numbers(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False
    for bound in ",".join(bounds).split(","):
        if bound.startswith(">=") and have < numbers(bound[2:]):
            return False
        if bound.startswith("<") and have >= numbers(bound[1:]):
            return False
    return True


def numbers(version: str) -> tuple[int, ...]:
    """`2.14.1+cu130` -> (2, 14, 1); what follows the release does not count."""
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", version).group().split("."))  # type: ignore[union-attr]


def install(extras: list[str], optional: list[str]) -> None:
    """Make `.venv` anew with the tested versions."""
    shutil.rmtree(VENV, ignore_errors=True)
    say(f"Making {VENV} with {sys.executable} (a minute or two, mostly PyTorch) ...")
    venv.create(VENV, with_pip=True)
    pip = [str(INTERPRETER), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    uv = [str(INTERPRETER), "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(INTERPRETER)]
    tools = [uv, pip] if has_uv(pip) else [pip]
    if not with_any(tools, extras):
        sys.exit("The installation failed; see the messages above. Start again when the cause is mended.")
    if optional and not with_any(tools, [*extras, *optional]):
        say(f"Without {', '.join(optional)}, which could not be installed; the tests that need it are skipped.")


def with_any(tools: list[list[str]], extras: list[str]) -> bool:
    """Install those extras with the first tool that can."""
    wanted = ["-c", str(ROOT / "constraints.txt"), *requirements(extras)]
    return any(run([*tool, *wanted]) for tool in tools)


def has_uv(pip: list[str]) -> bool:
    return run([*pip, "uv"])


def run(command: list[str]) -> bool:
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def stamp(extras: list[str]) -> str:
    """What `.venv` was made from and for: a hash of the files, then the extras, a line each."""
    files = "".join((ROOT / name).read_text("utf-8") for name in ("pyproject.toml", "constraints.txt"))
    return "\n".join([hashlib.sha256(files.encode()).hexdigest(), *extras])


def complete(extras: list[str]) -> bool:
    """Is `.venv` whole, for these extras or for more?"""
    if not (STAMP.exists() and INTERPRETER.exists()):
        return False
    files, *known = STAMP.read_text("utf-8").splitlines() or [""]
    return files == stamp([]) and set(extras) <= set(known)


def main(extras: list[str], optional: list[str]) -> None:
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed. Got {sys.version.split()[0]}. Try: make PYTHON=python3.12 ...")
    if all(map(satisfied, requirements(extras))):
        print(sys.executable)
        return
    if not complete(extras + optional):
        install(extras, optional)
        STAMP.write_text(stamp(extras + optional), encoding="utf-8")
    print(INTERPRETER)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", help="extras of pyproject.toml that are needed")
    parser.add_argument("--optional", nargs="*", default=[], help="extras that are left out where they cannot be had")
    asked = parser.parse_args()
    main(asked.extras, asked.optional)
