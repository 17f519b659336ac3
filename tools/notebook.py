"""Run a notebook from top to bottom: `python tools/notebook.py docs/tutorial.ipynb [OUTPUT]`.

It runs in a new folder, which is thrown away, with this checkout's package. A cell that fails ends the command with its
error and exit code 1. The result goes to OUTPUT; the notebook itself is kept without outputs.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300  # that one cell may take


def run(notebook: Path, output: Path | None = None) -> None:
    """Execute all cells; CellExecutionError with the cell's own error if one fails."""
    cells = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        first = nbformat.v4.new_code_cell(f"import sys; sys.path.insert(0, {str(ROOT)!r})")
        cells.cells.insert(0, first)
        NotebookClient(cells, timeout=SECONDS, resources={"metadata": {"path": folder}}).execute()
        cells.cells.pop(0)
    if output:
        nbformat.write(cells, output)


if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else None)
    except CellExecutionError as error:
        sys.exit(str(error))
