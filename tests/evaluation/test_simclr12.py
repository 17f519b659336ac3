"""The twelve transfers of SimCLR: each metric by plain loops or scikit-learn, and a dash where a data set is not there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cl_semisup import plugins
from cl_semisup.data.images import Images
from cl_semisup.data.multi_label import MultiLabelImages
from cl_semisup.errors import DataError, SuiteError
from cl_semisup.evaluation import Features, _several_labels
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.measures import logistic
from cl_semisup.results import protocol
from cl_semisup.scheduling import prepare
from cl_semisup.seeds import seed
from cl_semisup.suite.suite import Suite
from tests.helpers.probes import make_features, measure, other_data


def with_data(read: Callable[[Any], Images]) -> Features:
    features = make_features()
    assert features.network is not None
    return replace(features, network=replace(features.network, dataset=read))


def predictions(features: Features, data: Images, name: str) -> tuple[Tensor, Tensor]:
    """Of the linear probe on the test images, and their labels."""
    assert features.network is not None
    known = torch.from_numpy(data.train_labels) >= 0
    x, test = (features.network.features_of(images) for images in (data.train_images, data.test_images))
    y = torch.from_numpy(data.train_labels)
    split = seed("validation", name, *features.seed_key)
    tuned = logistic.tune(x[known], y[known], data.classes, share=0.2, seed=split)
    return tuned.probe.logits(test).argmax(dim=1), torch.from_numpy(data.test_labels)


def test_each_data_set_has_its_papers_metric_and_the_score_is_their_mean() -> None:
    whole = other_data()
    data = replace(whole, test_images=whole.test_images[:20], test_labels=whole.test_labels[:20])
    features = with_data(lambda named: data)
    result = measure("simclr12", features, datasets=["dtd", "flowers102"])
    guessed, truth = predictions(features, data, "dtd")
    right = [float(g == t) for g, t in zip(guessed.tolist(), truth.tolist(), strict=True)]
    assert result.diagnostics["simclr12_top1_dtd"] == pytest.approx(sum(right) / 20)
    guessed, truth = predictions(features, data, "flowers102")
    pairs = list(zip(guessed.tolist(), truth.tolist(), strict=True))
    classes = [[float(g == t) for g, t in pairs if t == c] for c in range(3)]
    mean = sum(sum(rights) / len(rights) for rights in classes) / 3
    assert result.diagnostics["simclr12_mean_per_class_flowers102"] == pytest.approx(mean)
    assert result.scores == {"simclr12": pytest.approx(sum(result.diagnostics.values()) / 2)}


def test_a_data_set_that_is_not_there_is_a_dash_with_its_reason_and_no_mean_is_given() -> None:
    def read(named: Any) -> Images:
        if "dtd" in named:
            return other_data()
        raise DataError(f"{next(iter(named))}: must be in data.")

    result = measure("simclr12", with_data(read))
    assert result.scores == {} and list(result.diagnostics) == ["simclr12_top1_dtd"]
    missing = result.curves["simclr12_missing"]
    assert len(missing) == 11 and missing["food101"] == "food101: must be in data."


def average_precision(scores: list[float], shown: list[bool]) -> float:
    """At eleven recalls, by loops."""
    ranked = [hit for _, hit in sorted(zip(scores, shown, strict=True), key=lambda pair: -pair[0])]
    points = [(sum(ranked[: n + 1]) / sum(ranked), sum(ranked[: n + 1]) / (n + 1)) for n in range(len(ranked))]
    return sum(max((p for r, p in points if r >= step / 10 - 1e-9), default=0.0) for step in range(11)) / 11


def test_average_precision_is_that_of_plain_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        scores, shown = torch.randn(15, generator=generator), torch.rand(15, generator=generator) < 0.4
        if shown.any():
            expected = average_precision(scores.tolist(), shown.tolist())
            assert _several_labels.average_precision(scores, shown) == pytest.approx(expected)
    assert _several_labels.average_precision(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([True, True, False])) == 1


def test_several_labels_are_ranked_by_a_regression_a_class_and_what_is_difficult_does_not_count() -> None:
    random = np.random.default_rng(0)
    data = other_data(count=60)
    shown = np.stack([data.train_labels == c for c in range(3)], axis=1) | (random.random((60, 3)) < 0.1)
    targets = np.where(random.random((60, 3)) < 0.1, -1, shown).astype(np.int8)
    parts = (data.train_images, np.full(60, -1), data.train_images, np.zeros(60, np.int64))
    several = MultiLabelImages(*parts, ("a", "b", "c"), train_targets=targets, test_targets=targets)
    features = with_data(lambda named: several)
    result = measure("simclr12", features, datasets=["voc2007"])
    assert features.network is not None
    x, t = features.network.features_of(data.train_images), torch.from_numpy(targets)
    scores = []
    for strength in logistic.STRENGTHS:  # one of them was chosen
        each = []
        for c in range(3):
            rows = t[:, c] >= 0
            probe = logistic.SoftmaxRegression.fit(x[rows], t[rows, c].long(), 2, strength)
            logits = probe.logits(x[rows])
            each.append(average_precision((logits[:, 1] - logits[:, 0]).tolist(), (t[rows, c] == 1).tolist()))
        scores.append(sum(each) / 3)
    found = result.diagnostics["simclr12_map_voc2007"]
    assert found > 0.6 and min(abs(found - score) for score in scores) < 1e-6


def test_the_probe_names_the_twelve_and_a_run_goes_on_without_those_that_are_missing(
    parse: Callable[[str], Suite], text: str, tmp_path: Path
) -> None:
    parsed = replace(parse(f"{text}probes: {{simclr12: true}}\n"), data_dir=str(tmp_path))
    run = parsed.runs[-1]
    names = [next(iter(named)) for named in protocol.probed_datasets(run)]
    assert len(set(names)) == 12 and {"cifar10", "voc2007", "birdsnap"} <= set(names)
    assert protocol.optional_datasets(run) == protocol.probed_datasets(run)
    reasons = prepare.missing(parsed)
    assert len(reasons) == 12 and all(f"must be in {tmp_path}" in reason for reason in reasons.values())
    prepare.check(parsed)
    prepare.datasets(parsed, list(parsed.runs))  # nothing is refused
    record, curves = Executor(Machine("cpu", str(tmp_path)))(run)
    assert record["status"] == "ok", record["reason"]
    assert "simclr12" not in record["scores"] and len(curves["simclr12_missing"]) == 12
    assert "probed_data" not in record["protocol"]["settings"]
    assert protocol.stale_parts(record) == []


def test_a_data_set_that_another_probe_needs_must_be_there(
    parse: Callable[[str], Suite], text: str, tmp_path: Path
) -> None:
    probes = "probes: {simclr12: {datasets: [mnist, dtd]}, transfer: {datasets: mnist}}\n"
    parsed = replace(parse(text + probes), data_dir=str(tmp_path))
    assert [next(iter(named)) for named in protocol.optional_datasets(parsed.runs[0])] == ["dtd"]
    with pytest.raises(DataError, match="mnist: must be in"):
        prepare.check(parsed)


def test_a_data_set_that_is_there_and_damaged_is_refused(
    parse: Callable[[str], Suite], text: str, tmp_path: Path
) -> None:
    parsed = replace(parse(f"{text}probes: {{simclr12: {{datasets: [dtd]}}}}\n"), data_dir=str(tmp_path))
    for folder in ("labels", "images"):
        (tmp_path / "dtd" / "dtd" / folder).mkdir(parents=True)
    with pytest.raises(DataError, match="dtd: its files in .* cannot be read. Got FileNotFoundError"):
        prepare.check(parsed)


def test_the_twelve_are_plugins_whose_metric_is_known() -> None:
    default = plugins.load("evaluation", "simclr12").datasets
    assert len(default) == 12 and set(default) <= set(plugins.names("datasets"))


def test_transfer_names_the_list_of_twelve(text: str, parse: Callable[[str], Suite]) -> None:
    runs = [parse(f"{text}probes: {{{probes}}}\n").runs for probes in ("transfer: simclr12", "simclr12: true")]
    assert runs[0] == runs[1] and "transfer" not in runs[0][-1].probes
    assert [next(iter(named)) for named in runs[0][-1].probes["simclr12"]["datasets"]] == list(
        plugins.load("evaluation", "simclr12").datasets
    )
    with pytest.raises(SuiteError, match="must not name simclr12 twice. Got it as a probe too. Remove one."):
        parse(f"{text}probes: {{transfer: simclr12, simclr12: {{images: 9}}}}\n")
    with pytest.raises(SuiteError, match="must be a mapping of settings. Got 'simclr'"):
        parse(f"{text}probes: {{transfer: simclr}}\n")
