"""Everything about a suite is checked before anything runs, and told with its place, rule, value and remedy."""

import fnmatch
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from PIL import Image

from cl_semisup import plugins
from cl_semisup.cli import init
from cl_semisup.config import yaml_source
from cl_semisup.config.shown import short
from cl_semisup.errors import SuiteError
from cl_semisup.suite import schema, suite
from cl_semisup.suite.run import UNTRAINED, Run
from cl_semisup.suite.suite import Suite

Parse = Callable[[str], Suite]
ROOT = Path(__file__).parents[2]
DESCENTS = ROOT / "suites" / "collapse.yaml"  # the gate's, with keys of its own
SHIPPED = [*sorted(set((ROOT / "suites").glob("*.yaml")) - {DESCENTS}), ROOT / "tests" / "tiny.yaml"]


def problems(parse: Parse, text: str) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        parse(text)
    return caught.value.problems


def test_every_list_is_a_grid(parse: Parse, text: str) -> None:
    many = text.replace("learning_rate: 0.1", "learning_rate: [0.1, 1e-3]").replace("[nt_xent, clop]", "nt_xent")
    many = many.replace("label_fraction: 0.1", "label_fraction: [0.1, 1]").replace("repetitions: 1", "repetitions: 2")
    runs = [run for run in parse(many).runs if run.epochs]
    assert len(runs) == 2 * 2 * 2
    assert {run.learning_rate for run in runs} == {0.1, 0.001}
    assert len({run.id for run in runs}) == len(runs)


def test_nested_settings_are_grids_too(parse: Parse, text: str) -> None:
    nested = "losses:\n  - clop: {weight: [0.1, 1], base: [nt_xent, {supcon: {temperature: [0.1, 0.5]}}]}"
    runs = [run for run in parse(text.replace("losses: [nt_xent, clop]", nested)).runs if run.epochs]
    assert len(runs) == 2 * 3
    assert runs[0].loss["clop"]["base"] == {"nt_xent": {"temperature": 0.5}}


def test_a_run_id_is_what_was_asked_with_defaults_filled_in(parse: Parse, text: str) -> None:
    spelled = (
        text.replace("nt_xent, clop", "{nt_xent: {temperature: 0.5}}, clop") + "optimizer: {sgd: {momentum: 0.9}}\n"
    )
    assert [run.id for run in parse(spelled).runs] == [run.id for run in parse(text).runs]
    other = parse(text.replace("nt_xent, clop", "{nt_xent: {temperature: 0.4}}, clop"))
    assert [run.id for run in other.runs] != [run.id for run in parse(text).runs]


def test_a_run_survives_its_record(parse: Parse, text: str) -> None:
    for run in parse(text).runs:
        assert Run.from_dict(json.loads(json.dumps(run.as_dict()))).id == run.id


def test_one_untrained_floor_goes_with_all_cells_of_a_task(parse: Parse, text: str) -> None:
    many = text.replace("learning_rate: 0.1", "learning_rate: [0.1, 1]").replace("repetitions: 1", "repetitions: 2")
    floors = [run for run in parse(many).runs if run.loss_name == UNTRAINED]
    assert len(floors) == 2
    assert all(run.epochs == 0 and run.learning_rate is None for run in floors)


def test_the_data_sets_own_views_are_the_default_and_can_be_changed(parse: Parse, text: str) -> None:
    assert parse(text).runs[-1].views["rotation"] == 15
    changed = parse(text + "views: {rotation: 3}\n").runs[-1].views
    assert changed["rotation"] == 3
    assert changed["zoom"] == 0.15


def test_a_suite_changes_and_drops_probes(parse: Parse, text: str) -> None:
    run = parse(text + "score: knn_top1\nprobes: {knn: {k: 20}, linear: false}\n").runs[-1]
    assert run.probes["knn"] == {"k": 20, "temperature": 0.1, "layer": "features"}
    assert "linear" not in run.probes
    assert "geometry" in run.probes


OLD_WORDS = """\
unseen_classes: 2
label_noise: [{fraction: 0.1, kind: class_dependent}, {fraction: 0.2, kind: [symmetric, class_dependent]}]
evaluation:
  knn: {of: both, k: 20}
"""
NEW_WORDS = """\
unlabelled_classes: 2
label_noise: [{fraction: 0.1, kind: pair_flip}, {fraction: 0.2, kind: [symmetric, pair_flip]}]
probes:
  knn: {layer: both, k: 20}
"""


def test_old_words_are_accepted_and_told_with_their_places(parse: Parse, text: str) -> None:
    old, new = parse(text + OLD_WORDS), parse(text + NEW_WORDS)
    assert old.runs == new.runs
    assert new.notes == ()
    assert old.notes == (
        "s.yaml:10:1: 'unseen_classes' is now called 'unlabelled_classes'; the old word still works.",
        "s.yaml:11:37: 'class_dependent' is now called 'pair_flip'; the old word still works.",
        "s.yaml:11:89: 'class_dependent' is now called 'pair_flip'; the old word still works.",
        "s.yaml:12:1: 'evaluation' is now called 'probes'; the old word still works.",
        "s.yaml:13:9: 'of' is now called 'layer'; the old word still works.",
    )


def test_a_loss_keeps_its_own_setting_of(parse: Parse, text: str) -> None:
    found = parse(text.replace("[nt_xent, clop]", "[{koleo: {of: projections}}]"))
    assert found.notes == ()
    assert found.runs[-1].loss["koleo"]["of"] == "projections"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluation: {knn: {k: 2}}\nprobes: {knn: {k: 2}}", "10:1: evaluation: is now called 'probes'. Got both."),
        ("unlabelled_classes: 2\nunseen_classes: 2", "11:1: unseen_classes: is now called 'unlabelled_classes'. Got"),
        ("probes: {knn: {layer: both, of: both}}", "10:29: probes.knn.of: is now called 'layer'. Got both."),
        ("evaluation: {knn: {layer: both, of: both}}", "10:33: evaluation.knn.of: is now called 'layer'. Got both."),
    ],
)
def test_an_old_and_a_new_word_for_one_thing_are_refused(parse: Parse, text: str, line: str, message: str) -> None:
    assert [problem for problem in problems(parse, f"{text}{line}\n") if problem.startswith(f"s.yaml:{message}")]


def test_a_problem_below_an_old_word_keeps_its_place(parse: Parse, text: str) -> None:
    (problem,) = problems(parse, text + "evaluation:\n  knn: {of: nothing}\n")
    assert problem.startswith("s.yaml:11:13: probes.knn.layer: must be 'features', 'projections' or 'both'")


MESSAGES = [
    (
        "losses: [nt_xent, clop]",
        "losses: [nt_xent, dhell]",
        "s.yaml:4:19: losses[1]: unknown loss 'dhell'. Did you mean 'dhel'?",
    ),
    ("epochs: 1", "epocs: 1", "s.yaml:9:1: epocs: unknown key 'epocs'. Did you mean 'epochs'?"),
    ("learning_rate: 0.1", "learning_rate: [0.1, -1]", "s.yaml:6:22: learning_rate[1]: must be greater than 0"),
    ("learning_rate: 0.1", "learning_rate: fast", "s.yaml:6:16: learning_rate: must be a valid number"),
    ("learning_rate: 0.1", "learning_rate: .inf", "s.yaml:6:16: learning_rate: must be a finite number"),
    ("label_fraction: 0.1", "label_fraction: 0", "s.yaml:5:17: label_fraction: must be greater than 0"),
    ("label_fraction: 0.1", "label_fraction: 1.5", "s.yaml:5:17: label_fraction: must be less than or equal to 1"),
    ("batch_size: 128", "batch_size: 1", "s.yaml:7:13: batch_size: must be greater than or equal to 2"),
    ("epochs: 1", "epochs: 1.5e0", "s.yaml:9:9: epochs: must be a valid integer"),
    ("epochs: 1", "epochs: 1e400", "s.yaml:9:9: epochs: must be"),
    ("batch_size: 128", "batch_size: 64.5", "s.yaml:7:13: batch_size: must be a valid integer"),
    ("batch_size: 128", 'batch_size: "64"', "s.yaml:7:13: batch_size: must be a valid integer"),
    ("batch_size: 128", "batch_size: true", "s.yaml:7:13: batch_size: must be a valid integer"),
    (
        "batch_size: 128",
        "batch_size: [64, 2000]",
        "s.yaml:7:18: batch_size[1]: must not exceed the data: digits has 1437 training images. Got 2000. Lower it.",
    ),
    ("batch_size: 128", "batch_size: [64, 64]", "s.yaml:7:18: batch_size[1]: must name each value once. Got 64 again"),
    (
        "losses: [nt_xent, clop]",
        "losses: [nt_xent, {nt_xent: {temperature: 0.5}}]",
        "s.yaml:4:19: losses[1]: must name each",
    ),
    (
        "losses: [nt_xent, clop]",
        "losses: [{nt_xent: {temprature: 1}}]",
        "s.yaml:4:21: losses[0].nt_xent.temprature: unknown key",
    ),
    ("losses: [nt_xent, clop]", "losses: {nt_xent: {}, clop: {}}", "s.yaml:4:9: losses: must be the name of one loss"),
    ("losses: [nt_xent, clop]", "losses: []", "s.yaml:4:9: losses: must not be an empty list"),
    ("epochs: 1", "label: 3\nepochs: 1", "s.yaml:9:1: label: unknown key 'label'."),
    ("question: Is it checked?\n", "", "s.yaml:1:1: suite: needs 'question'"),
    ("question: Is it checked?", "question: [a, b]", "s.yaml:1:11: question: must be one value, not a grid."),
    ("epochs: 1", "epochs: 1\nname: ../../etc", "s.yaml:10:7: name: must be 1 to 64 letters"),
    ("epochs: 1", "epochs: 1\nlabels_per_class: 2", "s.yaml:10:1: labels_per_class: must stand alone"),
    (
        "label_fraction: 0.1",
        "labels_per_class: 500",
        "s.yaml:5:19: labels_per_class: must fit every class: the smallest has 125",
    ),
    ("epochs: 1", "epochs: 1\nbaseline: dhel", "s.yaml:10:11: baseline: unknown loss of this suite 'dhel'."),
    ("epochs: 1", "epochs: 1\nscore: knn", "s.yaml:10:8: score: unknown score 'knn'."),
    ("epochs: 1", "epochs: 1\nprobes: {kmn: {}}", "s.yaml:10:10: probes: unknown probe 'kmn'."),
    (
        "epochs: 1",
        "epochs: 1\nprojector: {dim: 4}",
        "s.yaml:4:19: losses[1]: clop: orthonormal prototypes need at least",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), MESSAGES, ids=[m[2][:60] for m in MESSAGES])
def test_a_problem_says_where_rule_value_and_remedy(parse: Parse, text: str, old: str, new: str, message: str) -> None:
    assert old in text
    assert any(problem.startswith(message) for problem in problems(parse, text.replace(old, new))), problems(
        parse, text.replace(old, new)
    )


def test_orthonormal_prototypes_for_more_classes_than_dimensions_point_to_the_alternatives(
    parse: Parse, text: str
) -> None:
    (problem,) = problems(parse, text + "projector: {dim: 4}\n")
    assert (
        "Got classes=10, dim=4. Set projector dim >= 10, or prototypes: simplex_etf (dim >= 9) or random_unit."
        in problem
    )


def test_all_problems_are_told_at_once_in_the_order_of_the_file(parse: Parse, text: str) -> None:
    broken = text.replace("0.1", "-1").replace("128", "1").replace("epochs: 1", "epocs: 1")
    lines = [int(problem.split(":")[1]) for problem in problems(parse, broken)]
    assert lines == sorted(lines)
    assert len(lines) == 5  # fraction, rate, batch, the unknown key, and the missing epochs


def test_numbers_are_those_of_yaml_1_2(parse: Parse, text: str) -> None:
    runs = parse(
        text.replace("learning_rate: 0.1", "learning_rate: 1e-3").replace("batch_size: 128", "batch_size: 064")
    ).runs
    assert runs[-1].learning_rate == 0.001
    assert runs[-1].batch_size == 64


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("", "s.yaml:1:1: must not be empty."),
        ("- a\n- b\n", "s.yaml:1:1: must be a mapping of keys. Got list."),
        ("question: [a", "s.yaml:1:13: must be valid YAML:"),
        ("question: a\nquestion: b\n", "s.yaml:2:1: duplicate key 'question' (first on line 1)."),
        ("question: !!python/name:os.system x\n", "s.yaml:1:11: must be valid YAML: could not determine a constructor"),
        ("question: &a [*a]\n", "s.yaml:1:11: must not contain itself"),
        ("a: \x00", "s.yaml:1:1: must be valid YAML: unacceptable character"),
        ("? [a, b]\n: 1\n", "s.yaml:1:3: must be valid YAML: found unhashable key"),
    ],
)
def test_broken_yaml_is_told_with_its_place(parse: Parse, broken: str, message: str) -> None:
    assert problems(parse, broken)[0].startswith(message)


def test_an_alias_bomb_is_refused_quickly(parse: Parse) -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    bomb += "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert "must stay under 100000 values with aliases expanded" in problems(parse, bomb)[0]


def test_ten_thousand_cells_expand_in_seconds(parse: Parse, text: str) -> None:
    import time

    rates = ", ".join(str(i / 1000) for i in range(1, 101))
    many = text.replace("learning_rate: 0.1", f"learning_rate: [{rates}]").replace("repetitions: 1", "repetitions: 50")
    began = time.perf_counter()
    assert len({run.id for run in parse(many).runs}) == 100 * 2 * 50 + 50
    assert time.perf_counter() - began < 30  # about 1 s; a quadratic step would take minutes


# collapse.yaml trains no network and has keys of its own; the gate's tests read it
SHIPPED = [p for p in sorted((ROOT / "suites").rglob("*.yaml")) if p != ROOT / "suites" / "collapse.yaml"]
SHIPPED.append(ROOT / "tests" / "tiny.yaml")


def test_suites_that_come_along_are_valid_and_name_the_schema(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "grey.png")
    for folder in ("imagenet", "imagenet100"):  # folders of images are looked at when a suite is read
        for part, count in (("train", 2100), ("val", 1)):  # at least a batch of 4,096
            for name in ("cat", "dog"):
                (tmp_path / folder / part / name).mkdir(parents=True)
                for i in range(count):
                    os.link(tmp_path / "grey.png", tmp_path / folder / part / name / f"{i}.png")
    for path in SHIPPED:
        first = path.read_text().splitlines()[0]
        named = path.parent / first.removeprefix("# yaml-language-server: $schema=")
        assert named.resolve() == (ROOT / "suites" / "suite.schema.json").resolve(), path
        needs_folder = "image_folder" in path.read_text()
        assert suite.read(path, str(tmp_path) if needs_folder else None).runs


def test_an_experiment_on_free_embeddings_is_sent_to_the_gate() -> None:
    with pytest.raises(SuiteError, match=r"collapse.yaml:2:1: descents: belongs to the gate.* Do `benchmark.py gate "):
        suite.read(DESCENTS)


def test_the_committed_schema_is_current() -> None:
    committed = json.loads((ROOT / "suites" / "suite.schema.json").read_text())
    assert committed == json.loads(json.dumps(schema.schema())), "python benchmark.py schema > suites/suite.schema.json"


def test_editors_accept_what_comes_along_and_mark_what_is_wrong(text: str) -> None:
    checks = jsonschema.Draft202012Validator(schema.schema())
    checks.check_schema(checks.schema)
    for path in SHIPPED:
        assert checks.is_valid(yaml_source.parse(path.read_text(), str(path)).data), path
    for old, new in (
        ("nt_xent, clop", "dhell"),
        ("epochs: 1", "epocs: 1"),
        ("128", "1"),
        ("fraction: 0.1", "fraction: 2"),
    ):
        assert not checks.is_valid(yaml_source.parse(text.replace(old, new), "s.yaml").data), new


def test_the_zoo_names_every_loss() -> None:
    runs = suite.read(ROOT / "suites" / "zoo.yaml").runs
    assert {run.loss_name for run in runs} - {UNTRAINED} == set(plugins.names("losses"))


def test_a_whole_number_may_be_written_as_a_power_of_ten(parse: Callable[[str], Suite], text: str) -> None:
    plain = parse(text.replace("epochs: 1", "epochs: 10"))
    for number in ("1e1", "10.0", "+1.0e+1"):
        assert parse(text.replace("epochs: 1", f"epochs: {number}")).runs == plain.runs
    assert all(type(run.epochs) is int for run in plain.runs)
    with pytest.raises(SuiteError, match="must name each value once"):
        parse(text.replace("epochs: 1", "epochs: [10, 1e1]"))


@pytest.mark.parametrize(
    ("schedule", "place"),
    [
        ("schedule: {warmup_epochs: 10}", ": schedule.warmup_epochs: "),
        ("schedule: [{warmup_epochs: 0.5}, {warmup_epochs: 1e1}]", ": schedule[1].warmup_epochs: "),
        ("schedule: {decay: constant, warmup_epochs: 0.75}", ": schedule.warmup_epochs: "),
    ],
)
def test_a_warm_up_that_is_cut_is_told(parse: Callable[[str], Suite], text: str, schedule: str, place: str) -> None:
    notes = parse(f"{text}{schedule}\n").notes
    assert len(notes) == 1
    assert place in notes[0]
    assert re.match(r"s\.yaml:\d+:\d+: ", notes[0])
    assert "half of the training, here 0.5 of 1 epochs" in notes[0]
    assert not parse(f"{text}schedule: {{warmup_epochs: 0.5}}\n").notes


@pytest.mark.parametrize(
    ("fraction", "places"),
    [("0.004", []), ("0.003", [""]), ("[1e-9, 0.1]", ["[0]"]), ("[0.003, 0.001]", ["[0]", "[1]"])],
)
def test_a_budget_of_less_than_one_label_a_class_is_told(
    parse: Callable[[str], Suite], text: str, fraction: str, places: list[str]
) -> None:
    notes = parse(text.replace("label_fraction: 0.1", f"label_fraction: {fraction}")).notes
    assert len(notes) == len(places)
    for note, place in zip(notes, places, strict=True):
        assert f": label_fraction{place}: is less than one image of 10 of 10 classes; one of each has its label" in note


@pytest.mark.parametrize(("k", "told"), [("1437", 0), ("1438", 1), ("[10, 9999]", 1)])
def test_more_neighbours_than_images_are_told(parse: Callable[[str], Suite], text: str, k: str, told: int) -> None:
    notes = parse(f"{text}probes: {{knn: {{k: {k}}}}}\n").notes
    assert len(notes) == told
    assert all(": probes.knn.k: there are 1437 training images with a label, and all of them vote." in n for n in notes)


@pytest.mark.parametrize(
    ("key", "node", "told"),
    [
        ("losses", "simclr", "Did you mean 'nt_xent'?"),
        ("losses", "SimCLR", "Did you mean 'nt_xent'?"),
        ("losses", "InfoNCE", "Did you mean 'info_nce'?"),
        ("losses", "MoCo-v2", "Did you mean 'moco_v2'?"),
        ("losses", "BarlowTwins", "Did you mean 'barlow_twins'?"),
        ("losses", "nt_xent, clop", "Write [nt_xent, clop]."),
        ("losses", "nt_xent supcon clop", "Write [nt_xent, supcon, clop]."),
        ("losses", "nt_xent, clopp", "--plugin FILE"),
        ("datasets", "CIFAR-10", "Did you mean 'cifar10'?"),
        ("datasets", "digits, glyphs", "Write [digits, glyphs]."),
        ("encoder", "ResNet-18", "Did you mean 'resnet18'?"),
        ("optimizer", "{sgd: {Momentum: 0.9}}", "Did you mean 'momentum'?"),
        ("probes", "{k-NN: true}", "Did you mean 'knn'?"),
        ("epochs", "\uff12", "Write 2, without quotes."),  # another digit two
        ("epochs", "'1e1'", "Write 1e1, without quotes."),
        ("epochs", "1,000", "Write 1000, without quotes."),
        ("epochs", "1,00", "Got '1,00'. Change it."),
        ("learning_rate", "0,125", "Write 0.125, without quotes."),
    ],
)
def test_what_is_nearly_right_is_met_with_what_is_meant(
    parse: Callable[[str], Suite], text: str, key: str, node: str, told: str
) -> None:
    others = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
    (problem,) = problems(parse, "\n".join([*others, f"{key}: {node}"]))
    assert told in problem


@pytest.mark.parametrize(
    ("line", "got", "meant"),
    [
        ("probes: {knn: no}", "no", "false"),
        ("probes: {linear: 0}", 0, "false"),
        ("probes: {knn: 'false'}", "false", "false"),
        ("probes: {geometry: None}", "None", "false"),
        ("probes: {kmeans: 1}", 1, "true"),
        ("projector: {last_norm: 0.0}", 0, "false"),
        ("projector: {last_norm: null}", None, "false"),
        ("projector: {last_norm: '1'}", "1", "true"),
        ("projector: {norm: false}", False, "none"),
        ("keep: 'FALSE'", "FALSE", "none"),
        ("unlabelled_from: 0", 0, "none"),
        ("schedule: {warmup_epochs: off}", "off", "0"),
        ("download: On", "On", "true"),
        ("download: n", "n", "false"),
        ("probes: {knn: YES}", "YES", "true"),
        ("keep: no", "no", "none"),
        ("label_noise: Off", "Off", "none"),
        ("imbalance: N", "N", "none"),
        ("scenario: off", "off", "none"),
    ],
)
def test_what_means_yes_or_no_is_met_with_the_word_to_write(
    parse: Callable[[str], Suite], text: str, line: str, got: object, meant: str
) -> None:
    with pytest.raises(SuiteError, match=f"Got {short(got)}.*Write `{meant}`."):
        parse(f"{text}{line}\n")


def test_a_list_of_probes_is_met_with_the_mapping_that_is_meant(parse: Callable[[str], Suite], text: str) -> None:
    with pytest.raises(
        SuiteError, match=r"probes: must be a mapping of probes. Got .*Write {knn: true, linear: true}."
    ):
        parse(f"{text}probes: [knn, linear]\n")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [  # what a user of `init` gets wrong, with the place, what stands there and what to do
        ("label_fraction: 0.05", "label_fraction: 5%", "15:17: * Got '5%'. Write 0.05, without quotes."),
        ("[0.1, 0.5]", "0,1", "16:16: * Got '0,1'. Write 0.1, without quotes."),
        ("[0.1, 0.5]", "0.1, 0.5", "16:16: * Got '0.1, 0.5'. Write [0.1, 0.5], without quotes."),
        ("batch_size: 128", "batch_size: '128'", "17:13: * Got '128'. Write 128, without quotes."),
        (
            "batch_size: 128",
            "batch_size: \uff11\uff12\uff18",
            "17:13: * Got '\uff11\uff12\uff18'. Write 128, without quotes.",
        ),
        ("batch_size: 128", "batch_size: '12.5'", "17:13: * Got '12.5'. Change it."),
        ("label_fraction: 0.05", "label_fraction: 500%", "15:17: * Got '500%'. Change it."),
        ("  - supcon", "  - supcon: 0.1", "9:13: * Got 0.1. Settings: temperature. Write {temperature: 0.1}."),
        ("  - supcon", "  - supcon: warm", "9:13: * Got 'warm'. * such as {temperature: 0.1}, or leave it out."),
        (
            "epochs: 8",
            "epochs: 8\nlabel_noise: 0.2",
            "20:14: * Got 0.2. Settings: fraction, kind. Write {fraction: 0.2}.",
        ),
        ("digits ", "{image_folder: pets} ", "4:26: * nested. Write {folder: 'pets'}."),
        ("  - supcon", "   - supcon", "9:4: * Got '- supcon'. Indent the line like those that it belongs to."),
        ("epochs: 8", "epochs: 8\n\tkeep: all", "20:1: * Got 'keep: all'. Indent with spaces, not with tabs."),
        ("losses: ", "losses ", "6:1: * Got 'losses *'. Put a colon and a space after the key."),
        ("[0.3, 1]}", "[0.3, 1]", "12:1: * Close the bracket of line 10, or put a comma between its values."),
        ("epochs: 8", "epochs: 8\nname: [a", "21:1: * Got the end of the text. Close the bracket of line 20, or *"),
        ("epochs: 8", "epochs: 8\nname: 'a", "21:1: * Got the end of the text. Close the quote of line 20."),
        ("5 % of", "5 %: of", "2:19: * Put the text in quotes if the colon belongs to it, or begin a new line."),
        ("epochs: 8", "epochs: 8\nname: @mine", "20:7: * Got 'name: @mine'. Put the text in quotes."),
    ],
)
def test_a_wrong_edit_of_the_wizard_s_file_is_told_with_what_to_do(
    parse: Callable[[str], Suite], old: str, new: str, told: str
) -> None:
    assert old in init.SUITE
    (problem,) = problems(parse, init.SUITE.replace(old, new, 1))
    assert fnmatch.fnmatchcase(problem.replace("[", "<"), f"s.yaml:{told}".replace("[", "<")), problem


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("epochs: 1", "epochs: yes"),  # YAML 1.2 has no truth value that would do there
        ("losses: [nt_xent, clop]", "losses: yes"),
        ("losses: [nt_xent, clop]", "losses: [nt_xent, {clop: no}]"),
        ("datasets: digits", "datasets: on"),
        ("epochs: 1", "epochs: 1\nvalidation: no"),
        ("epochs: 1", "epochs: 1\nkeep: yes"),
        ("epochs: 1", "epochs: 1\nschedule: off"),
    ],
)
def test_no_truth_value_is_advised_where_none_is_asked_for(
    parse: Callable[[str], Suite], text: str, old: str, new: str
) -> None:
    with pytest.raises(SuiteError) as told:
        parse(text.replace(old, new))
    assert "Write `" not in str(told.value)


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ("probes: {knn: []}", "probes.knn: * Got []. * Write `true` or `false`."),
        (
            "probes: {linear: null, knn: [[]]}",
            "probes.knn: * Got [[]]. * Write what differs from the defaults, such as {k: *",
        ),
        ("probes: no", "probes: * Got 'no'. * Write {name: false} for a default that shall not run, *"),
        ("views: false", "views: * Got false. * Write what differs from the defaults, such as {crop_area: *"),
        ("views: [{}, null, [no]]", "views[2]: * Got ['no']. * Write what differs from *"),
        ("schedule: no", "schedule: * Got 'no'. * such as {scaling: 'linear'}, or leave it out."),
        ("schedule: {decay: [true, null]}", "schedule.decay[0]: * Got true. Change it."),
        ("optimizer: {sgd: [false]}", "optimizer.sgd: * Got [false]. * such as {momentum: 0.9}, or leave it out."),
        ("published: {nt_xent: null}", "published: * Got {nt_xent: null}. Write `- {loss: ...}`."),
    ],
)
def test_what_is_no_mapping_is_told_in_yaml_s_words(
    parse: Callable[[str], Suite], text: str, new: str, told: str
) -> None:
    problem = problems(parse, f"{text}\n{new}\n")[0]
    assert fnmatch.fnmatchcase(problem.replace("[", "<"), f"s.yaml:*: {told}".replace("[", "<")), problem


def test_a_base_of_no_loss_is_called_none(parse: Callable[[str], Suite], text: str) -> None:
    with pytest.raises(SuiteError, match=r"losses\[1\].clop.base: unknown loss 'no'.*Write `none`."):
        parse(text.replace("losses: [nt_xent, clop]", "losses: [nt_xent, {clop: {base: no}}]"))
