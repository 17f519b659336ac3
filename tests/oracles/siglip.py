from typing import Any

from tests.oracles.loops import Number, Rows, cosine, mean, total

CASES = [{}, {"scale": 3.0, "bias": -1.5}]


def oracle(
    z1: Rows, z2: Rows, labels: list[int] | None, *, loss: Any, scale: float = 10.0, bias: float = -10.0
) -> Number:
    """`loss` is the built loss: its two numbers are float32 and learned."""
    terms = []
    for i in range(len(z1)):
        for j in range(len(z2)):
            logit = loss.log_scale.detach().exp() * cosine(z1[i], z2[j]) + loss.bias.detach()
            terms.append((1 + (-logit if i == j else logit).exp()).log())
    assert abs(float(loss.log_scale.detach().exp()) - scale) < 1e-5
    assert abs(float(loss.bias.detach()) - bias) < 1e-5
    return mean(total(terms[i * len(z2) : (i + 1) * len(z2)]) for i in range(len(z1)))
