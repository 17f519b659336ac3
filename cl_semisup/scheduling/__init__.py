"""A suite's runs: which are missing, who does them, in which order, and how far they are."""
