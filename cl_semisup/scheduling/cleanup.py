"""What killed commands leave in a results folder: states of runs that are over, claims, and half-written files."""

import time
from collections.abc import Iterable
from pathlib import Path

from cl_semisup.execution import training_groups
from cl_semisup.results import records
from cl_semisup.scheduling.claims import Claims
from cl_semisup.suite.run import Run

STALE_SECONDS = 3600.0  # age of a half-written file that certainly nobody is still writing


def remove_leftovers(folder: Path, runs: Iterable[Run]) -> None:
    """Remove what killed commands left of these runs. Files of a training that another process claims stay."""
    claims = Claims(folder)
    leftovers: dict[str, list[Path]] = {}
    for pattern in ("checkpoints/*", "claims/*", "records/*/*/.tmp-*"):
        for path in folder.glob(pattern):
            leftovers.setdefault(path.name.removeprefix(".tmp-").partition(".")[0], []).append(path)
    users = _users(runs) if leftovers else {}
    for name in leftovers.keys() & users.keys():
        claim_names, users_runs = users[name]
        taken = [claim for claim in claim_names if claims.take(claim)]
        if len(taken) == len(claim_names):
            all_done = all(records.path_of(folder, run).exists() for run in users_runs)
            for path in leftovers[name]:
                if all_done or path.suffix != ".pt":  # an unfinished run goes on from its state
                    path.unlink(missing_ok=True)
        for claim in taken:
            claims.release(claim)
    for path in folder.glob("*/.tmp-*"):  # reports are written without a claim
        if time.time() - path.lstat().st_mtime > STALE_SECONDS:
            path.unlink(missing_ok=True)


def _users(runs: Iterable[Run]) -> dict[str, tuple[set[str], tuple[Run, ...]]]:
    """Name of a file -> the claims under which it may be in use, and the runs that it belongs to.

    A run is trained in a group, under the group's id, or alone, under its own.
    """
    users: dict[str, tuple[set[str], tuple[Run, ...]]] = {}
    for training in training_groups.group(runs):
        users |= {run.id: ({training.id, run.id}, (run,)) for run in training.runs}
        users[training.id] = ({training.id}, training.runs)
    return users
