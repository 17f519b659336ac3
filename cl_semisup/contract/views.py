"""The contract of views: what resumed runs, several processes and paired losses rely on."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Generator, Tensor

from cl_semisup import plugins
from cl_semisup.contract.checks import Broken, other_randomness
from cl_semisup.contract.clauses import Contract, PluginUnderTest
from cl_semisup.contract.other_process import Questions
from cl_semisup.data.views import Draw, floats

INPUTS = ("images", "features", "any")
FORMATS = {"images": ((1, 8), (3, 12)), "features": ((10, 1),)}  # channels and side
IMAGES, DATA = 6, 20  # of a batch, and of the data set
RANGE = 0.5  # how far pixels may leave [0, 1]


@dataclass(frozen=True)
class Subject(PluginUnderTest):
    """A view under test."""

    folder = "views"

    @property
    def inputs(self) -> str:
        return str(getattr(plugins.load("views", self.name), "inputs", None))

    def batches(self) -> list[tuple[Tensor, Draw]]:
        """(N, C, H, W) images or (N, F, 1, 1) features with their draw, one of each format that the view takes."""
        kinds = FORMATS if self.inputs == "any" else {self.inputs: FORMATS[self.inputs]}
        return [_batch(kind, *sizes) for kind, formats in kinds.items() for sizes in formats]

    def view(self, images: Tensor, draw: Draw, seed: int = 0) -> Tensor:
        """The view by a new instance; `draw.random` starts from the seed."""
        made: Tensor = self.make().view(images, replace(draw, random=Generator().manual_seed(seed)))
        return made

    def questions(self) -> Questions:
        """Views of every batch and of its negative, by other draws."""

        def ask(number: int, negative: bool) -> list[float]:
            images, draw = self.batches()[number]
            view: list[float] = self.view(1 - images if negative else images, draw, int(negative)).flatten().tolist()
            return view

        return {
            f"the view of {'the negative of ' * negative}batch {number}": partial(ask, number, negative)
            for number in range(len(self.batches()))
            for negative in (False, True)
        }


CONTRACT = Contract[Subject]()


@CONTRACT.clause
def makes_views(subject: Subject) -> None:
    """`inputs` says what it takes; views are float32, of the shape of what they are made from, and finite."""
    if subject.inputs not in INPUTS:
        raise Broken(f"inputs must be one of {', '.join(INPUTS)}. Got {subject.inputs!r}.")
    for images, draw in subject.batches():
        for seed in range(3):
            view = subject.view(images.clone(), draw, seed)
            got = f"{view.dtype} {tuple(view.shape)}" if isinstance(view, Tensor) else type(view).__name__
            if got != f"{torch.float32} {tuple(images.shape)}":
                raise Broken(f"a view of {tuple(images.shape)} must be float32 of that shape. Got {got}.")
            if not bool(torch.isfinite(view).all()):
                raise Broken("a view is not finite.")


@CONTRACT.clause
def pixels(subject: Subject) -> None:
    """Pixels stay in [0, 1], but for a little noise."""
    for images, draw in subject.batches():
        if images.shape[2] == 1:
            continue  # features have no range
        for seed in range(3):
            low, high = (float(bound) for bound in subject.view(images.clone(), draw, seed).aminmax())
            if low < -RANGE or high > 1 + RANGE:
                raise Broken(f"pixels must lie in [0, 1]. Got {low:.3g} to {high:.3g}.")


@CONTRACT.clause
def pure(subject: Subject) -> None:
    """The same images and draw give the same view, and no global random generator is used."""
    for images, draw in subject.batches():
        views = []
        for seed in (1, 2):
            with other_randomness(seed):
                views.append(subject.view(images.clone(), draw))
            subject.view(images.flip(0), draw, seed)  # what it does meanwhile must not matter
        if not torch.equal(*views):
            raise Broken("the same images and draw give another view. Draw from `draw.random`, and keep no state.")


@CONTRACT.clause
def changes_nothing(subject: Subject) -> None:
    """Neither the images nor the data set are changed in place."""
    for images, draw in subject.batches():
        view_input, data, index = images.clone(), draw.data.clone(), draw.index.clone()
        subject.view(view_input, draw)
        if not torch.equal(view_input, images):
            raise Broken("the images are changed in place.")
        if not torch.equal(data, draw.data) or not torch.equal(index, draw.index):
            raise Broken("the data set, or the index, is changed in place.")


@CONTRACT.clause
def batch(subject: Subject) -> None:
    """The view of an image does not depend on the other images of its batch; a partner comes from `draw.data`."""
    for images, draw in subject.batches():
        others = torch.cat([images[:1], images[1:].flip(0).roll(1, -1) * 0.5])
        if not torch.equal(subject.view(images.clone(), draw)[0], subject.view(others, draw)[0]):
            raise Broken("other images in its batch change the view of an image.")


def _batch(kind: str, channels: int, side: int) -> tuple[Tensor, Draw]:
    random = Generator().manual_seed(7)
    shape = (DATA, channels, side, side)
    whole = torch.randn(shape, generator=random)
    data = torch.randint(0, 256, shape, generator=random, dtype=torch.uint8) if kind == "images" else whole
    index = torch.randperm(DATA, generator=random)[:IMAGES]
    return floats(data[index]), Draw(random, index, data, 0)
