"""Kill a benchmark at random instants until it is done, and compare what it leaves with an undisturbed one's.

    python benchmarks/faults.py            200 faults in benchmarks of 60 runs, one after the other
    python benchmarks/faults.py --soak     40 faults in one benchmark of 1,002 runs

    worker       kill -9 of a worker process, starting or busy
    parent       kill -9 of the command; its workers must go with it
    everything   kill -9 of the whole process group
    preemption   SIGTERM to the command: it must save its states and leave by itself within 10 seconds with code 143
    interrupt    Ctrl-C, SIGINT to the whole group: the same with code 130

After every fault each finished record must still be there, byte for byte, and every record must be whole. At the end
all runs are `ok` and nothing is left over. Except in the soak, the records must also equal those of an undisturbed
benchmark, apart from costs and start times. With these two set alike, leaderboards and reports must be equal byte for
byte.

Results go to benchmarks/results/faults.json, and from there to faults.md.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cl_semisup.results import records  # noqa: E402

FAULT_KINDS = ("worker", "parent", "everything", "preemption", "interrupt")
SIGNALS = {"preemption": signal.SIGTERM, "interrupt": signal.SIGINT}
TINY = ROOT / "tests" / "faults" / "tiny.yaml"
EXIT_SECONDS = 10.0  # in which a command and its workers must have ended
COMPARISON = "Differences from an undisturbed one, in records, curves and bytes of reports"
RESULTS = ROOT / "benchmarks" / "results" / "faults.json"


@dataclass(frozen=True)
class Plan:
    """So many faults of each of FAULT_KINDS, at most so many seconds apart, in benchmarks of 3 runs a repetition."""

    faults: tuple[int, int, int, int, int]
    repetitions: int
    spread: float

    def shuffled(self, rng: random.Random) -> list[str]:
        """All faults in a random order."""
        kinds = [kind for kind, number in zip(FAULT_KINDS, self.faults, strict=True) for _ in range(number)]
        rng.shuffle(kinds)
        return kinds


PLANS = {"kills": Plan((120, 20, 20, 20, 20), 20, 2.0), "soak": Plan((24, 4, 4, 4, 4), 334, 8.0)}


@dataclass
class Tally:
    """What was done to a benchmark and what it cost: per kind of fault, how often, and how often all was well after."""

    injected: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    lost: int = 0  # finished records that were gone or changed after a fault
    torn: int = 0  # files that could not be read as the record they are named after
    continued: int = 0  # starts that found states of unfinished runs
    slowest_exit: float = 0.0
    rounds: int = 0


def start(suite: Path, results: Path, workers: int, log: Path) -> subprocess.Popen[bytes]:
    """The command in a session of its own, its output appended to a log."""
    command = [sys.executable, "benchmark.py", str(suite), "--results", str(results), "--workers", str(workers)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*command, "--checkpoint-seconds", "0.1"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def run_through_faults(
    suite: Path, results: Path, kinds: list[str], rng: random.Random, tally: Tally, plan: Plan, workers: int
) -> None:
    """Run a suite to its end through faults, which are taken off the list as they happen."""
    log = results.with_suffix(".log")
    while True:
        tally.continued += any((results / "checkpoints").glob("*.pt"))
        process = start(suite, results, workers, log)
        while kinds and _wait_for_random_moment(process, results, rng, plan.spread):
            if (survived := _inject(kinds[-1], process, results, rng, tally)) is not None:
                kind = kinds.pop()
                tally.injected[kind] += 1
                tally.survived[kind] += survived
                if kind != "worker":
                    break
        else:
            if process.wait() == 0:
                return
            if -process.returncode not in SIGNALS.values():  # else Python itself was starting, or leaving: start again
                raise AssertionError(f"ended with code {process.returncode}:\n{_end_of_log(results)}")


def _wait_for_random_moment(process: subprocess.Popen[bytes], results: Path, rng: random.Random, spread: float) -> bool:
    """Wait for a random moment, every other time not before something was saved; False if the command ended first."""
    if rng.random() < 0.5:
        before = _mtimes(results)
        while process.poll() is None and _mtimes(results) == before:
            time.sleep(0.01)
    try:
        process.wait(rng.uniform(0, spread))
    except subprocess.TimeoutExpired:
        return True
    return False


def _mtimes(results: Path) -> set[tuple[Path, int]]:
    """Every record and state, and when it was written."""
    mtimes = set()
    for path in [*(results / "records").rglob("*.json"), *(results / "checkpoints").glob("*.pt")]:
        with contextlib.suppress(FileNotFoundError):
            mtimes.add((path, path.stat().st_mtime_ns))
    return mtimes


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
    elif kind == "preemption":
        os.kill(process.pid, signal.SIGTERM)
    else:
        os.killpg(process.pid, signal.SIGINT)
    start_time = time.monotonic()
    gone = True
    if kind != "worker":
        code = process.wait()
        number = SIGNALS.get(kind)
        if code == 0 or (number and code == -number):
            return None  # the command had just ended, or was not yet one: Python itself was starting
        gone = _all_gone(workers, start_time + EXIT_SECONDS) and (number is None or code == 128 + number)
        if not gone:
            print(f"{kind}: left with code {code}; the end of its log:\n{_end_of_log(results)}", flush=True)
        tally.slowest_exit = max(tally.slowest_exit, time.monotonic() - start_time)
    lost, torn = _damage(results, before)
    tally.lost, tally.torn = tally.lost + lost, tally.torn + torn
    return gone and not lost and not torn


def _end_of_log(results: Path) -> str:
    return results.with_suffix(".log").read_text()[-3000:]


def finished(results: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in records.all_paths(results)}


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
    """The workers of a process: those that it spawned, and those that its fork server forked."""
    parents: dict[int, int] = {}
    lines: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            line = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(path.parent.name)], lines[int(path.parent.name)] = int(fields[1]), line
    servers = {one for one, line in lines.items() if parents[one] == pid and "forkserver" in line}
    spawned = [one for one, line in lines.items() if parents[one] == pid and "spawn_main" in line]
    return spawned + [one for one in lines if parents[one] in servers]


def _all_gone(pids: list[int], deadline: float) -> bool:
    while any(_is_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def differences(undisturbed: Path, disturbed: Path) -> list[str]:
    """What differs between two results folders, apart from costs and start times, which are then set alike."""
    texts = []
    one, other = ({p.relative_to(folder): p for p in records.all_paths(folder)} for folder in (undisturbed, disturbed))
    texts += [f"{name}: in one folder only" for name in sorted(map(str, one.keys() ^ other.keys()))]
    for name in sorted(one.keys() & other.keys()):
        pair = [records.read(files[name]) for files in (one, other)]
        for record, files in zip(pair, (one, other), strict=True):
            record["cost"], record["started_at"] = dict.fromkeys(record["cost"], 1.0), ""
            records.write_json(files[name], record)
        texts += [f"{name}: {key}" for key in pair[0].keys() | pair[1].keys() if pair[0].get(key) != pair[1].get(key)]
        curves = [records.read_curves(files[name]) for files in (one, other)]
        texts += [f"{name}: curves" for _ in [0] if curves[0] != curves[1]]
    return texts


def unequal_reports(suite: Path, undisturbed: Path, disturbed: Path) -> list[str]:
    """Make both reports again, from records that `differences` has set alike; the files whose bytes differ."""
    for folder in (undisturbed, disturbed):  # of one name in two places, since a report tells its command
        command = [sys.executable, str(ROOT / "benchmark.py"), "report", str(suite), "--results", folder.name]
        subprocess.run(command, cwd=folder.parent, check=True, capture_output=True)
    folders = [folder / suite.stem for folder in (undisturbed, disturbed)]
    written = {path.name for folder in folders for path in folder.iterdir()}
    names = {name for name in written if not name.startswith(".tmp-")}  # halves of killed reports: swept an hour later
    same = [name for name in names if len({(folder / name).read_bytes() for folder in folders}) == 1]
    return sorted(names - set(same))


def leftovers(results: Path) -> list[str]:
    """What a finished benchmark must not leave behind: states, claims, halves of files."""
    kinds = ("checkpoints/*", "claims/*", "records/**/.tmp-*")
    return sorted(str(path.relative_to(results)) for kind in kinds for path in results.glob(kind))


def unfinished(results: Path, runs: int) -> list[str]:
    """What keeps a benchmark of so many runs from being complete and well."""
    all_records = [records.read(path) for path in records.all_paths(results)]
    bad = [record for record in all_records if record["status"] != "ok"]
    texts = [f"{record['id']}: {record['status']}: {record['reason']}" for record in bad]
    return texts + ([f"{len(all_records)} records of {runs} runs"] if len(all_records) != runs else [])


def trial(plan: Plan, folder: Path, seed: int, workers: int = 2, compare: bool = True) -> tuple[Tally, list[str]]:
    """Benchmarks, one after the other, until all faults have been injected; what came out wrong, or different."""
    rng, tally, wrong = random.Random(seed), Tally(), list[str]()
    suite, undisturbed, log = folder / "tiny.yaml", folder / "undisturbed" / "results", folder / "undisturbed" / "log"
    suite.write_text(TINY.read_text().replace("repetitions: 8", f"repetitions: {plan.repetitions}"))
    if compare and start(suite, undisturbed, workers, log).wait() != 0:
        raise AssertionError(log.read_text())
    kinds = plan.shuffled(rng)
    while kinds:
        tally.rounds += 1
        results = folder / f"round{tally.rounds}" / "results"
        run_through_faults(suite, results, kinds, rng, tally, plan, workers)
        wrong += unfinished(results, 3 * plan.repetitions) + leftovers(results)
        wrong += ["a traceback on the terminal"] * ("Traceback" in results.with_suffix(".log").read_text())
        if compare:
            wrong += differences(undisturbed, results) + unequal_reports(suite, undisturbed, results)
        print(f"round {tally.rounds}: {tally.injected.total()} faults, {len(wrong)} differences", flush=True)
    return tally, wrong


def summarize(plan: Plan, tally: Tally, wrong: list[str]) -> dict[str, Any]:
    """What came of a trial, in plain data."""
    return {
        "faults": {
            kind: {"injected": n, "survived": tally.survived[kind], "lost": n - tally.survived[kind]}
            for kind in FAULT_KINDS
            if (n := tally.injected[kind])
        },
        "benchmarks": tally.rounds,
        "runs_each": 3 * plan.repetitions,
        "records_lost": tally.lost,
        "records_torn": tally.torn,
        "differences": len(wrong),
        "starts_from_saved_states": tally.continued,
        "slowest_leave_seconds": round(tally.slowest_exit, 2),
    }


def page(results: dict[str, dict[str, Any]]) -> str:
    """The summaries of all kinds of trial as Markdown."""
    lines = ["# Faults", ""]
    for name, summary in results.items():
        lines += [
            f"## {name.capitalize()}",
            "",
            f"`{summary['command']}`: {summary['minutes']} minutes on {summary['machine']}.",
        ]
        lines += ["", "| fault | injected | survived | lost |", "|---|---|---|---|"]
        rows = [*summary["faults"].items()]
        rows += [("all", {key: sum(row[key] for _, row in rows) for key in ("injected", "survived", "lost")})]
        lines += [f"| {kind} | {row['injected']} | {row['survived']} | {row['lost']} |" for kind, row in rows]
        lines += [
            "",
            f"Benchmarks of {summary['runs_each']:,} runs that ended complete: {summary['benchmarks']}. Finished "
            f"records lost: {summary['records_lost']}; torn: {summary['records_torn']}. {summary['compared']}: "
            f"{summary['differences']}. Starts that went on from saved states: "
            f"{summary['starts_from_saved_states']}. Slowest leave: "
            f"{summary['slowest_leave_seconds']} s.",
            "",
        ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soak", action="store_true", help="one long benchmark instead of many short ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    name = "soak" if options.soak else "kills"
    plan, start_time = PLANS[name], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally, wrong = trial(plan, Path(folder), options.seed, options.workers, compare=not options.soak)
    result = {
        "command": " ".join(["python benchmarks/faults.py", *sys.argv[1:]]),
        "minutes": round((time.monotonic() - start_time) / 60, 1),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}",
        **summarize(plan, tally, wrong),
        "compared": "Runs not ok or not done, and litter" if options.soak else COMPARISON,
    }
    before = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    results = dict(sorted((before | {name: result}).items()))
    records.write_json(RESULTS, results)
    records.write_text(RESULTS.with_suffix(".md"), page(results))
    print(page({name: result}), *wrong[:20], sep="\n")
    return 1 if wrong or tally.lost or tally.torn or tally.survived != tally.injected else 0


if __name__ == "__main__":
    sys.exit(main())
