from tests.oracles.loops import Number, Rows, cosine, mean, same_thing, total

CASES = [{}, {"temperature": 0.7}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, temperature: float = 0.2) -> Number:
    anchors = []
    for i in range(len(z1)):
        kernel = [(cosine(z1[i], z2[a]) / temperature).exp() for a in range(len(z2))]
        positive = total(kernel[p] for p in range(len(z2)) if same_thing(labels, i, p))
        anchors.append(-(positive / total(kernel)).log())
    return mean(anchors)
