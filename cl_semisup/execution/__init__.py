"""From a Run to a Record: `execute` does one, an engine does many."""
