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
from cl_semisup.losses import _arguments

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
        with pytest.raises(InputError, match=f"^{name}: labels must be whole numbers .* Got {kind}. Convert"):
            loss(z1, z2, labels.to(kind))


def misfits() -> dict[str, tuple[Tensor, Tensor, Tensor | None, str]]:
    """What every loss is called with in the tests below, and what it answers."""
    (z1, z2), labels = views((N, D), (N, D)), torch.arange(N) % CLASSES
    one = "z1 and z2 must be of one"
    return {
        "below -1": (z1, z2, labels - 2, "labels must be classes from 0 on, -1 where there is none. Got -2. "),
        "ignored as in torch": (z1, z2, labels.where(labels > 0, -100), "labels must be classes .* Got -100. "),
        "above the classes": (z1, z2, labels + 1, f"labels must be below classes, the {CLASSES} .* Got {CLASSES}. "),
        "bytes": (z1, z2, labels.to(torch.uint8), r"labels must be .*\(int64\), .* Got torch.uint8. Convert "),
        "NaN": (z1, z2, labels * torch.nan, r"labels must be .*\(int64\), .* Got torch.float32. Convert "),
        "labels elsewhere": (z1, z2, labels.to("meta"), "labels must be on the device .*, cpu. Got meta. Move "),
        "two kinds of floats": (z1, z2.double(), None, f"{one} dtype. Got torch.float32 and torch.float64. Convert "),
        "two devices": (z1, z2.to("meta"), None, f"{one} device. Got cpu and meta. Convert "),
        "two layouts": (z1, z2.to_sparse(), None, f"{one} layout. Got torch.strided and torch.sparse_coo. "),
        "no numbers": (z1.to("meta"), z2.to("meta"), None, "z1 and z2 must hold every number. Got meta tensors. "),
        "sparse": (z1.to_sparse(), z2.to_sparse(), None, "z1 and z2 must hold .* Got torch.sparse_coo. Give dense"),
        "no rows": (z1[:0], z2[:0], labels[:0], rf"z1 and z2 must have rows and columns. Got \(0, {D}\). Leave out "),
        "no columns": (z1[:, :0], z2[:, :0], labels, rf"z1 and z2 must have rows .* Got \({N}, 0\). "),
        "one column": (z1[:, :1], z2[:, :1], labels, f"z1 and z2 must have dim = {D} columns. Got 1. Build "),
    }


@pytest.mark.parametrize("name", NAMES)
def test_what_would_be_paired_or_broadcast_wrongly_is_refused(name: str) -> None:
    loss = built(name)
    for z1, z2, labels, message in misfits().values():
        with pytest.raises(InputError, match=f"^{name}: {message}"):
            loss(z1, z2, labels)


@pytest.mark.parametrize("size", [0, -1, 2.5, "6", True, float("nan")], ids=str)
def test_sizes_of_a_loss_are_whole_numbers(size: Any) -> None:
    for what in ("dim", "classes", "images"):
        sizes = {"dim": D, "classes": CLASSES, "images": N} | {what: size}
        with pytest.raises(InputError, match=f"^clop: {what} must be a whole number, at least 1. Got {size!r}. Change"):
            losses.build("clop", **sizes)
    if size not in (0, -1, True):
        with pytest.raises(InputError, match=f"^clop: seed must be a whole number .* Got {size!r}. Change"):
            losses.build("clop", dim=D, classes=CLASSES, seed=size)


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


NEEDY = [name for name in plugins.names("losses") if losses.requirements_of(built(name)).needs]


@pytest.mark.parametrize("name", NEEDY)
def test_a_loss_that_is_called_without_what_it_needs_says_so(name: str) -> None:
    (z1, z2), labels = views((N, D), (N, D)), torch.arange(N) % CLASSES
    try:
        value = built(name)(z1, z2, labels)
    except InputError as error:
        needs = losses.requirements_of(built(name)).needs
        assert str(error).startswith(f"{name}: must be called with what it needs beside views and labels, by name: ")
        assert any(need in str(error) for need in needs)
    else:  # it can do without
        assert value.ndim == 0


def test_most_losses_cannot_do_without_what_they_need() -> None:
    assert {"fixmatch", "l_statistic", "paws", "pauc"} <= set(NEEDY)
    with pytest.raises(InputError, match="fixmatch: must be called with .*: logits. Got none of it."):
        built("fixmatch")(*views((N, D), (N, D)), torch.arange(N) % CLASSES)


def test_an_error_of_a_loss_that_has_what_it_needs_stays_what_it_is() -> None:
    with pytest.raises(TypeError):
        losses.build("nt_xent")(*views((N, D), (N, D)), nonsense=1)


@pytest.mark.parametrize("name", [{"nt_xent": {}}, ["nt_xent"], None, 3])
def test_a_loss_is_built_by_its_name(name: Any) -> None:
    with pytest.raises(InputError, match="a loss must be built by its name. Got "):
        losses.build(name)


def wrong_needs(views: Any) -> list[Any]:
    """What would be broadcast, or paired with other images, in the place of a tensor a view."""
    half, one = tuple(view[: N // 2] for view in views), tuple(view[:1] for view in views)
    return [half, one, views[:1], (views[0], *one[1:]), one[:1] * 2, [[0.0] * N] * 2]


@pytest.mark.parametrize("name", NEEDY)
def test_what_a_loss_needs_fits_its_views(name: str) -> None:
    (z1, z2), labels, loss = views((N, D), (N, D)), torch.arange(N) % CLASSES, built(name)
    batch = Batch(z1, z2, labels)
    extras = contract.extra_inputs(losses.requirements_of(loss), batch, torch.arange(N), CLASSES)
    assert built(name)(z1, z2, labels, **extras).isfinite()
    for need in extras.keys() & (_arguments._OF_VIEWS.keys() - {"local_projections"}):
        for wrong in wrong_needs(extras[need]):
            with pytest.raises(InputError, match=rf"^{name}: {need} must be two or more views \({N}, ...\), a row "):
                built(name)(z1, z2, labels, **extras | {need: wrong})
        if need != "inputs":
            narrow = tuple(view[:, :1] for view in extras[need])
            with pytest.raises(InputError, match=f"^{name}: {need} must have .* columns. Got "):
                built(name)(z1, z2, labels, **extras | {need: (extras[need][0], *narrow[1:])})
    if "index" in extras:
        for wrong in (torch.arange(N // 2), torch.zeros(1).long(), torch.arange(N).float(), list(range(N))):
            with pytest.raises(InputError, match=rf"^{name}: index must be the number of each training image, "):
                built(name)(z1, z2, labels, **extras | {"index": wrong})
        with pytest.raises(InputError, match=f"^{name}: index must be numbers from 0 on. Got -3. "):
            built(name)(z1, z2, labels, **extras | {"index": torch.arange(N) - 3})
