"""Every loss trains on a GPU, with all that it needs; inside a step the host waits for the GPU only where it is said."""

import pytest

from tests.gpu import imitated, trials

# Losses whose steps wait for the GPU. A new entry needs a reason; a loss that no longer waits is taken out.
EIGENVALUES = "cuSOLVER's eigenvalues and singular values are checked on the host"
WAITS = {
    "lorac": EIGENVALUES,
    "mmcr": EIGENVALUES,
    "sgeg": EIGENVALUES,
    "nonl": "takes the labelled rows by a mask, whose number the host must know",
    "normface": "takes the labelled rows by a mask",
    "ntce": "takes the labelled rows by a mask",
    "pauc": "clusters its memory once in each epoch, on the host",
    "targeted_supcon": "solves the assignment of targets to classes on the host, as its docstring says",
    "vrn": "takes the pairs of images by a mask",
}


@pytest.mark.parametrize("loss", trials.names("losses"))
def test_every_loss_trains_on_a_gpu_and_waits_only_where_it_is_said(loss: str) -> None:
    with imitated.gpu() as gpu:
        trials.require_ok(*trials.execute(trials.run(loss), "cuda:0"))
    waits = {(wait.operation, wait.place) for wait in gpu.waits_in_steps(trials.STEPS)}
    assert bool(waits) == (loss in WAITS), sorted(waits)
    assert not gpu.unpinned, "copies from memory that is not pinned may wait too"
    assert gpu.step == trials.STEPS
    assert gpu.calls, "nothing was computed on the GPU"


@pytest.mark.parametrize("loss", trials.names("losses"))
def test_every_loss_trains_where_there_is_no_float64(loss: str) -> None:
    with imitated.gpu("mps:0") as gpu:
        trials.require_ok(*trials.execute(trials.run(loss, batch_size=trials.TRAIN), "mps:0"))
    assert gpu.step == 1
