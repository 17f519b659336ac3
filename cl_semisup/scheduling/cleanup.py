"""What a kill leaves behind in a results folder: states of runs that are over, claims, and halves of files."""

import time
from collections.abc import Iterable
from pathlib import Path

from cl_semisup.execution import training_groups
from cl_semisup.results import records
from cl_semisup.scheduling.claims import Claims
from cl_semisup.suite.run import Run

OLD_SECONDS = 3600.0  # a half of a file that nobody can be writing any more


def results(folder: Path, runs: Iterable[Run]) -> None:
    """Remove what is left of these runs and is nobody's; what belongs to a training that is claimed is left alone."""
    claims = Claims(folder)
    litter: dict[str, list[Path]] = {}
    for pattern in ("checkpoints/*", "claims/*", "records/*/*/.tmp-*"):
        for path in folder.glob(pattern):
            litter.setdefault(path.name.removeprefix(".tmp-").partition(".")[0], []).append(path)
    owners = _owners(runs) if litter else {}
    for name in litter.keys() & owners.keys():
        needed, answered = owners[name]
        taken = [claim for claim in needed if claims.take(claim)]
        if len(taken) == len(needed):
            over = all(records.path_of(folder, run).exists() for run in answered)
            for path in litter[name]:
                if over or path.suffix != ".pt":  # the state of a run that is not over is what it goes on from
                    path.unlink(missing_ok=True)
        for claim in taken:
            claims.release(claim)
    for path in folder.glob("*/.tmp-*"):  # of reports, which are made by whoever comes last
        if time.time() - path.lstat().st_mtime > OLD_SECONDS:
            path.unlink(missing_ok=True)
    claims.release_all()


def _owners(runs: Iterable[Run]) -> dict[str, tuple[set[str], tuple[Run, ...]]]:
    """Name of a file -> the claims under which it may be in use, and the runs that it is there for.

    A run is trained in a group, under the name of its training, or alone, under its own.
    """
    found: dict[str, tuple[set[str], tuple[Run, ...]]] = {}
    for training in training_groups.group(runs):
        found |= {run.id: ({training.id, run.id}, (run,)) for run in training.runs}
        found[training.id] = ({training.id}, training.runs)
    return found
