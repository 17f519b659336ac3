"""Is an encoder what the suite says? Files of weights are read, and what comes from elsewhere is tried."""

from typing import Any

from cl_semisup import plugins
from cl_semisup.errors import InputError, described, stops_process
from cl_semisup.weights import source


def check(named: dict[str, dict[str, Any]], channels: int, side: int) -> tuple[str, tuple[str, ...]]:
    """(problem or "", notes) of an encoder for such images. One without a method `check` is not built."""
    (name, settings) = next(iter(named.items()))
    try:
        encoder = plugins.load("encoders", name)(**settings)
        for file in encoder.weight_files() if hasattr(encoder, "weight_files") else ():
            if not source.is_inside(file):
                rule = (
                    "weights must be inside the folder where the command runs, since a suite may come from a stranger"
                )
                return f"{rule}. Got {file!r}. Put a file or a link there, and name it without '..'.", ()
        return "", tuple(encoder.check(channels, side)) if hasattr(encoder, "check") else ()
    except InputError as error:
        return str(error), ()
    except BaseException as error:  # a user's own plug-in may raise anything
        if stops_process(error):
            raise
        return f"must be buildable. Got {described(error)}. Mend the encoder.", ()


def projector_problem(projector: dict[str, Any]) -> str:
    """What is wrong with a projector's settings as a whole, or ""."""
    if not projector.get("last_norm"):
        return ""
    if projector["layers"] == 0:
        return "last_norm needs a layer to follow. Got layers: 0. Leave it out."
    return "" if projector.get("norm") != "none" else "last_norm needs a norm. Got norm: none. Choose batch or layer."
