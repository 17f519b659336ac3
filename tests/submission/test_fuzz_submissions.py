"""A submission comes from a stranger: it is sound, or refused by the name of a rule, soon and in words.

The long form: python benchmarks/fuzz.py submissions
"""

import contextlib
import copy
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from cl_semisup import cli
from cl_semisup.data import memory_limit
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.results import leaderboard, packed, records
from cl_semisup.results.run_table import gather
from cl_semisup.submission import archive
from cl_semisup.suite import renamed, suite
from cl_semisup.suite.run import Run, canonical, digest
from tests.helpers.fuzzing import MARKS, damaged, fuzz, hidden
from tests.helpers.records import curves
from tests.results.test_fuzz_records import odd, sound, tampered

pytest.importorskip("pyarrow")

TEXT = """\
question: Is it sound?
name: sent
datasets: digits
encoder: {mlp: {width: 16, layers: 1}}
losses: nt_xent
learning_rate: 0.1
batch_size: 128
repetitions: 2
epochs: 1
validation: all
"""
RUNS = suite.parse(TEXT, "sent.yaml").runs
PACK = f"records/sent{packed.SUFFIX}"
Tamper = Callable[[dict[str, Any]], None]


def rows(tamper: Tamper = lambda _: None, own_curves: Any = None) -> list[dict[str, Any]]:
    """The rows of all runs; the last one is tampered with, and its id made right again."""
    return [packed.row(trained(run), curves(5, 5)) for run in RUNS[:-1]] + [_row(RUNS[-1], tamper, own_curves)]


def trained(run: Run) -> dict[str, Any]:
    """A sound record with the numbers that a verifier computes with."""
    record = sound(run)
    record["resolved"] |= {"steps": 12, "label_set": "0" * 12}
    record["cost"] |= {"train_seconds": 1.0, "images_per_second": 1536.0}
    record["diagnostics"] |= {"feature_std": 0.5}
    return record


def _row(run: Run, tamper: Tamper, own_curves: Any) -> dict[str, Any]:
    plain, record = packed.row(trained(run), curves(5, 5)), trained(run)
    tamper(record)
    for name in ("status", "reason", "started_at"):
        plain[name] = str(record.get(name))
    for name in packed.JSON_PARTS:
        plain[name] = json.dumps(record.get(name))
    with contextlib.suppress(ValueError):  # NaN, which no hash is of
        if isinstance(record.get("run"), dict):
            plain["run"] = canonical(asked := renamed.first_words(record["run"]))
            plain["id"] = digest(asked)
    plain["curves"] = plain["curves"] if own_curves is None else json.dumps(own_curves)
    return {name: _encodable(value) for name, value in plain.items()}


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def sent(content: dict[str, bytes], told: Any = None) -> bytes:
    """An archive of these files; the manifest tells their hashes unless it is given."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    manifest = {"format": archive.FORMAT, "suite": "sent", "package": "0", "files": hashes} if told is None else told
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in {**content, archive.MANIFEST: json.dumps(manifest).encode()}.items():
            zipped.writestr(name, data)
    return held.getvalue()


WHOLE = {archive.SUITE: TEXT.encode(), PACK: packed.to_bytes(rows())}
WHOLE_ARCHIVE = sent(WHOLE)


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 2**28)


def verified(folder: Path, content: bytes) -> bool:
    """Is the archive accepted, or its faults told as those of results and not of the file?"""
    file = folder / "sent.zip"
    file.write_bytes(content)
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        code = cli.main(["verify", str(file), "--rerun", "0"])
    assert code in (cli.OK, cli.SOME_FAILED, cli.BAD_INPUT)
    assert told.getvalue()
    assert not hidden(told.getvalue())
    assert [path.name for path in folder.iterdir()] == ["sent.zip"]
    return code == cli.OK


@fuzz(
    "submissions of records with odd values",
    short=60,
    tamper=tampered(),
    own_curves=st.none()
    | st.fixed_dictionaries({"history": st.dictionaries(st.sampled_from(["step", "loss", "knn_top1"]), odd | st.lists(odd, max_size=3), max_size=3)}),
)  # fmt: skip
def test_a_submission_of_tampered_records_is_refused_by_name(tamper: Tamper, own_curves: Any, tmp_path: Path) -> bool:
    return verified(tmp_path, sent(WHOLE | {PACK: packed.to_bytes(rows(tamper, own_curves))}))


names = st.sampled_from(
    [archive.SUITE, PACK, "records/other.parquet", "plugins/nt_xent.py", "plugins/their.py", "plugins/a b.py", "../x.py",
     "/x", "records/../../x.parquet", "records", "plugins", "x" * 300, *MARKS[:4]]
)  # fmt: skip
CONTENTS = [b"", b"\0" * 100, b"import os", WHOLE[PACK], bytes(2**24)]
contents = st.integers(0, 4).map(CONTENTS.__getitem__) | damaged(TEXT.encode())
manifests = (
    st.none()
    | odd
    | st.fixed_dictionaries(
        {
            "format": st.just(1) | odd,
            "suite": st.sampled_from(["sent", "x" * 300, "..", "", *MARKS]) | odd,
            "files": odd,
        }
    )
)


@fuzz(
    "submissions damaged, with odd members and manifests",
    short=60,
    content=damaged(WHOLE_ARCHIVE)
    | st.builds(
        lambda more, gone, told: sent({k: v for k, v in (WHOLE | more).items() if k != gone}, told),
        st.dictionaries(names, contents, max_size=2),
        st.none() | names,
        manifests,
    ),
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_damaged_submission_is_refused_by_name(content: bytes, tmp_path: Path) -> bool:
    return verified(tmp_path, content)


@fuzz("packed records: damaged, or with odd values", short=60, content=damaged(WHOLE[PACK]) | st.builds(lambda t: packed.to_bytes(rows(t)), tampered()))  # fmt: skip
def test_a_damaged_pack_is_read_whole_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> bool:
    results = tmp_path_factory.mktemp("results")
    (results / "records").mkdir()
    (results / PACK).write_bytes(content)
    try:
        leaderboard.boards(gather(results, RUNS), "linear_top1", "nt_xent")
        found = list(records.read_folder(results))
        for run in RUNS:
            records.read_curves(records.path_of(results, run))
    except (ResultsError, InputError) as error:
        assert str(results / PACK) in str(error)
        assert not hidden(str(error))
        return False
    assert len(copy.deepcopy(found)) == len(RUNS)
    return True
