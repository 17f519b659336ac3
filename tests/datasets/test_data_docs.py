"""Every row of the table of layouts is a suite that can be written."""

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.plugins import PluginField

PAGE = Path(__file__).parents[2] / "docs" / "data_layouts.md"
ROWS = re.findall(r"^\| .* \| (`.*`) \|$", PAGE.read_text("utf-8").split("## Pixels")[0], re.M)
WRITTEN = [text for row in ROWS for text in re.findall(r"`([^`]+)`", row)]


def test_the_table_has_rows() -> None:
    assert len(ROWS) >= 15


@pytest.mark.parametrize("text", WRITTEN)
def test_what_the_table_says_to_write_can_be_written(text: str) -> None:
    node = yaml.safe_load(text)
    problems: list[grid.Problem] = []
    if isinstance(node, dict) and "probes" in node:
        for name, settings in node["probes"].items():
            plugin = plugins.load("evaluation", name)
            wanted = {} if settings is True else settings
            assert grid.mapping(wanted, plugin, ("probes", name), problems, grid.defaults(plugin))
    else:
        assert grid.expand(node, Annotated[Any, PluginField("datasets")], ("datasets",), problems)
    assert not problems, [problem.text for problem in problems]


def test_every_data_set_of_ones_own_files_is_in_the_table() -> None:
    files = {"image_folder", "image_table", "arrays", "tiny_imagenet", "medmnist", "huggingface", "webdataset"}
    assert files <= {next(iter(re.findall(r"\w+", text))) for text in WRITTEN}
