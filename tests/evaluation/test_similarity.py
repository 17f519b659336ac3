"""Features of two runs compared by what is kept beside their records: from the Gram matrix to the table."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from cl_semisup import report
from cl_semisup.evaluation import Features
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.measures import geometry
from cl_semisup.report import tables
from cl_semisup.report.report_data import ReportData
from cl_semisup.report.similarity import Similarity
from cl_semisup.results import records
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.results.statistics import mean_ci
from cl_semisup.suite.suite import Suite
from tests.helpers import metrics as oracles
from tests.helpers.embeddings import cloud
from tests.helpers.probes import PROBES, make_features, measure
from tests.helpers.records import run, select, write

ENTRIES = [3, 4, 0, 0, 0, 0]  # of four images, length 5
TURNED = [4, -3, 0, 0, 0, 0]  # at a right angle to it


def by_loops(x: Tensor, y: Tensor) -> float:
    """Unbiased CKA over all quadruples of images."""
    k, m = (x.double() @ x.double().T).numpy(), (y.double() @ y.double().T).numpy()
    hsic = oracles.hsic_unbiased
    return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))


def by_grams(x: Tensor, y: Tensor) -> float:
    return float(geometry.centred_gram(x) @ geometry.centred_gram(y))


# the Gram matrix ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "widths"), [(4, (3, 2)), (7, (3, 4)), (9, (2, 20)), (6, (1, 1))])
def test_the_product_of_two_centred_grams_is_the_cka_that_loops_find(count: int, widths: tuple[int, int]) -> None:
    x, y = cloud(count, widths[0]), cloud(count, widths[1], 1)
    assert by_grams(x, y) == pytest.approx(by_loops(x, y), abs=1e-10)
    assert by_grams(x, y) == pytest.approx(geometry.cka(x, y, unbiased=True), abs=1e-12)
    assert len(geometry.centred_gram(x)) == count * (count - 1) / 2


def test_features_turned_scaled_and_moved_are_the_same_features() -> None:
    x, turn = cloud(50, 6), torch.linalg.qr(cloud(6, 6, 1))[0]
    assert by_grams(x, x) == pytest.approx(1, abs=1e-12)
    assert by_grams(x, 7 * x @ turn + 3) == pytest.approx(1, abs=1e-12)
    assert by_grams(x, x + 1e5) == pytest.approx(1, abs=1e-8)  # a large mean takes no digits away
    assert by_grams(x, x[:, :3]) < 0.9


def test_unrelated_features_are_at_zero_on_average_though_images_are_few() -> None:
    pairs = [(cloud(64, 32, 2 * i), cloud(64, 32, 2 * i + 1)) for i in range(60)]
    assert abs(np.mean([by_grams(x, y) for x, y in pairs])) < 0.01
    assert np.mean([geometry.cka(x, y) for x, y in pairs]) > 0.3  # what the bias would have said


@pytest.mark.parametrize(
    "x",
    [
        *(cloud(count, 5) for count in (1, 2, 3)),
        torch.zeros(20, 5),
        torch.full((20, 5), 1234.5678),
        torch.full((20, 5), 0.1, dtype=torch.float64),
        torch.eye(6),  # all equally far from each other
        torch.eye(20, 5)[torch.arange(20).clamp(max=1)],  # one image, and another nineteen times
    ],
    ids=["one", "two", "three", "zeros", "large", "rounded", "simplex", "one_apart"],
)
def test_where_cka_is_not_defined_the_gram_is_zero(x: Tensor) -> None:
    gram = geometry.centred_gram(x)
    assert len(gram) == len(x) * (len(x) - 1) / 2
    assert not gram.any()


# the probe ----------------------------------------------------------------------------------------------------------


def seen(name: str, monkeypatch: pytest.MonkeyPatch, repetition: int = 0, images: int = 20) -> list[list[float]]:
    """The rows of the test features that the probe looks at."""
    looked: list[Tensor] = []
    original = geometry.centred_gram
    with monkeypatch.context() as patch:
        patch.setattr(geometry, "centred_gram", lambda x: looked.append(x) or original(x))
        measure("similarity", make_features(seed_key=(name, repetition)), images=images)
    rows: list[list[float]] = looked[0].tolist()
    return rows


def test_all_runs_of_a_data_set_are_compared_on_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    first = seen("digits", monkeypatch)
    assert len({tuple(row) for row in first}) == 20
    assert seen("digits", monkeypatch, repetition=3) == first
    assert seen("glyphs", monkeypatch) != first
    assert seen("digits", monkeypatch, images=8) == first[:8]
    assert len(seen("digits", monkeypatch, images=500)) == 60  # there are no more


def test_rounding_to_tenths_hardly_moves_a_cka() -> None:
    x, near = cloud(60, 12), cloud(60, 12) + 0.7 * cloud(60, 12, 1)
    a, b = (np.array(measure("similarity", of(z)).curves["gram"]) for z in (x, near))
    assert set(map(type, a.tolist())) == {int}
    assert max(np.abs(a).max(), np.abs(b).max()) < 100  # two digits and a sign
    found = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert found == pytest.approx(geometry.cka(x, near, unbiased=True), abs=2e-3)


def of(test: Tensor) -> Features:
    """An embedding whose test features are these."""
    return replace(make_features(test=len(test)), test=test.float())


@pytest.mark.parametrize("test", [cloud(3, 12), torch.ones(60, 12)], ids=["three images", "constant features"])
def test_with_nothing_to_compare_nothing_is_kept(test: Tensor) -> None:
    found = measure("similarity", of(test))
    assert (found.curves, found.diagnostics) == ({}, {"gram_images": 0.0})


# the table ----------------------------------------------------------------------------------------------------------


def alike(results: Path, grams: dict[tuple[str, int], Any], status: str = "ok") -> tuple[ReportData, Similarity | None]:
    """Of records that keep these entries by (loss, repetition)."""
    runs = [run(loss, repetition) for loss, repetition in grams]
    for one, entries in zip(runs, grams.values(), strict=True):
        kept = {} if entries is None else {"gram": entries}
        write(results, one, 0.5, status, diagnostics={"gram_images": 4.0 * bool(kept)}, curves=kept)
    findings = ReportData.read(results, select(runs))
    return findings, next(iter(findings.similarity.values()), None)


def test_losses_are_paired_by_repetition_and_compared_with_themselves_over_repetitions(tmp_path: Path) -> None:
    grams = {("nt_xent", 0): ENTRIES, ("nt_xent", 1): TURNED, ("clop", 0): [30, 40, 0, 0, 0, 0], ("clop", 1): ENTRIES}
    findings, found = alike(tmp_path, grams)
    assert found is not None
    assert found.images == 4
    assert found.between["clop", "nt_xent"] == found.between["nt_xent", "clop"]
    assert found.between["clop", "nt_xent"].mean == pytest.approx(0.5)  # 1 and 0
    assert found.between["clop", "nt_xent"].ci_half_width == pytest.approx(
        12.7062 / 2, rel=1e-4
    )  # t(0.975, 1) sd / sqrt(2)
    assert found.within == pytest.approx({"nt_xent": 0.0, "clop": 1.0})
    (board,) = findings.boards
    table = tables.similarity_table(board, found, ["nt_xent"])
    assert [column.name for column in table.columns] == ["loss", "CKA to nt_xent", "between repetitions"]
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["clop", "0.50 ± 6.35", "1.00"],
        ["nt_xent", "itself", "0.00"],
    ]


@pytest.mark.parametrize(
    "entries",
    [None, [], [0] * 6, [1, 2, 3], "ENTRIES", {"a": 1}, [1.5] * 6, [True] * 6, [None] * 6, [10**400] * 6, [[1]] * 6],
)
def test_what_is_no_gram_or_of_other_images_leaves_a_dash(tmp_path: Path, entries: Any) -> None:
    grams = {("nt_xent", 0): ENTRIES, ("nt_xent", 1): ENTRIES, ("clop", 0): ENTRIES, ("clop", 1): entries}
    findings, found = alike(tmp_path, grams)
    assert found is not None
    assert found.between["clop", "nt_xent"].n == 1
    assert math.isnan(found.within["clop"])
    texts = {row[0].text: [entry.text for entry in row[1:]] for row in _rows(findings, found)}
    assert texts == {"clop": ["— 1/2", "—"], "nt_xent": ["itself", "1.00"]}


def _rows(findings: ReportData, found: Similarity) -> tuple[tuple[tables.Entry, ...], ...]:
    return tables.similarity_table(findings.boards[0], found, ["nt_xent"]).rows


def test_a_loss_with_other_repetitions_is_not_paired(tmp_path: Path) -> None:
    _, found = alike(tmp_path, {("nt_xent", 0): ENTRIES, ("nt_xent", 1): ENTRIES, ("clop", 0): ENTRIES})
    assert found is not None
    assert math.isnan(found.between["clop", "nt_xent"].mean)


@pytest.mark.parametrize("entries", [None, "none of the probe's"])
def test_reports_of_suites_without_the_probe_do_not_speak_of_it(tmp_path: Path, entries: Any) -> None:
    findings, found = alike(tmp_path, {("nt_xent", r): entries for r in range(2)})
    assert found is None
    report.make(tmp_path, findings.suite)
    for name in ("leaderboard.md", "report.html", "leaderboard.csv"):
        text = (tmp_path / "made" / name).read_text("utf-8")
        assert "Alikeness" not in text
        assert "cka_" not in text


def test_a_suite_that_asks_for_it_has_the_cka_that_loops_find(
    parse: Callable[[str], Suite], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = "probes: {similarity: {images: 12}, cka: {images: 12}, linear: {}, knn: false, geometry: false}"
    parsed = parse(f"{text}{probes}\nbaseline: nt_xent\n".replace("repetitions: 1", "repetitions: 2"))
    looked: list[Tensor] = []
    original = geometry.centred_gram
    monkeypatch.setattr(geometry, "centred_gram", lambda x: looked.append(x) or original(x))
    executor, features = Executor(Machine("cpu", "data")), {}
    for one in parsed.runs:
        record, curves = executor(one)
        assert record["status"] == "ok", record["reason"]
        features[one.loss_name, one.repetition] = looked[-1]
        path = records.write(tmp_path, one, record, curves)
        assert len(records.curves_path(path).read_text("utf-8")) < 60_000

    report.make(tmp_path, SuiteSnapshot.of(parsed))
    folder = SuiteSnapshot.of(parsed).folder(tmp_path)
    rows = pd.read_csv(folder / "leaderboard.csv").set_index("loss")
    for loss in ("clop", "untrained"):
        expected = [by_loops(features[loss, r], features["nt_xent", r]) for r in range(2)]
        assert rows.loc[loss, "cka_to_baseline"] == pytest.approx(np.mean(expected), abs=0.02)  # 12 images, rounded
        half = mean_ci(expected).ci_half_width
        assert rows.loc[loss, "cka_to_baseline_half"] == pytest.approx(half, abs=0.3)
        apart = by_loops(features[loss, 0], features[loss, 1])
        assert rows.loc[loss, "cka_between_repetitions"] == pytest.approx(apart, abs=0.02)
    page, markdown = ((folder / name).read_text("utf-8") for name in ("report.html", "leaderboard.md"))
    assert "| loss | CKA to nt\\_xent | between repetitions |" in markdown
    assert "cka\\_untrained" in markdown
    for heading in ("CKA to nt_xent", "CKA to clop", "CKA to untrained"):
        assert f">{heading}<" in page.replace("_<wbr>", "_")


def test_every_column_of_the_geometry_table_is_something_that_a_probe_finds() -> None:
    found = {name for probe in PROBES for name in measure(probe, make_features()).diagnostics}
    assert tables.GEOMETRY.keys() <= found
