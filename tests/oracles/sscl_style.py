import torch

from tests.oracles.fixmatch import Logits, cross_entropy, probabilities, supervised
from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, total

CASES = [
    {},
    {"threshold": 0.5, "weight": 2.0, "contrast_weight": 0.5, "temperature": 0.5, "similarity_temperature": 0.4},
    {"threshold": 0.3, "neighbours": 1, "memory": 16, "momentum": 0.9, "last_momentum": 1.0},
    {"neighbours": 0},
]

Entry = tuple[torch.Tensor, int | None, bool]  # key, class if any, is the class a label?


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    logits: Logits,
    momentum_projections: tuple[torch.Tensor, ...],
    threshold: float = 0.95,
    weight: float = 1.0,
    contrast_weight: float = 1.0,
    temperature: float = 0.2,
    similarity_temperature: float = 0.2,
    neighbours: int = 10,
    memory: int = 4096,
    momentum: float = 0.99,
    last_momentum: float = 0.999,
    held: list[Entry] | None = None,
) -> Number:
    """`held`: what the memory holds, appended to in place; the first step of training has none."""
    held = [] if held is None else held
    count, weak = len(z1), logits[0].detach()
    keys = [row.detach() for row in momentum_projections[0]]
    known = [label if label >= 0 else None for label in (labels or [-1] * count)]
    labelled = [(key, y) for key, y in zip(keys, known, strict=True) if y is not None]
    labelled += [(key, y) for key, y, label in held if label and y is not None]
    guesses = []
    for i in range(count):
        like: list[Number | None] = []
        for c in range(weak.shape[1]):
            members = [cosine(keys[i], key) for key, y in labelled if y == c]
            like.append(mean(members) if members else None)
        met = [x for x in like if x is not None]
        rest = mean(met) if met else torch.zeros(())
        like_or_rest = [rest if x is None else x for x in like]
        raw = [
            p * (x / similarity_temperature).exp() for p, x in zip(probabilities(weak[i]), like_or_rest, strict=True)
        ]
        p = [float(x / total(raw)) for x in raw]
        best = max(range(len(p)), key=lambda c: p[c])
        guesses.append((best, p[best] >= threshold))
    of = [y if y is not None else best if sure else None for y, (best, sure) in zip(known, guesses, strict=True)]
    everything = [*zip(keys, of, strict=True), *((key, y) for key, y, _ in held)]
    by_class, by_contrast = [], []
    for i, (best, sure) in enumerate(guesses):
        by_class.append(cross_entropy(logits[1][i], best) * sure)
        alike = [k for k, (_, y) in enumerate(everything) if k != i and y is not None and y == of[i]]
        alike.sort(key=lambda k: -float(cosine(keys[i], everything[k][0])))
        near = [cosine(z2[i], key) / temperature for key, _ in everything]
        by_contrast.append(mean(log_sum_exp(near) - near[k] for k in [i, *alike[:neighbours]]))
    held += [(key, y, label is not None) for key, y, label in zip(keys, of, known, strict=True)]
    del held[: max(0, len(held) - memory)]
    return supervised(logits[0], labels) + weight * mean(by_class) + contrast_weight * mean(by_contrast)
