"""Packs what the drill for a GPU needs on a machine without downloads: the code, without published results, and wheels.

    make gpu-wheels && python tools/pack_gpu.py .gpu/tree       # then, there: cd .gpu/tree && python benchmarks/gpu.py

Run it in a checkout with everything committed. Exit code 2 if what travels is larger than 64 MiB.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = (":!results", ":!benchmarks/results")
LIMIT = 64 * 2**20


def pack(folder: Path, wheels: Path, root: Path = ROOT) -> int:
    """Bytes of what lies in the folder, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    command = ["git", "archive", "HEAD", ".", *LEFT_OUT]
    archive = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    for wheel in sorted(wheels.glob("*.whl")):
        (folder / ".gpu" / "wheels").mkdir(parents=True, exist_ok=True)
        shutil.copy(wheel, folder / ".gpu" / "wheels")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wheels", type=Path, default=ROOT / ".gpu" / "wheels")
    options = parser.parse_args()
    size = pack(options.folder, options.wheels)
    print(f"{options.folder}: {size / 2**20:.1f} MiB of at most {LIMIT / 2**20:.0f}")
    sys.exit(2 if size > LIMIT else 0)
