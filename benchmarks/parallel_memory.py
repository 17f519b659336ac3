"""What one process of a training holds, by shapes alone: the network runs on PyTorch's meta device, without data.

    python benchmarks/parallel_memory.py --batch 65536 --encoder resnet18

Counted: what autograd keeps of the shard, weights with gradients and momentum, what every process has of the whole
batch, and the loss's similarities, whole or in chunks of rows. Not counted: workspaces of kernels and the allocator.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from cl_semisup import plugins
from cl_semisup.contrast import chunked
from cl_semisup.suite.settings import Projector
from cl_semisup.training.model import Model

CHANNELS, SIDE, VIEWS = 3, 32, 2
PROCESSES = (1, 8, 16, 32, 64, 128)
GIB = 2**30


def network(encoder: str, device: str = "meta") -> Model:
    with torch.device(device):
        return Model(lambda: plugins.load("encoders", encoder)().build(CHANNELS, SIDE), Projector(), 2, {}, ())


def kept(model: nn.Module, inputs: Tensor) -> int:
    """Bytes that autograd keeps of a forward pass, each tensor once, weights and inputs aside."""
    known = {p.untyped_storage()._cdata for p in model.parameters()} | {inputs.untyped_storage()._cdata}
    found: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.projector(model.encoder(inputs))  # type: ignore[union-attr, operator]
    return sum(t.untyped_storage().nbytes() for key, t in found.items() if key not in known)


def plan(encoder: str, batch: int, processes: int) -> dict[str, float]:
    """GiB of one process in float32; the similarities once as a whole and once in the chunks that losses take."""
    model = network(encoder)
    total = VIEWS * batch
    shard = -(-total // processes)
    weights = sum(p.numel() for p in model.parameters())
    pixels = CHANNELS * SIDE * SIDE
    return {
        "shard's activations": kept(model, torch.empty(shard, CHANNELS, SIDE, SIDE, device="meta")) / GIB,
        "weights x 3": 3 * 4 * weights / GIB,
        "views": 2 * 4 * total * pixels / GIB,  # one by one and joined
        "features, projections and gradients": 2 * 4 * total * (model.feature_dim + model.dim) / GIB,
        "similarities, whole": 3 * 4 * total**2 / GIB,  # logits, their exponents, a gradient
        "similarities, in chunks": 3 * 4 * min(chunked.CHUNK_ENTRIES, total**2) / GIB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=65_536)
    parser.add_argument("--encoder", default="resnet18")
    options = parser.parse_args()
    plans = {r: plan(options.encoder, options.batch, r) for r in PROCESSES}
    print(f"{options.encoder}, batch {options.batch}, {VIEWS} views of {SIDE} pixels, float32, GiB a process\n")
    print("| | " + " | ".join(f"{r} processes" for r in PROCESSES) + " |")
    print("|---" * (1 + len(PROCESSES)) + "|")
    for what in plans[1]:
        print(f"| {what} | " + " | ".join(f"{p[what]:.2f}" for p in plans.values()) + " |")
    sums = [sum(size for what, size in p.items() if what != "similarities, whole") for p in plans.values()]
    print("| **sum, in chunks** | " + " | ".join(f"{size:.1f}" for size in sums) + " |")


if __name__ == "__main__":
    main()
