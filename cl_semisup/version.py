"""The version of the package; raised with every release, see CHANGELOG.md."""

__version__ = "0.1.0"
