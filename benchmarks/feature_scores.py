"""`evaluate` on stored features compared with scikit-learn doing the same draws in turn.

    python benchmarks/feature_scores.py [--quick]

50,000 x 768 float16 features of 100 classes in one `.npz`, a fifth of them the test part, with the default budgets and
five draws each. scikit-learn does the first draw of each budget and is charged as often as there are draws; of all
labels it fits the logistic regression once, with the penalty that is known to be best, and is charged no search. It has
no LoRanPAC. The two are compared in processor time on one thread each, which other programs on the machine hardly
change; how long a user waits is measured with a thread a core. `--quick` takes a tenth of the rows and writes nothing.
"""

import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

ROWS, FEATURES, CLASSES, DRAWS = 50_000, 768, 100, 5
TOLERANCE = 1e-7  # of scikit-learn's gradient; with its default, 1e-4, it stops up to 1.4 points from the solution
PACKAGES = ("torch", "scikit-learn", "numpy", "scipy")
ABOUT = """All scores of one file of features, with the default budgets of labels and five draws each. `scikit-learn` is
processor time of one thread for all draws of a budget, in turn, of which the first is measured; ours is measured in one
piece, with LoRanPAC, which scikit-learn lacks. `difference` is the largest of kNN, nearest mean, ridge and linear on
the first draw, in points, each with our penalty. Memory is the peak above that of the imported libraries, over the size
of the file."""


def make(path: Path, rows: int) -> None:
    """Overlapping, correlated, rectified classes of equal size."""
    import numpy as np
    import torch

    generator = torch.Generator().manual_seed(0)
    means = 0.6 * torch.randn(CLASSES, FEATURES, generator=generator)
    mixed = torch.randn(FEATURES, FEATURES, generator=generator) / FEATURES**0.5
    mixed = mixed * torch.logspace(0, -1, FEATURES)
    labels = torch.arange(rows) % CLASSES
    x = torch.empty(rows, FEATURES, dtype=torch.float16)
    for part in torch.arange(rows).split(5000):
        noise = torch.randn(len(part), FEATURES, generator=generator)
        x[part] = ((means[labels[part]] + noise) @ mixed @ mixed.T).relu().half()
    np.savez(path, features=x.numpy(), labels=labels.numpy())


def ours(path: Path, threads: int) -> dict[str, Any]:
    """Seconds, memory, and what scikit-learn needs to know; in a process of its own."""
    import torch

    import cl_semisup as cl
    from cl_semisup.execution import memory

    torch.set_num_threads(threads)
    memory.return_large_blocks()  # as the command does
    torch.linalg.eigh(torch.randn(50, 50))
    cl.evaluate(torch.randn(200, 8), torch.arange(200) % 2, progress=False)  # imports the rest
    before, began = _common.peak_memory(), time.process_time()
    seconds, evaluation = _common.timed(lambda: cl.evaluate(path, repetitions=DRAWS, progress=False))
    processor = time.process_time() - began
    (result,) = evaluation.results
    first = [budget[0] for budget in result.budgets]
    rows = [
        {"label": d.draw.label, "rows": d.draw.rows.tolist(), "draws": len(b), "diagnostics": d.diagnostics}
        | {"scores": {name: d.score(name) for name in d.right}}
        for d, b in zip(first, result.budgets, strict=True)
    ]
    memory_used = _common.peak_memory() - before
    return {"seconds": seconds, "processor": processor, "memory": memory_used, "load": os.getloadavg(), "budgets": rows}


def scikit_learn(stored: Any, budget: dict[str, Any], search: bool) -> tuple[float, dict[str, float]]:
    """Processor seconds of one draw, and the scores with our penalties."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
    from sklearn.preprocessing import StandardScaler, normalize

    from cl_semisup.measures.logistic import STRENGTHS, hold_out
    from cl_semisup.seeds import seed

    x, y = stored.train.float().numpy()[budget["rows"]], stored.train_labels[budget["rows"]]
    q, truth = stored.test.float().numpy(), stored.test_labels
    found = {}

    def work() -> None:
        weights = lambda distance: np.exp((1 - distance) / 0.1)  # noqa: E731
        k = min(200, len(y))
        knn = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights, n_jobs=1).fit(x, y)
        found["knn_top1"] = knn.predict(q)
        found["nearest_mean_top1"] = NearestCentroid().fit(normalize(x), y).predict(normalize(q))
        held = hold_out(y, 0.2, seed("validation", "features", 0))
        if held is not None:
            scaler = StandardScaler().fit(x[~held])
            z, v = scaler.transform(x[~held]), scaler.transform(x[held])
            for strength in STRENGTHS:
                RidgeClassifier(alpha=strength * len(z)).fit(z, y[~held]).predict(v)
                if search:
                    logistic(strength, z, y[~held]).predict(v)
        scaler = StandardScaler().fit(x)
        z, v = scaler.transform(x), scaler.transform(q)
        alpha = budget["diagnostics"]["ridge_strength"] * len(z)
        found["ridge_top1"] = RidgeClassifier(alpha=alpha).fit(z, y).predict(v)
        found["linear_top1"] = logistic(budget["diagnostics"]["linear_strength"], z, y).predict(v)

    def logistic(strength: float, z: Any, y: Any) -> Any:
        return LogisticRegression(C=1 / (strength * len(z)), tol=TOLERANCE, max_iter=10_000).fit(z, y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds, _ = _common.timed(work, time.process_time)
    return seconds, {name: float((predicted == truth).mean()) for name, predicted in found.items()}


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows; nothing is written")
    parser.add_argument("--ours", type=Path, help="measure ours on this file and print it as JSON")
    parser.add_argument("--threads", type=int, default=1, help="for --ours")
    options = parser.parse_args()
    if options.ours:
        sys.stdout.write(json.dumps(ours(options.ours, options.threads)) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "features.npz")
        make(path, ROWS // 10 if options.quick else ROWS)
        single = measured(path, 1)
        rows, total = compare(path, single["budgets"])
        whole = measured(path, _common.cores())
        size = path.stat().st_size
    rows.append(["all", sum(b["draws"] for b in single["budgets"]), single["processor"], total, ""])
    names = ("labels", "draws", "ours, s", "scikit-learn, s", "difference, points")
    dicts = [dict(zip(names, row, strict=True)) for row in rows]
    facts = f"{total / single['processor']:.1f} times as fast in processor time. With {_common.cores()} threads a user"
    facts += f" waits {whole['seconds']:.0f} s ({whole['processor']:.0f} s of processor time; the machine's load was"
    times = max(single["memory"], whole["memory"]) / size
    facts += f" {whole['load'][0]:.1f}). Memory is {times:.2f} times the file."
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


def compare(path: Path, budgets: list[dict[str, Any]]) -> tuple[list[list[Any]], float]:
    """Rows of the table, and scikit-learn's processor seconds for all draws, on one thread."""
    import torch
    from threadpoolctl import threadpool_limits

    from cl_semisup.scoring import feature_file

    rows, total, stored = [], 0.0, feature_file.read(path)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for number, budget in enumerate(budgets):
            seconds, theirs = scikit_learn(stored, budget, search=number < len(budgets) - 1)
            total += seconds * budget["draws"]
            points = max(100 * abs(theirs[name] - budget["scores"][name]) for name in theirs)
            rows.append([budget["label"], budget["draws"], "", seconds * budget["draws"], f"{points:.2f}"])
            sys.stderr.write(f"{rows[-1]}\n")
    return rows, total


if __name__ == "__main__":
    main()
