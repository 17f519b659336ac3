"""Memory of one process of a training, computed from shapes: the network runs on PyTorch's meta device.

    python benchmarks/parallel_memory.py --batch 65536 --encoder resnet18

The sum contains the tensors that autograd saves for the shard, weights with gradients and momentum, each process's
copies of the whole batch, and the loss's similarities, whole or in chunks of rows. It does not contain workspaces of
kernels and the allocator.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
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


def saved_bytes(model: nn.Module, inputs: Tensor) -> int:
    """Bytes that autograd saves in a forward pass; each tensor counts once, weights and inputs do not count."""
    excluded = {p.untyped_storage()._cdata for p in model.parameters()} | {inputs.untyped_storage()._cdata}
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.projector(model.encoder(inputs))  # type: ignore[operator]
    return sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in excluded)


def plan(encoder: str, batch: int, processes: int) -> dict[str, float]:
    """GiB of one process in float32; the similarities once as a whole and once in the chunks that losses take."""
    model = network(encoder)
    total = VIEWS * batch
    shard = -(-total // processes)
    weights = sum(p.numel() for p in model.parameters())
    pixels = CHANNELS * SIDE * SIDE
    return {
        "shard's activations": saved_bytes(model, torch.empty(shard, CHANNELS, SIDE, SIDE, device="meta")) / GIB,
        "weights x 3": 3 * 4 * weights / GIB,
        "views": 2 * 4 * total * pixels / GIB,  # one by one and joined
        "features, projections and gradients": 2 * 4 * total * (model.feature_dim + model.dim) / GIB,
        "similarities, whole": 3 * 4 * total**2 / GIB,  # logits, their exponents, a gradient
        "similarities, in chunks": 3 * 4 * min(chunked.CHUNK_ENTRIES, total**2) / GIB,
    }


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("--batch", type=int, default=65_536)
    parser.add_argument("--encoder", default="resnet18")
    options = parser.parse_args()
    plans = {r: plan(options.encoder, options.batch, r) for r in PROCESSES}
    print(f"{options.encoder}, batch {options.batch}, {VIEWS} views of {SIDE} pixels, float32, GiB a process\n")
    rows = [[part, *(f"{p[part]:.2f}" for p in plans.values())] for part in plans[1]]
    sums = [sum(size for part, size in p.items() if part != "similarities, whole") for p in plans.values()]
    rows.append(["**sum, in chunks**", *(f"{size:.1f}" for size in sums)])
    print(_common.table(["", *(f"{r} processes" for r in PROCESSES)], rows))


if __name__ == "__main__":
    main()
