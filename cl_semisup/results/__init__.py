"""What is kept of runs: records, their evaluation protocol, verdicts, tables. `cl_semisup.results(folder)` reads all.

The room and the function of `import cl_semisup as cl; cl.results("results")` have one name, so the room can be called.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class _Room(ModuleType):
    def __call__(self, folder: Any = "results") -> "pd.DataFrame":
        """All records of a results folder, see `all_records.results`."""
        from cl_semisup.results import all_records

        return all_records.results(folder)


sys.modules[__name__].__class__ = _Room
