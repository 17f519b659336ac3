import torch

from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, total

CASES = [
    {},
    {"threshold": -0.5, "temperature": 0.3, "penalty": 0.4, "classifier": 0.7},
    {"classifier": 0.0, "penalty": 0.0},
    {"pairs": "hardest", "temperature": 0.2},
    {"pairs": "hardest", "threshold": -1.0, "classifier": 0.0},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    logits: tuple[torch.Tensor, ...] | None = None,
    temperature: float = 0.05,
    threshold: float = 0.7,
    penalty: float = 1.0,
    pairs: str = "all",
    classifier: float = 1.0,
) -> Number:
    classes = [*(labels or []), *(labels or [])]
    rows = [*z1, *z2]
    known = [a for a, label in enumerate(classes) if label >= 0]
    if not known:
        return total(z1[0]) * 0
    terms = []
    for a in known:
        positives = [cosine(rows[a], rows[b]) for b in known if b != a and classes[b] == classes[a]]
        negatives = [cosine(rows[a], rows[b]) for b in known if classes[b] != classes[a]]
        if pairs == "hardest":
            positives = sorted(positives, key=torch.Tensor.item)[:1]
            negatives = sorted(negatives, key=torch.Tensor.item)[-2:]
        contrast = mean(
            log_sum_exp([s / temperature, *(n / temperature for n in negatives)]) - s / temperature for s in positives
        )
        near = [s / temperature for s in positives if s > threshold]
        top = torch.tensor(1 / temperature, dtype=torch.float64)
        terms.append(contrast + penalty * (log_sum_exp([top, *near]) - top))
    value = mean(terms)
    if logits is not None:
        losses = []
        for view in logits:
            for i, label in enumerate(labels or []):
                if label >= 0:
                    losses.append(log_sum_exp(view[i]) - view[i][label])
        value = value + classifier * mean(losses)
    return value
