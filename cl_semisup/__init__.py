"""A benchmark suite for contrastive losses with few labels: suites ask, runs answer, leaderboards compare."""

__version__ = "0.1.0"
