"""The exit codes of all commands."""

OK = 0
SOME_FAILED = 1  # a run failed, or the gate found a change
BAD_INPUT = 2
NO_RESULTS = 3  # results cannot be read or written, or no worker starts
