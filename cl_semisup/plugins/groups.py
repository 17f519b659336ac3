"""The groups that losses are listed in. Each loss says its own: the line `Group:` of its docstring."""

from cl_semisup import plugins
from cl_semisup.plugins.docstrings import entry

# group -> what is in it, in the order in which they are listed
GROUPS = {
    "core": "the field's standards and CLOP",
    "further": "other losses, written beside published code or equations",
    "semi-supervised": "losses that train a classifier on labels and pseudo-labels",
    "reproductions": "losses rebuilt from papers without code that we could read",
    "wrappers": "terms beside any other loss, or around it",
}
OWN = "your own"  # of a file that says no group


def group(name: str) -> str:
    """The group of a loss."""
    found = entry(plugins.docstring("losses", name), "Group")
    return found if found in GROUPS else OWN


def of_losses() -> dict[str, list[str]]:
    """Group -> names of its losses, the core first; groups without a loss are left out."""
    names = plugins.names("losses")
    found = {title: [name for name in names if group(name) == title] for title in (*GROUPS, OWN)}
    return {title: members for title, members in found.items() if members}
