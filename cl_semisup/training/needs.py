"""What a loss needs beside two projections: `Requirements(needs=...)` names entries of NEEDS, which the loop computes.

A need is a value computed in every step and, if it has weights, a head of the model. A new need is a new entry here.
Tuples hold one tensor per view, in the order of `Requirements.views`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cl_semisup.training import exchange
from cl_semisup.training.changing import Changing
from cl_semisup.training.chunks import encode_in_chunks
from cl_semisup.training.model import HeadBuilder, Model
from cl_semisup.training.parallel import run_sharded

PerView = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class StepContext:
    """The tensors of one step, with N images in V views.

    `inputs`, `features`, `projections`: V tensors (N, ...) each; `index` (N,) positions in the training set; `progress`
    share of all steps done, in [0, 1); `support` (z (S, D), labels (S,)); `pixels` two (channels, 1, 1), a black and a
    white pixel after normalization; `chunks` number of chunks in which a batch goes through an encoder;
    `local_projections` (N, D) of each local view, which are not among the V; `autocast` the dtype of the network.
    """

    model: Model
    ema_model: Model | None
    inputs: PerView
    features: PerView
    projections: PerView
    index: Tensor
    epoch: int | Changing
    progress: float | Changing
    support: tuple[Tensor, Tensor] | None
    pixels: tuple[Tensor, Tensor]
    chunks: int = 1
    local_projections: PerView = ()
    autocast: torch.dtype | None = None

    def precision(self) -> AbstractContextManager[Any]:
        """Within, the EMA model and `encode` compute as the network does.

        On a CPU in float32, whatever the network's precision: records were made so, and bfloat16 gains little there.
        """
        device = self.index.device.type
        return torch.autocast(device, self.autocast) if self.autocast and device != "cpu" else nullcontext()

    @cached_property
    def ema_features(self) -> PerView:
        """The EMA model's features of the same views; its batch norm uses the statistics of the batch."""
        assert self.ema_model is not None
        encoder, chunks = self.ema_model.encoder, self.chunks
        with self.precision():
            (features,) = run_sharded(lambda shard: (encode_in_chunks(encoder, shard, chunks),), torch.cat(self.inputs))
        return features.float().chunk(len(self.inputs))


@dataclass(frozen=True)
class Need:
    """`value(step)` computes the need in every step; `head(features, classes)` builds its weights, if it has any."""

    value: Callable[[StepContext], Any]
    head: HeadBuilder | None = None
    needs_ema: bool = False


def classifier(features: int, classes: int) -> nn.Module:
    """The linear head that gives the logits."""
    return nn.Linear(features, classes)


def heads(needs: Iterable[str]) -> dict[str, HeadBuilder]:
    """Name -> builder of every head that these needs have; two needs may share one."""
    builders = (NEEDS[need].head for need in needs)
    return {build.__name__: build for build in builders if build}


def _logits(model: Model | None, features: PerView) -> PerView:
    assert model is not None
    return tuple(model.heads["classifier"](view) for view in features)


@torch.no_grad()
def _ema_projections(step: StepContext) -> PerView:
    assert step.ema_model is not None
    projector, features = step.ema_model.projector, step.ema_features
    with step.precision():
        (projections,) = run_sharded(lambda shard: (projector(shard),), torch.cat(features))
    return projections.float().chunk(len(features))


@contextmanager
def _frozen_running_stats(model: nn.Module) -> Iterator[None]:
    """Within, batch norm uses the statistics of the batch and does not update its running statistics."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, tracked in zip(norms, before, strict=True):
            norm.track_running_stats = tracked


def _encode(step: StepContext) -> Callable[[Tensor], Tensor]:
    """A function: inputs (n, channels, side, side) -> projections (n, D), differentiable with respect to the inputs."""

    def encode(inputs: Tensor) -> Tensor:
        with _frozen_running_stats(step.model), step.precision():
            (projections,) = run_sharded(lambda shard: (step.model.projector(step.model.encoder(shard)),), inputs)
            return projections.float()

    return encode


def _patches(step: StepContext) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function: boxes (N, 4) in shares of the side -> projections (N, D) of patches, and of their regions."""
    from torchvision.ops import roi_align  # only here: an import takes 2 s and 170 MB of a process

    model, inputs, count = step.model, step.inputs[0], len(step.inputs[0])
    maps = _feature_maps(step, inputs)  # (N, F, h, w)
    numbers = torch.arange(count, device=inputs.device, dtype=inputs.dtype)[:, None]

    def pooled(of: Tensor, boxes: Tensor, side: int) -> Tensor:
        placed = torch.cat([numbers.to(of.dtype), boxes.to(of) * of.shape[3]], dim=1)  # images are square
        return roi_align(of, placed, (side, side), aligned=True)

    def patches(boxes: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), _frozen_running_stats(model), step.precision():
            region = pooled(maps, boxes, 2).mean(dim=(2, 3))
            (target,) = run_sharded(lambda shard: (model.projector(shard),), region)
        cut = pooled(inputs, boxes, inputs.shape[3])
        with _frozen_running_stats(model), step.precision():
            (small,) = run_sharded(lambda shard: (model.projector(model.encoder(shard)),), cut)
        return small.float(), target.float()

    return patches


@torch.no_grad()
def _feature_maps(step: StepContext, inputs: Tensor) -> Tensor:
    """(N, F, h, w) the encoder's last output with places and F channels; else its features, as one place."""
    encoder, found = step.model.encoder, list[Tensor]()

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] == step.model.feature_dim:
            found[:] = [output]

    def forward(shard: Tensor) -> tuple[Tensor]:
        features = encoder(shard)
        return (found[0] if found else features[:, :, None, None],)

    hooks = [module.register_forward_hook(keep) for module in encoder.modules() if module is not encoder]
    try:
        with _frozen_running_stats(step.model), step.precision():
            (maps,) = run_sharded(forward, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return maps.float()


def _weights(step: StepContext) -> tuple[Tensor, ...]:
    """The trained weights of linear and convolutional layers, a row for each output; the three of attention apart.

    With several processes the encoder's gradients are summed over them, and each computes this whole one: a share each.
    """
    found: list[Tensor] = []
    for module in step.model.encoder.modules():
        if isinstance(module, nn.MultiheadAttention):
            found += module.in_proj_weight.chunk(3) if module.in_proj_weight is not None else ()
        elif isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            found.append(module.weight.flatten(1))
    processes, trained = exchange.world_size(), [weight for weight in found if weight.requires_grad]
    return tuple(w.detach() + (w - w.detach()) / processes for w in trained) if processes > 1 else tuple(trained)


NEEDS: dict[str, Need] = {
    "features": Need(lambda step: step.features),  # V x (N, F), of the encoder
    "projections": Need(lambda step: step.projections),  # V x (N, D); z1 and z2 are the first two
    "local_projections": Need(lambda step: step.local_projections),  # k x (N, D), of local views; () without any
    "logits": Need(lambda step: _logits(step.model, step.features), classifier),  # V x (N, C), of a linear head
    "index": Need(lambda step: step.index),  # (N,) positions in the training set
    "epoch": Need(lambda step: step.epoch),  # int, number of epochs done
    "progress": Need(lambda step: step.progress),  # float in [0, 1), share of all steps done
    "inputs": Need(lambda step: step.inputs),  # V x (N, channels, side, side), normalized
    "encode": Need(_encode),  # inputs -> projections, differentiable; running statistics do not change
    "patches": Need(_patches),  # boxes (N, 4) of the first view, shares of its side: x, y, x, y -> 2 x (N, D)
    "pixels": Need(lambda step: step.pixels),  # 2 x (channels, 1, 1), a black and a white pixel, normalized
    "support": Need(lambda step: step.support),  # (z (S, D), labels (S,)), as many images of every class
    "weights": Need(_weights),  # matrices (rows, columns) of the encoder's trained linear and convolutional layers
    "momentum_features": Need(lambda step: step.ema_features, needs_ema=True),  # V x (N, F), of the EMA model
    "momentum_projections": Need(_ema_projections, needs_ema=True),  # V x (N, D); the logits V x (N, C)
    "momentum_logits": Need(lambda step: _logits(step.ema_model, step.ema_features), classifier, needs_ema=True),
}
