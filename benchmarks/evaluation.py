"""How fast evaluation is, against scikit-learn on the same cores.

    python benchmarks/evaluation.py [--quick] [--threads N]

Writes benchmarks/results/evaluation.md. The full sizes are 10,000 queries against 50,000 images of 512 features, a
linear probe of 100 classes on as many, and the geometry of 10,000 rows. `--quick` takes a tenth of the rows and writes
nothing.
"""

import argparse
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _record  # the checkout is on the path only now

RESULTS = _record.RESULTS / "evaluation.md"
FEATURES, CLASSES = 512, 100
STRENGTH = 1e-3  # of the linear probe that is timed


@dataclass(frozen=True)
class Timing:
    """One measured thing: seconds of ours and of scikit-learn (None without such a thing), what is wanted and found."""

    what: str
    seconds: float
    reference: float | None
    wanted: str
    found: str
    peak_gb: float


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


def knn(rows: int, queries: int) -> Timing:
    """The probe's prediction against KNeighborsClassifier with the same weights."""
    import numpy as np
    import torch
    from sklearn.neighbors import KNeighborsClassifier

    from cl_semisup.evaluation import _neighbours

    (x, y), (q, _) = features(rows, 1), features(queries, 2)
    base = peak()
    seconds, ours = timed(lambda: _neighbours.predict(q, x, y, CLASSES, k=200, temperature=0.1))
    used = peak() - base
    unit = torch.nn.functional.normalize

    def scikit_learn() -> Any:
        weights = lambda distance: np.exp((1 - distance) / 0.1)  # noqa: E731
        model = KNeighborsClassifier(200, metric="cosine", algorithm="brute", weights=weights, n_jobs=-1)
        return model.fit(unit(x, dim=1).numpy(), y.numpy()).predict(unit(q, dim=1).numpy())

    reference, theirs = timed(scikit_learn)
    same = float((ours.numpy() == theirs).mean())
    return Timing(
        f"kNN, {queries:,} queries x {rows:,} images, k = 200",
        seconds,
        reference,
        "at least 5 times as fast, equal predictions",
        f"{reference / seconds:.1f} times; {100 * same:.2f} % of predictions equal",
        used,
    )


def linear(rows: int, queries: int) -> Timing:
    """One fit of the probe against LogisticRegression, fully converged and as it stops by default."""
    from sklearn.linear_model import LogisticRegression

    from cl_semisup.logistic import SoftmaxRegression

    (x, y), (q, truth) = features(rows, 1), features(queries, 2)
    base = peak()
    seconds, probe = timed(lambda: SoftmaxRegression.fit(x, y, CLASSES, STRENGTH))
    used = peak() - base
    scaled, asked = ((x - probe.mean) / probe.scale).numpy(), ((q - probe.mean) / probe.scale).numpy()

    def scikit_learn(tolerance: float) -> tuple[float, float]:
        """(seconds, accuracy in percent)"""
        model = LogisticRegression(C=1 / (STRENGTH * rows), max_iter=10_000, tol=tolerance)
        took, fitted = timed(lambda: model.fit(scaled, y.numpy()))
        return took, 100 * fitted.score(asked, truth.numpy())

    converged, best = scikit_learn(1e-6)
    early, default = scikit_learn(1e-4)
    ours = 100 * probe.accuracy(q, truth)
    return Timing(
        f"linear probe, one fit, {rows:,} x {FEATURES} x {CLASSES} classes",
        seconds,
        converged,
        "no slower than a converged fit, within 0.1 points of it",
        f"{converged / seconds:.1f} times; {ours:.2f} %, converged {best:.2f}, default {default:.2f} in {early:.1f} s",
        used,
    )


def geometry(rows: int, queries: int) -> Timing:
    """The default geometry probe on as many test images, projections of 128 dimensions."""
    import torch

    from cl_semisup.evaluation import Embedded
    from cl_semisup.evaluation.geometry import Geometry

    z, y = features(queries, 1)
    views = (z + 0.1 * torch.randn(z.shape), z)
    few = slice(0, 100)
    about = Embedded(z[few], z, z[few, :128], z[:, :128], y[few], y, y[few], views, CLASSES, ())
    base = peak()
    seconds, _ = timed(lambda: Geometry().measure(about))
    return Timing(
        f"geometry of {queries:,} x {FEATURES}", seconds, None, "under a second", f"{seconds:.2f} s", peak() - base
    )


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result), the better of two."""
    best = float("inf")
    for _ in range(2):
        began = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - began)
    return best, result


def peak() -> float:
    """GB of the largest resident set of this process so far."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 1e9 * (1 if platform.system() == "Darwin" else 1024)


def alone(work: Callable[[int, int], Timing], *sizes: int) -> Timing:
    """In a process of its own, so that peaks of memory are its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *sizes).result()


def table(timings: list[Timing], threads: int) -> str:
    import numpy
    import scipy
    import sklearn
    import torch

    machine = f"{_record.processor()}, {threads} threads"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}, "
    versions += f"numpy {numpy.__version__}, scipy {scipy.__version__}"
    lines = [
        "# Evaluation",
        "",
        f"`python benchmarks/evaluation.py` on {machine}; {versions}; commit {_record.commit()}. Seconds are the",
        "better of two runs in a process of its own; memory is what ours adds to the largest resident set.",
        "",
        "| what | ours, s | scikit-learn, s | memory, GB | wanted | found |",
        "|---|---:|---:|---:|---|---|",
    ]
    for one in timings:
        reference = f"{one.reference:.2f}" if one.reference is not None else "none"
        lines.append(
            f"| {one.what} | {one.seconds:.2f} | {reference} | {one.peak_gb:.2f} | {one.wanted} | {one.found} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows; nothing is written")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=("knn", "linear", "geometry"), help="one of them; nothing is written")
    asked = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(asked.threads)  # read by the processes that measure
    part = 10 if asked.quick else 1
    timings = []
    for work in (knn, geometry, linear):
        if asked.only in (None, work.__name__):
            timings.append(alone(work, 50_000 // part, 10_000 // part))
            print(f"{timings[-1].what}: {timings[-1].found}", file=sys.stderr, flush=True)
    text = table(timings, asked.threads)
    print(text)
    if not asked.quick and asked.only is None:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
