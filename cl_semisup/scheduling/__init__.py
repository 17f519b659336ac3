"""A suite's runs: which are missing, who executes them, in which order, and how far they are."""
