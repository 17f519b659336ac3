"""A plug-in asked in other processes: what depends on the process, or on the calls before, gives other answers there.

Python seeds the hashes of texts anew in each process, so the order of a set differs between processes, and what a
module remembers of earlier calls is not there. Interpreters with seeds of their own import the package once. Each
forks for a plug-in, where the system can, so that nothing stays of the one before; elsewhere it ends after an answer.
"""

import atexit
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from cl_semisup import plugins
from cl_semisup.contract.checks import Broken
from cl_semisup.errors import described
from cl_semisup.plugins import process_state

Answer = list[float] | str
Questions = Mapping[str, Callable[[], Answer]]
HASH_SEEDS = ("101", "202", "303")  # a set of two texts has the same order in all with probability 1/8
HOME = Path(__file__).parents[2]
TOLERANCE = 1e-5  # relative: processes may compute on other numbers of threads
# what plug-ins of a kind import when they are called, and a forked process would import again
IMPORTS = {
    "datasets": ("sklearn.datasets", "sklearn.model_selection"),
    "evaluation": ("scipy.optimize", "scipy.special", "torch._dynamo"),
    "optimizers": ("torch._dynamo",),  # torch's optimizers import its compiler, to tell it to leave them alone
}
_interpreters: dict[str, "subprocess.Popen[str]"] = {}


def require_same(
    folder: str, name: str, settings: Mapping[str, Any], questions: Questions, data_dir: str | Path = "data"
) -> None:
    """Broken unless other processes give the same answers. They are asked in reverse order there.

    Args:
        folder, name, settings, data_dir: the plug-in under test
        questions: the plug-in's own `questions`; the text says what is asked
    """
    here = {what: ask() for what, ask in questions.items()}
    own_file = plugins.is_users_own(folder, name) and (folder, name) not in plugins.installed.found()
    request = {
        "folder": folder,
        "name": name,
        "settings": dict(settings),
        "data_dir": os.path.abspath(data_dir),
        "file": str(plugins.paths(folder)[name]) if own_file else None,
        "path": sys.path,
    }
    for other in _answers(json.dumps(request)):
        if "error" in other:
            raise Broken(f"in another process it fails: {other['error']}.")
        for what, answer in here.items():
            if not _same(answer, other["answers"].get(what)):
                remedy = "Sort what comes from a set, and keep nothing between calls"
                raise Broken(f"in another process, asked in another order, {what} is another one. {remedy}.")


def _same(one: Answer, other: Answer | None) -> bool:
    if isinstance(one, str) or other is None or isinstance(other, str) or len(one) != len(other):
        return one == other
    return bool(np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def _answers(request: str) -> list[dict[str, Any]]:
    """Of each interpreter; they work at the same time."""
    started = [_interpreter(seed) for seed in HASH_SEEDS]
    for process in started:
        pipe = _pipe(process.stdin)
        pipe.write(request + "\n")
        pipe.flush()
    lines = [_pipe(process.stdout).readline() for process in started]
    return [json.loads(line) if line else {"error": "the process has ended"} for line in lines]


def _interpreter(hash_seed: str) -> "subprocess.Popen[str]":
    """The running one, or a new one. It imports this very package, whatever lies in the current folder."""
    running = _interpreters.get(hash_seed)
    if running is None or running.poll() is not None:
        environment = process_state.environment_of_workers()
        path = os.pathsep.join(filter(None, [str(HOME), environment.get("PYTHONPATH")]))
        environment |= {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONHASHSEED": hash_seed}
        running = _interpreters[hash_seed] = subprocess.Popen(
            [sys.executable, "-m", "cl_semisup.contract.other_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=environment,
        )
    return running


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@atexit.register
def _end() -> None:
    """The interpreters end when nobody can ask them anymore."""
    for process in _interpreters.values():
        process.communicate()
    _interpreters.clear()


# in the other process ------------------------------------------------------------------------------------------------


def answer_questions() -> None:
    """A line of JSON for each line of JSON, until there are no more. What a plug-in prints is thrown away."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        folder = json.loads(line)["folder"]
        for module in (f"cl_semisup.contract.{folder}", *IMPORTS.get(folder, ())):
            importlib.import_module(module)
        if not hasattr(os, "fork"):
            answers.write(_answer(line) + "\n")
            return
        if process := os.fork():
            if os.waitpid(process, 0)[1]:
                answers.write('{"error": "the process has ended"}\n')
                answers.flush()
        else:
            answers.write(_answer(line) + "\n")
            answers.flush()
            os._exit(0)


def _answer(line: str) -> str:
    try:
        request = json.loads(line)
        sys.path[:] = request["path"]
        folder, name = request["folder"], request["name"]
        if request["file"]:
            plugins.add(Path(request["file"]))
        kind = importlib.import_module(f"cl_semisup.contract.{folder}")
        questions = kind.Subject(name, request["settings"], Path(request["data_dir"])).questions()
        return json.dumps({"answers": {what: questions[what]() for what in reversed(questions)}})
    except BaseException as error:  # a plug-in may raise anything, and the answer must come
        return json.dumps({"error": described(error)})


if __name__ == "__main__":
    answer_questions()
