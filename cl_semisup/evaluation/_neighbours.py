"""The weighted vote of the nearest neighbours on the sphere.

On a CPU most of the time goes into the float32 product of queries and bank, which runs at the processor's rate
(`benchmarks/evaluation.py`). A bfloat16 product that only selects candidates is twice as fast, but does not pay. For an
exact result it must keep everything within its rounding error of the last neighbour, and with real features these are
thousands, most of a class that training has drawn together.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1024  # queries at once: bounds memory to CHUNK x bank similarities (200 MB at 50,000 images)


def predict(
    queries: Tensor, bank: Tensor, labels: Tensor, classes: int, *, k: int, temperature: float, chunk: int = CHUNK
) -> Tensor:
    """(Q,) classes by  argmax_c  sum over the k most similar bank rows i of class c of exp(s_qi / t),  s the cosine.

    Of equal votes the lowest class wins. Rows of zeros are similar to nothing (cosine 0).

    Args:
        queries: (Q, F)
        bank, labels: (B, F), B >= 1, and (B,) classes
        k: neighbours, capped by the size of the bank
        temperature: t; with infinity every neighbour has the same weight
        chunk: queries at once
    """
    bank = F.normalize(bank, dim=1)
    buffer = bank.new_empty(min(chunk, len(queries)), len(bank))  # reused: new memory costs a third of the product
    predictions = []
    for part in queries.split(chunk):
        cosines = torch.mm(F.normalize(part, dim=1), bank.T, out=buffer[: len(part)])  # (q, B)
        similar, nearest = cosines.topk(min(k, len(bank)), dim=1)  # (q, k)
        weights = ((similar - similar[:, :1]) / temperature).exp()  # scaled by the nearest: cannot overflow
        votes = torch.zeros(len(part), classes, device=part.device, dtype=weights.dtype)
        predictions.append(votes.scatter_add_(1, labels[nearest], weights).argmax(dim=1))
    return torch.cat(predictions)
