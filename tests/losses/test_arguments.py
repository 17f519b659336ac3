"""A loss that is called with views or labels that do not fit says so; none pairs or broadcasts wrong rows."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import contract, losses, plugins
from cl_semisup.contract import Batch
from cl_semisup.errors import InputError

N, D, CLASSES = 8, 6, 3
NAMES = plugins.names("losses")


def built(name: str) -> Any:
    return losses.build(name, dim=D, classes=CLASSES, images=N)


def views(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(N, 1), (1, D), (N - 1, D), (N, D + 1), (D,), (1, N, D), ()], ids=str)
def test_views_of_different_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    loss = built(name)
    for order in ((shape, (N, D)), ((N, D), shape)):
        with pytest.raises(
            InputError, match=rf"^{name}: z1 and z2 must be two views \(N, D\) of the same images. Got "
        ):
            loss(*views(*order))


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_another_length_are_refused(name: str) -> None:
    loss = built(name)
    for labels in (torch.zeros(N - 1).long(), torch.zeros(1).long(), torch.zeros(N, 1).long(), [0] * N):
        with pytest.raises(InputError, match=rf"^{name}: labels must be one an image, \({N},\). Got "):
            loss(*views((N, D), (N, D)), labels)
        with pytest.raises(InputError):
            loss(*views((N, D), (N, D)), labels=labels)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_another_kind_are_refused(name: str) -> None:
    loss, (z1, z2), labels = built(name), views((N, D), (N, D)), torch.arange(N) % CLASSES
    for kind in (torch.int64, torch.bool, torch.complex64):
        for pair in ((z1.to(kind), z2), (z1, z2.to(kind))):
            with pytest.raises(InputError, match=f"^{name}: z1 and z2 must be of real floats. Got {kind}. "):
                loss(*pair, labels)
    for kind in (torch.float32, torch.bool, torch.complex64):
        with pytest.raises(InputError, match=f"^{name}: labels must be whole numbers, .* Got {kind}. Convert"):
            loss(z1, z2, labels.to(kind))


@pytest.mark.parametrize("name", NAMES)
def test_a_checked_loss_is_still_itself(name: str) -> None:
    loss = built(name)
    z1, z2 = views((N, D), (N, D))
    extras = contract.extra_inputs(
        losses.requirements_of(loss), Batch(z1, z2, torch.arange(N) % CLASSES), torch.arange(N), CLASSES
    )
    for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert type(copied) is type(loss)
        assert losses.requirements_of(copied) == losses.requirements_of(loss)
        if isinstance(loss, nn.Module):
            assert copied.state_dict().keys() == loss.state_dict().keys()
        torch.manual_seed(0)
        assert copied(z1, z2, torch.arange(N) % CLASSES, **extras).isfinite()
        with pytest.raises(InputError):
            copied(z1, z2[1:])


def test_a_loss_may_declare_its_requirements_under_the_older_name() -> None:
    class Written:
        asks = losses.Asks(labels=True, needs=("logits",))

    assert losses.requirements_of(Written()) == losses.Requirements(labels=True, needs=("logits",))
