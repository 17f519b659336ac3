"""The drill for a GPU that is there for a quarter of an hour: proofs first, then measurements.

    python benchmarks/gpu.py OUT                                     everything, on the GPU
    python benchmarks/gpu.py OUT --until 150 --call 1 --together 6   proofs, six at a time
    python benchmarks/gpu.py OUT --until 450 --call 2                measurements, one after the other
    python benchmarks/gpu.py OUT --device cpu --tiny                 the same stages, to try the script itself
    python benchmarks/gpu.py OUT --device imitated --tiny            on tests/gpu/imitated.py
    python benchmarks/gpu.py OUT --wheels .gpu/wheels                on a machine that lacks packages and downloads

Each stage is a process of its own with a limit, so that a fault in one ends none of the others. OUT/gpu.json and
OUT/gpu.md have what is known after every stage; a second call adds to them. Proofs can run side by side, since they
compare and do not measure.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.engines import fork_server

STAGES = {  # their longest seconds on a GPU's machine; the first one reads torch from a cold disk
    "machine": 60, "views": 120, "kernels": 120, "waits": 120, "graph": 200, "probes": 120, "training": 120,
    "resume": 60, "memory": 60, "lost": 90, "shared": 120, "gate": 150, "profile": 60, "throughput": 120,
    "lightly": 120, "workers": 120, "targets": 40, "question": 270,
}  # fmt: skip
SECOND_CALL = "profile"  # the first stage of it, and the first that measures
SLOWER = 20  # on other devices, whose stages say whether they work and not how fast; a limit there ends only what hangs
RUNNING: set[int] = set()  # process groups of stages
MARGIN = 5.0  # seconds before the end in which no stage begins


def unpacked(wheels: Path) -> str:
    """The value of PYTHONPATH with which the packages in these files can be imported; a wheel is a zip archive."""
    site = wheels / "site"
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    return os.pathsep.join(filter(None, [str(site.resolve()), os.environ.get("PYTHONPATH", "")]))


def run_stage(name: str, options: Namespace, limit: float, environment: dict[str, str]) -> dict[str, Any]:
    """What a stage found, in a process that is killed at its limit."""
    script = [sys.executable, str(Path(__file__).resolve()), str(options.out), "--device", options.device, "--inside"]
    command = [*script, *(["--tiny"] if options.tiny else []), name]
    began, pipe = time.monotonic(), subprocess.PIPE
    variables = os.environ | environment
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=variables, start_new_session=True)
    RUNNING.add(process.pid)
    try:
        printed, errors = process.communicate(timeout=limit)
        text, code = printed.strip().splitlines(), process.returncode
        found = json.loads(text[-1]) if code == 0 else {"rows": [], "faults": [errors.strip()[-2000:]]}
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the workers that it has started
        known = [line for line in process.communicate()[0].splitlines() if line.startswith('{"rows"')]
        found = json.loads(known[-1]) if known else {"rows": [], "faults": []}
        found["faults"].append(f"took longer than {limit:.0f} s")
    except (IndexError, json.JSONDecodeError):
        found = {"rows": [], "faults": ["printed no result"]}
    RUNNING.discard(process.pid)
    return {**found, "seconds": round(time.monotonic() - began, 1), "commit": _common.commit()}


def stop(number: int, _: Any) -> None:
    """Ends the stages, and then this process; what was found before is written."""
    for group in list(RUNNING):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    os._exit(128 + number)


def inside(name: str, options: Namespace) -> None:
    """A stage, in its process: prints its result as the last line."""
    from benchmarks import _gpu_stages as stages

    with stages.there(options.device, options.tiny, options.out) as place:
        found = stages.STAGES[name](place)
    for file, text in found.files.items():
        (options.out / file).write_text(text, "utf-8")
    found.tell()


def is_missing(device: str) -> bool:
    """Whether a GPU is asked for where none is: every stage would fail, and would replace what is known."""
    if not device.startswith("cuda") or any(map(os.path.exists, fork_server.GPU_DRIVER_FILES)):
        return False
    import torch  # takes seconds of a GPU's quarter of an hour

    return not torch.cuda.is_available()


def limit_of(name: str, device: str) -> float:
    """Seconds after which a stage is killed."""
    return float(STAGES[name] * (1 if device.startswith("cuda") else SLOWER))


def summary(stages: dict[str, Any]) -> list[str]:
    """What a reader must not miss: faults, stages that have not run, and every target with what was measured."""
    kinds = {
        "Stages with faults": [name for name, stage in stages.items() if stage["faults"]],
        "Stages that have not run": [name for name in STAGES if name not in stages],
    }
    if rows := stages.get("targets", {}).get("rows"):
        for holds, title in (("no", "MISSED"), ("not measured", "not measured"), ("yes", "reached")):
            kinds[f"Targets {title}"] = [_target(row) for row in rows if row["holds"] == holds]
    return [f"{title}: {'; '.join(found) or 'none'}" for title, found in kinds.items()]


def _target(row: dict[str, Any]) -> str:
    measured = "" if row["measured"] is None else f", measured {row['measured']:.3g}"
    return f"{row['job']}, {row['what']}: wanted {row['wanted']:g}{measured}"


def page(stages: dict[str, Any], options: Namespace) -> str:
    """The summary, and all stages as tables."""
    rows = stages.get("machine", {}).get("rows") or [{"machine": _common.machine(), "torch": "unknown"}]
    parts = [f"Device `{options.device}`; {rows[0]['machine']}; torch {rows[0]['torch']}."]
    if options.tiny or not options.device.startswith("cuda"):
        parts.append("This tries the stages themselves: its speeds say nothing about a GPU.")
    parts.append("\n".join(f"- {line}" for line in summary(stages)))
    lines = [
        [name, f"{s['seconds']:.0f}", len(s["rows"]), len(s["faults"]), s.get("commit", "")]
        for name, s in stages.items()
    ]
    parts.append(_common.table(["stage", "seconds", "rows", "faults", "commit"], lines))
    for name, stage in stages.items():
        parts.append(f"## {name}")
        parts += [f"- fault: {fault}" for fault in stage["faults"]]
        keys = list(dict.fromkeys(key for row in stage["rows"] for key in row))
        if keys:
            cells = [[row.get(key, "") for key in keys] for row in stage["rows"]]
            parts.append(
                _common.table(
                    keys, [[str(c).replace("\n", " ") if isinstance(c, str) else c for c in r] for r in cells]
                )
            )
    return _common.page("A GPU's drill", *parts)


def main(options: Namespace) -> int:
    if is_missing(options.device):
        print(f"--device: {options.device} is not on this machine; nothing is run or written. Try --device imitated.")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    if options.inside:
        inside(options.stages[0], options)
        return 0
    environment = {"PYTHONPATH": unpacked(options.wheels)} if options.wheels else {}
    share = {"OMP_NUM_THREADS": str(max(1, _common.cores() // options.together))} if options.together > 1 else {}
    file, end = options.out / "gpu.json", time.monotonic() + options.until
    stages: dict[str, Any] = json.loads(file.read_text("utf-8"))["stages"] if file.exists() else {}
    names = list(STAGES)
    second = names.index(SECOND_CALL)
    wanted = options.stages or {0: names, 1: names[:second], 2: names[second:]}[options.call]
    one_writes = threading.Lock()

    def run(name: str) -> None:
        left = end - time.monotonic()
        if left < MARGIN:
            print(f"{name}: no time is left for it")
            return
        variables = environment | (share if name in names[:second] else {})
        found = run_stage(name, options, min(left, limit_of(name, options.device)), variables)
        print(f"{name}: {found['seconds']} s, {'; '.join(found['faults'])[:500] or 'no fault'}", flush=True)
        with one_writes:
            stages[name] = found
            kept = {name: stages[name] for name in names if name in stages}
            about = {"device": options.device, "command": _common.command_line(), "stages": kept}
            file.write_text(json.dumps(about, indent=1))
            (options.out / "gpu.md").write_text(page(kept, options), "utf-8")

    with ThreadPoolExecutor(options.together) as at_a_time:
        list(at_a_time.map(run, [name for name in wanted if name in names[:second]]))
    for name in wanted:
        if name in names[second:]:
            run(name)
    print("\n".join(["", *summary(stages)]), flush=True)
    return int(any(stage["faults"] for stage in stages.values()))


if __name__ == "__main__":
    parser = _common.parser(__doc__)
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], help="default: all")
    parser.add_argument("--call", type=int, choices=(0, 1, 2), default=0, help="half of the stages; 0 is all")
    parser.add_argument("--together", type=int, default=1, metavar="N", help="proofs that run at once")
    parser.add_argument("--device", default="cuda:0", help="cuda:0, cpu, or imitated")
    parser.add_argument("--until", type=float, default=3600.0, metavar="SECONDS", help="longest time of all stages")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes")
    parser.add_argument("--wheels", type=Path, help="folder with packages that this machine lacks, as *.whl")
    parser.add_argument("--inside", action="store_true", help="run one stage in this process")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    sys.exit(main(parser.parse_intermixed_args()))
