"""`python -m cl_semisup.cli`: the same as the command `cl-semisup`."""

import sys

from cl_semisup.cli import main

if __name__ == "__main__":
    sys.exit(main())
