"""Why networks without batch norm collapse: how much of the projections' gradient is common to all rows?

Trains runs of suites/trial/collapse.yaml again and logs at every step, for the gradient g_a of the loss with respect to
each of the N projections of a batch,

    s = N |mean_a g_a|^2 / sum_a |g_a|^2,     1 if all rows are moved alike, about 1 / N if they have nothing in common.

A step that is common to all rows moves all embeddings together and spreads none. The table has s over the first tenth
of the steps, when every network is still sound, its largest value later, and the feature std of the last batch's
projections. It answers for each loss whether s is larger where runs collapse, and whether prototypes change it before.

python benchmarks/mechanism.py               # writes benchmarks/results/mechanism.md and .json
"""

import functools
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from benchmarks import _common
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.trainer import Trainer
from cl_semisup.execution.training_groups import single_run
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run
from cl_semisup.training.setup import Diverged

ABOUT = (
    "How much of the projections' gradient is common to all rows: s = N |mean_a g_a|^2 / sum_a |g_a|^2, in runs of"
    " suites/trial/collapse.yaml. `early s`: mean over the first tenth of the steps; `largest s later`: mean over"
    " trainings of the largest value after that; `feature std at the end`: of the projections of the last logged batch,"
    " a training each (below 0.02 of a uniform cloud's they are one point)."
)
SUITE = _common.ROOT / "suites" / "trial" / "collapse.yaml"
CASES: dict[str, tuple[dict[str, Any], float]] = {  # words of the table -> loss, share of labels
    "SimCLR": ({"nt_xent": {}}, 0.1),
    "CLOP, weight 1, all labels": ({"clop": {"weight": 1.0}}, 1.0),
    "CLOP, weight 1, 10 % of labels": ({"clop": {"weight": 1.0}}, 0.1),
    "CLOP, weight 5, 10 % of labels": ({"clop": {"weight": 5.0}}, 0.1),
}


class WatchedTrainer(Trainer):
    """A trainer whose loss logs the common share of its gradient at every step."""

    shares: list[float]

    def build(self, data: Any) -> Any:
        loss, model = super().build(data)
        self.shares = []
        return watched(loss, self.shares), model


def watched(loss: Any, shares: list[float]) -> Any:
    """The loss, whose backward passes append the common share of the gradient of its first two arguments."""
    call = type(loss).__call__

    @functools.wraps(call)  # what the loss asks for is read from its signature
    def log_and_call(self: Any, z1: torch.Tensor, z2: torch.Tensor, *rest: Any, **extras: Any) -> Any:
        found: list[torch.Tensor] = []

        def keep(gradient: torch.Tensor) -> None:
            found.append(gradient.detach())
            if len(found) == 2:
                shares.append(common_share(torch.cat(found)))

        for z in (z1, z2):
            if z.requires_grad:
                z.register_hook(keep)
        return call(self, z1, z2, *rest, **extras)

    object.__setattr__(loss, "__class__", type(type(loss).__name__, (type(loss),), {"__call__": log_and_call}))
    return loss


def common_share(gradient: torch.Tensor) -> float:
    """s of (N, D) rows; 0 for a gradient of 0."""
    total = gradient.double().square().sum()
    return float(len(gradient) * gradient.double().mean(dim=0).square().sum() / total) if total > 0 else 0.0


def train(run: Run) -> tuple[list[float], float]:
    """Common shares of all steps, and the feature std of the last logged batch's projections."""
    executor = Executor(Machine("cpu", data_dir="data"))
    trainers: list[WatchedTrainer] = []

    def trainer(group: Any) -> Trainer:
        trainers.append(WatchedTrainer(group, executor.machine, executor.probe_datasets))
        return trainers[-1]

    executor._trainer = trainer  # type: ignore[method-assign]
    try:
        history = executor.train_only(single_run(run))
    except Diverged:
        history = trainers[-1].history
    return trainers[-1].shares, history.feature_std[-1] if history.feature_std else float("nan")


def runs_of(asked: list[Run], loss: dict[str, Any], fraction: float, rate: float, repetitions: int) -> list[Run]:
    ((name, settings),) = loss.items()

    def fits(run: Run) -> bool:
        ((own_name, own),) = run.loss.items()
        is_loss = own_name == name and all(own.get(key) == value for key, value in settings.items())
        return is_loss and (run.label_fraction, run.learning_rate) == (fraction, rate)

    return sorted((run for run in asked if fits(run)), key=lambda run: run.repetition)[:repetitions]


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.3, 1.0, 3.0])
    parser.add_argument("--repetitions", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked, rows = list(suite.read(SUITE).runs), []
    for words, (loss, fraction) in CASES.items():
        for rate in options.rates:
            trained = [train(run) for run in runs_of(asked, loss, fraction, rate, options.repetitions)]
            early = [statistics.mean(shares[: max(1, len(shares) // 10)]) for shares, _ in trained]
            later = [max(shares[len(shares) // 10 :]) for shares, _ in trained]
            stds = [std for _, std in trained]
            rows.append({
                "loss": words,
                "learning rate": rate,
                "trainings": len(trained),
                "early s": f"{statistics.mean(early):.2f}",
                "early s, range": f"{min(early):.2f} to {max(early):.2f}",
                "largest s later": f"{statistics.mean(later):.2f}",
                "feature std at the end": ", ".join(f"{std:.2g}" for std in sorted(stds)),
            })  # fmt: skip
            print(rows[-1], flush=True)
    print(_common.write("mechanism", ABOUT, rows))


if __name__ == "__main__":
    main()
