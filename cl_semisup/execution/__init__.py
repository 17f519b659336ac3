"""From a Run to a Record: train, evaluate, record. Engines do this for many runs."""
