from tests.oracles.loops import Number, Rows, cosine, mean

CASES = [
    {},
    {"divergence": "kl", "temperature": 0.7, "bias": -0.5},
    {"divergence": "reverse_kl", "temperature": 1.0},
    {"divergence": "pearson", "bias": 0.2},
    {"divergence": "hellinger", "temperature": 0.3},
    {"divergence": "js", "temperature": 0.1, "limit": 3.0},
]

# f(r) and f'(r), from which the conjugate follows as r f'(r) - f(r)
FORMS = {
    "kl": (lambda r: r * r.log(), lambda r: 1 + r.log()),
    "reverse_kl": (lambda r: -r.log(), lambda r: -1 / r),
    "js": (lambda r: r * r.log() - (r + 1) * (r + 1).log(), lambda r: (r / (1 + r)).log()),
    "pearson": (lambda r: (r - 1) ** 2, lambda r: 2 * (r - 1)),
    "hellinger": (lambda r: (r.sqrt() - 1) ** 2, lambda r: 1 - r**-0.5),
}


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    divergence: str = "js",
    temperature: float = 0.5,
    bias: float = 0.0,
    limit: float = 10.0,
) -> Number:
    form, slope = FORMS[divergence]
    true, crossed = [], []
    for i in range(len(z1)):
        for j in range(len(z2)):
            logit = cosine(z1[i], z2[j]) / temperature + bias
            ratio = logit.clamp(-limit, limit).exp()
            if i == j:
                true.append(slope(ratio))
            else:
                crossed.append(ratio * slope(ratio) - form(ratio))
    return mean(crossed) - mean(true)
