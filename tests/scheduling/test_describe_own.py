"""A user's own data set that fails while the command describes it is told with its line, whatever it raises."""

from pathlib import Path

import pytest

from cl_semisup import plugins
from cl_semisup.errors import InputError
from cl_semisup.scheduling import describe

DATA_SET = '''
from dataclasses import dataclass

from cl_semisup.datasets.digits import Digits


@dataclass(frozen=True)
class Own(Digits):
    """Digits, with a fault.

    Source: None
    """

    def METHOD(self, data_dir):
        raise ERROR

    def facts(self, data_dir):
        return super().facts(data_dir)

    def load(self, data_dir):
        return super().load(data_dir)
'''


@pytest.mark.parametrize("method", ["data_files", "layout"])
@pytest.mark.parametrize("error", ["ValueError('no')", "KeyboardInterrupt", "SystemExit(0)", "GeneratorExit"])
def test_whatever_a_method_raises_is_told_with_its_line(
    method: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "_user_files", {})
    monkeypatch.setattr("signal.getsignal", lambda number: None)  # as under the command, which has its own handler
    (tmp_path / "own.py").write_text(DATA_SET.replace("METHOD", method).replace("ERROR", error))
    plugins.load.cache_clear()
    plugins.add(tmp_path / "own.py")
    try:
        with pytest.raises(InputError, match=rf"own.py:15: own: must not fail. Got {error.partition('(')[0]}"):
            describe.describe({"own": {}}, str(tmp_path), read_pixels=False)
    finally:
        plugins.load.cache_clear()
