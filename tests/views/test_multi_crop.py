"""Multi-crop: global and local crops, and the losses that take them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from cl_semisup.data.views import Draw
from cl_semisup.errors import SuiteError
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.scheduling.order import _images_of
from cl_semisup.suite.suite import Suite
from cl_semisup.views.multi_crop import MultiCrop

Parse = Callable[[str], Suite]
SIDE = 32


def crops(local: bool, count: int = 2000) -> Tensor:
    across = torch.arange(SIDE).float().expand(SIDE, SIDE) / 255
    both = torch.stack([across, across.T, across])[None].expand(count, -1, -1, -1)
    draw = Draw(torch.Generator().manual_seed(2), torch.arange(count), both, 2 * local, local)
    return MultiCrop(local_area=0.05, global_area=0.3).view(both, draw)


@pytest.mark.parametrize(("local", "scale"), [(False, (0.3, 1.0)), (True, (0.05, 0.3))])
def test_crops_are_torchvisions_crops(local: bool, scale: tuple[float, float]) -> None:
    """Ramps along both axes tell each crop's edges; their laws are compared by Kolmogorov-Smirnov tests."""
    ours, ramp = crops(local), torch.arange(SIDE).float().expand(SIDE, SIDE) / 255
    torch.manual_seed(3)
    crop = v2.RandomResizedCrop(SIDE, scale=scale, ratio=(3 / 4, 4 / 3), antialias=True)
    both = torch.stack([ramp, ramp.T, ramp])
    theirs = torch.stack([crop(both) for _ in range(2000)])
    for channel, where in ((0, (16, 0)), (0, (16, 31)), (1, (0, 16)), (1, (31, 16))):
        a, b = (255 * x[:, channel, where[0], where[1]].numpy() for x in (ours, theirs))
        assert stats.ks_2samp(a, b).pvalue > 1e-3


def suite_text(text: str, losses: str) -> str:
    views = "views: {multi_crop: {local_views: 3, local_area: 0.2, global_area: 0.5}}\n"
    return text.replace("[nt_xent, clop]", losses) + views


def test_a_loss_without_local_views_is_named(parse: Parse, text: str) -> None:
    found = parse(suite_text(text, "[nt_xent, swav, {clop: {weight: [0.1, 1]}}]"))
    assert [note.partition(": ")[2] for note in found.notes] == [
        "losses[0]: nt_xent takes no local views; it trains on the global crops alone.",
        "losses[2]: clop takes no local views; it trains on the global crops alone.",
    ]


def test_a_local_crop_must_not_be_larger_than_a_global_one(parse: Parse, text: str) -> None:
    with pytest.raises(SuiteError) as caught:
        parse(text + "views: {multi_crop: {local_area: 0.5}}\n")
    assert "views: local_area: must not exceed global_area. Got 0.5 and 0.25. Lower it." in caught.value.problems[0]


def test_local_views_count_as_work(parse: Parse, text: str) -> None:
    found = parse(suite_text(text, "[nt_xent, swav]"))
    images = {run.loss_name: _images_of(found)(run) for run in found.runs if run.epochs}
    assert images["swav"] == 2.5 * images["nt_xent"]


@pytest.mark.parametrize("loss", ["dino", "swav", "paws"])
def test_losses_train_with_local_views(
    tmp_path: Path, parse: Parse, text: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each local view reaches the loss, and is of the same image as the global ones."""
    from cl_semisup.training import needs

    seen: list[Any] = []
    value = needs.NEEDS["local_projections"].value

    def look(step: needs.StepContext) -> Any:
        seen.append((len(step.inputs), step.projections, step.local_projections))
        return value(step)

    monkeypatch.setitem(needs.NEEDS, "local_projections", needs.Need(look))
    run = next(run for run in parse(suite_text(text, loss)).runs if run.epochs)
    record, _ = Executor(Machine("cpu", str(tmp_path)))(run)
    assert record["status"] in ("ok", "collapsed")
    count, projections, local = seen[-1]
    assert (count, len(projections), len(local)) == (2, 2, 3)
    for rows in local:
        assert rows.shape == projections[0].shape
    centred = [rows - rows.mean(dim=0) for rows in (projections[0].detach(), *(rows.detach() for rows in local))]
    likeness = [torch.nn.functional.cosine_similarity(centred[0], rows).mean() for rows in centred[1:]]
    strangers = torch.nn.functional.cosine_similarity(centred[0], centred[1].roll(1, 0)).mean()
    assert min(likeness) > strangers
