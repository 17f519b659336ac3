"""All records of a suite in one Parquet file, curves included: `<results>/records/<suite>.parquet`. docs/records.md.

A row is a record. Its parts are JSON text, so that a record comes back with every digit, and with fields that this
version does not know. Rows stand in a fixed order and the writer's settings are fixed: the same records give the same
bytes with the same version of pyarrow, and the same `content` hash in the file's metadata with any.
"""

import hashlib
import io
import json
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cl_semisup.data import memory_limit, parquet_table
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.suite import renamed
from cl_semisup.suite.run import canonical, digest_of_text
from cl_semisup.suite.run import problem as run_problem
from cl_semisup.system import files

FORMAT = "1"
SUFFIX = ".parquet"
MAX_BYTES = 512_000_000  # of a file that is read
MAX_ROWS = 200_000
GROUP_ROWS = 100  # records whose curves are unpacked together
KEPT_GROUPS = 16  # of curves in memory: a report reads the curves of one data set after those of another
JSON_PARTS = {
    "run": "what was asked: every setting, defaults included, in the words of the first version",
    "resolved": "what it became on the machine: steps, classes, labelled images, device, precision",
    "scores": "accuracies on test and validation images, fractions in [0, 1]",
    "diagnostics": "geometry of the features and facts of the probes; null where a value was not finite",
    "cost": "seconds, images a second, bytes, joules",
    "protocol": "what two scores must share to be compared, and its fingerprint",
    "versions": "of plug-in files, package, Python, torch, data and commit; the machine",
}
COLUMNS = {
    "schema": "version of the record's form; 1 had other words, since 3 every record holds what `verify` asks for",
    "id": "the first 12 hex digits of the SHA-256 of the text in `run`",
    "dataset": "name of the data set",
    "loss": "name of the loss; `untrained` for the floor",
    "status": "ok, collapsed, diverged or failed",
    "reason": "why a run is not ok",
    "started_at": "when it began: ISO 8601, UTC",
    **JSON_PARTS,
    "other": (
        "members of the record without a column: `finished_at`, when it ended (since schema 3), and those that this"
        " version does not know"
    ),
    "curves": "curves along training, spectrum, embedding plot; empty if they were not kept",
}
TEXTS = tuple(COLUMNS)[1:]
REPEATED = ("dataset", "loss", "status", "reason", "resolved", "protocol", "versions", "other")  # stored once a group
SHARED = ("resolved", "protocol", "versions", "other")  # equal texts become one value, which nobody changes
MEASURED = ("scores", "diagnostics", "cost")
_REPETITION = re.compile(r'"repetition":(0|[1-9]\d{0,8})(?=[,}])')
Row = dict[str, Any]
_dumps = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode


def path_of(results: Path, suite: str) -> Path:
    """Where the packed records of a suite lie."""
    return results / "records" / f"{suite}{SUFFIX}"


def row(record: Row, curves: Row) -> Row:
    """A record and its curves as the values of COLUMNS."""
    own = {name: record[name] for name in ("schema", "id", "status", "reason")}
    own |= {"started_at": str(record.get("started_at", ""))}
    own |= {name: next(iter(record["run"][name])) for name in ("dataset", "loss")}
    own |= {name: _dumps(record[name]) for name in JSON_PARTS}
    own["run"] = canonical(renamed.first_words(record["run"]))
    own["other"] = _dumps({name: value for name, value in record.items() if name not in COLUMNS})
    own["curves"] = _dumps(curves) if curves else ""
    return {name: own[name] for name in COLUMNS}


def to_bytes(rows: Iterable[Row]) -> bytes:
    """The file of these rows."""
    pa, pq = _pyarrow()
    ordered = sorted(rows, key=lambda one: (one["dataset"], one["loss"], one["id"]))
    metadata = {"format": FORMAT, "content": content_hash(ordered)}
    columns = [pa.array([one[name] for one in ordered], _type(name)) for name in COLUMNS]
    schema = pa.schema([pa.field(name, _type(name), nullable=False) for name in COLUMNS], metadata=metadata)
    content = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=schema),
        content,
        row_group_size=GROUP_ROWS,
        version="2.6",
        compression="zstd",
        compression_level=12,
        use_dictionary=list(REPEATED),
        write_statistics=False,
        write_page_checksum=True,
        store_schema=False,
    )
    return content.getvalue()


def content_hash(rows: Sequence[Row]) -> str:
    """16 hex digits of the rows in their order."""
    digest = hashlib.sha256()
    for one in rows:
        digest.update(_dumps(one).encode() + b"\n")
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Packed:
    """One row of a pack."""

    pack: "Pack"
    number: int

    @property
    def id(self) -> str:
        return self.pack.texts["id"][self.number]

    def is_in_place(self, run: dict[str, Any]) -> bool:
        """Are the columns of data set and loss those of the run?"""
        return all(self.pack.texts[name][self.number] in run[name] for name in ("dataset", "loss"))

    @property
    def started_at(self) -> str:
        return self.pack.texts["started_at"][self.number]

    @property
    def record_length(self) -> int:
        """Characters of the record's JSON."""
        return sum([len(self.pack.texts[name][self.number]) for name in (*JSON_PARTS, "other")])

    def record(self) -> Row:
        """The record as its own file has it; ValueError if a part is no JSON.

        Parts of SHARED, and what is inside of `run`, must not be changed: other records have them too.
        """
        texts, number = self.pack.texts, self.number
        if digest_of_text(run := texts["run"][number]) != self.id:
            raise ValueError("is about another run than its id says")
        found: Row = {"schema": self.pack.schemas[number], "run": self.pack.run(run)[0]}
        measured = f"[{','.join([texts[name][number] for name in MEASURED])}]"  # one text is parsed faster than three
        values = files.parse_json(measured.encode())
        if len(values) != len(MEASURED):
            raise ValueError(f"must have {len(MEASURED)} measured parts. Got {len(values)}")
        found |= zip(MEASURED, values, strict=True)
        for name in ("id", "status", "reason", "started_at"):
            found[name] = texts[name][number]
        for name in SHARED:
            found[name] = self.pack.shared(texts[name][number])
        other = found.pop("other")
        if not isinstance(other, dict) or not other.keys().isdisjoint(COLUMNS):
            raise ValueError("the column 'other' must be a mapping of other members")
        return found | other if other else found

    def run(self) -> tuple[Row, str]:
        """The run's settings and the first rule that they break, or ""; ValueError if they are no JSON."""
        return self.pack.run(self.pack.texts["run"][self.number])

    def curves(self, limit: int) -> Any:
        """Its curves of at most `limit` bytes; {} if none were kept. OSError or ValueError if they cannot be read."""
        text = self.pack.curves_dumps(self.number)
        if len(text) > limit:
            raise ValueError(f"{len(text)} bytes, more than the {limit} that are read")
        return files.parse_json(text.encode()) if text else {}


@dataclass
class Pack:
    """A packed file: all texts of its records, and curves when they are asked for."""

    results: Path
    path: Path
    metadata: dict[str, str]
    schemas: list[int]
    texts: dict[str, list[str]]
    parsed: dict[str, Any] = field(default_factory=dict, repr=False)
    cells: dict[str, tuple[Row, str]] = field(default_factory=dict, repr=False)
    _curves: "OrderedDict[int, tuple[int, list[str]]]" = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def read(cls, results: Path, path: Path) -> "Pack":
        """ResultsError says what is wrong with the file."""
        try:
            return cls._read(results, path)
        except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MemoryError, InputError) as error:
            cause = error.strerror or str(error) if isinstance(error, OSError) else str(error) or "too little memory"
            rule = "must be packed records in Parquet"
            raise ResultsError(f"{path}: {rule}: {cause}. Remove it, or fetch it again.") from None

    @classmethod
    def _read(cls, results: Path, path: Path) -> "Pack":
        with files.open_below(results, path, MAX_BYTES) as file:
            opened = _opened(file, path)
            _require_memory(opened, path)
            names = [name for name in TEXTS if name != "curves"]
            table = opened.read(columns=["schema", *names])
            metadata = {key.decode(): value.decode() for key, value in (opened.metadata.metadata or {}).items()}
        schemas = table.column("schema").to_pylist()
        pack = cls(results, path, metadata, schemas, {name: _texts(table.column(name)) for name in names})
        for name in ("dataset", "loss", "id"):
            if wrong := next((text for text in pack.texts[name] if not _is_word(text, name)), None):
                raise ValueError(f"the column {name!r} must hold plain words. Got {wrong!r:.60}")
        if (again := Counter(pack.names())) and max(again.values()) > 1:
            raise ValueError(f"must hold each record once. Got {max(again, key=again.__getitem__)} again")
        return pack

    def row(self, number: int) -> Row:
        """The values of COLUMNS of one record."""
        texts = {name: texts[number] for name, texts in self.texts.items()}
        own = texts | {"schema": self.schemas[number], "curves": self.curves_dumps(number)}
        return {name: own[name] for name in COLUMNS}

    def shared(self, text: str) -> Any:
        """The value of a text that many rows share."""
        if text not in self.parsed:
            self.parsed[text] = files.parse_json(text.encode())
        return self.parsed[text]

    def run(self, text: str) -> tuple[Row, str]:
        """A run's settings in today's words, and the first rule that they break; ValueError if the text is no JSON.

        The runs of a cell differ in their repetition only, so one text of a cell is parsed and checked for all.
        """
        numbers = _REPETITION.findall(text)
        if len(numbers) != 1 or text.count('"repetition"') != 1:
            return _run(text)
        repetition = int(numbers[0])
        cell = _REPETITION.sub('"repetition":?', text)
        if cell not in self.cells:
            run, problem = _run(text)
            if run.get("repetition") != repetition:  # it is a setting of something else
                return run, problem
            self.cells[cell] = run, problem
        run, problem = self.cells[cell]
        return run | {"repetition": repetition}, problem

    def names(self) -> Iterator[str]:
        columns = (self.texts[name] for name in ("dataset", "loss", "id"))
        return (f"records/{dataset}/{loss}/{run}.json" for dataset, loss, run in zip(*columns, strict=True))

    def curves_dumps(self, number: int) -> str:
        for group, (first, kept) in self._curves.items():
            if first <= number < first + len(kept):
                self._curves.move_to_end(group)
                return kept[number - first]
        with files.open_below(self.results, self.path, MAX_BYTES) as file:
            opened = _opened(file, self.path)
            first, group = 0, 0
            while number >= first + (size := opened.metadata.row_group(group).num_rows):
                first, group = first + size, group + 1
            _require_memory(opened, self.path, [group])
            table = opened.read_row_group(group, columns=["id", "curves"])
        if _texts(table.column("id")) != self.texts["id"][first : first + size]:
            raise OSError("has changed since its records were read")
        self._curves[group] = (first, _texts(table.column("curves")))
        while len(self._curves) > KEPT_GROUPS:
            self._curves.popitem(last=False)
        return self._curves[group][1][number - first]


def _is_word(text: str, column: str) -> bool:
    return len(text) <= 200 and (text.isidentifier() if column != "id" else text.isalnum() and text.isascii())


def _opened(file: Any, path: Path) -> Any:
    """A file of our columns."""
    pa, pq = _pyarrow()
    try:
        opened = pq.ParquetFile(file, read_dictionary=list(TEXTS), page_checksum_verification=True)
    except KeyError as error:
        raise ValueError(f"must have the columns {', '.join(COLUMNS)}. Got none of the name {error}") from None
    there, wanted = opened.schema_arrow, set(COLUMNS)
    if {*there.names} != wanted or len(there.names) != len(wanted):
        raise ValueError(f"must have the columns {', '.join(COLUMNS)}. Got {', '.join(there.names)[:300]}")
    for name in COLUMNS:
        kind = there.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if kind != _type(name):
            raise ValueError(f"the column {name!r} must be {_type(name)}. Got {kind}")
    metadata = opened.metadata
    if metadata.num_rows > MAX_ROWS:
        raise ValueError(f"must have at most {MAX_ROWS} rows. Got {metadata.num_rows}")
    return opened


def _require_memory(opened: Any, path: Path, groups: Sequence[int] | None = None) -> None:
    """DataError unless these groups of rows fit in the memory, as their pages say."""
    size = sum(parquet_table.claimed_bytes(opened, path, groups).values())
    memory_limit.require(size, str(path), "Pack fewer records.")


def _texts(column: Any) -> list[str]:
    """Equal texts of a chunk are one object, so that a small file cannot fill the memory."""
    if column.null_count:
        raise ValueError("must have a value in every row. Got an empty one")
    found: list[str] = []
    for chunk in column.chunks:
        words, codes = chunk.dictionary.to_pylist(), np.from_dlpack(chunk.indices)  # to_numpy would import pandas
        if len(codes) and not 0 <= codes.min() <= codes.max() < len(words):
            raise ValueError(f"must name texts that are there. Got number {codes.max()} of {len(words)}")
        found += [words[code] for code in codes]
    return found


def _run(text: str) -> tuple[Row, str]:
    run = renamed.upgrade(_run_settings(text))
    return run, run_problem(run, upgraded=True)


def _run_settings(text: str) -> Any:
    """A run's settings. A key that is there twice is no fault of a text that has the right hash."""
    try:
        return files.parse_json(content) if files.may_overflow(content := text.encode()) else _decode(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def _type(name: str) -> Any:
    pa, _ = _pyarrow()
    return pa.int32() if name == "schema" else pa.string()


def _pyarrow() -> tuple[Any, Any]:
    """Only here, and only where a file is packed or read."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ResultsError("Packed records (.parquet) need the package pyarrow: pip install pyarrow.") from None
    return pyarrow, pyarrow.parquet
