"""Runs on stored features: what is trained, what is judged, and that the same run gives the same record."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.trainer import Trainer
from cl_semisup.execution.training_groups import single_run
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run

CENTRES = 3 * np.random.default_rng(7).standard_normal((3, 6))
SUITE = """\
question: Does it run?
datasets: {features: {file: x.npz}}
encoder: identity
score: projection_linear_top1
probes: {linear: {layer: both}, knn: {layer: both}, quantisation: true, perturbation: true}
losses: [nt_xent, cross_entropy, byol, fixmatch]
projector: {layers: 2, dim: 4}
learning_rate: 0.1
batch_size: 16
repetitions: 1
epochs: 2
validation: all
"""


def runs(folder: Path, text: str = SUITE, **arrays: Any) -> list[Run]:
    random = np.random.default_rng(0)
    named = {"train_labels": np.arange(48) % 3, "test_labels": np.arange(30) % 3}
    for part, count in (("train", 48), ("test", 30)):
        named[part] = (CENTRES[named[f"{part}_labels"]] + random.standard_normal((count, 6))).astype(np.float32)
    np.savez(folder / "x.npz", **(named | arrays))
    return list(suite.parse(text, "s.yaml", str(folder)).runs)


def test_with_the_identity_only_what_follows_is_trained(tmp_path: Path) -> None:
    floor, *trained = runs(tmp_path)
    execute = Executor(Machine("cpu", str(tmp_path)))
    scores = {run.loss_name: execute(run)[0] for run in (floor, *trained)}
    for name, record in scores.items():
        assert record["status"] == "ok", (name, record["reason"])
        for score in ("linear_top1", "knn_top1"):
            assert record["scores"][score] == scores["untrained"]["scores"][score]
    assert (
        scores["nt_xent"]["diagnostics"]["projection_effective_rank"]
        != (scores["untrained"]["diagnostics"]["projection_effective_rank"])
    )
    data = execute.data(trained[0])
    assert scores["nt_xent"]["versions"]["data"] == data.content_hash


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_every_optimizer_moves_the_projector_alone(tmp_path: Path, optimizer: str) -> None:
    run = runs(tmp_path, SUITE + f"optimizer: {optimizer}\n")[1]
    machine = Machine("cpu", str(tmp_path))
    execute = Executor(machine)
    data, labels = execute.data(run), torch.arange(48) % 3
    trainer, untouched = (Trainer(single_run(r), machine, execute.probe_datasets) for r in (run, run.untrained()))
    trainer.train(data, labels)
    untouched.train(data, labels)
    assert trainer.encoder_is_frozen
    assert trainer._model is not None
    assert untouched._model is not None
    pairs = zip(trainer._model.projector.parameters(), untouched._model.projector.parameters(), strict=True)
    assert all(not torch.equal(after, before) for after, before in pairs)
    torch.testing.assert_close(trainer.features(data, labels).test, data.test_images.flatten(1), rtol=0, atol=0)


def test_a_linear_map_starts_as_good_as_the_features(tmp_path: Path) -> None:
    text = SUITE.replace("identity", "linear").replace("layers: 2, dim: 4", "layers: 0")
    floor, run, *_ = runs(tmp_path, text.replace("score: projection_linear_top1\n", ""))
    identity = runs(tmp_path)[0]
    execute = Executor(Machine("cpu", str(tmp_path)))
    record, other, trained = (execute(r)[0] for r in (floor, identity, run))
    assert record["scores"]["linear_top1"] == other["scores"]["linear_top1"]
    assert trained["status"] == "ok"
    assert execute(run)[0]["scores"] == trained["scores"]


def test_projections_of_a_frozen_encoder_that_collapse_are_told(tmp_path: Path) -> None:
    """The loss pulls everything together: the features stay as good as they were, the projections do not."""
    text = SUITE.replace("[nt_xent, cross_entropy, byol, fixmatch]", "[{vicreg: {variance: 0, covariance: 0}}]")
    text = text.replace("epochs: 2", "epochs: 40").replace("layers: 2", "layers: 1")
    _, run = runs(tmp_path, text, train_labels=np.arange(48) % 12)  # few classes may lie on a line
    record, _ = Executor(Machine("cpu", str(tmp_path)))(run)
    assert record["diagnostics"]["feature_std"] > 0.5
    assert record["diagnostics"]["effective_rank"] > 4
    assert record["status"] == "collapsed"
    assert "embeddings use too few directions (effective rank 1." in record["reason"]


def test_stored_views_reach_training_and_the_alignment(tmp_path: Path) -> None:
    second = np.random.default_rng(3).standard_normal((48, 6)).astype(np.float32)
    text = SUITE.replace("[nt_xent, cross_entropy, byol, fixmatch]", "[nt_xent]")
    execute = Executor(Machine("cpu", str(tmp_path)))
    alone = execute(runs(tmp_path, text, train_view2=second)[1])[0]
    assert alone["diagnostics"]["alignment"] == 0
    execute = Executor(Machine("cpu", str(tmp_path)))
    run = runs(tmp_path, text, train_view2=second, test_view2=second[:30])[1]
    both = execute(run)[0]
    assert both["diagnostics"]["alignment"] > 0
    assert both["scores"] == alone["scores"]
    noisy = execute(replace(run, views=[{"feature_noise": {"strength": 1.0}}]))[0]
    assert noisy["diagnostics"]["projection_effective_rank"] != both["diagnostics"]["projection_effective_rank"]


def test_a_subset_keeps_the_stored_views_of_its_images(tmp_path: Path) -> None:
    from cl_semisup.execution.data import subset

    second = np.random.default_rng(3).standard_normal((48, 6)).astype(np.float32)
    run = runs(tmp_path, train_view2=second)[1]
    data = subset(Executor(Machine("cpu", str(tmp_path))).data(run), np.array([4, 9]))
    assert data.train_rows is not None
    torch.testing.assert_close(data.train_rows[:, 0], data.train_images.flatten(1))
    torch.testing.assert_close(data.train_rows[:, 1], torch.from_numpy(second[[4, 9]]))
