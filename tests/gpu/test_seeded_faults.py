"""The imitated GPU finds faults that only a GPU shows: each line is put into a loss, or into the package, and must be found."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cl_semisup import device, plugins
from cl_semisup.data import views
from cl_semisup.execution import execute
from cl_semisup.execution.trainer import Trainer
from cl_semisup.training import batches
from cl_semisup.training.step import Step
from tests.gpu import imitated, trials

LOSS = '''
from dataclasses import dataclass

import torch
from torch import nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements


@dataclass(frozen=True)
class Seeded:
    """A loss with a fault."""

    def build(self, setting):
        return _Seeded(setting)


class _Seeded(nn.Module):
    requirements = Requirements(labels=True)

    def __init__(self, setting):
        super().__init__()
        self.register_buffer("targets", torch.ones(setting.classes, setting.dim))
        self.attribute = torch.ones(setting.classes, setting.dim)

    def forward(self, z1, z2, labels=None):
        u, v = unit(z1), unit(z2)
        count, where = len(u), u.device
        extra = u.sum() * 0
        FAULT
        return (u - v).square().sum(dim=1).mean() + 0 * extra
'''
CRASHES = {  # line -> what the record says
    "u = u + torch.arange(count)[:, None]": "same device",
    "u = u * torch.ones(u.shape)": "same device",
    "extra = u[:, :1].masked_fill(torch.ones(count, 1, dtype=torch.bool), 0.0).sum()": "same device",
    "extra = (u @ self.attribute.T).sum()": "same device",
    "extra = torch.nn.functional.one_hot(labels.clamp(min=0), 10) @ torch.ones(10)": "same device",
    "extra = torch.cat([u, torch.zeros(1, u.shape[1])]).sum()": "same device",
    "extra = torch.where(labels.cpu() >= 0, u.sum(dim=1), 0.0).sum()": "same device",
    "extra = u.sum() + torch.zeros(16, device=where).index_add(0, torch.arange(16), u[0]).sum()": "same device",
    "noise = torch.rand(3, device=where, generator=torch.Generator().manual_seed(0))": "generator",
    "extra = float(u.detach().numpy().sum())": "numpy",
    "extra = torch.bmm(u[None], torch.ones(1, u.shape[1], 2)).sum()": "same device",
    "extra = torch.einsum('nd,kd->nk', u, torch.eye(u.shape[1])).sum()": "same device",
    "extra = u.index_select(0, torch.arange(count)).sum()": "same device",
    "extra = u.gather(1, torch.zeros(count, 1, dtype=torch.long)).sum()": "same device",
    "extra = torch.nn.functional.cross_entropy(u, torch.zeros(count, dtype=torch.long))": "same device",
    "extra = u.lerp(torch.zeros(u.shape), 0.5).sum()": "same device",
    "extra = torch.cdist(u, torch.zeros(2, u.shape[1])).sum()": "same device",
    "extra = torch.stack([u.sum(), torch.ones(())]).sum()": "same device",
    "noise = torch.randperm(count, device=where, generator=torch.Generator().manual_seed(0))": "generator",
    "noise = torch.randn(3, generator=torch.Generator(where))": "generator",
    "noise = torch.empty(3, device=where).uniform_(generator=torch.default_generator)": "generator",
    "noise = torch.multinomial(u.detach().abs() + 1, 1, generator=torch.Generator())": "generator",
    "import numpy; extra = float(numpy.linalg.norm(u.detach()))": "numpy",
    "extra = torch.quantile(u, torch.tensor([0.5])).sum()": "same device",
    "extra = torch.nn.Linear(u.shape[1], 3)(u).sum()": "same device",
    "extra = torch.nn.functional.embedding(labels.clamp(min=0), torch.zeros(10, 4)).sum()": "same device",
    "extra = torch.bucketize(u.detach(), torch.linspace(0, 1, 4)).sum()": "same device",
    "extra = u.index_fill(0, torch.tensor([0]), 0.0).sum()": "same device",
}
WAITS = {
    "extra = u.sum().item()",
    "extra = 1.0 if u.sum() > 0 else 0.0",
    "extra = u[labels >= 0].sum()",
    "extra = u.sum() * len(torch.nonzero(labels >= 0))",
    "extra = u.sum() * labels.unique().numel()",
    "extra = (u @ torch.ones(u.shape[1]).to(where)).sum()",
    "extra = u.sum() * torch.linalg.svdvals(u.detach())[0]",
    "extra = u[torch.arange(count)].sum()",
    "extra = float(u.detach().sum())",
    "extra = u.sum() if torch.isfinite(u).all() else 0.0",
    "extra = u.sum() * labels.clamp(min=0).bincount().sum()",
    "extra = u.cpu().sum().to(where)",
    "extra = torch.tensor(u.detach().sum().tolist(), device=where)",
    "extra = u.masked_select(u > 0).sum()",
    "extra = torch.tensor([1.0, 2.0], device=where).sum() * u.sum()",
    "extra = u.sum() * torch.equal(u, v)",
    "extra = torch.linalg.eigh(u.detach().T @ u.detach())[0].sum()",
    "extra = u.sum() * torch.allclose(u, v)",
    "extra = torch.linalg.pinv(u.detach()).sum()",
    "extra = torch.linalg.inv(u.detach().T @ u.detach() + torch.eye(u.shape[1], device=where)).sum()",
    "u = u.clone(); u[u > 0] = 0.0",
    "extra = u.sum() * torch.nn.functional.one_hot(labels.clamp(min=0)).shape[1]",
    "extra = torch.repeat_interleave(u, labels.clamp(min=0), dim=0).sum()",
    "extra = u.sum() * len(f'{u.sum():.3f}')",
}
pytestmark = pytest.mark.usefixtures("forget_plugins")


def train(folder: Path, line: str, on: str = "cuda:0") -> tuple[dict[str, Any], list[imitated.Wait]]:
    (folder / "seeded.py").write_text(LOSS.replace("FAULT", line))
    plugins.register(folder / "seeded.py")
    with imitated.gpu(on) as gpu:
        record, _ = trials.execute(trials.run("seeded"), on)
    return record, gpu.waits_in_steps(trials.STEPS)


def test_a_loss_without_a_fault_is_not_blamed(tmp_path: Path) -> None:
    record, waits = train(tmp_path, "extra = (u @ self.targets.T).sum()")
    assert record["status"] in ("ok", "collapsed"), record["reason"]
    assert not waits


@pytest.mark.parametrize("line", CRASHES)
def test_a_line_that_would_crash_on_a_gpu_is_found(line: str, tmp_path: Path) -> None:
    record, _ = train(tmp_path, line)
    assert record["status"] == "failed"
    assert CRASHES[line] in record["reason"]


@pytest.mark.parametrize("line", sorted(WAITS))
def test_a_line_that_would_wait_for_the_gpu_is_found(line: str, tmp_path: Path) -> None:
    record, waits = train(tmp_path, line)
    assert record["status"] in ("ok", "collapsed"), record["reason"]
    assert len(waits) >= trials.STEPS - 1


@pytest.mark.parametrize("line", [
    "extra = u.double().sum()",
    "extra = u.to(torch.float64).sum()",
    "extra = u.sum() * torch.zeros(3, dtype=torch.float64, device=where).sum()",
    "extra = u.sum(dtype=torch.float64)",
])  # fmt: skip
def test_float64_is_found_where_there_is_none(line: str, tmp_path: Path) -> None:
    record, _ = train(tmp_path, line, "mps:0")
    assert "Cannot convert a MPS Tensor to float64" in record["reason"]


def test_an_evaluation_on_a_device_without_float64_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = Trainer._compute_features

    def there(trainer: Trainer, *inputs: Any) -> Any:
        trainer.evaluation_device = trainer.device
        return compute(trainer, *inputs)

    monkeypatch.setattr(Trainer, "_compute_features", there)
    with imitated.gpu("mps:0"):
        record, _ = trials.execute(trials.run(probes={"linear": {}}), "mps:0")
    assert "Cannot convert a MPS Tensor to float64" in record["reason"]


PACKAGE_FAULTS = ["labels on the host", "draws on the host", "copies that wait", "pageable copies", "a number is read"]


@pytest.mark.parametrize("fault", PACKAGE_FAULTS)
def test_faults_of_the_package_itself_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    training_data = execute.training_data
    if fault == "labels on the host":
        monkeypatch.setattr(execute, "training_data", lambda *a: training_data(*a[:2], torch.device("cpu")))
    elif fault == "a number is read":
        optimize = Step._optimize
        monkeypatch.setattr(Step, "_optimize", lambda step, loss, rate: optimize(step, loss, float(loss) and rate))
    elif fault == "draws on the host":
        monkeypatch.setattr(views, "send_all", lambda tensors, device: tensors)
    else:
        waits = fault == "copies that wait"
        for module in (device, batches, views):
            monkeypatch.setattr(module, "send", lambda x, where: x.to(where, non_blocking=not waits))
    with imitated.gpu() as gpu:
        record, _ = trials.execute(trials.run(), "cuda:0")
    found = record["status"] == "failed" or bool(gpu.waits_in_steps(trials.STEPS)) or bool(gpu.unpinned)
    assert found, record["reason"]
