"""`python -m cl_semisup.cli`: the same as the command `cl-semisup`."""

from cl_semisup.cli import command

if __name__ == "__main__":
    command()
