"""Which images a run has and which labels it sees: by names alone, nested, stratified, and rebuilt from a record."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_semisup import plugins
from cl_semisup.data import labels
from cl_semisup.data.labels import Subset
from cl_semisup.errors import InputError, SuiteError
from cl_semisup.evaluation import Features, ProbeResult
from cl_semisup.execution import execute
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite

CLASSES, EACH = 10, 100
TRUE = np.random.default_rng(0).permutation(np.repeat(np.arange(CLASSES), EACH)).astype(np.int64)
LONG_TAIL = {"factor": 50.0, "shape": "exponential", "order": "index"}
STEP = {"factor": 10.0, "shape": "step", "order": "index"}
NOISE = {"fraction": 0.3, "kind": "symmetric"}
MACHINE = Machine("cpu", "data")


def draw(true: labels.Labels = TRUE, dataset: str = "digits", repetition: int = 0, **axes: Any) -> Subset:
    if "per_class" not in axes:
        axes.setdefault("fraction", 0.1)
    return labels.draw(true, dataset, repetition, **axes)


def labelled(drawn: Subset) -> dict[int, int]:
    """Position in the data set -> label that the run sees."""
    seen = drawn.visible_labels >= 0
    return dict(zip(drawn.indices[seen].tolist(), drawn.visible_labels[seen].tolist(), strict=True))


def counts(positions: Any, true: labels.Labels = TRUE) -> list[int]:
    return np.bincount(true[list(positions)], minlength=CLASSES).tolist()


# budgets ------------------------------------------------------------------------------------------------------------


@given(st.floats(0.001, 1), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_a_fraction_is_of_each_class_and_at_least_one_image(fraction: float, repetition: int) -> None:
    drawn = draw(fraction=fraction, repetition=repetition)
    assert counts(labelled(drawn)) == [max(1, int(fraction * EACH + 0.5))] * CLASSES
    assert all(TRUE[i] == label for i, label in labelled(drawn).items())
    assert len(drawn.indices) == len(TRUE)


@pytest.mark.parametrize(
    "axes",
    [{}, {"imbalance": LONG_TAIL}, {"unlabelled_classes": 3}, {"noise": NOISE}, {"unlabelled_imbalance": STEP}],
    ids=str,
)
def test_larger_budgets_contain_smaller_ones_under_every_axis(axes: dict[str, Any]) -> None:
    for budgets in ([{"fraction": f} for f in (0.01, 0.05, 0.3, 1.0)], [{"per_class": n} for n in (1, 4, 25, 100)]):
        found = [labelled(draw(**budget, **axes)) for budget in budgets]
        for small, large in pairwise(found):
            assert small.items() <= large.items()
            assert len(small) < len(large)


def test_repetitions_and_data_sets_draw_differently_and_the_same_names_alike() -> None:
    one = draw()
    assert labelled(one) == labelled(draw())
    assert labelled(one).keys() != labelled(draw(repetition=1)).keys()
    assert labelled(one).keys() != labelled(draw(dataset="mnist")).keys()


def test_a_budget_that_a_class_cannot_meet_is_refused() -> None:
    with pytest.raises(InputError, match=r"labels_per_class: must fit the data; class 0 has 100 .* Got 101\. Lower it"):
        draw(per_class=101)


def test_images_without_a_true_label_stay_without() -> None:
    true = np.concatenate([TRUE, np.full(50, -1)])
    drawn = draw(true, fraction=1.0)
    assert drawn.visible_labels.tolist() == true.tolist()


# imbalance ----------------------------------------------------------------------------------------------------------


def test_an_exponential_tail_falls_by_its_factor_in_labels_and_images() -> None:
    drawn = draw(fraction=0.2, imbalance=LONG_TAIL)
    expected = [int(EACH * 50 ** (-c / 9) + 0.5) for c in range(CLASSES)]
    assert counts(drawn.indices) == expected
    assert expected[0] == 50 * expected[-1]
    assert counts(labelled(drawn)) == [max(1, int(20 * 50 ** (-c / 9) + 0.5)) for c in range(CLASSES)]


def test_a_step_leaves_half_of_the_classes_whole() -> None:
    drawn = draw(imbalance=STEP)
    assert counts(drawn.indices) == [100] * 5 + [10] * 5
    assert counts(labelled(drawn)) == [10] * 5 + [1] * 5


def test_labels_per_class_are_those_of_the_most_frequent_class() -> None:
    assert counts(labelled(draw(per_class=40, imbalance=STEP))) == [40] * 5 + [4] * 5


def test_the_unlabelled_part_may_have_a_tail_of_its_own() -> None:
    reversed_tail = LONG_TAIL | {"order": "reversed"}
    drawn = draw(per_class=2, unlabelled_imbalance=reversed_tail)
    assert counts(labelled(drawn)) == [2] * CLASSES
    assert counts(drawn.indices) == [int(EACH * 50 ** (-(9 - c) / 9) + 0.5) for c in range(CLASSES)]
    both = draw(fraction=0.2, imbalance=LONG_TAIL, unlabelled_imbalance=reversed_tail)
    assert counts(labelled(both)) == [max(1, int(20 * 50 ** (-c / 9) + 0.5)) for c in range(CLASSES)]
    assert counts(both.indices)[0] == 20, "a labelled image is kept whatever the unlabelled part looks like"


def test_a_class_whose_tail_rounds_to_nothing_keeps_one_image() -> None:
    drawn = draw(per_class=1, imbalance=LONG_TAIL | {"factor": 1e4}, unlabelled_classes=9)
    assert counts(drawn.indices)[-1] == 1
    assert min(counts(drawn.indices)) == 1


def test_an_imbalance_keeps_the_same_images_under_every_budget() -> None:
    small, large = draw(fraction=0.05, imbalance=LONG_TAIL), draw(fraction=1.0, imbalance=LONG_TAIL)
    assert small.indices.tolist() == large.indices.tolist()
    assert labelled(small).keys() <= labelled(draw(fraction=0.05)).keys()


def test_a_drawn_order_of_classes_depends_on_the_repetition() -> None:
    drawn = LONG_TAIL | {"order": "drawn"}
    rarest = {int(np.argmin(counts(draw(imbalance=drawn, repetition=r).indices))) for r in range(10)}
    assert len(rarest) > 3
    assert all(min(counts(draw(imbalance=drawn, repetition=r).indices)) == 2 for r in range(3))


def test_a_factor_of_one_is_no_imbalance() -> None:
    assert draw(imbalance=LONG_TAIL | {"factor": 1.0}).fingerprint == draw().fingerprint


# the other axes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.0, 0.5, 3.0, 1e6])
def test_an_unlabelled_ratio_limits_unlabelled_images_in_every_class(ratio: float) -> None:
    drawn = draw(per_class=10, unlabelled_ratio=ratio)
    rest = drawn.indices[drawn.visible_labels < 0]
    assert counts(labelled(drawn)) == [10] * CLASSES
    assert len(rest) == min(900, int(ratio * 100))
    assert max(counts(rest)) - min(counts(rest)) <= 1


def test_an_unlabelled_ratio_also_drops_images_without_a_true_label() -> None:
    true = np.concatenate([TRUE, np.full(1100, -1)])
    drawn = draw(true, per_class=10, unlabelled_ratio=2.0)
    rest = drawn.indices[drawn.visible_labels < 0]
    assert (true[rest] < 0).sum() == 110
    assert (true[rest] >= 0).sum() == 90


def test_unlabelled_classes_keep_their_images_and_lose_their_labels() -> None:
    for repetition in range(3):
        drawn = draw(unlabelled_classes=4, repetition=repetition)
        assert sorted(counts(labelled(drawn))) == [0] * 4 + [10] * 6
        assert counts(drawn.indices) == [EACH] * CLASSES
        three = draw(unlabelled_classes=3, repetition=repetition)
        assert set(np.flatnonzero(np.array(counts(labelled(three))) == 0)) < set(
            np.flatnonzero(np.array(counts(labelled(drawn))) == 0)
        )


def test_a_class_with_labels_must_be_left() -> None:
    with pytest.raises(InputError, match=r"unlabelled_classes: must leave a class; the data have 10. Got 10. Lower it"):
        draw(unlabelled_classes=10)
    with pytest.raises(InputError, match="label_noise: needs two classes with labels"):
        draw(unlabelled_classes=9, noise=NOISE)


def test_symmetric_noise_hits_the_asked_share_and_every_other_class() -> None:
    wrong = {i: label for i, label in labelled(draw(fraction=1.0, noise=NOISE)).items() if label != TRUE[i]}
    assert len(wrong) == pytest.approx(300, abs=45)  # three standard deviations
    turns = np.bincount([(label - TRUE[i]) % CLASSES for i, label in wrong.items()], minlength=CLASSES)
    assert turns[0] == 0
    assert turns[1:].min() > 15


def test_pair_flip_noise_goes_to_the_next_class_that_has_labels() -> None:
    noise = NOISE | {"kind": "pair_flip"}
    drawn = draw(fraction=1.0, noise=noise, unlabelled_classes=3)
    seen = np.unique(drawn.visible_labels[drawn.visible_labels >= 0])
    assert len(seen) == 7
    after = dict(zip(seen.tolist(), np.roll(seen, -1).tolist(), strict=True))
    wrong = {i: label for i, label in labelled(drawn).items() if label != TRUE[i]}
    assert wrong
    assert all(label == after[TRUE[i]] for i, label in wrong.items())


def test_more_noise_keeps_the_wrong_labels_of_less() -> None:
    clean, some, much = (labelled(draw(noise=n)) for n in (None, NOISE, NOISE | {"fraction": 0.8}))
    hit = {i for i in clean if some[i] != clean[i]}
    assert hit
    assert all(much[i] == some[i] for i in hit)
    assert labelled(draw(noise=NOISE | {"fraction": 1.0})).items().isdisjoint(clean.items())


def test_axes_compose() -> None:
    drawn = draw(
        fraction=0.5, imbalance=STEP, unlabelled_classes=2, unlabelled_ratio=1.0, noise=NOISE, unlabelled_imbalance=None
    )
    seen = labelled(drawn)
    assert len(drawn.indices) == 2 * len(seen)
    assert sum(count == 0 for count in counts(seen)) == 2
    assert sum(label != TRUE[i] for i, label in seen.items()) > 0
    assert len(set(counts(drawn.indices))) > 1


# the record ---------------------------------------------------------------------------------------------------------


def test_the_fingerprint_tells_label_sets_apart_and_only_those() -> None:
    axes: list[dict[str, Any]] = [
        {},
        {"fraction": 0.2},
        {"repetition": 1},
        {"imbalance": STEP},
        {"unlabelled_imbalance": STEP},
        {"unlabelled_ratio": 1.0},
        {"unlabelled_classes": 1},
        {"noise": NOISE},
    ]
    assert len({draw(**one).fingerprint for one in axes}) == len(axes)
    assert draw(fraction=0.1).fingerprint == draw(per_class=10).fingerprint


def test_the_fingerprint_of_a_draw_never_moves() -> None:
    """Published records name it: a change of the drawing code must not pass unseen."""
    assert draw().fingerprint == "d9c27ab19524"
    every = draw(imbalance=LONG_TAIL, unlabelled_ratio=2.0, unlabelled_classes=2, noise=NOISE)
    assert every.fingerprint == "128db92ba200"


AXES = """
imbalance: {factor: 5}
unlabelled_ratio: 2
unlabelled_classes: 2
label_noise: {fraction: 0.2, kind: pair_flip}
"""


def test_a_record_is_enough_to_draw_its_labels_again(parse: Callable[[str], Suite], text: str) -> None:
    executor = Executor(MACHINE)
    run = parse(text + AXES).runs[-1]
    record, _ = executor(run)
    assert record["status"] == "ok", record["reason"]
    drawn = labels.of_run(executor.data(run).train_labels.numpy(), record["run"])
    assert record["resolved"]["label_set"] == drawn.fingerprint
    assert record["resolved"]["train_images"] == len(drawn.indices) < 1437
    assert record["resolved"]["labelled_images"] == len(labelled(drawn))
    assert Run.from_dict(record["run"]) == run


def test_every_loss_rate_and_batch_of_a_repetition_shares_its_labels(parse: Callable[[str], Suite], text: str) -> None:
    varied = text.replace("learning_rate: 0.1", "learning_rate: [0.1, 0.3]").replace(
        "batch_size: 128", "batch_size: [64, 128]"
    )
    true = Executor(MACHINE).data(parse(text).runs[0]).train_labels.numpy()
    runs = parse(varied + AXES).runs
    assert len(runs) > 8
    assert len({labels.of_run(true, run.as_dict()).fingerprint for run in runs}) == 1


def test_a_hidden_label_changes_nothing(
    parse: Callable[[str], Suite], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scramble every label that the runs may not see: weights, and so features, stay the same to the bit."""
    found: list[Features] = []

    def watch(embedded: Features, probes: Any) -> ProbeResult:
        found.append(embedded)
        return ProbeResult()

    monkeypatch.setattr(execute.evaluation, "measure", watch)
    executor = Executor(MACHINE)
    supervised = text.replace("nt_xent, clop", "supcon, clop") + "validation: all\n"
    for run in parse(supervised).runs[-2:]:
        data = executor.data(run)
        drawn = labels.of_run(data.train_labels.numpy(), run.as_dict())
        hidden = torch.from_numpy(drawn.visible_labels < 0)
        wrong = torch.where(hidden, (data.train_labels + 3) % 10, data.train_labels)
        monkeypatch.setattr(labels, "of_run", lambda true, asked, drawn=drawn: drawn)
        executor(run)
        executor(run, replace(data, train_labels=wrong))
        monkeypatch.undo()
        monkeypatch.setattr(execute.evaluation, "measure", watch)
        first, second = found[-2:]
        assert not torch.equal(first.train_labels, second.train_labels)
        assert torch.equal(first.train_projections, second.train_projections)
        before, after = (e.network.encoder.state_dict() for e in (first, second) if e.network)
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_shown_labels_do_change_supervised_weights(parse: Callable[[str], Suite], text: str) -> None:
    """The test above could not fail if labels never mattered."""
    executor = Executor(MACHINE)
    run = parse(text.replace("nt_xent, clop", "supcon")).runs[-1]
    _, one = executor(run)
    _, other = executor(replace(run, label_noise=dict(fraction=0.9, kind="symmetric")))
    assert one["history"]["loss"] != other["history"]["loss"]


# the suite ----------------------------------------------------------------------------------------------------------


def test_an_axis_that_is_not_asked_leaves_no_trace(parse: Callable[[str], Suite], text: str) -> None:
    plain = parse(text).runs
    spelled = parse(
        text + "imbalance: none\nlabel_noise: none\nunlabelled_ratio: none\nunlabelled_classes: none\n"
    ).runs
    assert [run.id for run in plain] == [run.id for run in spelled]
    assert not {"imbalance", "label_noise", "unlabelled_ratio", "unlabelled_classes"} & plain[0].as_dict().keys()


def test_axes_are_grids_with_defaults_filled_in(parse: Callable[[str], Suite], text: str) -> None:
    runs = parse(text + "imbalance: [none, {factor: [10, 100]}]\n").runs
    asked = {repr(run.imbalance) for run in runs}
    assert asked == {
        "None",
        "{'factor': 10.0, 'shape': 'exponential', 'order': 'index'}",
        "{'factor': 100.0, 'shape': 'exponential', 'order': 'index'}",
    }


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (
            "unlabelled_classes: 10",
            "unlabelled_classes: must leave a class with labels: the data have 10. Got 10. Lower it.",
        ),
        (
            "unlabelled_classes: 9\nlabel_noise: {fraction: 0.1}",
            "unlabelled_classes: must leave two classes to confuse: the data have 10. Got 9. Lower it.",
        ),
        ("label_noise: {fraction: 0}", "label_noise.fraction: must be greater than 0"),
        ("label_noise: {kind: symmetric}", "label_noise: needs 'fraction'"),
        ("imbalance: 100", "imbalance: must be a mapping of settings. Got 100. Settings: factor, shape, order."),
        ("imbalance: {shape: linear}", "imbalance.shape: must be 'exponential' or 'step'"),
        ("unlabelled_ratio: -1", "unlabelled_ratio: must be greater than or equal to 0"),
    ],
)
def test_a_wrong_axis_is_told_before_anything_runs(
    parse: Callable[[str], Suite], text: str, axis: str, message: str
) -> None:
    with pytest.raises(SuiteError) as error:
        parse(f"{text}{axis}\n")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("axes", "named"),
    [
        ("imbalance: {factor: 100}", "imbalance"),
        ("imbalance: {factor: 50, order: drawn}", "imbalance"),
        ("unlabelled_imbalance: {factor: 20, shape: step}", "unlabelled_imbalance"),
        ("unlabelled_ratio: 1", "unlabelled_ratio"),
        ("imbalance: {factor: 30}\nunlabelled_ratio: 2\nunlabelled_classes: 3", "imbalance and unlabelled_ratio"),
    ],
)
def test_a_batch_larger_than_what_is_kept_is_told_before_anything_runs(
    parse: Callable[[str], Suite], text: str, axes: str, named: str
) -> None:
    """The number is that of the labels themselves, of the repetition that keeps fewest."""
    asked = text.replace("repetitions: 1", "repetitions: 3") + axes + "\nvalidation: all\n"
    train = plugins.load("datasets", "digits")().load(Path("data")).train_labels
    runs = parse(asked.replace("batch_size: 128", "batch_size: 2")).runs
    kept = min(len(labels.of_run(train, run.as_dict()).indices) for run in runs)
    assert parse(asked.replace("batch_size: 128", f"batch_size: {kept}"))
    with pytest.raises(SuiteError) as error:
        parse(asked.replace("batch_size: 128", f"batch_size: [2, {kept + 1}]"))
    rule = f"must not exceed the {kept} of 1437 training images that {named} keep"
    assert error.value.problems == [f"s.yaml:7:17: batch_size[1]: {rule}. Got {kept + 1}. Lower it."]


def test_a_batch_larger_than_what_is_kept_fails_in_words(parse: Callable[[str], Suite], text: str) -> None:
    run = parse(text + "unlabelled_ratio: 0\n").runs[-1]
    record, _ = Executor(MACHINE)(replace(run, batch_size=1000))
    assert record["status"] == "failed"
    kept = record["resolved"]["train_images"]
    rule = f"batch_size: must not exceed the images that imbalance and unlabelled_ratio keep, {kept}. Got 1000."
    assert rule in record["reason"]
