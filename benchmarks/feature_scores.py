"""`evaluate` on stored features compared with scikit-learn doing the same draws in turn.

    python benchmarks/feature_scores.py [--quick | --keep-scikit-learn]

50,000 x 768 float16 features of 100 classes in one `.npz`, a fifth of them the test part, with the default budgets and
five draws each. scikit-learn does the first draw of each budget and is charged as often as there are draws. It follows
the same protocol: all eight penalties on the same held-out rows, then a fit with the best on all rows. Each of its
logistic regressions starts from the solution with the penalty before, in float64 and with the tolerance that its scores
need to equal the solution's to 0.1 points; in float32, or with 1e-6, they are up to 9 points away. The two are compared
in processor time on one thread each, which other programs on the machine hardly change; how long a user waits is
measured with a thread a core. `--quick` takes a tenth of the rows and writes nothing. `--keep-scikit-learn` measures
ours again and keeps the rows of the result file that scikit-learn took ten minutes for.
"""

import json
import os
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

ROWS, FEATURES, CLASSES, DRAWS = 50_000, 768, 100, 5
TOLERANCE = 1e-8  # of scikit-learn's gradient
CLASSIFIERS = ("kNN", "nearest mean", "ridge", "linear", "LoRanPAC")
PACKAGES = ("torch", "scikit-learn", "numpy", "scipy")
ABOUT = """All scores of one file of features, with the default budgets of labels and five draws each, in seconds of
processor time of one thread. scikit-learn's are those of the first draw, times the number of draws; it has no LoRanPAC,
which numpy's SVD does beside it, and of ours geometry, warnings and reading are in `all` alone. `difference` is the
largest of kNN, nearest mean, ridge and linear on the first draw, in points, where scikit-learn takes our penalties.
Memory is the peak above that of the imported libraries, over the size of the file."""


def make(path: Path, rows: int) -> None:
    """Overlapping classes of equal size; variances along principal directions fall as 1 / i, as those of images do."""
    import numpy as np
    import torch

    generator = torch.Generator().manual_seed(0)
    deviations = torch.arange(1, FEATURES + 1).float() ** -0.5
    directions, _ = torch.linalg.qr(torch.randn(FEATURES, FEATURES, generator=generator))
    means = torch.randn(CLASSES, FEATURES, generator=generator) * deviations
    labels = torch.arange(rows) % CLASSES
    x = torch.empty(rows, FEATURES, dtype=torch.float16)
    for part in torch.arange(rows).split(5000):
        noise = 3 * torch.randn(len(part), FEATURES, generator=generator) * deviations
        x[part] = ((means[labels[part]] + noise) @ directions).half()
    np.savez(path, features=x.numpy(), labels=labels.numpy())


def ours(path: Path, threads: int) -> dict[str, Any]:
    """Seconds, memory, and what scikit-learn needs to know; in a process of its own."""
    import torch

    import cl_semisup as cl
    from cl_semisup.execution import memory
    from cl_semisup.scoring import draws, feature_file, inspection, scores

    torch.set_num_threads(threads)
    memory.return_large_blocks()  # as the command does
    torch.linalg.eigh(torch.randn(50, 50))
    cl.evaluate(torch.randn(200, 8), torch.arange(200) % 2, progress=False)  # imports the rest
    device = torch.device("cpu")
    memory.reset_peak(device)
    before, began, started = memory.peak(device), time.process_time(), time.perf_counter()
    parts: dict[str, float] = defaultdict(float)
    last = began

    def step(text: str) -> None:
        nonlocal last
        memory.return_freed_memory()
        parts["linear" if text.startswith("labels") else text] += time.process_time() - last
        last = time.process_time()

    features = feature_file.read(path)
    drawn = draws.draw_all(features.train_labels, None, DRAWS, "features")
    warnings = inspection.inspect(features)
    memory.return_freed_memory()
    step("reading")
    result = scores.measure(features, drawn, "features", step, warnings)
    seconds, processor = time.perf_counter() - started, time.process_time() - began
    rows = [
        {"label": d.draw.label, "rows": d.draw.rows.tolist(), "draws": len(b), "diagnostics": d.diagnostics}
        | {"scores": {name: d.score(name) for name in d.right}}
        for b in result.budgets
        for d in b[:1]
    ]
    facts = {"seconds": seconds, "processor": processor, "parts": parts, "memory": memory.peak(device) - before}
    return {**facts, "load": os.getloadavg(), "budgets": rows}


def scikit_learn(stored: Any, budget: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Processor seconds of one draw by classifier, and the scores with our penalties."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
    from sklearn.preprocessing import StandardScaler, normalize

    from cl_semisup.evaluation import evenly
    from cl_semisup.measures.logistic import STRENGTHS, hold_out
    from cl_semisup.scoring.scores import SETTINGS
    from cl_semisup.seeds import seed

    x, y = stored.train.float().numpy()[budget["rows"]], stored.train_labels[budget["rows"]]
    q, truth, diagnostics = stored.test.float().numpy(), stored.test_labels, budget["diagnostics"]
    exact = x.astype(np.float64)
    held = hold_out(y, 0.2, seed("validation", "features", 0))
    search = STRENGTHS if held is not None else ()
    held = np.zeros(len(y), dtype=bool) if held is None else held
    found = {}

    def knn() -> None:
        weights = lambda distance: np.exp((1 - distance) / 0.1)  # noqa: E731
        k = min(200, len(y))
        model = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights, n_jobs=1).fit(x, y)
        found["knn_top1"] = model.predict(q)

    def nearest_mean() -> None:
        found["nearest_mean_top1"] = NearestCentroid().fit(normalize(x), y).predict(normalize(q))

    def standardised(kept: Any, *others: Any) -> list[Any]:
        scaler = StandardScaler().fit(kept)
        return [scaler.transform(part) for part in (kept, *others)]

    def ridge() -> None:
        z, v = standardised(x[~held], x[held]) if search else (x, x)
        for strength in search:
            RidgeClassifier(alpha=strength * len(z)).fit(z, y[~held]).predict(v)
        z, v = standardised(x, q)
        found["ridge_top1"] = RidgeClassifier(alpha=diagnostics["ridge_strength"] * len(z)).fit(z, y).predict(v)

    def linear() -> None:
        z, v = standardised(exact[~held], exact[held]) if search else (exact, exact)
        model = LogisticRegression(tol=TOLERANCE, max_iter=10_000, warm_start=True)
        for strength in search:
            model.set_params(C=1 / (strength * len(z))).fit(z, y[~held]).predict(v)
        z, v = standardised(exact, q.astype(np.float64))
        model = LogisticRegression(C=1 / (diagnostics["linear_strength"] * len(z)), tol=TOLERANCE, max_iter=10_000)
        found["linear_top1"] = model.fit(z, y).predict(v)

    def loranpac() -> None:
        options, random = SETTINGS["loranpac"], np.random.default_rng(0)
        chosen = evenly(len(y), int(options["images"])).numpy()
        projection = random.standard_normal((x.shape[1], int(options["width"])))
        h = np.maximum(normalize(x[chosen].astype(np.float64)) @ projection, 0)
        left, values, right = np.linalg.svd(h, full_matrices=False)
        keep = max(1, round((1 - options["truncation"]) * len(values)))
        weight = right[:keep].T @ ((left[:, :keep].T @ np.eye(CLASSES)[y[chosen]]) / values[:keep, None])
        (np.maximum(normalize(q) @ projection.astype(np.float32), 0) @ weight.astype(np.float32)).argmax(axis=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        works = {"kNN": knn, "nearest mean": nearest_mean, "ridge": ridge, "linear": linear, "LoRanPAC": loranpac}
        seconds = {name: _common.timed(work, time.process_time)[0] for name, work in works.items()}
    return seconds, {name: float((predicted == truth).mean()) for name, predicted in found.items()}


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows; nothing is written")
    parser.add_argument("--keep-scikit-learn", action="store_true", help="its rows are those of the result file")
    parser.add_argument("--ours", type=Path, help="measure ours on this file and print it as JSON")
    parser.add_argument("--threads", type=int, default=1, help="for --ours")
    options = parser.parse_args()
    if options.ours:
        sys.stdout.write(json.dumps(ours(options.ours, options.threads)) + "\n")
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # idle threads wait in a loop, whose time would count as theirs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "features.npz")
        make(path, ROWS // 10 if options.quick else ROWS)
        single = measured(path, 1)
        whole = measured(path, _common.cores())
        rows, theirs = from_results() if options.keep_scikit_learn else compare(path, single["budgets"])
        size = path.stat().st_size
    own, names = single["parts"], ("labels", "draws", *CLASSIFIERS, "all", "difference, points")
    rows.append(
        ["scikit-learn", "", *(f"{theirs[name]:.1f}" for name in CLASSIFIERS), f"{sum(theirs.values()):.1f}", ""]
    )
    linear = ["in linear", "in linear", f"{own['linear']:.1f}"]
    rows.append(["ours", "", f"{own['kNN']:.1f}", *linear, f"{own['LoRanPAC']:.1f}", f"{single['processor']:.1f}", ""])
    ratio = sum(theirs.values()) / single["processor"]
    without = (sum(theirs.values()) - theirs["LoRanPAC"]) / (single["processor"] - own["LoRanPAC"])
    facts = f"{ratio:.1f} times as fast in processor time, {without:.1f} times without LoRanPAC. With {_common.cores()}"
    facts += f" threads a user waits {whole['seconds']:.0f} s ({whole['processor']:.0f} s of processor time; the"
    facts += f" machine's load was {whole['load'][0]:.1f}). Memory is"
    facts += f" {single['memory'] / size:.2f} times the file with one thread, {whole['memory'] / size:.2f} with"
    facts += f" {_common.cores()}."
    dicts = [dict(zip(names, row, strict=True)) for row in rows]
    if options.quick:
        sys.stdout.write(_common.table(list(names), rows) + f"\n{facts}\n")
    else:
        sys.stdout.write(_common.write("feature_scores", f"{ABOUT} {facts}", dicts, PACKAGES))


def measured(path: Path, threads: int) -> Any:
    """What `ours` says, from a process of its own."""
    words = [__file__, "--ours", str(path), "--threads", str(threads)]
    result = _common.run_json(*words, OMP_NUM_THREADS=str(threads))
    facts = {name: value for name, value in result.items() if name != "budgets"}
    sys.stderr.write(f"ours, {threads} threads: {facts}\n")
    return result


def from_results() -> tuple[list[list[Any]], Counter[str]]:
    """As `compare`, from the result file."""
    *rows, theirs, _ = _common.load("feature_scores")["rows"]
    return [list(row.values()) for row in rows], Counter({name: float(theirs[name]) for name in CLASSIFIERS})


def compare(path: Path, budgets: list[dict[str, Any]]) -> tuple[list[list[Any]], Counter[str]]:
    """Rows of the table, and scikit-learn's processor seconds by classifier for all draws, on one thread."""
    import torch
    from threadpoolctl import threadpool_limits

    from cl_semisup.scoring import feature_file

    rows, total, stored = [], Counter[str](), feature_file.read(path)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for budget in budgets:
            one, theirs = scikit_learn(stored, budget)
            seconds = {name: value * budget["draws"] for name, value in one.items()}
            total.update(seconds)
            points = max(100 * abs(theirs[name] - budget["scores"][name]) for name in theirs)
            cells = [f"{seconds[name]:.1f}" for name in CLASSIFIERS]
            rows.append([budget["label"], budget["draws"], *cells, f"{sum(seconds.values()):.1f}", f"{points:.2f}"])
            sys.stderr.write(f"{rows[-1]}\n")
    return rows, total


if __name__ == "__main__":
    main()
