"""Packed records: what a file of their own says, in one file a suite."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import cl_semisup as cl
from cl_semisup.data import memory_limit
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.report import comparison, markdown
from cl_semisup.report.report_data import ReportData
from cl_semisup.results import packed, packing, records
from cl_semisup.scheduling import scheduler
from cl_semisup.suite import renamed
from cl_semisup.suite.run import Run, canonical
from tests.helpers.records import curves, run, select, write

pq = pytest.importorskip("pyarrow.parquet")
import pyarrow as pa  # noqa: E402

Folder = tuple[Path, list[Run]]


@pytest.fixture
def own(tmp_path: Path) -> Folder:
    """Three losses twice and their floor; curves beside most."""
    runs = [run(loss, r) for loss in ("nt_xent", "clop", "supcon") for r in range(2)]
    for number, one in enumerate(runs):
        kept: dict[str, Any] = {} if number == 3 else {"curves": curves(4, 3, 1 + number)}
        write(tmp_path / "own", one, 0.5 + number / 30, **kept)
    write(tmp_path / "own", runs[0].untrained(), 0.2)
    return tmp_path / "own", [*runs, runs[0].untrained()]


def pack(own: Folder, to: Path, name: str = "made") -> Path:
    return packing.pack(own[0], name, own[1], to).path


def test_a_packed_record_and_its_curves_are_those_of_its_own_file(own: Folder, tmp_path: Path) -> None:
    path = pack(own, tmp_path / "packed")
    assert path == tmp_path / "packed" / "records" / "made.parquet"
    for one in own[1]:
        alone, there = (records.path_of(folder, one) for folder in (own[0], tmp_path / "packed"))
        assert records.exists(there) and not there.exists()
        assert records.read(there) == records.read(alone)
        assert records.read_curves(there) == records.read_curves(alone)
        assert records.file_of(there) == path
        assert records.mtime(there) == path.stat().st_mtime_ns
    assert {p.name for p in records.all_paths(tmp_path / "packed")} == {p.name for p in records.all_paths(own[0])}


def test_reports_comparisons_and_notebooks_see_the_same(own: Folder, tmp_path: Path) -> None:
    pack(own, there := tmp_path / "packed")
    pages = [markdown.page(ReportData.read(folder, select(own[1]))) for folder in (own[0], there)]
    assert pages[0].replace(str(own[0]), "") == pages[1].replace(str(there), "")
    pd.testing.assert_frame_equal(cl.results(own[0]), cl.results(there), check_like=True)
    assert not scheduler.missing(there, own[1])
    assert comparison._runs(own[0]) == comparison._runs(there)


def test_the_same_records_give_the_same_bytes_also_packed_again(own: Folder, tmp_path: Path) -> None:
    first = pack(own, tmp_path / "a").read_bytes()
    os.utime(next(records.own_paths(own[0])))
    assert packing.pack(own[0], "made", own[1][::-1], tmp_path / "b").path.read_bytes() == first
    assert pack((tmp_path / "a", own[1]), tmp_path / "c").read_bytes() == first
    assert packing.unpack(tmp_path / "a", own[1], tmp_path / "d") == len(own[1])
    assert pack((tmp_path / "d", own[1]), tmp_path / "e").read_bytes() == first


def test_a_file_of_its_own_counts_before_a_packed_record(own: Folder, tmp_path: Path) -> None:
    pack(own, there := tmp_path / "packed")
    path = write(there, own[1][0], 0.9)
    assert records.read(path)["scores"]["linear_top1"] == 0.9
    assert records.read_curves(path) == {}  # and not those of the packed record
    found = {record["id"]: record["scores"]["linear_top1"] for record in records.read_folder(there)}
    assert len(found) == len(own[1]) and found[own[1][0].id] == 0.9


def test_of_two_packs_the_record_that_began_later_counts(own: Folder, tmp_path: Path) -> None:
    pack(own, there := tmp_path / "packed", "b")
    (tmp_path / "packed" / "records" / "b.parquet").rename(there / "records" / "old.parquet")
    path = records.path_of(own[0], own[1][0])
    later = json.loads(path.read_text()) | {"reason": "again", "started_at": "2027-01-01T00:00:00+00:00"}
    path.write_text(json.dumps(later))
    for name in ("a", "z"):  # before and after the old pack in the alphabet
        pack((own[0], own[1][:1]), there, name)
        assert records.read(records.path_of(there, own[1][0]))["reason"] == "again"
        (there / "records" / f"{name}.parquet").unlink()
    assert records.read(records.path_of(there, own[1][0]))["reason"] == ""


def test_files_go_only_if_the_pack_holds_them_as_they_are(own: Folder) -> None:
    results, runs = own
    path = pack(own, results)
    write(results, runs[2], 0.1)
    with pytest.raises(ResultsError, match="must hold .* as it is. Got another record. Pack again"):
        packing.remove_packed(results, runs, path)
    assert len(list(records.own_paths(results))) == len(runs)
    before = {one.id: records.read(records.path_of(results, one)) for one in runs}
    assert packing.remove_packed(results, runs, pack(own, results)) == len(runs)
    assert not list((results / "records").rglob("*.json"))
    assert {one.id: records.read(records.path_of(results, one)) for one in runs} == before


def test_records_of_a_pack_that_the_suite_no_longer_asks_for_stay_in_it(own: Folder) -> None:
    results, runs = own
    packing.remove_packed(results, runs, pack(own, results))
    assert packing.pack(results, "made", runs[:2], results).count == 2
    assert set(records.read_all(results, runs)) == {one.id for one in runs}


def test_a_suite_without_a_record_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must hold a record of the suite 'made'. Got none. Run the suite first"):
        packing.pack(tmp_path, "made", [run()], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_record_of_the_first_schema_is_packed_in_todays_words(tmp_path: Path) -> None:
    one = run(unlabelled_classes=2)
    path = write(tmp_path, one, curves={"history": {"spread": [1.0]}})
    first = json.loads(path.read_text())
    first |= {"schema": 1, "run": renamed.first_words(first["run"]), "diagnostics": {"spread": 0.5}}
    first["protocol"]["settings"] = renamed.first_words(first["protocol"]["settings"])
    path.write_text(json.dumps(first))
    pack((tmp_path, [one]), tmp_path / "packed")
    there = records.path_of(tmp_path / "packed", one)
    assert records.read(there) == records.read(path)
    assert records.read_curves(there) == {"history": {"feature_std": [1.0]}}


def test_runs_of_a_cell_are_parsed_once_and_keep_their_own_repetition() -> None:
    pack = packed.Pack(Path("."), Path("made.parquet"), {}, [], {})
    for repetition in (0, 7, 120):
        plain = run("clop", repetition).as_dict()
        assert pack.run(canonical(renamed.first_words(plain))) == (plain, "")
    assert len(pack.cells) == 1
    bad = canonical(renamed.first_words(run("clop", 1).as_dict() | {"epochs": "many"}))
    for text in (bad, bad.replace('"repetition":1', '"repetition":2')):
        assert "a run needs a whole number as 'epochs'" in pack.run(text)[1]


@pytest.mark.parametrize(
    "text",
    [
        '{"a":{"repetition":3}}',
        '{"a":{"repetition":3},"repetition":4}',
        '{"a":1,"repetition":-3}',
        '{"repetition":3.5}',
    ],
)
def test_a_repetition_that_is_not_the_runs_own_stands_for_no_cell(text: str) -> None:
    pack = packed.Pack(Path("."), Path("made.parquet"), {}, [], {})
    assert pack.run(text)[0] == json.loads(text)
    assert pack.cells == {}


def test_members_that_this_version_does_not_know_stay(tmp_path: Path) -> None:
    path = write(tmp_path, one := run())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"later": [1.5, "é"]}))
    pack((tmp_path, [one]), tmp_path / "packed")
    assert records.read(records.path_of(tmp_path / "packed", one))["later"] == [1.5, "é"]


def test_every_column_has_a_meaning_in_the_data_dictionary() -> None:
    page = (Path(__file__).parents[2] / "docs" / "records.md").read_text("utf-8")
    for name, meaning in packed.COLUMNS.items():
        assert f"| `{name}` | {meaning} |" in page


# files from strangers -----------------------------------------------------------------------------------------------


def changed(path: Path, **columns: Callable[[str], str]) -> None:
    """Write the file again with the texts of these columns changed in every row."""
    table = pq.read_table(path)
    for name, change in columns.items():
        texts = pa.array([change(text) for text in table.column(name).to_pylist()], pa.string())
        table = table.set_column(table.column_names.index(name), name, texts)
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"run": lambda text: text.replace('"learning_rate":0.1', '"learning_rate":0.2')}, "is about another run"),
        ({"id": lambda text: "0" * 12}, "is about another run than its id says"),
        ({"scores": lambda text: '{"linear_top1": 2.0}'}, "needs a fraction in [0, 1] as scores.linear_top1. Got 2.0"),
        ({"scores": lambda text: '{"linear_top1": NaN}'}, "must be a record in JSON"),
        ({"scores": lambda text: "{}, {}"}, "must have 3 measured parts. Got 4"),
        ({"cost": lambda text: "[]"}, "needs 'cost' as dict. Got list"),
        ({"other": lambda text: '{"scores": {}}'}, "the column 'other' must be a mapping of other members"),
        ({"other": lambda text: "[" * 100_000}, "is nested too deeply"),
        ({"loss": lambda text: "../../etc"}, "the column 'loss' must hold plain words. Got '../../etc'"),
        ({"loss": lambda text: "clop"}, "stands under another data set or loss than it says"),
        ({"status": lambda text: "fine"}, "needs a status of"),
    ],
)
def test_a_changed_pack_is_refused_with_what_is_wrong(
    own: Folder, tmp_path: Path, columns: dict[str, Callable[[str], str]], message: str
) -> None:
    path = pack((own[0], own[1][:1]), there := tmp_path / "packed")
    changed(path, **columns)
    with pytest.raises(ResultsError) as caught:
        list(records.read_folder(there))
    assert message in str(caught.value)
    assert str(path) in str(caught.value) and "Remove the file, or fetch it again" in str(caught.value).replace(
        "Remove it", "Remove the file"
    )


def test_what_is_no_pack_is_refused(own: Folder, tmp_path: Path) -> None:
    path = pack(own, there := tmp_path / "packed")
    whole = path.read_bytes()
    table = pq.read_table(path)
    for content in (b"", b"PAR1", whole[:-9], whole[:40] + bytes(64) + whole[104:]):
        path.write_bytes(content)
        with pytest.raises(ResultsError, match="must be packed records in Parquet"):
            list(records.read_folder(there))
    pq.write_table(table.drop_columns(["curves"]), path)
    with pytest.raises(ResultsError, match="must have the columns schema, id, "):
        list(records.read_folder(there))


@pytest.mark.parametrize("code", [-1, 2, 10**6])
def test_a_number_of_a_text_that_is_not_there_is_refused(code: int) -> None:
    codes = pa.array([0, code], pa.int32())
    column = pa.chunked_array([pa.DictionaryArray.from_arrays(codes, pa.array(["a", "b"]), safe=False)])
    with pytest.raises(ValueError, match="must name texts that are there. Got number "):
        packed._texts(column)


def test_a_pack_larger_than_the_memory_is_refused(own: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(own, there := tmp_path / "packed")
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 1000)
    with pytest.raises(ResultsError, match="must fit in half of this machine's memory, 500 bytes"):
        list(records.read_folder(there))


def test_a_link_in_a_packs_place_is_not_followed(own: Folder, tmp_path: Path) -> None:
    path = pack(own, there := tmp_path / "packed")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResultsError, match="must be packed records in Parquet"):
        list(records.read_folder(there))
