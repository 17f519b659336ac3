"""The contract of encoders: what training, evaluation, chunks of large batches and kept weights rely on."""

import copy
import io
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cl_semisup.contract.checks import Broken, other_randomness
from cl_semisup.contract.clauses import Contract, PluginUnderTest
from cl_semisup.contract.other_process import Questions

FORMATS = ((1, 8), (3, 12))  # channels and side of the images
IMAGES, SEED = 4, 5
RANDOM_LAYERS = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "DropPath", "DropBlock", "StochasticDepth")


@dataclass(frozen=True)
class Subject(PluginUnderTest):
    """An encoder under test."""

    folder = "encoders"

    def build(self, channels: int = 1, side: int = 8, seed: int = SEED) -> nn.Module:
        """Built as for a run: torch's global generator is seeded, and as before afterwards."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = self.make().build(channels, side)
        if not isinstance(net, nn.Module):
            raise Broken(f"build gives {type(net).__name__}, not a torch.nn.Module.")
        return net

    @cached_property
    def net(self) -> nn.Module:
        """Of the first format, built once and never changed; clauses work on copies."""
        return self.build().eval()

    def copy(self) -> nn.Module:
        return copy.deepcopy(self.net)

    def questions(self) -> Questions:
        """Features of new networks, of every format."""

        def ask(channels: int, side: int) -> list[float]:
            with torch.no_grad():
                features: list[float] = self.build(channels, side).eval()(_images(channels, side)).flatten().tolist()
            return features

        return {f"a feature of {c} x {side} x {side} images": partial(ask, c, side) for c, side in FORMATS}


CONTRACT = Contract[Subject]()


@CONTRACT.clause
def builds(subject: Subject) -> None:
    """Images of any format give float32 features (N, dim), in training and in evaluation, with an int `dim`."""
    for channels, side in FORMATS:
        net = subject.build(channels, side)
        dim = getattr(net, "dim", None)
        if not isinstance(dim, int) or dim < 1:
            raise Broken(f"net.dim must be the width of the features. Got {dim!r}.")
        for training in (True, False):
            features = net.train(training)(_images(channels, side))
            if features.shape != (IMAGES, dim) or features.dtype != torch.float32:
                got = f"{features.dtype} {tuple(features.shape)}"
                raise Broken(f"the features must be float32 {(IMAGES, dim)}, (N, net.dim). Got {got}.")


@CONTRACT.clause
def seeded(subject: Subject) -> None:
    """Initial weights depend on torch's seed alone, and each network has weights of its own."""
    networks = []
    for seed in (1, 2):
        with other_randomness(seed):
            networks.append(subject.build())
    one, other = (dict(_tensors(net)) for net in networks)
    for name, value in one.items():
        if name not in other or not torch.equal(value, other[name]):
            raise Broken(f"two networks of the same seed differ in {name}. Draw weights from torch's generator alone.")
        if value.numel() and value.data_ptr() == other[name].data_ptr():
            raise Broken(f"two networks share {name}: training one would train the other. Build anew.")


@CONTRACT.clause
def batch_in_evaluation(subject: Subject) -> None:
    """In evaluation the features of an image do not depend on the others of its batch, which may be none."""
    net, images = subject.copy(), _images()
    with torch.no_grad():
        together = net(images)
        alone = torch.cat([net(image[None]) for image in images])
    _close(together, alone, "an image alone has other features than in a batch")


@CONTRACT.clause
def batch_in_training(subject: Subject) -> None:
    """In training nothing but batch norm mixes the images of a batch: chunks of a batch give its gradient."""
    net = subject.copy().train()
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    images = _images().requires_grad_()
    first = net(images)[0]
    if not first.requires_grad:
        return  # frozen: nothing is trained
    (gradient,) = torch.autograd.grad(first.square().sum(), images, allow_unused=True)
    if gradient is not None and float(gradient[1:].abs().max()) > 0:
        raise Broken("the features of an image depend on other images of its batch, though batch norm is off.")


@CONTRACT.clause
def finite(subject: Subject) -> None:
    """In evaluation features are finite, also of images that are constant, dark, or far from the mean."""
    net, images = subject.copy(), _images()
    cases = {"constant": torch.ones_like(images), "zero": torch.zeros_like(images), "20 times as bright": 20 * images}
    with torch.no_grad():
        for what, batch in cases.items():
            if not bool(torch.isfinite(net(batch)).all()):
                raise Broken(f"features of {what} images are not finite.")


@CONTRACT.clause
def evaluation_changes_nothing(subject: Subject) -> None:
    """Evaluation draws nothing and changes neither the network nor the images."""
    net, images = subject.copy(), _images()
    before, outputs = copy.deepcopy(dict(net.state_dict())), []
    for seed in (1, 2):
        with other_randomness(seed), torch.no_grad():
            outputs.append(net(images))
    if not torch.equal(images, _images()):
        raise Broken("the images are changed in place.")
    if changed := [name for name, value in net.state_dict().items() if not _same(value, before[name])]:
        raise Broken(f"{changed[0]} changes in evaluation.")
    if not torch.equal(*outputs):
        raise Broken("the same images have other features in a second evaluation.")


@CONTRACT.clause
def modes(subject: Subject) -> None:
    """Training and evaluation differ in batch norm and dropout alone; after training mode evaluation is as before."""
    net, images = subject.copy(), _images()
    with torch.no_grad():
        before = net(images)
        net.train()
        for module in net.modules():
            if isinstance(module, _BatchNorm) or type(module).__name__.startswith(RANDOM_LAYERS):
                module.eval()
        _close(net(images), before, "with batch norm and dropout off, training has other features than evaluation")
        _close(net.eval()(images), before, "after a change of mode the features are others")


@CONTRACT.clause
def trains(subject: Subject) -> None:
    """Gradients are finite and reach the weights that are trained."""
    net = subject.copy().train()
    weights = [p for p in net.parameters() if p.requires_grad]
    if not weights:
        return  # frozen, or without weights
    net(_images()).square().sum().backward()
    gradients = [p.grad for p in weights if p.grad is not None]
    if not all(bool(torch.isfinite(g).all()) for g in gradients):
        raise Broken("a gradient is not finite.")
    if not any(bool((g != 0).any()) for g in gradients):
        raise Broken("no gradient reaches a weight.")


@CONTRACT.clause
def state(subject: Subject) -> None:
    """The state_dict is all there is: another network that gets it, through a file, has the same features."""
    trained, other, images = subject.copy().train(), subject.build(seed=SEED + 1), _images()
    weights = [p for p in trained.parameters() if p.requires_grad]
    for seed in range(2):
        output = trained(_images(seed=seed)).square().sum()
        if weights:
            for weight, gradient in zip(weights, torch.autograd.grad(output, weights, allow_unused=True), strict=True):
                if gradient is not None:
                    weight.data -= 0.01 * gradient / (1e-12 + gradient.norm())
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        _close(other.eval()(images), trained.eval()(images), "restored from its state_dict it has other features")


def _images(channels: int = 1, side: int = 8, seed: int = 0) -> Tensor:
    """(N, C, H, W) float32, as normalised images."""
    return torch.randn(IMAGES, channels, side, side, generator=torch.Generator().manual_seed(seed))


def _tensors(net: nn.Module) -> list[tuple[str, Tensor]]:
    return [*net.named_parameters(), *net.named_buffers()]


def _same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


def _close(one: Tensor, other: Tensor, what: str) -> None:
    if not torch.allclose(one, other, rtol=1e-4, atol=1e-5):
        raise Broken(f"{what}: they differ by {float((one - other).abs().max()):.3g}.")
