"""A batch script for SLURM: an array whose tasks all run the same command on one results folder.

Each task claims runs that no other task works on. So there is no engine whose state could be lost, and SLURM's
accounting, which many clusters lack, is not needed. A pre-empted task goes on from its states when SLURM restarts it.
"""

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from cl_semisup.errors import InputError
from cl_semisup.execution.machine import Need

DEFAULT_RUNS = 8  # at once
REPLACED_OPTIONS = ("--workers", "--run-cpus", "--run-gpus")  # of the command; the script has its own values for them
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


def script(
    suite: str,
    program: Sequence[str],
    arguments: Sequence[str],
    logs: Path,
    runs: int,
    need: Need,
    wait: bool = False,
) -> str:
    """The script of an array that executes so many runs at once.

    Args:
        program: how Python and the command were started here
        arguments: of the command; each task gets the same
        logs: folder for the tasks' output
        wait: tasks wait for each other's runs, since a search goes on when a round is done
    """
    if need.gpus > 1:
        raise InputError(f"--run-gpus: at most 1, since a run trains on one GPU. Got {need.gpus:g}.")
    runs_per_task = math.floor(1 / need.gpus + 1e-9) if need.gpus else 1  # they share the task's GPU
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--print-sbatch", action="store_true")
    for name in REPLACED_OPTIONS:
        parser.add_argument(name)
    kept_arguments = parser.parse_known_args(arguments)[1]
    return SCRIPT.format(
        name=suite,
        last=math.ceil(runs / runs_per_task) - 1,
        cpus=math.ceil(need.cpus * runs_per_task),
        gpus="\n#SBATCH --gres=gpu:1" if need.gpus else "",
        folder=Path.cwd(),
        logs=logs,
        command=shlex.join(
            [*program, *kept_arguments, "--workers", str(runs_per_task), *([] if wait else ["--no-wait"])]
        ),
    )
