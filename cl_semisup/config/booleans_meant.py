"""Values that mean yes or no, such as `off`, `'false'` and 0: what to write where one stands that is not taken."""

from typing import Any, get_args

_YES, _NO = ("yes", "y", "on", "true", "t", "1"), ("no", "n", "off", "false", "f", "0", "none", "null", "")


def advice(node: Any, yes: str = "", no: str = "") -> str:
    """What to write instead, given the words for yes and for no at this place; "" where there is none, or no need."""
    if isinstance(node, float) and node in (0, 1):
        node = int(node)
    word = str(node).strip().lower() if node is None or isinstance(node, str | int) else "?"
    meant = yes if word in _YES else no if word in _NO else ""
    return f" Write `{meant}`." if meant else ""


def words(annotation: Any, none: str) -> tuple[str, str]:
    """The words for yes and for no that a leaf's annotation has, "" for each that it lacks; `none` may stand for no."""
    allowed = {annotation, *get_args(annotation)}
    allowed |= {word for one in allowed for word in get_args(one)}  # of a Literal with a description
    return ("true", "false") if bool in allowed else ("", "none" if "none" in allowed else none)
