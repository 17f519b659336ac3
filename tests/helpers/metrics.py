"""Metrics once more: one number at a time, in float64 numpy, sharing no code with the package."""

import math

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]


def unit(z: Rows) -> Rows:
    return np.array([row / math.sqrt(sum(v * v for v in row)) for row in z])


def squared_distance(a: Rows, b: Rows) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def dot(a: Rows, b: Rows) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def mean_row(rows: Rows) -> Rows:
    return np.array([sum(row[k] for row in rows) / len(rows) for k in range(len(rows[0]))])


def rank_of(values: Rows, epsilon: float = 0.0) -> float:
    """exp of the entropy of values over their sum."""
    total = sum(values)
    entropy = 0.0
    for value in values:
        share = value / total + epsilon
        if share > 0:
            entropy -= share * math.log(share)
    return math.exp(entropy)


def effective_rank(z: Rows, centred: bool = False) -> float:
    rows = z - mean_row(z) if centred else z
    eigenvalues = np.linalg.eigvalsh(rows.T @ rows)  # another way than the package's SVD
    return rank_of(np.sqrt(np.maximum(eigenvalues, 0)))


def alignment(u: Rows, v: Rows) -> float:
    return sum(squared_distance(a, b) for a, b in zip(u, v, strict=True)) / len(u)


def feature_std(u: Rows) -> float:
    """Mean standard deviation of a coordinate, times the root of the dimensions."""
    centre = mean_row(u)
    deviations = [math.sqrt(sum((row[d] - centre[d]) ** 2 for row in u) / len(u)) for d in range(len(centre))]
    return sum(deviations) / len(deviations) * math.sqrt(len(deviations))


def uniformity(u: Rows) -> float:
    pairs = [math.exp(-2 * squared_distance(u[i], u[j])) for i in range(len(u)) for j in range(i)]
    return math.log(sum(pairs) / len(pairs))


def wasserstein_uniformity(u: Rows, points: int = 200_001) -> float:
    """Integral of |empirical - law| of the distribution functions of the cosines, on a grid of its own."""
    cosines = sorted(dot(u[i], u[j]) for i in range(len(u)) for j in range(i))
    grid = np.linspace(-1, 1, points)
    density = (1 - grid**2) ** ((u.shape[1] - 3) / 2)
    law = np.cumsum(density)
    law /= law[-1]
    empirical = np.searchsorted(cosines, grid, side="right") / len(cosines)
    return float(np.abs(empirical - law).mean() * 2)


def alpha_req(z: Rows, last: int = 100) -> float:
    """Over ranks 4 to the smallest of 100, `last` and the dimensions."""
    rows = z - mean_row(z)
    eigenvalues = sorted(np.linalg.eigvalsh(rows.T @ rows), reverse=True)
    points = [
        (math.log(j), math.log(eigenvalues[j - 1]), 1 / j) for j in range(4, min(100, last, len(eigenvalues)) + 1)
    ]
    total = sum(w for _, _, w in points)
    x0, y0 = sum(w * x for x, _, w in points) / total, sum(w * y for _, y, w in points) / total
    return -sum(w * (x - x0) * (y - y0) for x, y, w in points) / sum(w * (x - x0) ** 2 for x, _, w in points)


def lidar(views: Rows, delta: float) -> float:
    """From the generalised eigenvalues of the two scatter matrices."""
    from scipy.linalg import eigh

    q, n, width = views.shape
    means = [mean_row(views[:, i]) for i in range(n)]
    centre = mean_row(np.array(means))
    between, within = np.zeros((width, width)), delta * np.eye(width)
    for i in range(n):
        between += np.outer(means[i] - centre, means[i] - centre) / (n - 1)
        for k in range(q):
            within += np.outer(views[k, i] - means[i], views[k, i] - means[i]) / (n * (q - 1))
    return rank_of(np.maximum(eigh(between, within, eigvals_only=True), 0))


def cka(x: Rows, y: Rows) -> float:
    """Over Gram matrices, where the package goes over features."""
    n = len(x)
    centring = np.eye(n) - 1 / n
    k, m = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring
    return float((k * m).sum() / math.sqrt((k * k).sum() * (m * m).sum()))


def hsic_unbiased(k: Rows, m: Rows) -> float:
    """The U-statistic of HSIC by its definition, over all quadruples of different images."""
    n, total, count = len(k), 0.0, 0
    for a in range(n):
        for b in range(n):
            for c in range(n):
                for d in range(n):
                    if len({a, b, c, d}) == 4:
                        total += k[a, b] * (m[a, b] + m[c, d] - 2 * m[a, c])
                        count += 1
    return total / count


def class_means(x: Rows, y: Labels) -> dict[int, Rows]:
    return {int(c): mean_row(x[y == c]) for c in np.unique(y)}


def nc1(x: Rows, y: Labels) -> float:
    means = class_means(x, y)
    centre = mean_row(np.array(list(means.values())))
    within, between = np.zeros((x.shape[1],) * 2), np.zeros((x.shape[1],) * 2)
    for row, label in zip(x, y, strict=True):
        within += np.outer(row - means[int(label)], row - means[int(label)]) / len(x)
    for mean in means.values():
        between += np.outer(mean - centre, mean - centre) / len(means)
    return float(np.trace(within @ np.linalg.pinv(between, rcond=1e-5)) / len(means))


def nc2(x: Rows, y: Labels) -> dict[str, float]:
    means = class_means(x, y)
    centre = mean_row(np.array(list(means.values())))
    norms = [math.sqrt(squared_distance(mean, centre)) for mean in means.values()]
    u = unit(np.array([mean - centre for mean in means.values()]))
    cosines = [dot(u[i], u[j]) for i in range(len(u)) for j in range(len(u)) if i != j]
    return {
        "nc2_norm": float(np.std(norms) / np.mean(norms)),
        "nc2_angle": float(np.std(cosines)),
        "nc2_simplex": float(np.mean([abs(c + 1 / (len(u) - 1)) for c in cosines])),
    }


def cdnv(x: Rows, y: Labels) -> float:
    means, found = class_means(x, y), []
    variance = {c: np.mean([squared_distance(row, means[c]) for row in x[y == c]]) for c in means}
    for i in means:
        for j in means:
            if i < j:
                found.append((variance[i] + variance[j]) / (2 * squared_distance(means[i], means[j])))
    return float(np.mean(found))


def directional_cdnv(x: Rows, y: Labels) -> float:
    means, found = class_means(x, y), []
    for i in means:
        for j in means:
            if i != j:
                line = means[j] - means[i]
                distance = math.sqrt(dot(line, line))
                along = [dot(row - means[i], line / distance) ** 2 for row in x[y == i]]
                found.append(np.mean(along) / distance**2)
    return float(np.mean(found))


def class_separation(x: Rows, y: Labels) -> float:
    u, classes = unit(x), np.unique(y)

    def distance(a: int, b: int) -> float:
        return float(np.mean([1 - dot(p, q) for p in u[y == a] for q in u[y == b]]))

    within = np.mean([distance(c, c) for c in classes])
    total = np.mean([distance(a, b) for a in classes for b in classes])
    return float(1 - within / total)


def knn(queries: Rows, bank: Rows, labels: Labels, classes: int, *, k: int, temperature: float) -> list[int]:
    """A vote of the k most similar, one query at a time."""
    found = []
    for query in queries:
        similar = [dot(query, row) / math.sqrt(dot(query, query) * dot(row, row)) for row in bank]
        nearest = sorted(range(len(bank)), key=lambda i: -similar[i])[:k]
        votes = [0.0] * classes
        for i in nearest:
            votes[labels[i]] += math.exp(similar[i] / temperature)
        found.append(votes.index(max(votes)))
    return found


def calibration_error(p: Rows, labels: Labels, bins: int) -> float:
    error = 0.0
    for b in range(bins):
        inside = [i for i in range(len(p)) if b / bins < max(p[i]) <= (b + 1) / bins]
        if inside:
            right = sum(int(np.argmax(p[i]) == labels[i]) for i in inside) / len(inside)
            sure = sum(max(p[i]) for i in inside) / len(inside)
            error += len(inside) / len(p) * abs(right - sure)
    return error


def mutual_information_share(a: Labels, b: Labels) -> float:
    """I(a, b) over the mean of the entropies."""
    n = len(a)

    def entropy(counts: list[int]) -> float:
        return -sum(c / n * math.log(c / n) for c in counts if c)

    joint: dict[tuple[int, int], int] = {}
    for pair in zip(a.tolist(), b.tolist(), strict=True):
        joint[pair] = joint.get(pair, 0) + 1
    of_a, of_b = entropy(list(np.bincount(a))), entropy(list(np.bincount(b)))
    return (of_a + of_b - entropy(list(joint.values()))) / ((of_a + of_b) / 2)
