"""The encoders that can be built without settings: those that need neither a file nor the name of a model."""

from dataclasses import MISSING, fields

from cl_semisup import plugins


def complete() -> list[str]:
    """Their names."""
    every = plugins.names("encoders")
    return [name for name in every if all(f.default is not MISSING for f in fields(plugins.load("encoders", name)))]
