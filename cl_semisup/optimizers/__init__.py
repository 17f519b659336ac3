"""Optimizers, one a file. To add one, write a frozen dataclass whose fields are its settings, with this method:

    build(weights, others) -> torch.optim.Optimizer

`weights` are the parameters that weight decay applies to; `others` (biases, normalisation, a loss's own) have none. The
trainer sets `lr` of every group before every step, so the learning rate is no setting.
"""
