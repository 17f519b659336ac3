"""Every probe: against loops in float64 or scikit-learn, in closed-form cases, and where there is little to measure."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import log_loss, normalized_mutual_info_score, top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch import Tensor, nn

from cl_semisup import evaluation, plugins
from cl_semisup.config import grid
from cl_semisup.data import formats
from cl_semisup.errors import DataError, InputError, SuiteError
from cl_semisup.evaluation import Features, _least_squares, _neighbours
from cl_semisup.evaluation.linear_sgd import LinearSGD
from cl_semisup.execution import trainer
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.measures import logistic
from cl_semisup.measures.logistic import SoftmaxRegression
from cl_semisup.results import protocol
from cl_semisup.scheduling import prepare
from cl_semisup.seeds import seed
from cl_semisup.suite import suite
from cl_semisup.suite.suite import Suite
from tests.helpers import metrics as oracles
from tests.helpers.probes import CLASSES, NEEDED, PROBES, blobs, make_features, measure, other_data

# all probes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_gives_the_scores_it_names_as_fractions(name: str) -> None:
    plugin = plugins.load("evaluation", name)
    settings = grid.defaults(plugin) | ({"layer": "both"} if "layer" in grid.annotations(plugin) else {})
    result = measure(name, make_features(), **settings)
    optional = {f"linear_top1_{group}" for group in ("head", "tail", "seen", "unseen")}
    assert result.scores.keys() <= evaluation.score_names(name, settings)
    assert evaluation.score_names(name, settings) - result.scores.keys() <= optional
    assert all(0 <= value <= 1 for value in result.scores.values())
    assert all(isinstance(v, float) and math.isfinite(v) for v in (result.scores | result.diagnostics).values())


def test_no_two_probes_give_the_same_name() -> None:
    seen: dict[str, str] = {}
    for name in PROBES:
        settings = {"layer": "both"} if "layer" in grid.annotations(plugins.load("evaluation", name)) else {}
        result = measure(name, make_features(), **settings)
        for key in result.scores | result.diagnostics | result.curves:
            assert seen.setdefault(key, name) == name


def test_only_the_cheap_probes_run_unasked() -> None:
    default = [name for name in PROBES if getattr(plugins.load("evaluation", name), "default", True)]
    assert default == ["geometry", "knn", "linear"]


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_gives_the_same_numbers_again(name: str) -> None:
    assert measure(name, make_features()) == measure(name, make_features())


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_leaves_its_input_alone(name: str) -> None:
    features = make_features()
    before = {key: value.clone() for key, value in vars(features).items() if isinstance(value, Tensor)}
    assert features.network is not None
    weights = [p.clone() for p in features.network.encoder.parameters()]
    measure(name, features)
    assert all(torch.equal(value, getattr(features, key)) for key, value in before.items())
    assert all(torch.equal(a, b) for a, b in zip(weights, features.network.encoder.parameters(), strict=True))


ON_THE_NETWORK = {  # they compute features of their own
    *("cka", "corruptions", "finetune", "lidar", "linear_augmented", "linear_layers", "shifted_test", "simclr12"),
    *("similarity", "transfer", "update_similarity"),
}
OF_FEATURES = sorted(set(PROBES) - ON_THE_NETWORK - {"spectrum"})  # which gives their variance


@pytest.mark.parametrize("power", [-33, 40])
@pytest.mark.parametrize("name", OF_FEATURES)
def test_no_number_depends_on_the_scale_of_the_features(name: str, power: int) -> None:
    features = replace(make_features(), network=None)
    stored = ("train", "test", "train_projections", "test_projections")
    scaled = {field: getattr(features, field) * 2.0**power for field in stored}
    views = tuple(view * 2.0**power for view in features.test_views)
    found, expected = measure(name, replace(features, **scaled, test_views=views, memo={})), measure(name, features)
    assert found.scores == expected.scores
    assert found.diagnostics == pytest.approx(expected.diagnostics, rel=1e-5, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("name", PROBES)
def test_hidden_labels_move_no_score_of_the_labelled_ones(name: str) -> None:
    """Neither on the test images nor where visible labels choose, in folds."""
    found = []
    for wrong in (0, 1):
        features = make_features()
        hidden = features.visible_labels < 0
        labels = torch.where(hidden, (features.train_labels + wrong) % CLASSES, features.train_labels)
        features = replace(features, train_labels=labels, memo={})
        settings = NEEDED.get(name, {})
        scores = measure(name, features).scores | evaluation.validate_by_visible_labels(features, {name: settings})
        found.append({score: value for score, value in scores.items() if evaluation.LABELLED in score})
    assert found[0] == found[1]


TRAINED = {"knn", "linear", "nearest_mean", "ridge", "loranpac", "knn_presets", "linear_sgd", "per_class"}


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_test_labels_decide_nothing_but_the_score(name: str) -> None:
    """A probe that peeked at them would beat chance on shuffled ones."""
    features = make_features(train=200, test=500)
    shuffled = torch.randint(0, CLASSES, (500,), generator=torch.Generator().manual_seed(0))
    result = measure(name, replace(features, test_labels=shuffled, memo={}))
    for score, value in result.scores.items():
        if "top5" not in score and "validation" not in score and "head" not in score and "tail" not in score:
            assert abs(value - 0.2) < 0.1, score


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(lambda e: replace(e, train=torch.ones(100, 12), test=torch.ones(60, 12)), id="constant"),
        pytest.param(lambda e: replace(e, train=torch.zeros(100, 12), test=torch.zeros(60, 12)), id="zero"),
        pytest.param(lambda e: replace(e, visible_labels=torch.full((100,), -1)), id="no label visible_labels"),
        pytest.param(
            lambda e: replace(e, train_labels=torch.full((100,), -1), visible_labels=torch.full((100,), -1)),
            id="no label",
        ),
        pytest.param(
            lambda e: replace(
                e,
                train_labels=torch.zeros(100, dtype=torch.long),
                visible_labels=torch.zeros(100, dtype=torch.long),
                test_labels=torch.zeros(60, dtype=torch.long),
                classes=1,
            ),
            id="one class",
        ),
        pytest.param(lambda e: replace(e, classes=80), id="fewer test images than classes"),
        pytest.param(lambda e: replace(e, test_labels=torch.full((60,), 4)), id="classes without test images"),
        pytest.param(
            lambda e: replace(
                e,
                train=e.train[:5],
                train_projections=e.train_projections[:5],
                train_labels=e.train_labels[:5],
                visible_labels=e.visible_labels[:5],
                network=replace(e.network, train_images=e.network.train_images[:5]),
            ),
            id="one image a class",
        ),
    ],
)
def test_where_there_is_little_to_measure_a_number_is_defined_or_left_out(
    name: str, odd: Callable[[Features], Features]
) -> None:
    features = odd(make_features())
    if name == "shifted_test" and features.classes == 1:
        with pytest.raises(InputError, match="must have no more than the run's 1 classes"):
            measure(name, features)
        return
    result = measure(name, features)
    assert all(0 <= value <= 1 for value in result.scores.values())
    assert not any(math.isinf(value) for value in result.diagnostics.values())


@pytest.mark.parametrize("part", ["train", "test", "train_projections", "test_projections", "test_views"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused_before_any_probe_sees_them(part: str, value: float) -> None:
    features = make_features()
    whole = getattr(features, part)
    spoilt = (whole[0] if part == "test_views" else whole).clone()
    spoilt[3, 2] = value
    message = rf"probes: {part}: features must be finite. Got 1 that are not, of \d+. The network has diverged."
    with pytest.raises(InputError, match=message):
        replace(features, **{part: (spoilt, whole[1]) if part == "test_views" else spoilt})


def test_features_that_are_not_finite_are_a_diverged_run_and_never_measured(
    parse: Callable[[str], Suite], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(parts: Any, **_: Any) -> trainer.loop.TrainingEnd:
        with torch.no_grad():
            next(parts.model.encoder.parameters()).fill_(math.nan)
        return trainer.loop.TrainingEnd("")

    monkeypatch.setattr(trainer.loop, "train", poison)
    record, _ = Executor(Machine("cpu", "data"))(parse(text).runs[-1])
    assert record["status"] == "diverged"
    assert "a feature after training is not finite" in record["reason"]
    assert record["scores"] == {}


def test_every_probe_runs_on_a_real_run(parse: Callable[[str], Suite], text: str) -> None:
    quick = {"loranpac": "{width: 200}", "transfer": "{datasets: glyphs, images: 200}"}
    quick |= {"shifted_test": "{datasets: digits}"}
    probes = "".join(f"  {name}: {quick.get(name, '{}')}\n" for name in PROBES)
    run = parse(f"{text}probes:\n{probes}").runs[-1]
    record, curves = Executor(Machine("cpu", "data"))(run)
    assert record["status"] == "ok", record["reason"]
    promised = {score for name, settings in run.probes.items() for score in evaluation.score_names(name, settings)}
    missing = promised - record["scores"].keys()
    assert missing == {"simclr12", *(f"linear_top1_{group}" for group in ("head", "tail", "seen", "unseen"))}
    assert len(curves["linear_per_class"]) == 10


def test_a_suite_may_only_be_ordered_by_a_score_that_its_probes_give(text: str) -> None:
    suite_text = f"{text}score: projection_knn_top1\nevaluation: {{knn: {{of: FEATURES}}}}\n"
    assert suite.parse(suite_text.replace("FEATURES", "both"), "s.yaml").score == "projection_knn_top1"
    with pytest.raises(SuiteError, match="score: unknown score 'projection_knn_top1'"):
        suite.parse(suite_text.replace("FEATURES", "features"), "s.yaml")
    with pytest.raises(SuiteError, match="score: unknown score 'nearest_mean_top1'"):
        suite.parse(f"{text}score: nearest_mean_top1\n", "s.yaml")


def test_projections_have_names_of_their_own() -> None:
    for name in ("knn", "linear", "nearest_mean", "ridge", "kmeans", "spectrum", "neural_collapse"):
        features, both = measure(name, make_features(), layer="features"), measure(name, make_features(), layer="both")
        projections = measure(name, make_features(), layer="projections")
        assert all(key.startswith("projection_") for key in projections.scores | projections.diagnostics)
        assert features.scores | projections.scores == both.scores
        swapped = replace(
            make_features(), train=make_features().train_projections, test=make_features().test_projections
        )
        as_features = measure(name, swapped, layer="features")
        assert {f"projection_{k}": v for k, v in as_features.scores.items()} == projections.scores


# other data, and the same network before training ---------------------------------------------------------------------


def test_transfer_is_the_two_probes_on_the_features_of_the_other_data() -> None:
    features = make_features()
    assert features.network is not None
    data = other_data()
    grey = 0.2989 * data.train_images[:, 0] + 0.587 * data.train_images[:, 1] + 0.114 * data.train_images[:, 2]
    small = F.interpolate(torch.from_numpy(grey.round()).float()[:, None], (4, 4), mode="bilinear", antialias=True)
    x = features.network.features(small.round().to(torch.uint8))
    result = measure("transfer", features)
    known = torch.from_numpy(data.train_labels) >= 0
    y = torch.from_numpy(data.train_labels)[known]
    own = replace(features, train=x[known], test=x[:30], train_labels=y, visible_labels=y, classes=3, memo={})
    own = replace(own, test_labels=torch.from_numpy(data.test_labels))
    assert result.scores["transfer_knn_top1"] == measure("knn", own).scores["knn_top1"]
    held_out = seed("validation", "digits", *features.seed_key)
    tuned = logistic.tune(x[known], y, 3, share=0.2, seed=held_out)
    truth = torch.from_numpy(data.test_labels)
    assert result.scores["transfer_linear_top1"] == tuned.probe.accuracy(x[:30], truth) > 0.6
    assert result.diagnostics == {
        "transfer_knn_top1_digits": result.scores["transfer_knn_top1"],
        "transfer_linear_top1_digits": result.scores["transfer_linear_top1"],
    }


def test_transfer_is_the_mean_over_the_data_sets_and_leaves_out_the_runs_own() -> None:
    features = replace(make_features(), seed_key=("digits", 0))
    alone = measure("transfer", features, datasets=["digits"])
    assert alone.scores == alone.diagnostics == {}
    both = measure("transfer", features, datasets=["digits", "mnist", "svhn"])
    assert set(both.diagnostics) == {f"transfer_{p}_top1_{d}" for p in ("linear", "knn") for d in ("mnist", "svhn")}
    knn = [both.diagnostics[f"transfer_knn_top1_{d}"] for d in ("mnist", "svhn")]
    assert both.scores["transfer_knn_top1"] == pytest.approx(np.mean(knn))


@pytest.mark.parametrize(("channels", "side"), [(1, 6), (3, 6), (1, 3), (3, 12)])
def test_images_are_fitted_to_the_encoder(channels: int, side: int) -> None:
    images = torch.from_numpy(other_data().train_images)
    result = formats.fitted(images, channels, side)
    assert result.dtype == torch.uint8
    assert result.shape == (60, channels, side, side)
    assert torch.equal(formats.fitted(images, 3, 6), images)
    assert torch.equal(formats.fitted(images[:, :1], 3, 6), images[:, :1].expand(-1, 3, -1, -1))
    if side == 6 and channels == 1:
        pixel = images[7, :, 2, 3].tolist()
        assert result[7, 0, 2, 3] == round(0.2989 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2])
    if side == 3 and channels == 1:  # antialiased: flat images stay flat
        flat = torch.full((1, 1, 6, 6), 90, dtype=torch.uint8)
        assert (formats.fitted(flat, 1, 3) == 90).all()


def test_bands_of_another_number_cannot_be_fitted() -> None:
    bands = torch.zeros(2, 5, 6, 6, dtype=torch.uint8)
    assert torch.equal(formats.fitted(bands, 5, 6), bands)
    assert formats.fitted(bands[:, :1], 5, 6).shape == (2, 5, 6, 6)
    for channels in (1, 3):
        with pytest.raises(InputError, match=f"must have 1 or {channels} channels, as the run's images. Got 5."):
            formats.fitted(bands, channels, 6)
    with pytest.raises(InputError, match=r"^unlabelled_from: images of another data set must have"):
        formats.fitted(bands, 3, 6, "unlabelled_from")


def test_transfer_kept_its_version_when_its_conversion_of_images_moved() -> None:
    assert plugins.version("evaluation", "transfer") == "33f5d37cc2"


def test_a_transfer_to_data_without_labels_says_so() -> None:
    features, data = make_features(), other_data()
    bare = replace(data, train_labels=np.full(60, -1))
    features = replace(features, network=replace(features.network, dataset=lambda named: bare))  # type: ignore[type-var]
    with pytest.raises(InputError, match=r"transfer: needs a data set with training labels. Got none."):
        measure("transfer", features)


@pytest.mark.parametrize("name", ["transfer", "cka", "corruptions"])
def test_a_probe_that_needs_the_network_says_so(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: needs the network"):
        measure(name, replace(make_features(), network=None))


def test_the_data_sets_of_probes_are_prepared_hashed_and_part_of_the_protocol(
    parse: Callable[[str], Suite], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = parse(f"{text}evaluation: {{transfer: {{datasets: [glyphs, digits], images: 50}}}}\n")
    run = parsed.runs[0]
    assert protocol.probed_datasets(run) == [
        {"glyphs": grid.defaults(plugins.load("datasets", "glyphs"))},
        {"digits": {}},
    ]
    assert {"datasets.digits", "datasets.glyphs"} <= protocol.versions(run).keys()
    prepared = []
    for name in ("digits", "glyphs"):
        plugin = plugins.load("datasets", name)
        monkeypatch.setattr(plugin, "prepare", lambda self, *_: prepared.append(type(self).__name__))
    prepare.datasets(parsed, list(parsed.runs))
    assert prepared == ["Digits", "Glyphs"]
    record, _ = Executor(Machine("cpu", "data"))(run)
    assert record["status"] == "ok", record["reason"]
    assert record["protocol"]["settings"]["probed_data"].keys() == {"digits", "glyphs"}
    assert record["scores"]["transfer_linear_top1"] == record["diagnostics"]["transfer_linear_top1_glyphs"]


def test_a_missing_data_set_of_a_probe_is_told_before_anything_runs(
    parse: Callable[[str], Suite], text: str, tmp_path: Path
) -> None:
    parsed = parse(f"{text}evaluation: {{transfer: {{datasets: [svhn]}}}}\n")
    with pytest.raises(DataError, match="svhn: must be in"):
        prepare.datasets(replace(parsed, data_dir=str(tmp_path)), list(parsed.runs))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{}", "probes.transfer: needs 'datasets' (data sets to probe on"),
        ("{datasets: []}", "probes.transfer.datasets: must not be an empty list"),
        (
            "{datasets: [mnist, mnist]}",
            "probes.transfer.datasets[1]: must name each dataset once. Got 'mnist' again",
        ),
        ("{datasets: [mnits]}", "Did you mean 'mnist'?"),
    ],
)
def test_a_fault_in_the_data_sets_of_a_probe_has_its_place(text: str, written: str, message: str) -> None:
    with pytest.raises(SuiteError) as error:
        suite.parse(f"{text}evaluation: {{transfer: {written}}}\n", "s.yaml")
    assert message in str(error.value)


def test_cka_of_an_untrained_run_is_one_and_training_moves_it(parse: Callable[[str], Suite], text: str) -> None:
    runs = parse(f"{text}probes: {{cka: {{}}}}\n").runs
    executor = Executor(Machine("cpu", "data"))
    floor, trained = (executor(run)[0]["diagnostics"] for run in (runs[0], runs[-1]))
    assert floor["cka_untrained"] == pytest.approx(1, abs=1e-6)
    assert floor["cka_untrained_unbiased"] == pytest.approx(1, abs=1e-6)
    assert 0 < trained["cka_untrained"] < 0.9999


def test_cka_is_what_loops_compute() -> None:
    features = make_features(test=9)
    assert features.network is not None
    after, before = (
        features.test.double().numpy(),
        features.network.untrained(features.network.test_images).double().numpy(),
    )
    result = measure("cka", features, images=7).diagnostics
    assert result["cka_untrained"] == pytest.approx(oracles.cka(after, before), abs=1e-9)
    rows = [0, 1, 3, 4, 5, 7, 8]  # seven of nine, evenly spaced
    k, m = after[rows] @ after[rows].T, before[rows] @ before[rows].T
    hsic = oracles.hsic_unbiased
    expected = hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))
    assert result["cka_untrained_unbiased"] == pytest.approx(expected, abs=1e-9)


# k nearest neighbours -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.1), (7, 0.07), (7, 1.0), (100, 0.1)])
def test_knn_votes_as_a_loop_does(k: int, temperature: float) -> None:
    (x, y), (xt, _) = blobs(80, noise=4), blobs(50, noise=4, seed=1)
    result = _neighbours.predict(xt.double(), x.double(), y, CLASSES, k=k, temperature=temperature)
    expected = oracles.knn(xt.double().numpy(), x.double().numpy(), y.numpy(), CLASSES, k=k, temperature=temperature)
    assert result.tolist() == expected


@pytest.mark.parametrize("k", [1, 5, 20])
def test_knn_agrees_with_scikit_learn(k: int) -> None:
    (x, y), (xt, _) = blobs(300, noise=4), blobs(200, noise=4, seed=1)
    x, xt = x.double(), xt.double()
    model = KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.1)).fit(x.numpy(), y.numpy())
    assert _neighbours.predict(xt, x, y, CLASSES, k=k, temperature=0.1).tolist() == model.predict(xt.numpy()).tolist()


def test_knn_in_chunks_is_knn() -> None:
    (x, y), (xt, _) = blobs(80, noise=4), blobs(50, noise=4, seed=1)
    whole = _neighbours.predict(xt, x, y, CLASSES, k=9, temperature=0.1)
    for chunk in (1, 7, 50):
        assert torch.equal(_neighbours.predict(xt, x, y, CLASSES, k=9, temperature=0.1, chunk=chunk), whole)


def test_more_neighbours_than_the_bank_are_the_whole_bank() -> None:
    features = make_features()
    assert measure("knn", features, k=100_000).scores == measure("knn", features, k=100).scores


def test_a_tiny_temperature_is_the_nearest_neighbour_and_does_not_overflow() -> None:
    features = make_features()
    assert measure("knn", features, k=50, temperature=1e-6).scores == measure("knn", features, k=1).scores


def test_shown_labels_are_the_bank_of_the_labelled_score() -> None:
    features = make_features()
    few = features.visible_labels >= 0
    alone = replace(
        features,
        train=features.train[few],
        train_labels=features.visible_labels[few],
        visible_labels=features.visible_labels[few],
    )
    for name in ("knn", "nearest_mean", "ridge"):
        score = next(iter(measure(name, features).scores)).removesuffix("_labelled")
        assert measure(name, features).scores[f"{score}_labelled"] == measure(name, alone).scores[score]


@pytest.mark.parametrize("name", ["knn", "linear", "nearest_mean", "ridge"])
def test_a_wrong_label_that_the_run_saw_is_learned_as_it_was_shown(name: str) -> None:
    """Every visible_labels label is that of the next class: the labelled score falls to nothing, the other stays."""
    features = make_features(train=200, test=200)
    wrong = replace(features, visible_labels=(features.train_labels + 1) % CLASSES, memo={})
    right, result = measure(name, features).scores, measure(name, wrong).scores
    assert result[f"{name}_top1"] == right[f"{name}_top1"] > 0.9
    assert result[f"{name}_top1_labelled"] < 0.05


def test_presets_are_knn_with_their_settings() -> None:
    features = make_features()
    presets = measure("knn_presets", features).scores
    assert presets["knn_lightly_top1"] == measure("knn", features, k=200, temperature=0.1).scores["knn_top1"]
    assert presets["knn_solo_learn_top1"] == measure("knn", features, k=20, temperature=0.07).scores["knn_top1"]
    authors = measure("knn", features, k=100, temperature=0.1, layer="projections").scores
    assert presets["knn_clop_authors_top1"] == authors["projection_knn_top1"]


# linear probes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-4])
def test_softmax_regression_finds_scikit_learns_minimum(strength: float) -> None:
    x, y = blobs(400, noise=5)
    x = x.double() @ torch.randn(12, 12, generator=torch.Generator().manual_seed(1)).double()  # correlated
    ours = SoftmaxRegression.fit(x, y, CLASSES, strength, tolerance=1e-9)
    scaled = ((x - x.mean(dim=0)) / x.std(dim=0, correction=0)).numpy()
    theirs = LogisticRegression(C=1 / (strength * len(x)), tol=1e-8, max_iter=10_000).fit(scaled, y.numpy())
    weight, offset = ours.weight.numpy(), ours.bias.numpy()

    def objective(w: Any, b: Any) -> float:
        logits = scaled @ w.T + b
        logits -= logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return float(-log_p[np.arange(len(y)), y.numpy()].mean() + strength / 2 * (w**2).sum())

    assert ours.converged
    assert objective(weight, offset) == pytest.approx(objective(theirs.coef_, theirs.intercept_), abs=2e-5)
    assert np.abs(weight - theirs.coef_).max() < 0.02 * np.abs(theirs.coef_).max()
    same = ours.logits(x).argmax(dim=1).numpy() == theirs.predict(scaled)
    assert same.mean() > 0.99


def test_softmax_regression_does_not_see_scale_offset_or_constant_features() -> None:
    x, y = blobs(200, noise=4)
    plain = SoftmaxRegression.fit(x, y, CLASSES, 1e-2).logits(x)
    moved = F.pad(1000 * x - 300, (0, 3), value=7.0)
    assert torch.allclose(SoftmaxRegression.fit(moved, y, CLASSES, 1e-2).logits(moved), plain, atol=1e-2)


def test_a_warm_start_ends_where_a_cold_one_does() -> None:
    x, y = blobs(300, noise=5)
    cold = SoftmaxRegression.fit(x, y, CLASSES, 1e-2)
    warm = SoftmaxRegression.fit(x, y, CLASSES, 1e-2, start=SoftmaxRegression.fit(x, y, CLASSES, 1.0).start)
    assert torch.allclose(cold.logits(x), warm.logits(x), atol=2e-2)
    again = SoftmaxRegression.fit(x, y, CLASSES, 1e-2, start=cold.start, max_iterations=1)
    assert torch.allclose(cold.logits(x), again.logits(x), atol=1e-2)


def test_a_probe_that_did_not_converge_says_so() -> None:
    result = measure("linear", make_features(), max_iterations=1)
    assert result.diagnostics["linear_converged"] == 0
    assert measure("linear", make_features()).diagnostics["linear_converged"] == 1


def test_the_penalty_is_chosen_on_held_out_images_and_the_probe_fitted_on_all() -> None:
    x, y = blobs(200, noise=6)
    tuned = logistic.tune(x, y, CLASSES, share=0.2, seed=7)
    held = torch.from_numpy(logistic.hold_out(y.numpy(), 0.2, 7))
    scores = {
        s: SoftmaxRegression.fit(x[~held], y[~held], CLASSES, s).accuracy(x[held], y[held]) for s in logistic.STRENGTHS
    }
    assert tuned.validation == max(scores.values())
    assert tuned.strength == max(s for s, value in scores.items() if value == max(scores.values()))
    whole = SoftmaxRegression.fit(x, y, CLASSES, tuned.strength)
    assert torch.allclose(tuned.probe.logits(x), whole.logits(x), atol=0.05)


def test_a_held_out_part_has_every_class_and_leaves_every_class() -> None:
    y = np.repeat(np.arange(4), [2, 3, 10, 100])
    held = logistic.hold_out(y, 0.2, 1)
    assert held is not None
    assert [int(held[y == c].sum()) for c in range(4)] == [1, 1, 2, 20]
    assert logistic.hold_out(np.array([0, 0, 1]), 0.2, 1) is None
    half = logistic.hold_out(np.array([0, 0]), 0.9, 1)
    assert half is not None
    assert half.sum() == 1


def test_one_label_a_class_leaves_nothing_to_choose_by() -> None:
    features = make_features()
    result = measure(
        "linear", replace(features, visible_labels=torch.where(torch.arange(100) < CLASSES, features.train_labels, -1))
    )
    assert result.diagnostics["linear_strength_labelled"] == logistic.DEFAULT_STRENGTH
    assert "linear_top1_validation" in result.scores


def test_the_linear_probe_is_fitted_once_for_all_probes_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    fit = SoftmaxRegression.fit.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(SoftmaxRegression, "fit", classmethod(lambda *a, **k: fits.append(1) or fit(*a, **k)))
    features = make_features()
    measure("linear", features)
    before = len(fits)
    for name in ("per_class", "perturbation", "quantisation", "corruptions"):
        measure(name, features)
    assert len(fits) == before


def test_sgd_reaches_what_a_converged_probe_reaches() -> None:
    features = make_features(train=400, test=400, **{})
    assert measure("linear_sgd", features).scores["linear_sgd_top1"] == pytest.approx(
        measure("linear", features).scores["linear_top1"], abs=0.03
    )


def test_sgd_is_torchs_sgd_on_the_same_batches() -> None:
    """A softmax head, momentum 0.9, weight decay on weights and not on biases, cosine to 0 over all steps."""
    x, y = blobs(90, noise=4)
    heads = LinearSGD(epochs=5, batch_size=32, weight_decay=0.01)._train(x, y, CLASSES, (0.3, 0.03), ("a", 0))
    for number, rate in enumerate((0.3, 0.03)):
        head = nn.Linear(12, CLASSES)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        groups = [{"params": [head.weight], "weight_decay": 0.01}, {"params": [head.bias], "weight_decay": 0.0}]
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9)
        cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / 10)) / 2)
        for epoch in range(5):
            generator = torch.Generator().manual_seed(seed("linear_sgd order", "a", 0, epoch))
            for rows in torch.randperm(90, generator=generator)[:64].split(32):
                optimizer.zero_grad()
                F.cross_entropy(head(x[rows]), y[rows]).backward()
                optimizer.step()
                cosine.step()
        assert torch.allclose(heads(x)[number], head(x), atol=1e-4)


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("count", [8, 300])  # fewer and more rows than features
def test_ridge_is_scikit_learns(strength: float, count: int) -> None:
    x, y = blobs(count, noise=4)
    x = x.double()
    (solved,) = _least_squares.ridge(x - x.mean(dim=0), y, CLASSES, (strength,))
    theirs = RidgeClassifier(alpha=strength * count).fit(x.numpy(), y.numpy())
    (q, _) = blobs(100, noise=4, seed=1)
    q = q.double()
    scores = theirs.decision_function(q.numpy())  # RidgeClassifier codes classes as -1 and 1
    assert torch.allclose(2 * solved(q - x.mean(dim=0)) - 1, torch.from_numpy(scores))


def test_least_squares_without_truncation_is_the_smallest_exact_solution() -> None:
    x, y = blobs(60, noise=4)
    x = x.double()
    result = _least_squares.truncated(x, y, CLASSES, 1.0)(x)
    expected, *_ = np.linalg.lstsq(x.numpy(), F.one_hot(y, CLASSES).double().numpy(), rcond=None)
    assert torch.allclose(result, x @ torch.from_numpy(expected))


def test_truncation_leaves_the_strongest_directions() -> None:
    x, y = blobs(60, noise=4)
    x = x.double()
    left, values, right = np.linalg.svd(x.numpy(), full_matrices=False)
    kept = (left[:, :6] * values[:6]) @ right[:6]
    expected = kept @ np.linalg.pinv(kept) @ F.one_hot(y, CLASSES).double().numpy()
    assert torch.allclose(_least_squares.truncated(x, y, CLASSES, 0.5)(x), torch.from_numpy(expected))


def test_random_features_solve_what_no_linear_probe_can() -> None:
    """Exclusive or, on the circle: opposite quarters are one class."""
    angle = torch.rand(600, generator=torch.Generator().manual_seed(0)) * 2 * math.pi
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).long()
    features = make_features(train=400, test=200)
    features = replace(
        features,
        train=x[:400],
        test=x[400:],
        train_labels=y[:400],
        visible_labels=y[:400],
        test_labels=y[400:],
        classes=2,
    )
    assert measure("linear", features).scores["linear_top1"] < 0.7
    one, all_but_one = (measure("loranpac", features, width=200, truncation=t).scores for t in (0.995, 0.005))
    assert one["loranpac_top1"] < 0.8 < all_but_one["loranpac_top1"]  # the share that is left out, of 200 directions
    result = measure("loranpac", features, width=200).scores
    assert result["loranpac_top1"] > 0.95
    assert result["ranpac_top1"] > 0.95


# means and clusters -------------------------------------------------------------------------------------------------


def test_nearest_mean_is_scikit_learns_nearest_centroid() -> None:
    features = make_features(train=200, test=200)
    u, q = F.normalize(features.train, dim=1).numpy(), F.normalize(features.test, dim=1).numpy()
    theirs = NearestCentroid().fit(u, features.train_labels.numpy()).predict(q)
    expected = float((theirs == features.test_labels.numpy()).mean())
    assert measure("nearest_mean", features).scores["nearest_mean_top1"] == expected


def test_a_class_without_labels_is_never_the_nearest_mean() -> None:
    features = make_features()
    visible_labels = torch.where(features.train_labels < 2, features.train_labels, -1)
    result = measure("nearest_mean", replace(features, visible_labels=visible_labels)).scores
    assert result["nearest_mean_top1_labelled"] <= 2 / CLASSES


def test_clusters_are_matched_one_to_one_with_classes() -> None:
    from cl_semisup.evaluation.kmeans import matched_accuracy

    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    assert matched_accuracy((labels + 1) % 3, labels) == 1
    assert matched_accuracy(np.zeros(8, dtype=int), labels) == 3 / 8
    assert matched_accuracy(np.arange(8), labels) == 3 / 8
    random = np.random.default_rng(0)
    from itertools import permutations

    for _ in range(5):
        clusters = random.integers(0, 3, 8)
        best = max(sum(p[c] == y for c, y in zip(clusters, labels, strict=True)) for p in permutations(range(3)))
        assert matched_accuracy(clusters, labels) == best / 8


def test_mutual_information_is_what_a_loop_counts() -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        a, b = random.integers(0, 4, 60), random.integers(0, 3, 60)
        assert normalized_mutual_info_score(a, b) == pytest.approx(oracles.mutual_information_share(a, b))


def test_separate_clouds_are_found_without_labels() -> None:
    features = make_features(test=200)
    tight = replace(features, test=F.one_hot(features.test_labels, 12).float() + 1e-3 * features.test)
    assert measure("kmeans", tight).scores == {"kmeans_accuracy": 1.0, "kmeans_nmi": pytest.approx(1)}
    noise = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    result = measure("kmeans", replace(features, test=noise)).scores
    assert result["kmeans_nmi"] < 0.15
    assert result["kmeans_accuracy"] < 0.45


# calibration --------------------------------------------------------------------------------------------------------


def test_calibration_error_is_what_a_loop_counts() -> None:
    from cl_semisup.evaluation.calibration import calibration_error

    p = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(dim=1)
    y = torch.randint(0, 4, (200,), generator=torch.Generator().manual_seed(1))
    for bins in (1, 2, 3, 10, 15):
        assert calibration_error(p, y, bins) == pytest.approx(oracles.calibration_error(p.numpy(), y.numpy(), bins))


def test_calibration_error_in_closed_form() -> None:
    from cl_semisup.evaluation.calibration import calibration_error

    sure = torch.tensor([[1.0, 0.0]]).repeat(10, 1)
    assert calibration_error(sure, torch.zeros(10, dtype=torch.long), 15) == 0
    assert calibration_error(sure, torch.ones(10, dtype=torch.long), 15) == 1
    half = torch.tensor([[0.5, 0.5]]).repeat(10, 1)
    assert calibration_error(half, torch.arange(10) % 2, 15) == pytest.approx(0)
    edge = torch.tensor([[0.5, 0.5], [0.75, 0.25]])  # 0.5 is the end of the first of two bins: (0, 0.5], (0.5, 1]
    assert calibration_error(edge, torch.tensor([0, 1]), 2) == pytest.approx((0.5 + 0.75) / 2)


def test_calibration_is_that_of_the_tuned_linear_probe_on_the_test_images() -> None:
    features = make_features(train=100, test=200)
    result = measure("calibration", features).diagnostics
    x, y, truth = features.train, features.train_labels, features.test_labels.numpy()
    tuned = logistic.tune(x, y, CLASSES, share=0.2, seed=seed("validation", *features.seed_key))
    p = tuned.probe.logits(features.test).softmax(dim=1).double().numpy()
    brier = np.mean([sum((p[i, c] - (c == truth[i])) ** 2 for c in range(CLASSES)) for i in range(len(p))])
    assert result["linear_ece"] == pytest.approx(oracles.calibration_error(p, truth, 15), abs=1e-6)
    assert result["linear_nll"] == pytest.approx(log_loss(truth, p / p.sum(axis=1, keepdims=True)), rel=1e-4)
    assert result["linear_brier"] == pytest.approx(brier, rel=1e-4)
    assert result["linear_confidence"] == pytest.approx(p.max(axis=1).mean(), rel=1e-5)


def test_an_overconfident_probe_is_cooled() -> None:
    """Labels are wrong for a third of the images and features are many: the probe is too sure, and scaling mends it."""
    (x, y), (xt, yt) = blobs(150, dim=60, noise=3), blobs(2000, dim=60, noise=3, seed=1)
    y = torch.where(torch.arange(150) % 3 == 0, (y + 1 + torch.arange(150) // 7 % 4) % CLASSES, y)
    features = make_features(train=150, test=2000)
    features = replace(features, train=x, test=xt, train_labels=y, test_labels=yt)
    result = measure("calibration", features).diagnostics
    assert result["linear_ece"] >= 0
    assert result["linear_brier"] <= 2
    assert result["linear_ece_scaled"] < result["linear_ece"] + 0.02


# classes in detail --------------------------------------------------------------------------------------------------


def test_per_class_accuracies_average_to_the_balanced_one() -> None:
    features = make_features(train=200, test=200)
    result = measure("per_class", features)
    of_class = result.curves["linear_per_class"]
    assert np.mean(of_class) == pytest.approx(result.scores["linear_balanced"], abs=1e-3)
    assert result.scores["linear_balanced"] == pytest.approx(measure("linear", features).scores["linear_top1"])
    assert result.scores["linear_top5"] == 1


@pytest.mark.parametrize("name", ["per_class", "linear_sgd"])
def test_top5_is_scikit_learns(name: str) -> None:
    (x, y), (xt, yt) = blobs(400, classes=20, noise=4), blobs(300, classes=20, noise=4, seed=1)
    features = replace(make_features(train=400, test=300), train=x, test=xt, train_labels=y, test_labels=yt, classes=20)
    if name == "per_class":
        tuned = logistic.tune(x, y, 20, share=0.2, seed=seed("validation", *features.seed_key))
        logits = tuned.probe.logits(xt)
        result = measure(name, features).scores["linear_top5"]
    else:
        probe = LinearSGD(epochs=3)
        result = probe.measure(features).scores["linear_sgd_top5"]
        mean, scale = x.mean(dim=0), x.std(dim=0, correction=0)
        rate = probe.measure(features).diagnostics["linear_sgd_learning_rate"]
        logits = probe._train((x - mean) / scale, y, 20, (rate,), features.seed_key)((xt - mean) / scale)[0]
    assert 0.3 < result < 1
    assert result == pytest.approx(top_k_accuracy_score(yt.numpy(), logits.numpy(), k=5))


def test_head_and_tail_are_the_thirds_of_the_classes_with_most_and_fewest_images() -> None:
    features = make_features(train=600, test=300, classes=6)
    (x, y), (xt, yt) = blobs(600, classes=6, noise=3), blobs(300, classes=6, noise=3, seed=1)
    kept = torch.rand(600, generator=torch.Generator().manual_seed(0)) < torch.tensor([1, 0.5, 0.3, 0.2, 0.1, 0.05])[y]
    features = replace(features, train=x[kept], test=xt, train_labels=y[kept], visible_labels=y[kept], test_labels=yt)
    result = measure("per_class", features)
    of_class = result.curves["linear_per_class"]
    assert result.scores["linear_top1_head"] == pytest.approx(np.mean(of_class[:2]), abs=1e-3)
    assert result.scores["linear_top1_tail"] == pytest.approx(np.mean(of_class[-2:]), abs=1e-3)


def test_seen_and_unseen_classes_are_told_apart() -> None:
    features = make_features(test=300)
    visible_labels = torch.where(features.train_labels < 3, features.train_labels, -1)
    result = measure("per_class", replace(features, visible_labels=visible_labels))
    of_class = result.curves["linear_per_class"]
    assert result.scores["linear_top1_seen"] == pytest.approx(np.mean(of_class[:3]), abs=1e-3)
    assert result.scores["linear_top1_unseen"] == pytest.approx(np.mean(of_class[3:]), abs=1e-3)


# geometry probes ----------------------------------------------------------------------------------------------------


def test_geometry_is_what_loops_compute_of_the_test_images() -> None:
    features = make_features(train=30, test=20)
    result = measure("geometry", features).diagnostics
    u, w = oracles.unit(features.test.double().numpy()), oracles.unit(features.test_projections.double().numpy())
    first, second = (oracles.unit(view.double().numpy()) for view in features.test_views)
    loops = {
        "effective_rank": oracles.effective_rank(u),
        "projection_effective_rank": oracles.effective_rank(w),
        "alignment": oracles.alignment(first, second),
        "uniformity": oracles.uniformity(u),
        "feature_std": oracles.feature_std(u),
        "projection_feature_std": oracles.feature_std(w),
    }
    assert result == pytest.approx(loops, rel=1e-4)


@pytest.mark.parametrize("prefix", ["", "projection_"])
def test_the_spectrum_is_what_loops_compute(prefix: str) -> None:
    """RankMe, alpha-ReQ and variance of raw training features; rank and uniformity of test features on the sphere."""
    features = make_features(train=40, test=20)
    result = measure("spectrum", features).diagnostics
    (feature_set,) = features.feature_sets("projections" if prefix else "features")
    z, u = feature_set.train.double().numpy(), oracles.unit(feature_set.test.double().numpy())
    loops = {
        "rankme": oracles.rank_of(np.linalg.svd(z, compute_uv=False), 1e-7),
        "alpha_req": oracles.alpha_req(z),
        "variance": np.mean([oracles.squared_distance(row, oracles.mean_row(z)) for row in z]) / z.shape[1],
        "centred_effective_rank": oracles.effective_rank(u, centred=True),
    }
    assert {name: result[prefix + name] for name in loops} == pytest.approx(loops, rel=1e-4)
    expected = oracles.wasserstein_uniformity(u)
    assert result[prefix + "wasserstein_uniformity"] == pytest.approx(expected, abs=2e-3)


def test_lidar_says_when_it_has_too_few_views() -> None:
    result = measure("lidar", make_features(), views=2, images=10).diagnostics
    assert result["lidar_samples"] == pytest.approx(10 / 12)
    assert measure("lidar", make_features(), views=8).diagnostics["lidar_samples"] > 30
    with pytest.raises(InputError, match="lidar: needs the network"):
        measure("lidar", make_features(network=None))


def test_lidar_takes_random_views_alone() -> None:
    """View 0 is the one that the other probes of views share; `views` more of them are its own."""
    features, numbers = make_features(), list[int]()
    assert features.network is not None
    view = features.network.view

    def counted(number: int) -> Tensor:
        numbers.append(number)
        return view(number)

    measure("lidar", replace(features, network=replace(features.network, view=counted)), views=3, images=10)
    assert numbers == [1, 2, 3]


def test_dimensional_and_neural_collapse_are_told_apart() -> None:
    y = torch.arange(300) % CLASSES
    means = F.pad(torch.eye(CLASSES), (0, 7)) - 0.2
    noise = torch.randn(300, 12, generator=torch.Generator().manual_seed(0))
    neural = means[y] + 0.01 * noise
    dimensional = noise[:, :1] * torch.ones(1, 12) + 0.001 * noise
    result = {}
    for name, x in (("neural", neural), ("dimensional", dimensional)):
        features = make_features(train=300, test=300)
        features = replace(
            features, train=x, test=x, train_labels=y, test_labels=y, visible_labels=y, test_views=(x, x)
        )
        result[name] = measure("geometry", features).diagnostics | measure("neural_collapse", features).diagnostics
    assert result["neural"]["nc1"] < 0.01
    assert result["dimensional"]["nc1"] > 10
    assert result["neural"]["class_separation"] > 0.9
    assert result["dimensional"]["class_separation"] < 0.1
    assert result["neural"]["effective_rank"] > 3.9
    assert result["dimensional"]["effective_rank"] < 1.5


def test_neural_collapse_leaves_out_classes_with_a_single_image() -> None:
    features = make_features(train=101)
    alone = replace(features, train_labels=torch.cat([features.train_labels[:100], torch.tensor([5])]), classes=6)
    without = replace(features, train=features.train[:100], train_labels=features.train_labels[:100])
    assert measure("neural_collapse", alone).diagnostics == measure("neural_collapse", without).diagnostics


# robustness ---------------------------------------------------------------------------------------------------------


def test_perturbations_are_matched_in_energy_and_uncorrelated_with_their_sign() -> None:
    from cl_semisup.evaluation.perturbation import CORRELATIONS, SHAPES, _matched, _noise

    z = torch.randn(2000, 32, generator=torch.Generator().manual_seed(0)) ** 3
    for shape in SHAPES:
        for correlation in CORRELATIONS:
            for decibels in (20, 5, 0):
                noise = _matched(_noise(z, shape, correlation, 1), z, decibels)
                ratio = 10 * torch.log10(z.square().sum() / noise.square().sum())
                assert float(ratio) == pytest.approx(decibels, abs=1e-3)
            size = torch.corrcoef(torch.stack([noise.abs().flatten(), z.abs().flatten()]))[0, 1]
            sign = {"none": 0, "positive": 1, "negative": -1}[correlation]
            assert float(size) == pytest.approx(0, abs=0.02) if sign == 0 else float(size) * sign > 0.2


@pytest.mark.parametrize(("shape", "kurtosis"), [("gaussian", 3.0), ("uniform", 1.8), ("sign", 1.0)])
def test_the_shapes_of_perturbations_are_told_by_their_fourth_moment(shape: str, kurtosis: float) -> None:
    from cl_semisup.evaluation.perturbation import _noise

    noise = _noise(torch.randn(2000, 32, generator=torch.Generator().manual_seed(0)), shape, "none", 1).double()
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.pow(4).mean() / noise.square().mean() ** 2) == pytest.approx(kurtosis, abs=0.1)


def test_more_noise_costs_accuracy() -> None:
    result = measure("perturbation", make_features(train=300, test=500)).diagnostics
    assert result["linear_noise_gaussian_20db"] > result["linear_noise_gaussian_0db"] + 0.1
    assert len(result) == 36


def test_quantised_values_lie_on_a_grid_no_further_than_half_a_step() -> None:
    from cl_semisup.evaluation.quantisation import quantised

    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for bits in (8, 4, 2, 1):
        for low, high in ((x.min(), x.max()), (x.amin(dim=0), x.amax(dim=0))):
            result = quantised(x, bits, low, high)
            assert float(((result - x).abs() / (high - low)).max()) <= 0.5 / (2**bits - 1) + 1e-9
            assert max(len(column.unique()) for column in result.T) <= 2**bits
    assert torch.equal(quantised(torch.ones(3), 4, torch.tensor(1.0), torch.tensor(1.0)), torch.ones(3))
    assert quantised(torch.tensor([9.0]), 8, torch.tensor(0.0), torch.tensor(1.0)).tolist() == [1.0]


def test_fewer_bits_cost_accuracy_and_eight_cost_nothing() -> None:
    features = make_features(train=300, test=500)
    result = measure("quantisation", features)
    assert result.diagnostics["linear_features_8bit"] == pytest.approx(
        measure("linear", features).scores["linear_top1"], abs=0.01
    )
    assert result.diagnostics["linear_features_2bit"] < result.diagnostics["linear_features_8bit"]
    alone = measure("quantisation", replace(features, network=None, memo={})).diagnostics
    assert not any(name.startswith("linear_weights") for name in alone)


@pytest.mark.parametrize("kind", ["noise", "blur", "contrast", "brightness"])
def test_a_corruption_of_no_strength_changes_nothing_and_a_stronger_one_more(kind: str) -> None:
    from cl_semisup.evaluation.corruptions import SEVERITIES, corrupted

    images = torch.randint(0, 256, (20, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    nothing = 1.0 if kind == "contrast" else 0.0
    assert torch.equal(corrupted(images, kind, nothing, 0), images)
    distance = [float((corrupted(images, kind, s, 0).float() - images.float()).abs().mean()) for s in SEVERITIES[kind]]
    assert 2 < distance[0] < distance[1] < distance[2]
    grey = torch.full((2, 1, 8, 8), 100, dtype=torch.uint8)
    if kind in ("blur", "contrast"):
        assert torch.equal(corrupted(grey, kind, 0.1, 0), grey), "a constant image has nothing to blur"


def test_noise_contrast_and_brightness_are_what_they_say() -> None:
    from cl_semisup.evaluation.corruptions import corrupted

    images = torch.randint(60, 200, (3, 1, 5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for image, dull, bright in zip(
        images, corrupted(images, "contrast", 0.4, 0), corrupted(images, "brightness", 0.4, 0), strict=True
    ):
        pixels = image.double().flatten().tolist()
        mean = sum(pixels) / len(pixels)
        assert dull.flatten().tolist() == [round(mean + 0.4 * (pixel - mean)) for pixel in pixels]
        assert bright.flatten().tolist() == [min(255, round(pixel + 102)) for pixel in pixels]
    grey = torch.full((50, 1, 16, 16), 128, dtype=torch.uint8)
    assert float((corrupted(grey, "noise", 0.1, 0).float() / 255).std()) == pytest.approx(0.1, abs=0.003)


def test_blur_is_torchvisions() -> None:
    from torchvision.transforms.functional import gaussian_blur

    from cl_semisup.evaluation.corruptions import corrupted

    images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ours = corrupted(images, "blur", 1 / 16, 0)  # sigma 2, radius 6
    theirs = gaussian_blur(images.float() / 255, [13, 13], [2.0, 2.0])
    assert float((ours.float() / 255 - theirs).abs().max()) < 1 / 255


def test_corruptions_need_the_network() -> None:
    with pytest.raises(InputError, match="corruptions: needs the network"):
        measure("corruptions", make_features(network=None))


@pytest.mark.parametrize("name", ["knn", "linear"])
def test_the_images_said_to_be_right_are_those_of_the_score(name: str) -> None:
    features = make_features(train=100, test=60)
    result = measure(name, features, layer="both")
    assert {score for score in result.scores if "validation" not in score} == result.right.keys()
    for score, right in result.right.items():
        assert right.shape == (60,)
        assert float(right.double().mean()) == result.scores[score]
