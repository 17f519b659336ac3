"""What a suite may ask for instead of a grid: edges, the best of some values, or as many repetitions as it takes.

    learning_rate: {edge: [0.001, 100], per_decade: 8, share: 0.9}
    learning_rate: {best: [0.03, 0.3, 3]}
    repetitions: {resolve: 1.0, max: 30}

A search stands for the runs of its full grid; the room `search` says which of them are needed, round by round.
"""

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import getitem
from typing import Any

from cl_semisup.config.grid import Problem, format_path
from cl_semisup.config.yaml_source import YamlPath
from cl_semisup.errors import InputError, unknown
from cl_semisup.suite.run import Run

EDGE_KEYS = ("edge", "per_decade", "share")
RESOLVE_KEYS = ("resolve", "max")
RACE_KEYS = ("best",)
FORMS = {"edge", "resolve", "best"}
OF_NUMBERS = (("learning_rate",), ("batch_size",), ("repetitions",))
TUNED = ("learning_rate", "batch_size", "optimizer", "schedule", "losses")  # what a loss is tuned over
MAX_PER_DECADE = 32
MAX_RUNGS = 400  # twelve decades of the finest ladder
FARTHEST = 1e100  # an end of a ladder, and 1 / FARTHEST
MAX_REPETITIONS = 1000
RACE_REPETITIONS = 6
FIRST_REPETITIONS = 4  # with fewer, an interval that holds at every look is wider than any difference
LADDER_DIGITS = 4  # of a rung: powers of ten are exact, so that ladders and grids share runs


@dataclass(frozen=True)
class Edge:
    """The smallest and the largest value of one numeric setting at which a run learns.

    Args:
        axis: the setting's place in a run, such as ("learning_rate",) or ("loss", "clop", "weight")
        values: the ladder, ascending
        per_decade: rungs from one power of ten to the next
        share: of its best score, less chance, that a run must keep
    """

    axis: tuple[str, ...]
    values: tuple[float, ...]
    per_decade: int
    share: float

    @property
    def name(self) -> str:
        return ".".join(self.axis[1:] or self.axis)


@dataclass(frozen=True)
class Resolve:
    """Repetitions until the paired difference of every loss to the baseline is known well enough.

    Args:
        points: half-width of its interval in percentage points
        repetitions: at most so many
    """

    points: float
    repetitions: int


@dataclass(frozen=True)
class Race:
    """The best config of each loss: those that are clearly worse than the leader are dropped on the way.

    Args:
        axis: the setting whose values are listed, by its place in a run
    """

    axis: tuple[str, ...]


Search = Edge | Resolve | Race


def as_dict(search: Search | None) -> dict[str, Any] | None:
    """Plain data for a snapshot."""
    return asdict(search) if search else None


def from_dict(plain: Any) -> Search | None:
    """The search of a snapshot, which a stranger may have made; ValueError, KeyError or TypeError if it is none."""
    if plain is None:
        return None
    if "axis" in plain:
        axis = tuple(part for part in plain["axis"] if isinstance(part, str))
        if "values" not in plain:
            return Race(axis)
        values = tuple(float(value) for value in plain["values"])
        search = Edge(axis, values, int(plain["per_decade"]), float(plain["share"]))
        ascending = all(0 < a < b < math.inf for a, b in zip(values, values[1:], strict=False))
        if not (axis and len(values) > 1 and ascending and 1 <= search.per_decade <= MAX_PER_DECADE):
            raise ValueError("its search has no ladder")
        return search
    return Resolve(float(plain["points"]), int(plain["repetitions"]))


def take(data: dict[Any, Any], problems: list[Problem]) -> tuple[dict[Any, Any], Search | None, list[YamlPath]]:
    """The suite with the full grid of its search in the search's place, the search, and the places of all searches."""
    found = _forms(data, ())
    if not found:
        return data, None, []
    if len(found) > 1:
        got = f"Got another at {format_path(found[0])}. Write a value or a list here."
        problems += [Problem(path, f"must be the only search of its suite. {got}") for path in found[1:]]
        return data, None, found
    (path,) = found
    data = copy.deepcopy(data)
    node = reduce(getitem, path, data)
    if len(forms := [key for key in node if key in FORMS]) > 1:
        got = f"Got {' and '.join(forms)}. Keep one of them."
        problems.append(Problem((*path, forms[1]), f"must be the only search here. {got}", of_key=True))
        return data, None, found
    build: Callable[..., Search | None] = _resolve if "resolve" in node else _race if "best" in node else _edge
    search = build(node, path, problems)
    if search is not None:
        parent: Any = reduce(getitem, path[:-1], data)
        parent[path[-1]] = node["best"] if isinstance(search, Race) else _grid(search, whole=path == ("batch_size",))
    return data, search, found


def _grid(search: Edge | Resolve, whole: bool) -> int | list[int] | list[float]:
    """What stands for the full grid of a search: all repetitions, or every rung."""
    if isinstance(search, Resolve):
        return search.repetitions
    return [int(value) for value in search.values] if whole else list(search.values)


def contradictions(
    search: Search | None, runs: Sequence[Run], baseline: str, tune_repetitions: int = 0
) -> list[Problem]:
    """`resolve` compares each loss, in one config, with the baseline; a race needs repetitions of its own."""
    if isinstance(search, Race):
        return _race_contradictions(search, tune_repetitions)
    if search and tune_repetitions:
        rule = "must be 0 where the suite searches: a search decides itself what runs in which repetition"
        return [Problem(("tune_repetitions",), f"{rule}. Got {tune_repetitions}. Leave it out, or list the values.")]
    if not isinstance(search, Resolve):
        return []
    path = ("repetitions", "resolve")
    if not baseline:
        rule = "needs a baseline, to which differences are resolved. Got none. Add 'baseline: ...'."
        return [Problem(path, rule)]
    trained = [run for run in runs if run.epochs and run.repetition == 0]
    if trained and all(run.loss_name == baseline for run in trained):
        rule = (
            f"compares losses with the baseline. Got {baseline!r} alone. Add a loss, or name a number of repetitions."
        )
        return [Problem(path, rule)]
    configs = Counter(task(run) + repr(run.loss) for run in trained)
    if trained and max(configs.values()) > 1:
        rule = "compares one config of each loss with the baseline's"
        return [Problem(path, f"{rule}. Got {max(configs.values())} of a loss. Name one learning rate and so on.")]
    bases = Counter(task(run) for run in trained if run.loss_name == baseline)
    if bases and max(bases.values()) > 1:
        rule = f"needs one baseline. Got {max(bases.values())} losses called {baseline!r}. Keep one set of settings."
        return [Problem(path, rule)]
    return []


def _race_contradictions(search: Race, tune_repetitions: int) -> list[Problem]:
    """A race needs repetitions enough to drop a config in, and others for its winner."""
    if tune_repetitions >= RACE_REPETITIONS:
        return []
    rule = f"at least {RACE_REPETITIONS} (with fewer no config could be dropped); `repetitions` report the winner"
    if tune_repetitions:
        change = f"Got {tune_repetitions}. Change it, or list the values without `best`."
        return [Problem(("tune_repetitions",), f"must be 0, or for a race {rule}. {change}")]
    place = "losses" if search.axis[0] == "loss" else search.axis[0]
    change = f"Got none. Add 'tune_repetitions: {RACE_REPETITIONS}', or list the values without `best`."
    return [Problem((place,), f"a race needs `tune_repetitions`, {rule}. {change}")]


def task(run: Run) -> str:
    """A run's settings without loss, config and repetition: losses may have learning rates of their own."""
    config = ("loss", "repetition", "learning_rate", "batch_size", "optimizer", "schedule")
    return repr({key: value for key, value in run.settings().items() if key not in config})


def task_and_loss(run: Run) -> str:
    """A run's settings without its config and its repetition."""
    return task(run) + repr(run.loss)


def cell(run: Run) -> str:
    """A run's settings without its repetition, as far as a suite may vary them."""
    return task_and_loss(run) + repr((run.learning_rate, run.batch_size, run.optimizer, run.schedule))


def settle(
    problems: list[Problem], of_search: list[Problem], search: Search | None, places: list[YamlPath]
) -> list[Problem]:
    """The problems of a suite, of which those at the places of searches say everything once.

    Where a search is wrong (`of_search`), nothing else is said of its place; of wrong rungs, only the first is told.
    """
    known = set(of_search)  # sets: a suite may have tens of thousands of problems
    others = [one for one in problems if not any(one.path[: len(place)] == place for place in places)]
    elsewhere = set(others)
    there = [one for one in problems if one not in elsewhere and one not in known]
    if search is None:
        return of_search + [one for one in others if one not in known]
    if not isinstance(search, Edge):
        return problems
    of_rungs = [one for one in there if len(one.path) > len(places[0]) and type(one.path[len(places[0])]) is int]
    if of_rungs:
        rule = f"{of_rungs[0].rule} Every rung of the search must be a value that this setting can have."
        first, rungs = Problem(places[0], rule), set(of_rungs)
        of_rungs = [first] + [one for one in there if one not in rungs]
        return others + of_rungs
    return problems


def _forms(node: Any, path: YamlPath) -> list[YamlPath]:
    """The places of all searches in a suite."""
    if isinstance(node, list):
        return [found for i, member in enumerate(node) for found in _forms(member, (*path, i))]
    if not isinstance(node, dict):
        return []
    plain = path in OF_NUMBERS  # elsewhere a key with a dict is a plug-in and its settings
    words = FORMS & {
        key for key, value in node.items() if isinstance(key, str) and (plain or not isinstance(value, dict))
    }
    if words and not (path and path[0] == "losses" and len(path) < 3):  # a loss of one's own may be called `edge`
        return [path] if path else []
    return [found for key, child in node.items() if isinstance(key, str | int) for found in _forms(child, (*path, key))]


def _edge(node: dict[Any, Any], path: YamlPath, problems: list[Problem]) -> Edge | None:
    before = len(problems)

    def fault(key: str, rule: str) -> None:
        problems.append(Problem((*path, key), rule))

    _check_keys(node, EDGE_KEYS, path, problems)
    if not isinstance(path[-1], str):
        rule = "must stand alone: an edge is searched for in a whole range"
        problems.append(Problem(path, f"{rule}. Got it in a list. Write the search without the list."))
    if path[0] not in ("learning_rate", "batch_size", "losses"):
        rule = "has no edge: only learning_rate, batch_size and the settings of losses have"
        problems.append(Problem(path, f"{rule}. Got a search. Write a value or a list of values."))
    ends = node["edge"]
    if not (isinstance(ends, list) and len(ends) == 2):
        fault("edge", f"must be two numbers, the lowest and the highest value. Got {ends!r:.80}. Write [0.001, 100].")
    elif not all(_is_number(end) and end > 0 for end in ends):
        fault("edge", f"must be two numbers above 0 (its ladder is logarithmic). Got {ends!r:.80}. Change them.")
    elif not all(1 / FARTHEST <= end <= FARTHEST for end in ends):
        fault("edge", f"must be between {1 / FARTHEST:g} and {FARTHEST:g}. Got {ends!r:.80}. Change them.")
    elif not ends[0] < ends[1]:
        fault("edge", f"must not be an empty range: the first number is the lowest. Got {ends!r:.80}. Change them.")
    per_decade, share = node.get("per_decade", 8), node.get("share", 0.9)
    if not (type(per_decade) is int and 1 <= per_decade <= MAX_PER_DECADE):
        rule = f"must be a whole number from 1 to {MAX_PER_DECADE} (rungs from one power of ten to the next)"
        fault("per_decade", f"{rule}. Got {per_decade!r:.80}. Change it.")
    if not (_is_number(share) and 0 < share <= 1):
        rule = "must be a number above 0 and at most 1 (the share of its best score that a run must keep)"
        fault("share", f"{rule}. Got {share!r:.80}. Change it.")
    if len(problems) > before:
        return None
    values = ladder(float(ends[0]), float(ends[1]), per_decade)
    if len(values) > MAX_RUNGS:
        rule = f"must hold {MAX_RUNGS} values at most. Got {len(values)} at per_decade {per_decade}"
        fault("edge", f"{rule}. Narrow the range or lower per_decade.")
        return None
    if path == ("batch_size",):
        values = tuple(float(v) for v in sorted({round(value) for value in values}))
    if len(values) < 3:
        rule = f"must hold three values at least. Got {len(values)} at per_decade {per_decade}"
        fault("edge", f"{rule}. Widen the range or raise per_decade.")
        return None
    return Edge(_axis(path), values, per_decade, float(share))


def _axis(path: YamlPath) -> tuple[str, ...]:
    """The place in a run of a setting of a suite."""
    return tuple("loss" if part == "losses" else part for part in path if isinstance(part, str))


def _race(node: dict[Any, Any], path: YamlPath, problems: list[Problem]) -> Race | None:
    before = len(problems)
    _check_keys(node, RACE_KEYS, path, problems)
    if not isinstance(path[-1], str):
        rule = "must stand alone: all values of a race are in its list"
        problems.append(Problem(path, f"{rule}. Got it in a list. Write the race without the list."))
    if path[0] not in TUNED:
        rule = f"cannot be raced: only {', '.join(TUNED)} and settings of losses are tuned"
        problems.append(Problem(path, f"{rule}. Got a race. Write a value or a list of values."))
    values = node["best"]
    if not (isinstance(values, list) and len(values) > 1):
        rule = "must be a list of two values or more"
        problems.append(Problem((*path, "best"), f"{rule}. Got {values!r:.80}. List what competes."))
    return Race(_axis(path)) if len(problems) == before else None


def ladder(low: float, high: float, per_decade: int) -> tuple[float, ...]:
    """low x 10^(i / per_decade) up to high, each to LADDER_DIGITS digits."""
    rungs = math.floor((math.log10(high) - math.log10(low)) * per_decade + 1e-6)
    return tuple(float(f"{low * 10 ** (i / per_decade):.{LADDER_DIGITS}g}") for i in range(rungs + 1))


def _resolve(node: dict[Any, Any], path: YamlPath, problems: list[Problem]) -> Resolve | None:
    before = len(problems)
    _check_keys(node, RESOLVE_KEYS, path, problems)
    if path != ("repetitions",):
        rule = "is what repetitions may do. Got it elsewhere. Write `repetitions: {resolve: 1.0, max: 30}`."
        problems.append(Problem(path, rule))
        return None
    points, most = node["resolve"], node.get("max", 30)
    if not (_is_number(points) and 0 < points <= 100):
        rule = "must be a number of percentage points above 0 and at most 100"
        problems.append(Problem((*path, "resolve"), f"{rule}. Got {points!r:.80}. Change it."))
    if not (type(most) is int and FIRST_REPETITIONS <= most <= MAX_REPETITIONS):
        rule = f"must be a whole number from {FIRST_REPETITIONS} to {MAX_REPETITIONS} (repetitions at most)"
        problems.append(Problem((*path, "max"), f"{rule}. Got {most!r:.80}. Change it."))
    return Resolve(float(points), most) if len(problems) == before else None


def _check_keys(node: dict[Any, Any], known: tuple[str, ...], path: YamlPath, problems: list[Problem]) -> None:
    for key in node:
        if key not in known:
            at = (*path, key) if isinstance(key, str | int) else path
            problems.append(Problem(at, f"{unknown('key', key, known)}.", of_key=True))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -math.inf < value < math.inf  # an int may be larger than any float


def require_none(search: Search | None, file: str, what: str) -> None:
    """InputError where only a grid will do."""
    if search:
        raise InputError(f"{file}: {what} needs a grid. Got a search. List the values instead.")
