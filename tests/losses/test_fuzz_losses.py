"""A user's loss file may be anything: it is a loss, or the command says in words why not; a run of it is a record.

The long form: python benchmarks/fuzz.py losses
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st

from cl_semisup import cli, plugins
from cl_semisup.errors import InputError, SuiteError
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.suite import suite
from tests.helpers.fuzzing import fuzz

GOOD = '''\
from dataclasses import dataclass
from typing import Annotated
from annotated_types import Gt

@dataclass(frozen=True)
class Mine:
    """Alignment.

    Args:
        weight: of it
    """

    weight: Annotated[float, Gt(0)] = 1.0

    def __call__(self, z1, z2, labels=None):
        return self.weight * (z1 - z2).square().mean()
'''
BODY = "return self.weight * (z1 - z2).square().mean()"


@pytest.fixture(autouse=True)
def forget_plugins() -> Iterator[None]:
    before = dict(plugins._user_files)
    yield
    plugins._user_files.clear()
    plugins._user_files.update(before)
    plugins.load.cache_clear()
    plugins.version.cache_clear()


def forget() -> None:
    plugins._user_files.clear()
    plugins.load.cache_clear()
    plugins.version.cache_clear()


@st.composite
def spoilt(draw: st.DrawFn) -> str:
    source = GOOD
    for _ in range(draw(st.integers(1, 3))):
        at, width = draw(st.integers(0, len(source))), draw(st.integers(0, 6))
        source = source[:at] + draw(st.sampled_from(PIECES)) + source[at + width :]
    return source


PIECES = [
    "",
    "(",
    ")",
    ":",
    "\n",
    "    ",
    "\t",
    "\0",
    "é",
    "@",
    "None",
    "1/0",
    "raise SystemExit",
    "lambda: ",
    "int",
    "'",
    '"""',
]


@fuzz("files as losses", short=100, source=st.one_of(spoilt(), st.text(max_size=40)))
def test_any_file_is_a_loss_or_told_in_words(source: str, text_of_suite: str, tmp_path: Path) -> bool:
    forget()
    file = tmp_path / "mine.py"
    file.write_bytes(source.encode("utf-8", "surrogatepass"))
    try:
        plugins.add(file)
        suite.parse(text_of_suite, "s.yaml")
    except (InputError, SuiteError) as error:
        assert str(error)
        return False
    return True


@pytest.fixture
def text_of_suite(text: str) -> str:
    return (
        text.replace("losses: [nt_xent, clop]", "losses: mine")
        + "probes: {linear: false, geometry: false}\nscore: knn_top1\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("@dataclass", "raise SystemExit('bye')\n@dataclass", "the plug-in cannot be loaded. SystemExit: bye"),
        ("@dataclass", "while True: raise RecursionError\n@dataclass", "the plug-in cannot be loaded. RecursionError"),
        ("Annotated[float, Gt(0)]", "'Missing'", "name 'Missing' is not defined"),
        ("Annotated[float, Gt(0)]", "object()", "an annotation must say what can be checked"),
        ("= 1.0", "= -1.0", "a default breaks its own rule"),
        ("= 1.0", "= {}", "mutable default"),
        ("Gt(0)", "Gt('a')", "an annotation must say what can be checked"),
        ("@dataclass(frozen=True)\n", "", "a plug-in holds one public dataclass. Got 0"),
    ],
)
def test_a_file_that_cannot_be_a_loss_is_told(
    tmp_path: Path, text_of_suite: str, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str
) -> None:
    file, suite_file = tmp_path / "mine.py", tmp_path / "s.yaml"
    assert old in GOOD
    file.write_text(GOOD.replace(old, new, 1))
    suite_file.write_text(text_of_suite)
    code = cli.main(["check", str(suite_file), "--plugin", str(file), "--results", str(tmp_path / "results")])
    assert code == cli.BAD_INPUT
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("return None", "failed", "AttributeError"),
        ("return 1.0", "failed", "AttributeError"),
        ("return (z1 - z2).square().mean().detach()", "failed", "RuntimeError"),
        ("return (z1 - z2).square()", "failed", "RuntimeError"),
        ("return z1.mean() / 0", "diverged", "the loss is not finite at step 0, though the projections are"),
        ("raise SystemExit(3)", "failed", "SystemExit: 3"),
        ("raise KeyError('\\ud800' * 5000)", "failed", "KeyError"),
        ("z1.data.fill_(float('nan')); return z1.mean()", "diverged", "the loss is not finite"),
        ("return self(z1, z2)", "failed", "RecursionError"),
    ],
)
def test_a_loss_that_misbehaves_ends_its_run_and_not_the_benchmark(
    tmp_path: Path, text_of_suite: str, body: str, status: str, words: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(GOOD.replace(BODY, body))
    plugins.add(file)
    record, _ = Executor(Machine("cpu", "data"))(suite.parse(text_of_suite, "s.yaml").runs[-1])
    assert record["status"] == status, record["reason"]
    assert words in record["reason"]
    assert len(record["reason"]) < 2000
    record["reason"].encode()
