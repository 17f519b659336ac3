"""The blocks of an encoder in order, for layer decay, partial fine-tuning and features of several layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Block:
    """Modules that follow each other, the first with matrices or kernels; `extra` are parameters of no module of these.

    A block is one of several modules of the same class that stand in a row (a ResNet's or a transformer's blocks), or
    a single layer with the norms, poolings and activations behind it.
    """

    modules: list[nn.Module]
    extra: list[nn.Parameter] = field(default_factory=list)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self.extra, *(p for module in self.modules for p in module.parameters())]

    @property
    def end(self) -> nn.Module:
        """The module whose output is the block's: a repeated block itself, else the last of the layers."""
        return self.modules[0] if any(self.modules[0].children()) else self.modules[-1]


def blocks(encoder: nn.Module) -> list[Block]:
    """The blocks in the order in which their modules are registered; [] for an encoder without matrices.

    Parameters outside of all blocks (a class token, positions) count to the first block.
    """
    found: list[Block] = []
    for module in _modules_in_order(encoder):
        if any(p.ndim > 1 for p in module.parameters()) or not found:
            found.append(Block([module]))
        else:
            found[-1].modules.append(module)
    found = [block for block in found if block.parameters]
    if found:
        held = {id(p) for block in found for p in block.parameters}
        found[0].extra.extend(p for p in encoder.parameters() if id(p) not in held)
    return found


def _modules_in_order(module: nn.Module) -> Iterator[nn.Module]:
    """The parts of a network that are not taken apart: repeated blocks, and the modules around them."""
    for child in module.children():
        if _is_row_of_blocks(child):
            yield from child.children()
        elif isinstance(child, nn.Sequential) or any(_is_row_of_blocks(part) for part in child.children()):
            yield from _modules_in_order(child)
        else:
            yield child


def _is_row_of_blocks(module: nn.Module) -> bool:
    """Is this a list of modules of one class that are no plain layers?"""
    children = list(module.children())
    is_list = isinstance(module, nn.Sequential | nn.ModuleList)
    return is_list and bool(children) and len({type(c) for c in children}) == 1 and any(children[0].children())


@contextmanager
def outputs(encoder: nn.Module, last: int) -> Iterator[list[Tensor]]:
    """Within, a call of the encoder fills the list with the output of each of its `last` last blocks, in order.

    Feature maps (N, C, H, W) become their spatial mean (N, C); tokens (N, S, W) become the first token and the mean of
    the others, (N, 2 W).
    """
    collected: list[Tensor] = []
    chosen = blocks(encoder)[-last:]
    hooks = [
        block.end.register_forward_hook(lambda _module, _inputs, output: collected.append(_pooled(output)))
        for block in chosen
    ]
    try:
        yield collected
    finally:
        for hook in hooks:
            hook.remove()


def _pooled(output: Tensor) -> Tensor:
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    if output.ndim == 3:
        return torch.cat([output[:, 0], output[:, 1:].mean(dim=1)], dim=1)
    return output.flatten(1)
