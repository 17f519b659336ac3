"""Every loss trains on a GPU, with all that it needs; inside a step the host waits for the GPU only where it is said."""

import pytest

from tests.gpu import imitated, trials


@pytest.mark.parametrize("loss", trials.names("losses"))
def test_every_loss_trains_on_a_gpu_and_waits_only_where_it_is_said(loss: str) -> None:
    with imitated.gpu() as gpu:
        trials.require_ok(*trials.execute(trials.run(loss), "cuda:0"))
    waits = {(wait.operation, wait.place) for wait in gpu.waits_in_steps(trials.STEPS)}
    assert bool(waits) == (loss in trials.WAITS), sorted(waits)
    assert not gpu.unpinned, "copies from memory that is not pinned may wait too"
    assert gpu.step == trials.STEPS
    assert gpu.calls, "nothing was computed on the GPU"


@pytest.mark.parametrize("loss", trials.names("losses"))
def test_every_loss_trains_where_there_is_no_float64(loss: str) -> None:
    with imitated.gpu("mps:0") as gpu:
        trials.require_ok(*trials.execute(trials.run(loss, batch_size=trials.TRAIN), "mps:0"))
    assert gpu.step == 1
