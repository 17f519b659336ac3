"""What killed commands leave in a results folder: states of runs that are over, claims, and half-written files."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from cl_semisup.execution import training_groups
from cl_semisup.execution.training_groups import TrainingGroup
from cl_semisup.results import records
from cl_semisup.scheduling.claims import Claims
from cl_semisup.suite.run import Run
from cl_semisup.system import files

STALE_SECONDS = 3600.0  # age of a half-written file that certainly nobody is still writing


def remove_leftovers(folder: Path, runs: Iterable[Run]) -> None:
    """Remove what killed commands left of these runs. Files of a training that another process claims stay."""
    claims = Claims(folder)
    leftovers: dict[str, list[Path]] = {}
    for path in (*files.entries(folder, folder / "checkpoints"), *files.entries(folder, folder / "claims")):
        leftovers.setdefault(_id(path), []).append(path)
    for path in half_written(folder, "records/*/*"):
        leftovers.setdefault(_id(path), []).append(path)
    users = _users(runs) if leftovers else {}
    for name in leftovers.keys() & users.keys():
        claim_names, users_runs = users[name]
        taken = [claim for claim in claim_names if claims.take(claim)]
        if len(taken) == len(claim_names):
            all_done = all(records.exists(records.path_of(folder, run)) for run in users_runs)
            for path in leftovers[name]:
                if all_done or path.suffix != ".pt":  # an unfinished run goes on from its state
                    files.remove(folder, path)
        for claim in taken:
            claims.release(claim)
    for path in half_written(folder, "*"):  # reports are written without a claim
        state = files.state(folder, path)
        if state and time.time() - state.st_mtime > STALE_SECONDS:
            files.remove(folder, path)


def remove_state(results: Path, training: TrainingGroup) -> None:
    """Remove the state of a training, and the halves of it that killed workers left."""
    for path in files.entries(results, results / "checkpoints"):
        if _id(path) == training.id:
            files.remove(results, path)


def half_written(results: Path, folders: str) -> Iterator[Path]:
    """The temporary files in these folders, in none that is a link."""
    for folder in results.glob(folders):
        yield from (path for path in files.entries(results, folder) if path.name.startswith(".tmp-"))


def _id(path: Path) -> str:
    """The id of the run or training that a file belongs to."""
    return path.name.removeprefix(".tmp-").partition(".")[0]


def _users(runs: Iterable[Run]) -> dict[str, tuple[set[str], tuple[Run, ...]]]:
    """Name of a file -> the claims under which it may be in use, and the runs that it belongs to.

    A run is trained in a group, under the group's id, or alone, under its own.
    """
    users: dict[str, tuple[set[str], tuple[Run, ...]]] = {}
    for training in training_groups.group(runs):
        users |= {run.id: ({training.id, run.id}, (run,)) for run in training.runs}
        users[training.id] = ({training.id}, training.runs)
    return users
