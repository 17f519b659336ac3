#!/usr/bin/env python3
"""The door of the command line: `python benchmark.py suites/quickstart.yaml`, from a plain checkout."""

import sys

from cl_semisup.cli import main

if __name__ == "__main__":
    sys.exit(main())
