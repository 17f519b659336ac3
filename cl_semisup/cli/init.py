"""`init [FILE]`: write a suite to start from, with a comment at each key."""

import argparse
from pathlib import Path

from cl_semisup.cli.exit_codes import OK
from cl_semisup.errors import InputError
from cl_semisup.system import installation
from cl_semisup.text import show, visible

HELP = "write a suite with comments, to start from"
SUITE = """\
# A suite asks a question. A list is a grid: every value runs with every other one, once in each repetition.
question: With 5 % of the labels, what does each loss learn from handwritten digits?

datasets: digits          # needs no download; others: `list datasets`. Your own photographs: docs/data.md
encoder: convnet          # `list encoders`; resnet18 for larger images
losses:                   # `list losses`; the settings of one are its keys
  - cross_entropy         # supervised: only the labelled images train
  - nt_xent               # SimCLR: no labels
  - supcon
  - clop: {base: nt_xent, weight: [0.3, 1]}   # a grid within a loss
# - my_loss               # a file of your own: --plugin my_loss.py
baseline: nt_xent         # the loss that others are compared with, pair by pair
score: linear_top1_labelled   # orders the leaderboard: a linear probe that sees only the run's labels

label_fraction: 0.05      # or labels_per_class: 4
learning_rate: [0.1, 0.5] # each loss is reported at the rate that is best on a validation part of the training images
batch_size: 128
repetitions: 3            # other labels, weights and batches; from six on a difference can be resolved
epochs: 8
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", nargs="?", type=Path, default=Path("my.yaml"), help="default: my.yaml")


def run(options: argparse.Namespace) -> int:
    path: Path = options.file
    if path.suffix != ".yaml":
        raise InputError(f"{path}: a suite's file ends in .yaml. Got {path.suffix!r}. Name it {path.stem}.yaml.")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(SUITE)
    except FileExistsError:
        raise InputError(f"{path}: must not exist yet. Got a file that does. Name another one, or remove it.") from None
    words = " ".join(installation.COMMAND)
    show(f"{visible(path)} is written. Look at it, then: {words} check {visible(path)}; {words} {visible(path)}")
    return OK
