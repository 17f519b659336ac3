"""Kill a benchmark at random instants until it is done, and compare what it leaves with an undisturbed one's.

    python benchmarks/faults.py                       200 faults, 60 runs a round; some 30 minutes on two cores
    python benchmarks/faults.py --faults 400 --repetitions 334      a soak of 1,002 runs

    worker       kill -9 of a worker process, starting or busy
    parent       kill -9 of the command; its workers must go with it
    everything   kill -9 of the whole process group
    preemption   SIGTERM to the command: it must save its states and leave by itself within 10 seconds with code 143

After every fault each record that was finished must still be there byte for byte, and every record that is there must
be whole. At the end all runs are done, the records equal those of an undisturbed benchmark but for what they cost and
when they began, and with these two set alike the leaderboards and reports are equal byte for byte.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cl_semisup import records  # noqa: E402

KINDS = {"worker": 6, "parent": 2, "everything": 2, "preemption": 2}  # how often each is drawn
TINY = ROOT / "tests" / "faults" / "tiny.yaml"
GONE_SECONDS = 10.0  # what a command and its workers have to leave in


@dataclass
class Tally:
    """What was done to a benchmark and what it cost: per kind of fault, how often, and how often all was well after."""

    injected: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    lost: int = 0  # finished records that were gone or changed after a fault
    torn: int = 0  # files that could not be read as the record they are named after
    continued: int = 0  # starts that found states of unfinished runs
    slowest_leave: float = 0.0
    rounds: int = 0

    def table(self) -> str:
        rows = [f"| {kind} | {n} | {self.survived[kind]} | {n - self.survived[kind]} |" for kind, n in self.rows()]
        return "\n".join(["| fault | injected | survived | lost |", "|---|---|---|---|", *rows])

    def rows(self) -> list[tuple[str, int]]:
        return [(kind, self.injected[kind]) for kind in KINDS]


def start(suite: Path, results: Path, workers: int, log: Path) -> subprocess.Popen[bytes]:
    """The command in a session of its own, its output appended to a log."""
    words = [sys.executable, "benchmark.py", str(suite), "--results", str(results), "--workers", str(workers)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*words, "--checkpoint-seconds", "0.1"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def disturb(
    suite: Path, results: Path, faults: int, rng: random.Random, tally: Tally, *, spread: float, workers: int = 2
) -> int:
    """Run a suite to its end through at most so many faults, `spread` seconds apart at most; how many it took."""
    log, left = results.with_suffix(".log"), faults
    while True:
        tally.continued += any((results / "checkpoints").glob("*.pt"))
        process = start(suite, results, workers, log)
        while left and _moment(process, results, rng, spread):
            kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
            if (well := _inject(kind, process, results, rng, tally)) is not None:
                left -= 1
                tally.injected[kind] += 1
                tally.survived[kind] += well
                if kind != "worker":
                    break
        else:
            if process.wait() != 0:
                raise AssertionError(f"ended with code {process.returncode}:\n{log.read_text()[-3000:]}")
            return faults - left


def _moment(process: subprocess.Popen[bytes], results: Path, rng: random.Random, spread: float) -> bool:
    """Wait for a random moment, every other time not before something was saved; False if the command ended first."""
    if rng.random() < 0.5:
        before = _saved(results)
        while process.poll() is None and _saved(results) == before:
            time.sleep(0.01)
    try:
        process.wait(rng.uniform(0, spread))
    except subprocess.TimeoutExpired:
        return True
    return False


def _saved(results: Path) -> set[tuple[Path, int]]:
    """Every record and state, and when it was written."""
    found = set()
    for path in [*(results / "records").rglob("*.json"), *(results / "checkpoints").glob("*.pt")]:
        with contextlib.suppress(FileNotFoundError):
            found.add((path, path.stat().st_mtime_ns))
    return found


def _inject(
    kind: str, process: subprocess.Popen[bytes], results: Path, rng: random.Random, tally: Tally
) -> bool | None:
    """One fault, and whether all was well after it; None if there was nothing to kill any more."""
    workers = children(process.pid)
    before = finished(results)
    if kind == "worker":
        if not workers:
            return None
        os.kill(rng.choice(workers), signal.SIGKILL)
    elif kind == "parent":
        os.kill(process.pid, signal.SIGKILL)
    elif kind == "everything":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        os.kill(process.pid, signal.SIGTERM)
    began = time.monotonic()
    gone = True
    if kind != "worker":
        code = process.wait()
        if code == 0 or (kind == "preemption" and code == -signal.SIGTERM):
            return None  # the command had just ended, or was not yet one: Python itself was starting
        gone = _gone(workers, began + GONE_SECONDS) and (kind != "preemption" or code == 128 + signal.SIGTERM)
        tally.slowest_leave = max(tally.slowest_leave, time.monotonic() - began)
    lost, torn = _damage(results, before)
    tally.lost, tally.torn = tally.lost + lost, tally.torn + torn
    return gone and not lost and not torn


def finished(results: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in records.every(results)}


def _damage(results: Path, before: dict[Path, bytes]) -> tuple[int, int]:
    """(finished records that are gone or changed, files that are no whole record)"""
    after, torn = finished(results), 0
    for path in after:
        try:
            records.read(path)
        except Exception:
            torn += 1
    return sum(after.get(path) != content for path, content in before.items()), torn


def children(pid: int) -> list[int]:
    """The spawned workers of a process (its resource tracker aside)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            line = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == pid and "spawn_main" in line and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def _gone(pids: list[int], deadline: float) -> bool:
    while any(_lives(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def differences(undisturbed: Path, disturbed: Path) -> list[str]:
    """What differs of two results folders, cost and time of day aside; their reports are made again and compared."""
    found = []
    one, other = ({p.relative_to(folder): p for p in records.every(folder)} for folder in (undisturbed, disturbed))
    found += [f"{name}: in one folder only" for name in sorted(map(str, one.keys() ^ other.keys()))]
    for name in sorted(one.keys() & other.keys()):
        pair = [records.read(files[name]) for files in (one, other)]
        for record, files in zip(pair, (one, other), strict=True):
            record["cost"], record["started_at"] = dict.fromkeys(record["cost"], 1.0), ""
            records.write_json(files[name], record)
        found += [f"{name}: {key}" for key in pair[0].keys() | pair[1].keys() if pair[0].get(key) != pair[1].get(key)]
        curves = [records.read_curves(files[name]) for files in (one, other)]
        found += [f"{name}: curves" for _ in [0] if curves[0] != curves[1]]
    return found


def unequal_reports(suite: Path, undisturbed: Path, disturbed: Path) -> list[str]:
    """The files of the suite's report that are not the same bytes, both made from records made alike."""
    for folder in (undisturbed, disturbed):  # of one name in two places, since a report tells its command
        words = [sys.executable, str(ROOT / "benchmark.py"), "report", str(suite), "--results", folder.name]
        subprocess.run(words, cwd=folder.parent, check=True, capture_output=True)
    folders = [folder / suite.stem for folder in (undisturbed, disturbed)]
    names = {path.name for folder in folders for path in folder.iterdir()}
    same = [name for name in names if len({(folder / name).read_bytes() for folder in folders}) == 1]
    return sorted(names - set(same))


def litter(results: Path) -> list[str]:
    """What a finished benchmark must not leave behind: states, claims, halves of files."""
    kinds = ("checkpoints/*", "claims/*", "records/**/.tmp-*")
    return sorted(str(path.relative_to(results)) for kind in kinds for path in results.glob(kind))


def trial(text: str, folder: Path, faults: int, spread: float, seed: int) -> tuple[Tally, list[str]]:
    """Benchmarks of a suite, one after the other, until so many faults have been injected; what came out different."""
    rng, tally, wrong, rounds = random.Random(seed), Tally(), list[str](), 0
    suite, undisturbed, log = folder / "tiny.yaml", folder / "undisturbed" / "results", folder / "undisturbed" / "log"
    suite.write_text(text)
    if start(suite, undisturbed, 2, log).wait() != 0:
        raise AssertionError(log.read_text())
    while (left := faults - tally.injected.total()) > 0:
        rounds += 1
        results = folder / f"round{rounds}" / "results"
        disturb(suite, results, left, rng, tally, spread=spread)
        wrong += differences(undisturbed, results) + unequal_reports(suite, undisturbed, results) + litter(results)
        print(f"round {rounds}: {tally.injected.total()} faults, {len(wrong)} differences", flush=True)
    tally.rounds = rounds
    return tally, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=20, help="of the suite; three runs each")
    parser.add_argument("--spread", type=float, default=8.0, help="seconds between two faults, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "faults.md")
    options = parser.parse_args()
    began = time.monotonic()
    text = TINY.read_text().replace("repetitions: 8", f"repetitions: {options.repetitions}")
    with tempfile.TemporaryDirectory() as name:
        tally, wrong = trial(text, Path(name), options.faults, options.spread, options.seed)
    minutes = (time.monotonic() - began) / 60
    words = f"--faults {options.faults} --repetitions {options.repetitions} --seed {options.seed}"
    told = f"""# Faults

`python benchmarks/faults.py {words}`, {minutes:.0f} minutes on {os.cpu_count()} cores.

{tally.table()}

Benchmarks of {3 * options.repetitions} runs that ended complete: {tally.rounds}. Finished records lost: {tally.lost}.
Torn files: {tally.torn}. Differences from the undisturbed benchmark, in records, curves and reports: {len(wrong)}.
Starts that went on from saved states: {tally.continued}. Slowest leave after a signal: {tally.slowest_leave:.1f} s.
"""
    print(told, *wrong[:20], sep="\n")
    records.write_text(options.out, told)
    return 1 if wrong or tally.lost or tally.torn or tally.survived != tally.injected else 0


if __name__ == "__main__":
    sys.exit(main())
