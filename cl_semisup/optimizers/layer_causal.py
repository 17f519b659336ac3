from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Interval


@dataclass(frozen=True)
class LayerCausalSGD:
    """SGD on layer-causal gradients: layer l moves by the loss of its own output, as if no layer lay above it.

        dW_l = -lr d/dW_l L( P(h_l) ),   h_l = f_l(stop(h_{l-1})),   P: the projector, which moves by the last layer

    For encoders that are a row of linear layers of one width (`mlp`, `linear`). A loss with a memory remembers the last
    layer's projections alone.

    Source: arXiv 2311.07772, layer-causal gradient descent
    Difference: a reconstruction from the paper's description: there P is a language model's unembedding

    Args:
        momentum: share of the last step kept, in [0, 1)
        weight_decay: of weights; biases, normalisation layers and a loss's own parameters have none
    """

    layer_causal: ClassVar[bool] = True
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 1e-4

    def build(self, weights: list[Any], others: list[Any]) -> torch.optim.Optimizer:
        groups = [{"params": weights, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        fused = all(w.device.type in ("cpu", "cuda") for w in weights)  # else a rate on the device is read by the host
        optimizer = torch.optim.SGD(groups, lr=1.0, momentum=self.momentum, fused=fused)
        if self.momentum:  # the fused step needs a buffer for a parameter whose first gradient comes in a later step
            for parameter in (*weights, *others):
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
