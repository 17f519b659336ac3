"""`verify FILE`: check a submission without trusting it. Exit codes: 0 sound, 1 problems were found, 2 not readable."""

import argparse
import secrets
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cl_semisup.cli.exit_codes import OK, SOME_FAILED
from cl_semisup.errors import DataError, InputError
from cl_semisup.text import show, visible

if TYPE_CHECKING:
    from cl_semisup.submission.archive import Submission
    from cl_semisup.submission.verify import Problem, Verified

HELP = "check results that others have packed"
MAX_NAMED = 10  # problems of one rule that are written out


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, metavar="FILE", help="an archive or a folder that `submit` has written")
    command.add_argument("--data-dir", metavar="DIR", help="folder of data sets; overrides the suite's data_dir")
    text = "cells that are run again, drawn from the cheap ones; 0 for none (default: 2)"
    command.add_argument("--rerun", type=_count, default=2, metavar="K", help=text)
    command.add_argument("--seed", type=int, help="of that draw; by default nobody knows it before")
    text = "also run the sender's plug-ins, in a process with limits; without it their cells are not run again"
    command.add_argument("--run-code", action="store_true", help=text)


def run(options: argparse.Namespace) -> int:
    from cl_semisup.submission import archive, verify

    with tempfile.TemporaryDirectory() as name:
        submission = archive.unpack(options.file, Path(name) / "submission")
        submission = _with_plugins(submission)
        verified = verify.verify(submission, options.data_dir)
        problems = list(verified.problems)
        if not problems:
            problems += _run_again(options, submission, verified, Path(name) / "again")
        for note in verified.notes:
            show(f"note: {visible(note)}")
        return _tell(options, verified, problems)


def _with_plugins(submission: "Submission") -> "Submission":
    """Make the sender's plug-ins known by their text; a file that is none is a problem of the submission."""
    from cl_semisup import plugins

    known, problems = [], list(submission.problems)
    for path in submission.plugins:
        try:
            plugins.register(path, run=False)
            known.append(path)
        except (InputError, DataError) as error:
            problems.append(str(error).removeprefix(f"{submission.folder}/"))
    return replace(submission, plugins=tuple(known), problems=tuple(problems))


def _run_again(
    options: argparse.Namespace, submission: "Submission", verified: "Verified", again: Path
) -> list["Problem"]:
    from cl_semisup.submission import first_points, rerun, verify

    seed = secrets.randbits(32) if options.seed is None else options.seed
    if submission.plugins and not options.run_code:
        show("note: nothing is run again, as the suite may use the sender's plug-ins. Add --run-code to run them.")
        show("note: curves are checked by their form alone, and scores by the curves and the data.")
        return []
    cells = rerun.draw(verified, options.rerun, seed)
    done = {run.id for cell in cells for run in cell}
    firsts = first_points.trainings((run for run in verified.runs if run.id not in done), verified.found, seed)
    if cells:
        show(f"{len(cells)} cells, {len(done)} runs, are run again (--seed {seed}).")
    rerun.run_again(submission, cells, firsts, again, options.data_dir, options.run_code)
    for cell in cells:
        if seconds := rerun.speed(submission, cell, again):
            text = f"{seconds[0]:.3g} s as told and {seconds[1]:.3g} s here"
            show(f"note: a training of {visible(verify.describe(cell[0]))} took {text}.")
    checked, problems = first_points.compare(submission.folder, firsts, first_points.read(again))
    show(f"note: {checked} of {len(firsts)} other curves have their first point computed again. What follows it,")
    show("      and the scores, is checked for what it must agree with; only cells that are run again prove it.")
    return rerun.compare(submission, cells, again, verified.test_images) + problems


def _tell(options: argparse.Namespace, verified: "Verified", problems: list["Problem"]) -> int:
    counts: Counter[str] = Counter()
    for problem in problems:
        counts[problem.rule] += 1
        if counts[problem.rule] <= MAX_NAMED:
            show(f"{problem.rule}: {visible(problem.text)}")
    for rule, count in counts.items():
        if count > MAX_NAMED:
            show(f"{rule}: ... and {count - MAX_NAMED} more")
    if problems:
        show(f"{visible(options.file)}: refused: {', '.join(f'{rule} {n}' for rule, n in counts.items())}.")
        return SOME_FAILED
    show(f"{visible(options.file)}: {len(verified.found)} of {len(verified.runs)} runs, no fault found.")
    return OK


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0. Got {text!r}.")
    return int(text)
