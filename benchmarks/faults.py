"""Kills a benchmark at random times until it is done, and compares its results with those of an undisturbed run.

    python benchmarks/faults.py            200 faults in benchmarks of 60 runs, one after the other
    python benchmarks/faults.py --soak     40 faults in one benchmark of 1,002 runs

    worker       kill -9 of a worker process, starting or busy
    parent       kill -9 of the command; its workers must go with it
    everything   kill -9 of the whole process group
    preemption   SIGTERM to the command: it must save its states and leave by itself within 10 seconds with code 143
    interrupt    Ctrl-C, SIGINT to the whole group: the same with code 130

After every fault, each finished record must exist unchanged, and every record file must be complete. At the end all
runs have the status ok and no temporary files are left. Except in the soak, the records also equal those of an
undisturbed benchmark, apart from costs and start times; with these set to the same values, the reports are equal byte
for byte.

Results go to benchmarks/results/faults.json and faults.md.
"""

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
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.results import records

KINDS = ("worker", "parent", "everything", "preemption", "interrupt")
SIGNALS = {"preemption": signal.SIGTERM, "interrupt": signal.SIGINT}
TINY = _common.ROOT / "tests" / "faults" / "tiny.yaml"
EXIT_SECONDS = 10.0  # within which a command and its workers must end
COMPARED = "Differences from an undisturbed one, in records, curves and bytes of reports"


@dataclass(frozen=True)
class Plan:
    """Numbers of faults of each of KINDS, at most `spread` seconds apart, in benchmarks of 3 runs a repetition."""

    faults: tuple[int, int, int, int, int]
    repetitions: int
    spread: float

    def shuffled_kinds(self, rng: random.Random) -> list[str]:
        """All faults in a random order."""
        kinds = [kind for kind, number in zip(KINDS, self.faults, strict=True) for _ in range(number)]
        rng.shuffle(kinds)
        return kinds


PLANS = {"kills": Plan((120, 20, 20, 20, 20), 20, 2.0), "soak": Plan((24, 4, 4, 4, 4), 334, 8.0)}


@dataclass
class Tally:
    """Counts of a trial: for each kind of fault, how many were injected and after how many nothing was damaged."""

    injected: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    lost: int = 0  # finished records that were gone or changed after a fault
    torn: int = 0  # files that could not be read as the record they are named after
    continued: int = 0  # starts that found states of unfinished runs
    slowest_leave: float = 0.0
    rounds: int = 0


def start(suite: Path, results: Path, workers: int, log: Path) -> subprocess.Popen[bytes]:
    """The command in a session of its own, its output appended to a log."""
    words = [sys.executable, "benchmark.py", str(suite), "--results", str(results), "--workers", str(workers)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*words, "--checkpoint-seconds", "0.1"],
            cwd=_common.ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def disturb(
    suite: Path, results: Path, kinds: list[str], rng: random.Random, tally: Tally, plan: Plan, workers: int
) -> None:
    """Runs a suite to its end with faults; each injected fault is removed from the list."""
    log = results.with_suffix(".log")
    while True:
        tally.continued += any((results / "checkpoints").glob("*.pt"))
        process = start(suite, results, workers, log)
        while kinds and _moment(process, results, rng, plan.spread):
            if (well := _inject(kinds[-1], process, results, rng, tally)) is not None:
                kind = kinds.pop()
                tally.injected[kind] += 1
                tally.survived[kind] += well
                if kind != "worker":
                    break
        else:
            if process.wait() == 0:
                return
            if -process.returncode not in SIGNALS.values():  # else Python itself was starting, or leaving: start again
                raise AssertionError(f"ended with code {process.returncode}:\n{_end(results)}")


def _moment(process: subprocess.Popen[bytes], results: Path, rng: random.Random, spread: float) -> bool:
    """Waits a random time, in half of the cases after the next saved file; False if the command ended first."""
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
    """All records and checkpoints with the times of their last changes."""
    saved = set()
    for path in [*(results / "records").rglob("*.json"), *(results / "checkpoints").glob("*.pt")]:
        with contextlib.suppress(FileNotFoundError):
            saved.add((path, path.stat().st_mtime_ns))
    return saved


def _inject(
    kind: str, process: subprocess.Popen[bytes], results: Path, rng: random.Random, tally: Tally
) -> bool | None:
    """Injects one fault; returns whether nothing was damaged, or None if there was nothing left to kill."""
    workers = children(process.pid)
    before = finished(results)
    if (kind == "worker" and not workers) or (kind in SIGNALS and not _catches_signals(process.pid)):
        return None
    try:
        _signal(kind, process.pid, workers, rng)
    except ProcessLookupError:
        return None  # it had just left by itself: between the list of processes and the signal
    began = time.monotonic()
    gone = True
    if kind != "worker":
        code = process.wait()
        number = SIGNALS.get(kind)
        if code == 0 or (number and code == -number):
            return None  # the command had just ended, or was not yet one: Python itself was starting
        gone = _gone(workers, began + EXIT_SECONDS) and (number is None or code == 128 + number)
        if not gone:
            print(f"{kind}: left with code {code}; the end of its log:\n{_end(results)}", flush=True)
        tally.slowest_leave = max(tally.slowest_leave, time.monotonic() - began)
    lost, torn = _damage(results, before)
    tally.lost, tally.torn = tally.lost + lost, tally.torn + torn
    return gone and not lost and not torn


def _catches_signals(pid: int) -> bool:
    """Whether the command handles SIGTERM. Before and after, Python itself starts or ends, and prints what it likes."""
    with contextlib.suppress(OSError):
        caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
    return False


def _signal(kind: str, pid: int, workers: list[int], rng: random.Random) -> None:
    """Sends a fault's signal to one worker, to the command, or to all of its processes."""
    if kind == "worker":
        os.kill(rng.choice(workers), signal.SIGKILL)
    elif kind == "parent":
        os.kill(pid, signal.SIGKILL)
    elif kind == "everything":
        os.killpg(pid, signal.SIGKILL)
    elif kind == "preemption":
        os.kill(pid, signal.SIGTERM)
    else:
        os.killpg(pid, signal.SIGINT)


def _end(results: Path) -> str:
    return results.with_suffix(".log").read_text()[-3000:]


def _tracebacks(results: Path) -> list[str]:
    """The first traceback on the terminal, with what stands around it."""
    text = results.with_suffix(".log").read_text()
    at = text.find("Traceback")
    return [] if at < 0 else [f"a traceback on the terminal: {text[max(0, at - 300) : at + 2000]}"]


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
            line = (path.parent / "cmdline").read_text(errors="replace")
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(path.parent.name)], lines[int(path.parent.name)] = int(fields[1]), line
    servers = {one for one, line in lines.items() if parents[one] == pid and "forkserver" in line}
    spawned = [one for one, line in lines.items() if parents[one] == pid and "spawn_main" in line]
    return spawned + [one for one in lines if parents[one] in servers]


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
    """Differences between the records and curves of two results folders, apart from costs and start times."""
    differing = []
    undisturbed_files, disturbed_files = (
        {p.relative_to(folder): p for p in records.all_paths(folder)} for folder in (undisturbed, disturbed)
    )
    differing += [
        f"{name}: in one folder only" for name in sorted(map(str, undisturbed_files.keys() ^ disturbed_files.keys()))
    ]
    for name in sorted(undisturbed_files.keys() & disturbed_files.keys()):
        pair = [records.read(files[name]) for files in (undisturbed_files, disturbed_files)]
        for record, files in zip(pair, (undisturbed_files, disturbed_files), strict=True):
            cost = {name: 1.0 for name in record["cost"] if name != "resumed"}
            record.update(dict.fromkeys(records.OF_ONE_ATTEMPT, "") | {"cost": cost})
            records.write_text(files[name], records.to_json(record))
        differing += [
            f"{name}: {key}" for key in pair[0].keys() | pair[1].keys() if pair[0].get(key) != pair[1].get(key)
        ]
        curves = [records.read_curves(files[name]) for files in (undisturbed_files, disturbed_files)]
        differing += [f"{name}: curves" for _ in [0] if curves[0] != curves[1]]
    return differing


def report_files(suite: Path, results: Path) -> dict[str, bytes]:
    """The files of a report made here and now, from a folder's own name, since a report tells its command."""
    words = [*_common.COMMAND, "report", str(suite), "--results", results.name]
    subprocess.run(words, cwd=results.parent, check=True, capture_output=True)
    paths = (results / suite.stem).iterdir()  # .tmp- are of killed reports, and removed after an hour
    return {path.name: path.read_bytes() for path in paths if not path.name.startswith(".tmp-")}


def litter(results: Path) -> list[str]:
    """Files that a finished benchmark must not leave behind: checkpoints, claims, temporary files."""
    kinds = ("checkpoints/*", "claims/*", "records/**/.tmp-*")
    return sorted(str(path.relative_to(results)) for kind in kinds for path in results.glob(kind))


def unfinished(results: Path, runs: int) -> list[str]:
    """Problems of a benchmark that should have so many records, all ok."""
    all_records = [records.read(path) for path in records.all_paths(results)]
    bad = [
        f"{record['id']}: {record['status']}: {record['reason']}" for record in all_records if record["status"] != "ok"
    ]
    return bad + ([f"{len(all_records)} records of {runs} runs"] if len(all_records) != runs else [])


def trial(plan: Plan, folder: Path, seed: int, workers: int = 2, compare: bool = True) -> tuple[Tally, list[str]]:
    """Runs benchmarks one after the other until all faults have been injected; returns counts and problems."""
    rng, tally, wrong = random.Random(seed), Tally(), list[str]()
    suite, undisturbed, log = folder / "tiny.yaml", folder / "undisturbed" / "results", folder / "undisturbed" / "log"
    suite.write_text(TINY.read_text().replace("repetitions: 8", f"repetitions: {plan.repetitions}"))
    if compare and start(suite, undisturbed, workers, log).wait() != 0:
        raise AssertionError(log.read_text())
    kinds, expected = plan.shuffled_kinds(rng), dict[str, bytes]()
    while kinds:
        tally.rounds += 1
        results = folder / f"round{tally.rounds}" / "results"
        disturb(suite, results, kinds, rng, tally, plan, workers)
        wrong += unfinished(results, 3 * plan.repetitions) + litter(results)
        wrong += _tracebacks(results)
        if compare:
            wrong += differences(undisturbed, results)
            expected = expected or report_files(suite, undisturbed)  # of equal costs and times from here on
            made = report_files(suite, results)
            wrong += sorted(name for name in expected.keys() | made.keys() if expected.get(name) != made.get(name))
        print(f"round {tally.rounds}: {tally.injected.total()} faults, {len(wrong)} differences", flush=True)
    return tally, wrong


def summarize(plan: Plan, tally: Tally, wrong: list[str]) -> dict[str, Any]:
    """The results of a trial as plain data."""
    return {
        "faults": {
            kind: {"injected": n, "survived": tally.survived[kind], "lost": n - tally.survived[kind]}
            for kind in KINDS
            if (n := tally.injected[kind])
        },
        "benchmarks": tally.rounds,
        "runs_each": 3 * plan.repetitions,
        "records_lost": tally.lost,
        "records_torn": tally.torn,
        "differences": len(wrong),
        "starts_from_saved_states": tally.continued,
        "slowest_leave_seconds": round(tally.slowest_leave, 2),
    }


def page(trials: dict[str, dict[str, Any]]) -> str:
    """The results of all kinds of trials as Markdown."""
    paragraphs = []
    for name, trial in trials.items():
        keys = ("injected", "survived", "lost")
        rows = [(kind, *(trial["faults"][kind][key] for key in keys)) for kind in KINDS if kind in trial["faults"]]
        rows.append(("all", *(sum(counts[key] for counts in trial["faults"].values()) for key in keys)))
        paragraphs += [
            f"## {name.capitalize()}",
            f"`{trial['command']}`: {trial['minutes']} minutes on {trial['machine']}.",
            _common.table(("fault", *keys), rows),
            f"Benchmarks of {trial['runs_each']:,} runs that ended complete: {trial['benchmarks']}. Finished records "
            f"lost: {trial['records_lost']}; torn: {trial['records_torn']}. {trial['compared']}: "
            f"{trial['differences']}. Starts that went on from saved states: {trial['starts_from_saved_states']}. "
            f"Slowest leave: {trial['slowest_leave_seconds']} s.",
        ]
    return _common.page("Faults", *paragraphs)


def main() -> int:
    parser = _common.parser(__doc__)
    parser.add_argument("--soak", action="store_true", help="one long benchmark instead of many short ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    name = "soak" if options.soak else "kills"
    plan, began = PLANS[name], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally, wrong = trial(plan, Path(folder), options.seed, options.workers, compare=not options.soak)
    summary = {
        "command": _common.command_line(),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "machine": _common.machine(),
        **summarize(plan, tally, wrong),
        "compared": "Runs not ok or not done, and litter" if options.soak else COMPARED,
    }
    trials = dict(sorted((_common.load("faults") | {name: summary}).items()))
    _common.save("faults", page(trials), trials)
    print(page({name: summary}), *wrong[:20], sep="\n")
    return 1 if wrong or tally.lost or tally.torn or tally.survived != tally.injected else 0


if __name__ == "__main__":
    sys.exit(main())
