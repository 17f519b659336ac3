import torch

from tests.oracles.loops import Number, Rows, mean, norm, total

CASES = [
    {},
    {"views": 2, "negative_sharpness": 3.0},
    {"views": 4, "attraction_weight": 0.5, "repulsion_weight": 2.0, "positive_sharpness": 2.0},
    {"detach_weights": True, "positive_sharpness": 3.0},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    projections: tuple[torch.Tensor, ...],
    views: int = 3,
    attraction_weight: float = 1.0,
    repulsion_weight: float = 1.0,
    positive_sharpness: float = 1.0,
    negative_sharpness: float = 1.0,
    detach_weights: bool = False,
) -> Number:
    assert len(projections) == views
    count = len(z1)
    attraction, repulsion = [], []
    for x in range(views):
        for i in range(count):
            costs = [_cost(projections[x][i], projections[m][i]) for m in range(views) if m != x]
            weights = _softmax([positive_sharpness * c for c in costs], detach_weights)
            attraction.append(attraction_weight * total(w * c for w, c in zip(weights, costs, strict=True)))
            for y in range(x + 1, views):
                costs = [_cost(projections[x][i], projections[y][j]) for j in range(count) if j != i]
                weights = _softmax([-negative_sharpness * c for c in costs], detach_weights)
                repulsion.append(-repulsion_weight * total(w * c for w, c in zip(weights, costs, strict=True)))
    return mean(attraction) + mean(repulsion)


def _cost(a: torch.Tensor, b: torch.Tensor) -> Number:
    return total((x / norm(a) - y / norm(b)) ** 2 for x, y in zip(a, b, strict=True))


def _softmax(logits: list[Number], detach: bool) -> list[Number]:
    kernel = [(value.detach() if detach else value).exp() for value in logits]
    return [k / total(kernel) for k in kernel]
