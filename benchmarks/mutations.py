"""Plants faults in the code, one at a time: do the tests of the fault's own room find it?

    python benchmarks/mutations.py                      100 faults outside the losses; a second call goes on
    python benchmarks/mutations.py --again              those that were not caught, once more
    python benchmarks/mutations.py --rooms gate data    of these rooms alone
    python benchmarks/mutations.py --table              the table of what is known, without a run

A fault is one small change of one expression or statement, of a kind that programmers make: another comparison, another
sign, a constant that is one off, a condition turned round, a call or an addition that is forgotten, `and` for `or`.
Each room of `ROOMS` gets as many. All places are ordered by the hash of a seed and of their text, which does not change
when other code does, and are taken from the start. Only tests in the folder of the fault's own room run (`TESTED_IN`
names others), those files first that name its module and its function most often, on a copy of the tree, up to the
first failure. A timeout counts as found. Each fault is tested in a fork of one process that has imported the
libraries.

A change counts as a fault if for some input a result, a file or a message differs. So these are no places:
documentation, annotations, decorators, module constants that are not numbers, the wording of errors, `strict=` of zip,
and additions of texts and lists (they raise at once). What changes nothing but time or memory, or no input can tell, is
left out by hand: `EQUIVALENT` names each with the reason, and the table counts them.

Results go to benchmarks/results/mutations.json and mutations.md.
"""

import ast
import copy
import hashlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

PACKAGE = "cl_semisup"
ROOMS = ("data", "evaluation", "gate", "report", "results", "scheduling", "scoring", "search", "suite", "training")
# rooms whose tests lie beside what is made of them; steps are recorded on a GPU alone, which tests imitate
TESTED_IN = {"data": ("data", "datasets", "views"), "training": ("training", "gpu")}
EACH = 10  # faults of a room
SEED = 1
LIMIT = 600.0  # seconds of these tests
EQUIVALENT = {  # id of a fault -> why no result, file or message can differ
    "0048f8d306": "one image sets the same lowest rank as an unknown number of them",
    "0032041893": "whether a step is recorded, which changes its time alone",
    "00c39bfde3": "what the list holds first is never read",
    "0180220933": "one byte more or less in a file that is written to see whether it can be",
    "014503e4bb": "a lower bound of an effective rank, which is at least 1",
}

COMPARISONS = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
}
OPERATORS = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr},
}
TEXTS_AND_LISTS = (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp, ast.Dict)


@dataclass(frozen=True)
class Fault:
    """A change of a file's text from `start` to `end`; `id` depends on the room's file, the function and the change."""

    id: str
    room: str
    file: str
    line: int
    function: str
    before: str
    after: str
    start: int
    end: int

    def planted(self, text: str) -> str:
        return text[: self.start] + self.after + text[self.end :]


def faults(room: str, root: Path) -> list[Fault]:
    """All places of a room, in the order in which they are taken."""
    found: list[Fault] = []
    for path in sorted((root / PACKAGE / room).rglob("*.py")):
        found += _of_file(room, path.relative_to(root).as_posix(), path.read_text("utf-8"))
    return sorted(found, key=lambda fault: fault.id)


def _of_file(room: str, file: str, text: str) -> Iterator[Fault]:
    starts = [0]
    for row in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    lines = text.splitlines()

    def offset(row: int, column: int) -> int:  # columns of the tree count bytes
        return starts[row - 1] + len(lines[row - 1].encode()[:column].decode())

    seen: dict[tuple[str, str, str], int] = {}
    for function, node, changed in _changes(ast.parse(text), ""):
        start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)
        after = ast.unparse(changed)
        after = f"({after})" if isinstance(changed, ast.expr) and not isinstance(changed, ast.Constant) else after
        key = (function, text[start:end], after)
        seen[key] = seen.get(key, -1) + 1
        name = hashlib.sha256(f"{SEED} {file} {key} {seen[key]}".encode()).hexdigest()[:10]
        yield Fault(name, room, file, node.lineno, function, text[start:end], after, start, end)


def _changes(node: ast.AST, function: str) -> Iterator[tuple[str, Any, Any]]:
    """(function, place, what stands there instead) of every place below a node."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if not function and isinstance(node, ast.Assign | ast.AnnAssign) and not _is_number(node.value):
        return
    if function or _is_number(node):
        for changed in _instead(node):
            yield function, node, changed
    if isinstance(node, ast.If):  # the condition itself is a place
        yield function, node.test, ast.UnaryOp(ast.Not(), node.test)
    for name, value in ast.iter_fields(node):
        if name in ("decorator_list", "annotation", "returns", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.keyword) and child.arg in ("strict", "maxsize", "stacklevel", "timeout"):
                continue
            if isinstance(child, ast.AST) and not _is_documentation(child):
                yield from _changes(child, function)


def _instead(node: ast.AST) -> Iterator[ast.AST]:
    """What a fault puts in a node's place."""
    changed: Any = copy.copy(node)
    match node:
        case ast.Compare(ops=[operator]):
            changed.ops = [COMPARISONS[type(operator)]()]
            yield changed
        case ast.BoolOp():
            changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield changed
        case ast.BinOp() if type(node.op) in OPERATORS and not (_is_text(node.left) or _is_text(node.right)):
            changed.op = OPERATORS[type(node.op)]()
            yield changed
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int(number)):
            yield ast.Constant(number + 1)
        case ast.Constant(value=float(number)):
            yield ast.Constant((number or 0.5) * 2)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield ast.Pass()


def _is_number(node: Any) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, TEXTS_AND_LISTS) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_documentation(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def chosen(rooms: tuple[str, ...], root: Path) -> list[Fault]:
    """The faults to plant: the first `EACH` of each room that are not equivalent."""
    return [fault for room in rooms for fault in [f for f in faults(room, root) if f.id not in EQUIVALENT][:EACH]]


def left_out(planted: list[Fault], root: Path) -> list[Fault]:
    """The equivalent ones among the places that came up."""
    last = {room: max((f.id for f in planted if f.room == room), default="") for room in ROOMS}
    return [f for room in ROOMS for f in faults(room, root) if f.id in EQUIVALENT and f.id < last[room]]


def test_files(fault: Fault, tree: Path) -> list[str]:
    """The test files of the fault's room, those that name its module and function most often first."""
    words = [Path(fault.file).stem, *[word.lstrip("_") for word in fault.function.split(".") if word]]

    def mentions(path: Path) -> int:
        text = path.read_text("utf-8")
        return sum(len(re.findall(rf"\b_?{re.escape(word)}\b", text)) for word in words)

    folders = TESTED_IN.get(fault.room, (fault.room,))
    files = [path for folder in folders for path in sorted((tree / "tests" / folder).glob("test_*.py"))]
    return [path.relative_to(tree).as_posix() for path in sorted(files, key=mentions, reverse=True)]


def run_tests(tree: Path, files: list[str]) -> tuple[bool, str, float]:
    """(does a test fail, which one or why, seconds)."""
    began, output = time.monotonic(), tree.parent / "output"
    if (child := os.fork()) == 0:
        _run_pytest(tree, files, output)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        seconds = time.monotonic() - began
        if ended:
            break
        if seconds > LIMIT:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True, "timeout", seconds
        time.sleep(0.1)
    if status == 0:
        return False, "", seconds
    told = output.read_text("utf-8", "replace")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", told, re.MULTILINE)
    return True, failed[1] if failed else f"the process ended with {os.waitstatus_to_exitcode(status)}", seconds


def _run_pytest(tree: Path, files: list[str], output: Path) -> None:
    """In the child, which ends here. Nothing of the package has been imported before."""
    import pytest

    os.setsid()
    for module in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[module]
    # Processes that tests spawn would otherwise import this script, and with it this checkout instead of the tree.
    vars(sys.modules["__main__"]).pop("__file__", None)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)  # of processes that tests start
    sys.dont_write_bytecode = True
    os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", "-rfE", *files])))


def copy_tree(folder: Path) -> Path:
    """The tracked files of this checkout, as they are."""
    tree = folder / "tree"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=_common.ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(_common.ROOT / name, tree / name)
    commit = ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "The tree"]
    for words in (["init", "-q"], ["add", "-A"], commit):  # some tests ask for a commit, or for what is tracked
        subprocess.run(["git", *words], cwd=tree, check=True)
    return tree


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=ROOMS)
    parser.add_argument("--again", action="store_true", help="those that were not caught once more")
    parser.add_argument("--table", action="store_true", help="the table alone")
    options = parser.parse_args()
    known: dict[str, dict[str, Any]] = _common.load("mutations").get("known", {})
    if not options.table:
        import_libraries()
        with tempfile.TemporaryDirectory() as folder:
            tree = copy_tree(Path(folder))
            for fault in chosen(tuple(options.rooms), _common.ROOT):
                if fault.id in known and not (options.again and not known[fault.id]["caught"]):
                    continue
                known[fault.id] = plant(fault, tree)
                print(fault.id, fault.file, fault.line, known[fault.id]["by"] or "NOT CAUGHT", flush=True)
                write(known)
    print(write(known))


def import_libraries() -> None:
    """What takes long to import, once for all faults."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in ("torch", "torchvision", "scipy.stats", "sklearn.linear_model", "pandas"):
        importlib.import_module(name)


def plant(fault: Fault, tree: Path) -> dict[str, Any]:
    """Plant a fault in the copy, run the tests of its room, and mend the copy again."""
    file = tree / fault.file
    text = file.read_text("utf-8")
    file.write_text(fault.planted(text), "utf-8")
    try:
        compile(fault.planted(text), fault.file, "exec")
        caught, by, seconds = run_tests(tree, test_files(fault, tree))
    finally:
        file.write_text(text, "utf-8")
    return {"caught": caught, "by": by, "seconds": round(seconds, 1)}


def write(known: dict[str, dict[str, Any]]) -> str:
    """The table of all faults that are chosen today, and what is known of each."""
    planted = [fault for fault in chosen(ROOMS, _common.ROOT) if fault.id in known]
    rows = []
    for fault in planted:
        by = known[fault.id]["by"].removeprefix("tests/")
        change = " -> ".join(" ".join(part.split())[:60].replace("|", "\\|") for part in (fault.before, fault.after))
        place = f"{fault.file.removeprefix(PACKAGE + '/')}, {fault.function or 'module'}"
        rows.append([fault.id, place, f"`{change}`", f"`{by}`" if by else "**not caught**"])
    caught = sum(known[fault.id]["caught"] for fault in planted)
    equivalent = [[f.id, f"{f.file}, {f.function}", EQUIVALENT[f.id]] for f in left_out(planted, _common.ROOT)]
    paragraphs = [
        "One small fault at a time outside the losses, and the first test of its own room that fails. How faults are"
        " chosen is told by `benchmarks/mutations.py`.",
        f"`python benchmarks/mutations.py`: {caught} of {len(planted)} faults are caught by tests of their own room.",
        _common.table(["id", "place", "fault", "caught by"], rows),
    ]
    if equivalent:
        told = f"Left out, because no result, file or message can differ: {len(equivalent)}."
        paragraphs += [told, _common.table(["id", "place", "why"], equivalent)]
    text = _common.page("Mutations", *paragraphs)
    _common.save("mutations", text, {"seed": SEED, "caught": caught, "planted": len(planted), "known": known})
    return text


if __name__ == "__main__":
    main()
