"""Kernels in C for what takes most of a suite's time on a CPU, compiled once on each machine, for its processor.

A kernel gives what the operations of torch beside it give, up to rounding:

    views.apply                  random views of a batch
    blocks.fast_encoder          blocks of small convolutional networks
    pairs.log_sum_and_partner    sums over all pairs of a batch

Each of these functions uses its kernel only within `used()`, on a machine that can compile, and for inputs that the
kernel can take. Callers do not know which of both ran.
"""

from cl_semisup.native.library import CHANGES, SOURCES, active, missing, used

__all__ = ["CHANGES", "SOURCES", "active", "missing", "used"]
