"""Optimizers, one a file. To add one, write a frozen dataclass whose fields are its settings, with this method:

    build(weights, others) -> torch.optim.Optimizer

`weights` are the parameters that weight decay applies to; `others` (biases, normalisation, a loss's own) have none. The
trainer sets `lr` of every group before every step, so the learning rate is no setting.

One whose layers move by gradients that see only the layers below says so in its text, `layer_causal: ClassVar = True`;
its encoders are rows of linear layers.
"""

from typing import Protocol

import torch


class Optimizer(Protocol):
    def build(self, weights: list[torch.nn.Parameter], others: list[torch.nn.Parameter]) -> torch.optim.Optimizer: ...


def is_layer_causal(plugin: Optimizer) -> bool:
    return bool(getattr(plugin, "layer_causal", False))


def trial(plugin: Optimizer) -> torch.optim.Optimizer:
    """Built for one parameter; raises what the plug-in raises."""
    return plugin.build([torch.nn.Parameter(torch.zeros(1))], [])
