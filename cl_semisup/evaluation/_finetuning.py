"""Training of an encoder with a linear head on few labels, for the probe `finetune`."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cl_semisup.errors import InputError
from cl_semisup.evaluation import Network
from cl_semisup.evaluation._stages import Block, blocks
from cl_semisup.measures.logistic import DEFAULT_STRENGTH, SoftmaxRegression
from cl_semisup.seeds import seed

BATCH = 500  # images at once where nothing is trained
KEPT_BYTES = 64_000_000  # of views that are kept for the next training on the same images
Part = tuple[list[nn.Parameter], float]  # weights, and the factor of their learning rate


class Start:
    """Where trainings start: an encoder that is made once; each training puts its first weights and statistics back.

    Args:
        name: of these weights
        make: makes an encoder with them
    """

    def __init__(self, name: str, make: Callable[[], nn.Module]):
        self.name, self.make = name, make
        self._encoder: nn.Module | None = None
        self._fast: Callable[[Tensor], Tensor] | None = None
        self._first: list[Tensor] = []
        self.blocks: list[Block] = []  # of `encoder`

    @torch.no_grad()
    def encoder(self) -> nn.Module:
        """The encoder as it was made. The training before this one must be done with it."""
        if self._encoder is None:
            self._encoder = self.make()
            self._first, self.blocks = [tensor.clone() for tensor in _state(self._encoder)], blocks(self._encoder)
        else:
            for tensor, first in zip(_state(self._encoder), self._first, strict=True):
                tensor.copy_(first)
        return self._encoder

    def fast_encoder(self, network: Network) -> Callable[[Tensor], Tensor]:
        """What encodes a batch when all weights of `encoder` are trained; made once, as the encoder is."""
        if self._fast is None:
            self._fast = network.fast_encoder(self.encoder())
        return self._fast


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


@dataclass(frozen=True)
class Recipe:
    """How one network is fine-tuned.

    Args:
        trains: `all` weights, the `last` block, the `head` alone, or the head and low-rank updates (`lora`)
        epochs: passes over the labelled images, with a cosine to 0
        learning_rate: of the head, and of the encoder's last block
        layer_decay: factor of the learning rate from each block to the one before it; 1 for one rate
        fitted_head: whether the head starts as the converged linear probe of the untouched features, or as zeros
        batch_size: images a step, capped by the number of labelled images
        weight_decay: of matrices and kernels, decoupled
        rank: of the low-rank updates
    """

    trains: str
    epochs: int
    learning_rate: float
    layer_decay: float
    fitted_head: bool
    batch_size: int
    weight_decay: float
    rank: int

    def choices(self) -> dict[str, float]:
        """What was chosen on held-out images, as diagnostics."""
        chosen = {"learning_rate": self.learning_rate, "epochs": float(self.epochs)}
        return chosen | {"layer_decay": self.layer_decay, "fitted_head": float(self.fitted_head)}


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Labelled images (L, channels, side, side), their labels (L,), and the number of classes C.

    Several trainings on them differ in their recipe alone, so what they share is made once: `heads`, the linear probe
    of each encoder that training starts from, by the name of its maker, and `views`, the inputs of the first steps.
    """

    images: Tensor
    labels: Tensor
    classes: int
    heads: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    views: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)

    def view(self, rows: Tensor, network: Network, rng_seed: int, step: int) -> Tensor:
        """Random views of these rows, the batch of a step of the training with this seed."""
        key = (rng_seed, len(rows), step)
        if key not in self.views:
            inputs = network.augmented(self.images[rows.to(self.images.device)], seed("finetune views", rng_seed, step))
            if (len(self.views) + 1) * inputs.nbytes > KEPT_BYTES:
                return inputs
            self.views[key] = inputs
        return self.views[key].clone()  # an encoder may change its inputs in place

    def rows(self, keep: Tensor) -> "LabelledImages":
        images, labels = self.images[keep.to(self.images.device)], self.labels[keep.to(self.labels.device)]
        return LabelledImages(images, labels, self.classes)


class Classifier(nn.Module):
    """An encoder and a linear head: inputs (N, channels, side, side) -> logits (N, C)."""

    def __init__(self, encoder: nn.Module, head: nn.Linear):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(inputs).float())
        return logits


class LowRank(nn.Module):
    """W + B A for a matrix or kernel W, with B = 0 at first (LoRA, arXiv 2106.09685, section 4.1)."""

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.a = nn.Parameter((torch.randn(rank, columns) / math.sqrt(columns)).to(weight))
        self.b = nn.Parameter(weight.new_zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.b @ self.a).view_as(weight)


class AdamW:
    """torch.optim.AdamW(fused=True), equal to the bit, without what a step of that class does beside its arithmetic.

    That costs more than the arithmetic where networks are small. Weights of one rate and decay take one call.

    Args:
        parts: weights, each list with a factor of its learning rate
        weight_decay: of matrices and kernels, decoupled
    """

    def __init__(self, parts: list[Part], weight_decay: float):
        # by rate and decay: weights, running means of their gradients and of the squares of these, numbers of steps
        self.groups: dict[tuple[float, float], list[tuple[nn.Parameter, Tensor, Tensor, Tensor]]] = {}
        for weights, scale in parts:
            for weight in weights:
                weight.grad = None
                group = self.groups.setdefault((scale, weight_decay if weight.ndim > 1 else 0.0), [])
                count = torch.zeros((), dtype=torch.float32, device=weight.device)
                group.append((weight, torch.zeros_like(weight), torch.zeros_like(weight), count))

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move all weights that have a gradient, and take the gradients away."""
        for (scale, decay), group in self.groups.items():
            moved = [(weight, weight.grad, *state) for weight, *state in group if weight.grad is not None]
            if not moved:
                continue
            weights, gradients, means, squares, counts = map(list, zip(*moved, strict=True))
            torch._foreach_add_(counts, 1)
            torch._fused_adamw_(
                weights, gradients, means, squares, [], counts,
                lr=learning_rate * scale, weight_decay=decay,
                beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=False, maximize=False,
            )  # fmt: skip
            for weight in weights:
                weight.grad = None


def fine_tune(start: Start, data: LabelledImages, network: Network, recipe: Recipe, rng_seed: int) -> Classifier:
    """The classifier after training on `data`, in evaluation mode. The next training from `start` changes it.

    Args:
        start: the weights to start from
        network: for inputs and the encoder's fast path
        rng_seed: of batches, views and low-rank updates; nothing else is random
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed formats the call stack for each kind of GPU, on a CPU too: a tenth of the time
        (torch.manual_seed if data.images.is_cuda else torch.default_generator.manual_seed)(rng_seed)
        # low-rank updates change the modules, so they get an encoder of their own
        encoder = (start.make() if recipe.trains == "lora" else start.encoder()).eval()
        model = Classifier(encoder, _head(encoder, start, data, network, recipe.fitted_head))
        optimizer = AdamW(_parts(model, start.blocks, recipe), recipe.weight_decay)
    trains_all = recipe.trains == "all"
    encode = start.fast_encoder(network) if trains_all else encoder
    encoder.train(trains_all)  # where only a part is trained, batch norm keeps its statistics
    batches = _batches(len(data.labels), recipe, rng_seed)
    for step, rows in enumerate(batches):
        logits = model.head(encode(data.view(rows, network, rng_seed, step)).float())
        F.cross_entropy(logits, data.labels[rows.to(data.labels.device)]).backward()
        optimizer.step(recipe.learning_rate * (1 + math.cos(math.pi * step / len(batches))) / 2)
    return model.eval()


@torch.no_grad()
def predict(model: Classifier, images: Tensor, network: Network) -> Tensor:
    """(N,) classes of images (N, channels, side, side), without augmentation."""
    return torch.cat([model(network.inputs(part)).argmax(dim=1) for part in images.split(BATCH)])


def _head(encoder: nn.Module, start: Start, data: LabelledImages, network: Network, fitted: bool) -> nn.Linear:
    """A head of zeros, or the linear probe of the features with its standardisation multiplied in."""
    with torch.no_grad():
        if fitted and start.name not in data.heads:
            features = torch.cat([encoder(network.inputs(part)).float() for part in data.images.split(BATCH)])
            probe = SoftmaxRegression.fit(features, data.labels, data.classes, DEFAULT_STRENGTH)
            weight = probe.weight / probe.scale  # 0 for a constant feature, whose scale is infinite
            data.heads[start.name] = weight, probe.bias - weight @ probe.mean
        if fitted:
            weight, bias = data.heads[start.name]
        else:
            one = encoder(network.inputs(data.images[:1])).float()
            weight, bias = one.new_zeros(data.classes, one.shape[1]), one.new_zeros(data.classes)
        head = nn.Linear(weight.shape[1], len(weight)).to(weight)
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return head


def _parts(model: Classifier, found: list[Block], recipe: Recipe) -> list[Part]:
    """The parts that are trained, each with the factor of its learning rate; no other weight needs a gradient."""
    parts = [(list(model.head.parameters()), 1.0)]
    if recipe.trains == "all":
        depths = range(len(found) - 1, -1, -1)
        parts += [(b.parameters, recipe.layer_decay**depth) for b, depth in zip(found, depths, strict=True)]
    elif recipe.trains == "last":
        if not found:
            raise InputError("finetune: last needs an encoder with weights. Got one without. Set it to false.")
        parts.append((found[-1].parameters, 1.0))
    elif recipe.trains == "lora":
        parts.append((_add_low_rank(model.encoder, recipe.rank), 1.0))
    chosen = {id(p) for weights, _ in parts for p in weights}
    for weight in model.parameters():
        weight.requires_grad_(id(weight) in chosen)
    return parts


def _add_low_rank(encoder: nn.Module, rank: int) -> list[nn.Parameter]:
    """Add a low-rank update to every linear layer and convolution; returns the new weights."""
    layers = [m for m in encoder.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        rule = "lora needs an encoder with linear layers or convolutions"
        raise InputError(f"finetune: {rule}. Got none. Set it to 0.")
    added: list[nn.Parameter] = []
    for layer in layers:
        update = LowRank(layer.weight, rank)
        parametrize.register_parametrization(layer, "weight", update)
        added += update.parameters()
    return added


def _batches(count: int, recipe: Recipe, rng_seed: int) -> list[Tensor]:
    """(n,) indices of every step: passes in random order, without the rest of a pass that fills no batch."""
    batch = min(recipe.batch_size, count)
    batches: list[Tensor] = []
    for epoch in range(recipe.epochs):
        generator = torch.Generator().manual_seed(seed("finetune order", rng_seed, epoch))
        order = torch.randperm(count, generator=generator)
        batches += [part for part in order.split(batch) if len(part) == batch]
    return batches
