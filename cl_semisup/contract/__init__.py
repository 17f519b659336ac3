"""What every plug-in promises, as clauses, one file a kind: `check-plugin FILE` and the tests check them."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cl_semisup.contract.clauses import ClauseResult
from cl_semisup.contract.losses import Batch, Subject, extra_inputs

__all__ = ["Batch", "ClauseResult", "Subject", "check", "extra_inputs"]


def check(
    folder: str,
    name: str,
    settings: Mapping[str, Any] = MappingProxyType({}),
    data_dir: str = "data",
    exempt: Mapping[str, str] = MappingProxyType({}),
) -> list[ClauseResult]:
    """Check one plug-in against every clause of its kind.

    Args:
        folder, name: the plug-in
        settings: its settings; their defaults otherwise
        data_dir: folder of data sets, for a data set
        exempt: clause -> reason why it does not hold, beside what the plug-in itself declares
    """
    kind = importlib.import_module(f"cl_semisup.contract.{folder}")
    results: list[ClauseResult] = kind.CONTRACT.check(kind.Subject(name, settings, Path(data_dir)), exempt)
    return results
