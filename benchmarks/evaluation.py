"""The speed of evaluation compared with scikit-learn on the same cores.

    python benchmarks/evaluation.py [--quick] [--threads N] [--only knn] [--device cuda]

The full sizes are 10,000 queries against 50,000 images of 512 features, a linear probe of 100 classes on as many
images, and the geometry of 10,000 rows; three minutes on two cores. `--quick` takes a tenth of the rows, `--only` one
of the probes; neither writes anything. `--device cuda` runs our code on the GPU and scikit-learn on the CPU.
"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

FEATURES, CLASSES = 512, 100
PACKAGES = ("torch", "scikit-learn", "numpy", "scipy")
ABOUT = """Against scikit-learn on the same cores. Seconds are the better of two runs, in a process of its own;
memory is the largest resident set until ours is done, with libraries and data. Comparing all pairs of queries and
images in float32 is one matrix product: `at most` is how far ahead of scikit-learn that product alone is, so no method
that makes it does better."""
STRENGTH = 1e-3  # of the linear probe that is timed


Row = dict[str, Any]


def features(count: int, seed: int) -> tuple[Any, Any]:
    """(N, 512) float32 rectified features of 100 overlapping classes, correlated, and (N,) classes."""
    import torch

    generator = torch.Generator().manual_seed(0)
    means = 0.3 * torch.randn(CLASSES, FEATURES, generator=generator)
    mixed = torch.randn(FEATURES, FEATURES, generator=generator) / FEATURES**0.5
    mixed = mixed * torch.logspace(0, -1, FEATURES)
    own = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (count,), generator=own)
    return ((means[y] + torch.randn(count, FEATURES, generator=own)) @ mixed @ mixed.T).relu(), y


def knn(rows: int, queries: int, device: str) -> list[Row]:
    """The probe's prediction against KNeighborsClassifier with the same votes, by cosines and by distances."""
    import numpy as np
    import torch
    from sklearn.neighbors import KNeighborsClassifier

    from cl_semisup.evaluation import _neighbours

    (x, y), (q, _) = features(rows, 1), features(queries, 2)
    bank, labels, query = x.to(device), y.to(device), q.to(device)
    seconds, ours = best_of_two(lambda: _neighbours.predict(query, bank, labels, CLASSES, k=200, temperature=0.1).cpu())
    memory = _common.peak_memory() / 1e9
    u, v = (torch.nn.functional.normalize(z, dim=1) for z in (x, q))
    workspace = torch.empty(min(1024, queries), rows)
    product, _ = best_of_two(lambda: [torch.mm(q, u.T, out=workspace[: len(q)]) for q in v.split(len(workspace))])
    results = []
    kernels = {"cosine": lambda d: np.exp((1 - d) / 0.1), "euclidean": lambda d: np.exp((1 - d**2 / 2) / 0.1)}
    for metric, weights in kernels.items():
        model = KNeighborsClassifier(200, metric=metric, algorithm="brute", weights=weights, n_jobs=-1)
        model.fit(u.numpy(), y.numpy())
        reference, theirs = best_of_two(partial(model.predict, v.numpy()))
        equal = 100 * float((ours.numpy() == theirs).mean())
        result = f"{reference / seconds:.1f} times (at most {reference / product:.1f}), {equal:.2f} % equal"
        what = f"kNN, {queries:,} queries x {rows:,} images, k = 200; scikit-learn's {metric}"
        results.append(row(what, seconds, reference, memory, "5 times as fast, predictions equal", result))
    return results


def linear(rows: int, queries: int, device: str) -> list[Row]:
    """One fit of the probe against LogisticRegression, converged and as it stops by default."""
    import torch
    from sklearn.linear_model import LogisticRegression

    from cl_semisup.measures.logistic import SoftmaxRegression

    (x, y), (q, truth) = features(rows, 1), features(queries, 2)
    images, labels = x.to(device), y.to(device)

    def fit_and_predict() -> float:
        return SoftmaxRegression.fit(images, labels, CLASSES, STRENGTH).accuracy(q.to(device), truth.to(device))

    seconds, accuracy = best_of_two(fit_and_predict)
    memory = _common.peak_memory() / 1e9
    mean, scale = x.mean(dim=0), x.std(dim=0, correction=0)
    scale = torch.where(scale > 0, scale, torch.inf)
    scaled, scaled_queries = ((x - mean) / scale).numpy(), ((q - mean) / scale).numpy()
    results = []
    kinds = (("converged", 1e-6, "no slower, within 0.1 points"), ("as it stops by default", 1e-4, "none"))
    for name, tolerance, wanted in kinds:
        model = LogisticRegression(C=1 / (STRENGTH * rows), max_iter=10_000, tol=tolerance)
        reference, fitted = best_of_two(partial(model.fit, scaled, y.numpy()))
        theirs = 100 * fitted.score(scaled_queries, truth.numpy())
        result = f"{reference / seconds:.1f} times; {100 * accuracy:.2f} %, scikit-learn {theirs:.2f} %"
        what = f"linear probe, one fit, {rows:,} x {FEATURES}, {CLASSES} classes; scikit-learn {name}"
        results.append(row(what, seconds, reference, memory, wanted, result))
    return results


def geometry(rows: int, queries: int, device: str) -> list[Row]:
    """The default geometry probe on `queries` test images with projections of 128 dimensions."""
    import torch

    from cl_semisup.evaluation import Features
    from cl_semisup.evaluation.geometry import Geometry

    z, y = (each.to(device) for each in features(queries, 1))
    views = (z + 0.1 * torch.randn(z.shape, device=device), z)
    few = slice(0, 100)
    embedded = Features(z[few], z, z[few, :128], z[:, :128], y[few], y, y[few], views, CLASSES, ())
    seconds, _ = best_of_two(lambda: Geometry().measure(embedded))
    what, memory = f"geometry, {queries:,} x {FEATURES}", _common.peak_memory() / 1e9
    return [row(what, seconds, "none", memory, "under a second", f"{seconds:.2f} s")]


def row(what: str, ours: float, reference: float | str, memory: float, wanted: str, found: str) -> Row:
    columns = {"what": what, "ours, s": ours, "scikit-learn, s": reference, "memory, GB": memory}
    return columns | {"wanted": wanted, "found": found}


def best_of_two(work: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result) of the faster of two calls."""
    return min((_common.timed(work) for _ in range(2)), key=lambda pair: pair[0])


def in_own_process(work: Callable[[int, int, str], list[Row]], rows: int, queries: int, device: str) -> list[Row]:
    """Runs a measurement in a new process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, rows, queries, device).result()


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows; nothing is written")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=("knn", "linear", "geometry"), help="one of them; nothing is written")
    parser.add_argument("--device", default="cpu", help="where ours runs: cpu or cuda")
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # read by the processes that measure
    part = 10 if options.quick else 1
    rows = []
    for work in (knn, geometry, linear):
        if options.only in (None, work.__name__):
            rows += in_own_process(work, 50_000 // part, 10_000 // part, options.device)
    if options.quick or options.only:
        print("\n".join(f"{row['what']}: {row['ours, s']:.2f} s, {row['found']}" for row in rows))
    else:
        name = "evaluation" if options.device == "cpu" else f"evaluation_{options.device}"
        print(_common.write(name, ABOUT, rows, PACKAGES))


if __name__ == "__main__":
    main()
