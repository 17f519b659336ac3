"""A batch script for SLURM: an array whose tasks are one and the same command on one results folder.

Each task claims what no other works on, so there is no engine whose state could be lost, and nothing to ask of SLURM's
accounting, which many clusters do without. A pre-empted task goes on from its states once SLURM starts it again.
"""

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from cl_semisup.errors import InputError
from cl_semisup.execution.machine import Need

RUNS = 8  # at once, unless it is said how many
OURS = ("--workers", "--run-cpus", "--run-gpus")  # what the script says itself, in its own way
SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task={cpus}{gpus}
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --chdir={folder}
#SBATCH --output={logs}/slurm-%A_%a.log
# Any time limit will do. Add what your cluster asks for, such as --partition and --account.

# Two minutes before its time is over, a task saves its states and queues again. SLURM does the same to pre-empted ones.
again() {{
    kill -TERM $work
    wait $work
    code=$?
    [ $code -ne 143 ] || scontrol requeue $SLURM_JOB_ID
    exit $code
}}
trap again USR1
{command} &
work=$!
wait $work
"""


def script(suite: str, program: Sequence[str], words: Sequence[str], logs: Path, runs: int, need: Need) -> str:
    """The array with room for so many runs at once; `program` is what was started here, `words` what it was asked."""
    if need.gpus > 1:
        raise InputError(f"--run-gpus: at most 1, since a run trains on one GPU. Got {need.gpus:g}.")
    together = math.floor(1 / need.gpus + 1e-9) if need.gpus else 1  # runs of a task, which share its GPU
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--print-sbatch", action="store_true")
    for name in OURS:
        parser.add_argument(name)
    asked = [*parser.parse_known_args(words)[1], "--workers", str(together), "--no-wait"]
    return SCRIPT.format(
        name=suite,
        last=math.ceil(runs / together) - 1,
        cpus=math.ceil(need.cpus * together),
        gpus="\n#SBATCH --gres=gpu:1" if need.gpus else "",
        folder=Path.cwd(),
        logs=logs,
        command=shlex.join([*program, *asked]),
    )
