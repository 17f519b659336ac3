import torch

from tests.oracles.fixmatch import Logits, probabilities, soft_cross_entropy, supervised
from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, total

CASES = [
    {},
    {"threshold": 0.3, "weight": 2.0, "instance_weight": 0.5, "temperature": 0.3, "teacher_temperature": 0.2},
    {"threshold": 0.0, "smoothing": 0.4, "alignment": 1, "momentum": 0.9, "last_momentum": 1.0},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    logits: Logits,
    index: torch.Tensor,
    momentum_logits: Logits,
    momentum_projections: tuple[torch.Tensor, ...],
    threshold: float = 0.95,
    weight: float = 1.0,
    instance_weight: float = 1.0,
    temperature: float = 0.1,
    teacher_temperature: float = 0.1,
    smoothing: float = 0.9,
    alignment: int = 256,
    momentum: float = 0.99,
    last_momentum: float = 0.999,
    held: dict[int, tuple[torch.Tensor, int]] | None = None,
    means: list[list[Number]] | None = None,
) -> Number:
    """`held` and `means`: memory (written to) and mean guesses with this batch's; the first step has none before."""
    keys = [row.detach() for row in momentum_projections[0]]
    held = {} if held is None else held
    held.update({int(index[i]): (keys[i], label) for i, label in enumerate(labels or []) if label >= 0})
    guesses = aligned([probabilities(row.detach()) for row in momentum_logits[0]], means)
    classes = len(guesses[0])
    by_class, by_image = [], []
    for i, guess in enumerate(guesses):
        met = [entry for image, entry in held.items() if image != int(index[i])]
        target = guess
        if met:
            near = [(cosine(keys[i], key) / teacher_temperature).exp() for key, _ in met]
            r = [x / total(near) for x in near]
            voted = [total(x for x, (_, y) in zip(r, met, strict=True) if y == c) for c in range(classes)]
            target = [smoothing * p + (1 - smoothing) * v for p, v in zip(guess, voted, strict=True)]
            weighed = [x * guess[y] for x, (_, y) in zip(r, met, strict=True)]
            answers = [cosine(z2[i], key) / temperature for key, _ in met]
            log_q = [answer - log_sum_exp(answers) for answer in answers]
            by_image.append(-total(w / total(weighed) * q for w, q in zip(weighed, log_q, strict=True)))
        sure = max(float(x) for x in target) >= threshold
        by_class.append(soft_cross_entropy(target, logits[1][i]) * sure)
    loss = supervised(logits[0], labels) + weight * mean(by_class)
    return loss + instance_weight * mean(by_image) if by_image else loss


def aligned(guesses: list[list[Number]], means: list[list[Number]] | None = None) -> list[list[Number]]:
    """Guesses over their mean (by default this batch's), adding up to 1 again."""
    classes = range(len(guesses[0]))
    means = means or [[mean(guess[c] for guess in guesses) for c in classes]]
    average = [mean(m[c] for m in means) for c in classes]
    found = []
    for guess in guesses:
        ratio = [p / a for p, a in zip(guess, average, strict=True)]
        found.append([x / total(ratio) for x in ratio])
    return found
