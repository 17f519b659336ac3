"""What a kill leaves behind in a results folder: states of runs that are over, claims, and halves of files."""

import time
from collections.abc import Iterable
from pathlib import Path

from cl_semisup import records
from cl_semisup.execution.claims import Claims
from cl_semisup.run import Run

OLD_SECONDS = 3600.0  # a half of a file that nobody can be writing any more


def results(folder: Path, runs: Iterable[Run]) -> None:
    """Remove what is left of these runs and is nobody's; what belongs to a run that is claimed is left alone."""
    known, claims = {run.id: run for run in runs}, Claims(folder)
    litter: dict[str, list[Path]] = {}
    for pattern in ("checkpoints/*", "claims/*", "records/*/*/.tmp-*"):
        for path in folder.glob(pattern):
            litter.setdefault(path.name.removeprefix(".tmp-").partition(".")[0], []).append(path)
    for run_id in litter.keys() & known.keys():
        if claims.take(run_id):
            over = records.path_of(folder, known[run_id]).exists()
            for path in litter[run_id]:
                if over or path.suffix != ".pt":  # the state of a run that is not over is what it goes on from
                    path.unlink(missing_ok=True)
            claims.release(run_id)
    for path in folder.glob("*/.tmp-*"):  # of reports, which are made by whoever comes last
        if time.time() - path.lstat().st_mtime > OLD_SECONDS:
            path.unlink(missing_ok=True)
    claims.release_all()
