"""Encoders, one a file. To add one, write a frozen dataclass whose fields are its settings, with this method:

    build(channels, side) -> nn.Module    maps (N, channels, side, side) float images to (N, dim) features

Set `net.dim = width`, the width of the features. The module must work in train and in eval mode and for any side of a
data set. Batch norm is the only layer that may mix the images of a batch.
"""
