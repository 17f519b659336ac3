"""What the redrawn labels are over epochs; value and gradient are held to an oracle like any loss's."""

import pytest
import torch

from cl_semisup import losses
from cl_semisup.errors import InputError

IMAGES = torch.arange(20_000)


def test_a_share_of_the_labels_is_drawn_anew_in_every_epoch() -> None:
    loss = losses.build("label_redraw", dim=8, classes=3, share=0.1)
    first, second = loss.drawn(IMAGES, 0), loss.drawn(IMAGES, 1)
    for drawn in (first, second):
        assert drawn.double().mean() == pytest.approx(0.1, abs=0.01)  # its standard deviation is 0.002
    assert (first & second).double().mean() == pytest.approx(0.01, abs=0.003)  # independent of the epoch before
    ever = torch.stack([loss.drawn(IMAGES, epoch) for epoch in range(20)]).any(dim=0)
    assert ever.double().mean() == pytest.approx(1 - 0.9**20, abs=0.01)  # of the docstring


def test_draws_belong_to_images_and_repetitions() -> None:
    loss = losses.build("label_redraw", dim=8, classes=3, seed=1)
    order = torch.randperm(len(IMAGES))
    assert torch.equal(loss.drawn(IMAGES[order], 3), loss.drawn(IMAGES, 3)[order])
    other = losses.build("label_redraw", dim=8, classes=3, seed=2)
    assert (loss.drawn(IMAGES, 3) == other.drawn(IMAGES, 3)).double().mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("base", ["nt_xent", "cross_entropy"])
def test_a_base_that_has_no_use_for_it_is_refused(base: str) -> None:
    with pytest.raises(InputError, match=f"label_redraw: the base must use labels.*Got {base}"):
        losses.build("label_redraw", dim=8, classes=3, base=base)
