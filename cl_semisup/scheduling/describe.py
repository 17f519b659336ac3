"""The data sets of a suite in sentences: in full for `check`, in a line each for a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_semisup import plugins
from cl_semisup.data.description import Description, Layout
from cl_semisup.errors import DataError
from cl_semisup.results import data_hashes
from cl_semisup.scheduling import prepare
from cl_semisup.suite.run import Named
from cl_semisup.suite.suite import Suite

MAX_BYTES = 2 * 10**9  # of pixels that are read only to be described


def describe(named: Named, data_dir: str, read_pixels: bool) -> Description:
    """A data set from headers, labels and names of files.

    Of its pixels what is kept from the last time they were read; if that is nothing, they are read on demand. DataError
    if the data are missing or damaged.
    """
    (name, settings) = next(iter(named.items()))
    with plugins.plugin_errors("datasets", name):
        data_set: Any = plugins.load("datasets", name)(**settings)
        facts = data_set.facts(Path(data_dir))
        layout = data_set.layout(Path(data_dir)) if hasattr(data_set, "layout") else Layout()
    pixels = data_hashes.kept_pixel_facts(named, data_dir)
    size = facts.channels * facts.side**2 * (facts.train + facts.test)
    if pixels is None and read_pixels and size <= MAX_BYTES:
        images = data_hashes.load(named, data_dir)
        pixels, layout = images.pixel_facts, layout if layout.classes else Layout(classes=images.class_names)
    settings_text = "".join(f" {key}={value}" for key, value in settings.items())
    return Description(name + settings_text, facts, layout, pixels)


def in_full(suite: Suite) -> list[str]:
    """All lines on each data set that the suite's runs use. One that is not there has a line that says so."""
    missing = prepare.missing(suite)
    return [line for choice in prepare.choices(suite.runs) for line in _lines(choice, suite, missing)]


def in_short(suite: Suite) -> list[str]:
    """A line for each data set; pixels are not read for it."""
    missing = prepare.missing(suite)
    every = (choice for choice in prepare.choices(suite.runs) if not _test_only(choice))
    there = [choice for choice in every if repr(choice) not in missing]
    lines = [describe(choice, suite.data_dir, read_pixels=False).short() for choice in there]
    return lines + (
        [f"{len(missing)} data sets of probes are not there and are left out: see `check`."] if missing else []
    )


def _lines(choice: Named, suite: Suite, missing: Mapping[str, str]) -> list[str]:
    if reason := missing.get(repr(choice)):
        return [f"{next(iter(choice))}: left out, and a dash in tables. {reason}"]
    try:
        found = describe(choice, suite.data_dir, read_pixels=True)
        if _test_only(choice):
            return [f"{found.name}: {found.facts.test:,} further test images, for a probe."]
        return found.lines()
    except DataError:
        if not suite.download:
            raise
        return [f"{next(iter(choice))}: not here yet; the run downloads it."]


def _test_only(choice: Named) -> bool:
    return bool(getattr(plugins.load("datasets", next(iter(choice))), "test_only", False))
