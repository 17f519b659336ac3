"""A benchmark suite for contrastive losses with few labels: suites ask, runs answer, leaderboards compare."""

import cl_semisup.plugins  # noqa: F401  # first: it remembers the text of every plug-in module that is imported

__version__ = "0.1.0"
