"""Any text may be given as a suite: it is a suite or a list of problems with places, soon, and nothing is written.

The long form: python benchmarks/fuzz.py suites
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from cl_semisup import cli, plugins
from cl_semisup.config import grid
from cl_semisup.errors import SuiteError
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.suite import renamed, suite
from cl_semisup.suite.axes import Axes, SuiteHeader
from cl_semisup.suite.settings import LearningRate
from cl_semisup.suite.suite import Suite
from tests.helpers.fuzzing import fuzz

SOON = 20.0  # processor seconds for one text; a few milliseconds but for the first, which imports torch

KEYS = [*grid.annotations(Axes), *grid.annotations(SuiteHeader), "views", "probes", *renamed.KEYS, "lossses"]
NAMES = [name for folder in plugins.FOLDERS for name in plugins.names(folder)]
odd = st.sampled_from(
    [None, True, "", "none", "../..", "/etc/passwd", "a\0b", "\ud800", "\x1b[2J", "=1+1", "1e-4", "1_000", "0x10", ".inf",
     "<script>", "{{x}}", "~", "records", "é" * 70, -1, 0, 1, 2, 3.5, 1e308, -1e308, 10**30, float("nan"), float("inf")]
)  # fmt: skip
leaves = st.one_of(
    odd,
    st.sampled_from(NAMES),
    st.integers(-3, 300),
    st.floats(0.001, 2.0),
    st.text(max_size=8),
    st.booleans(),
    st.dates(),
    st.binary(max_size=4),
)
nodes = st.recursive(
    leaves,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(NAMES + KEYS), leaves), inside, max_size=3),
    ),
    max_leaves=6,
)
VALID: dict[str, Any] = {
    "question": "Is it checked?",
    "datasets": "digits",
    "encoder": {"mlp": {"width": 16, "layers": 1}},
    "losses": ["nt_xent", {"clop": {"base": "supcon"}}],
    "label_fraction": [0.1, 0.5],
    "learning_rate": 0.1,
    "batch_size": 128,
    "repetitions": 1,
    "epochs": 1,
    "validation": "all",
}


@st.composite
def near(draw: Callable[..., Any]) -> str:
    """A valid suite with a few keys changed, added or gone: it gets past the first checks."""
    data = dict(VALID)
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=3)):
        data[key] = draw(nodes)
    for key in draw(st.lists(st.sampled_from(list(VALID)), max_size=1)):
        data.pop(key, None)
    return _dumped(data)


@st.composite
def spoilt(draw: Callable[..., Any]) -> str:
    """A valid suite's text with characters of YAML's own put in or taken out."""
    text = _dumped(VALID)
    for _ in range(draw(st.integers(1, 4))):
        at, width = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
        piece = draw(st.sampled_from(PIECES))
        text = text[:at] + piece + text[at + width :]
    return text


LONG_NUMBERS = ["9" * 5000, "0x" + "f" * 5000, "-" + "9" * 4301, "1." + "0" * 5000, "0o" + "7" * 9000]
PIECES = [*"&*!|>%@`{}[],:?-#'\"\t\n\x00\x85\ufeff", "- ", ": ", "&a ", "*a", "<<: *a", "!!timestamp ", "!!bool ", "!!int ",
          "!!binary ", "!!set ", "!!python/object/apply:os.system ", "? ", "---\n", "...\n", "%YAML 9.9\n", "\\ud800", "[" * 60,
          "9" * 5000, "1e9999", "0o99", "\n  "]  # fmt: skip


TAGS = [
    "!!bool",
    "!!int",
    "!!float",
    "!!null",
    "!!str",
    "!!seq",
    "!!map",
    "!!value",
    "!!merge",
    "!!set",
    "!!omap",
    "!",
    "!x",
    "",
]
tagged = st.recursive(
    st.tuples(
        st.sampled_from(TAGS),
        st.sampled_from(["x", "=", "<<", "5", "0x+5000 f", "0o9", "-0x1", "1_", ".inf", "~", "''", "'5\\n'"]),
    ).map(" ".join),
    lambda inside: st.tuples(
        st.sampled_from(TAGS),
        st.one_of(
            st.lists(inside, max_size=3).map(lambda nodes: f"[{', '.join(nodes)}]"),
            st.lists(
                st.tuples(st.one_of(inside, st.sampled_from([f"{tag} =" for tag in TAGS])), inside), max_size=3
            ).map(lambda pairs: f"{{{', '.join(f'? {key} : {value}' for key, value in pairs)}}}"),
        ),
    ).map(" ".join),
    max_leaves=6,
)


@fuzz("suites with explicit YAML tags", short=200, node=tagged, key=st.sampled_from([*KEYS, "{}"]))
def test_any_node_with_any_tag_is_a_value_or_a_problem_with_its_place(node: str, key: str) -> bool:
    text = "".join(f"{k}: {v}\n" for k, v in VALID.items() if k not in (key, "losses")) + "losses: nt_xent\n"
    try:
        suite.parse(text + (f"? {node}\n: 1\n" if key == "{}" else f"{key}: {node}\n"), "s.yaml")
    except SuiteError as error:
        assert all(problem.startswith("s.yaml:") for problem in error.problems)
        return False
    return True


def _dumped(data: dict[Any, Any]) -> str:
    try:
        return yaml.safe_dump(data, allow_unicode=True)
    except (yaml.YAMLError, ValueError, UnicodeEncodeError, OverflowError, TypeError):
        return repr(data)


texts = st.one_of(near(), spoilt(), nodes.map(lambda node: _dumped({"question": node})), st.text(max_size=200))


@fuzz("texts as suites", short=200, text=texts)
def test_any_text_is_a_suite_or_a_list_of_problems(text: str) -> bool:
    began = time.process_time()
    accepted = False
    try:
        found = suite.parse(text, "s.yaml")
    except SuiteError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.startswith("s.yaml:"), problem
            problem.encode()  # it can be printed
            assert not any(mark in problem for mark in "\x00\x1b\x07"), problem
    else:
        _is_sound(found)
        accepted = True
    assert time.process_time() - began < SOON
    return accepted


def _is_sound(found: Suite) -> None:
    """A suite that passed can be stored, and its results stay in their folder."""
    assert found.runs
    assert len({run.id for run in found.runs}) == len(found.runs)
    root = Path("/results")
    assert SuiteSnapshot.of(found).folder(root).resolve().parent == root
    assert found.name.lower() not in ("records", "checkpoints", "claims")
    assert not Path(found.data_dir).is_absolute()
    assert ".." not in Path(found.data_dir).parts
    for text in (found.question, found.baseline, found.score):
        text.encode()


@fuzz(
    "files to the command `check`",
    short=10,
    share=20,
    content=st.one_of(st.binary(max_size=300), spoilt().map(lambda text: text.encode("utf-8", "surrogatepass"))),
)
def test_any_file_is_checked_without_a_traceback_and_without_writing(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> bool:
    folder = tmp_path_factory.mktemp("fuzz", numbered=True)
    (folder / "s.yaml").write_bytes(content)
    code = cli.main(["check", str(folder / "s.yaml"), "--results", str(folder / "results")])
    assert code in (cli.OK, cli.BAD_INPUT)
    assert [path.name for path in folder.iterdir()] == ["s.yaml"]
    return code == cli.OK


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("name: records", "name: must not be records, checkpoints, claims, which are taken. Got 'records'."),
        ("views: []", "views: must not be an empty list. Got []. Give at least one value."),
        ("name: Claims", "name: must not be records, checkpoints, claims, which are taken. Got 'Claims'."),
        ("data_dir: /etc", "data_dir: must be a folder inside the one where the command runs"),
        ("data_dir: ../other", "data_dir: must be a folder inside the one where the command runs"),
        ('baseline: "\\e[2J"', "must be text without control characters. Got '\\x1b'."),
        ('baseline: "\\ud800"', "must be text without control characters."),
        ("baseline: !!timestamp x", "must be valid YAML: could not determine a constructor for the tag"),
        ("download: !!bool {!!value =: x}", "expected a scalar node, but found mapping. Remove the tag."),
        ("baseline: {!!value =: x}", "could not determine a constructor for the tag 'tag:yaml.org,2002:value'"),
        ("!!merge <<: {baseline: x}", "could not determine a constructor for the tag 'tag:yaml.org,2002:merge'"),
        ("baseline: !!int '0x+5000 f'", "must look like its tag tag:yaml.org,2002:int. Got '0x+5000 f'."),
        ('baseline: !!int "5\\n"', "must look like its tag tag:yaml.org,2002:int."),
        ("0x10: 1", "must have words as keys. Got '0x10', which is int. Put it in quotes if it is a word."),
        ("~: 1", "s.yaml:10:1: must have words as keys. Got '~', which is null."),
        ("encoder: {mlp: {true: 2}}", "must have words as keys. Got 'true', which is bool."),
        ("? [!!int '0x+5000 f']\n: 1", "must be valid YAML: found unhashable key."),
        *((f"baseline: {word}", "must be a number of at most 100 characters. Got ") for word in LONG_NUMBERS),
        *((f"baseline: [{word}]", "must be a number of at most 100 characters. Got ") for word in LONG_NUMBERS),
        *((f"data_dir: {word}\nimbalance: x", "imbalance: ") for word in ("x" * 300, "x/" * 3000)),
        ("download: !!bool maybe", "must look like its tag tag:yaml.org,2002:bool. Got 'maybe'."),
    ],
)
def test_what_fuzzing_found_stays_mended(text: str, line: str, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        suite.parse(text + line + "\n", "s.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize("word", LONG_NUMBERS)
@pytest.mark.parametrize(("key", "quoted"), [("epochs", "{}"), ("learning_rate", "{}%"), ("label_noise", "0,{}; 1")])
def test_a_quoted_number_of_thousands_of_digits_is_no_number(text: str, key: str, quoted: str, word: str) -> None:
    lines = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
    with pytest.raises(SuiteError, match=f"^s.yaml:.*{key}: must be"):
        suite.parse("\n".join([*lines, f"{key}: '{quoted.format(word)}'"]), "s.yaml")


LONG_PATHS = ["x" * 5000, "x/" * 3000]


@pytest.mark.parametrize("path", [*LONG_PATHS, "."])
@pytest.mark.parametrize("dataset", [
    "image_folder: {folder: P}", "arrays: {file: P}", "features: {file: P}", "huggingface: {folder: P}",
    "image_table: {csv: P, folder: P}", "webdataset: {train: P, test: P}", "tiny_imagenet: {folder: P}",
    "cifar_c: {folder: P}",
])  # fmt: skip
def test_a_path_that_no_file_system_takes_is_told_with_its_place(text: str, dataset: str, path: str) -> None:
    with pytest.raises(SuiteError, match="^s.yaml:[0-9]+:[0-9]+: datasets") as caught:
        suite.parse(text.replace("datasets: digits", "datasets: {" + dataset.replace("P", path) + "}"), "s.yaml")
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("learning_rate", [-i for i in range(10_000)]),
        ("batch_size", range(20_000, 30_000)),
        ("losses", [f"x{i}" for i in range(10_000)]),
    ],
    ids=["leaf", "cell", "plug-in"],
)
def test_of_many_problems_the_first_fifty_and_their_number_are_shown(text: str, key: str, values: Any) -> None:
    lines = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
    began = time.process_time()
    with pytest.raises(SuiteError) as caught:
        suite.parse("\n".join([*lines, f"{key}: [{', '.join(map(str, values))}]"]), "s.yaml")
    assert time.process_time() - began < SOON
    shown = str(caught.value).splitlines()
    assert len(caught.value.problems) >= 9_999
    assert len(shown) == 52
    assert shown[-2:] == [
        f"... and {len(caught.value.problems) - 50} more.",
        f"{len(caught.value.problems)} problem(s); nothing was run.",
    ]


def test_a_name_of_a_megabyte_is_not_printed_whole() -> None:
    with pytest.raises(SuiteError) as caught:
        suite.parse(f"losses: {'x' * 900_000}\nname: {'y' * 50_000}\n", "s.yaml")
    assert len(str(caught.value)) < 20_000


def test_a_few_lines_do_not_stand_for_billions(text: str) -> None:
    many = ", ".join(str(i / 1000) for i in range(1, 1001))
    clop = f"{{clop: {{weight: [{many}], base: {{nt_xent: {{temperature: [{many}]}}}}}}}}"
    began = time.process_time()
    for old, new in (
        ("losses: [nt_xent, clop]", f"losses: {clop}"),
        ("label_fraction: 0.1\nlearning_rate: 0.1", f"label_fraction: [{many}]\nlearning_rate: [{many}]"),
        ("repetitions: 1", f"repetitions: 1000\nprojector: {{dim: [{', '.join(map(str, range(100, 300)))}]}}"),
    ):
        assert old in text
        with pytest.raises(
            SuiteError, match="must stand for at most 100,000 combinations. Got [0-9,]+. Split the suite."
        ):
            suite.parse(text.replace(old, new), "s.yaml")
    assert time.process_time() - began < SOON


def test_a_long_list_takes_no_longer_a_value_than_a_short_one() -> None:
    problems: list[grid.Problem] = []
    began = time.process_time()
    found = grid.expand([*range(1, 20_001), 1], LearningRate, ("learning_rate",), problems)
    assert time.process_time() - began < SOON / 2  # 0.1 s on a quiet machine; comparing each with each takes a minute
    assert len(found) == 20_000
    assert [problem.path for problem in problems] == [("learning_rate", 20_000)]


def test_a_suite_of_a_name_that_no_file_system_takes_is_bad_input() -> None:
    with pytest.raises(SuiteError) as caught:
        suite.read("x" * 5000)
    assert caught.value.problems[0].endswith("cannot be read: File name too long.")
