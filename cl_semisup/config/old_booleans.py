"""Truth values of YAML 1.1, such as `yes` and `off`, are texts in YAML 1.2: what to write where one stands."""

from typing import Any, get_args

_MEANT = {"yes": True, "y": True, "on": True, "no": False, "n": False, "off": False}
_WORDS = {case(word): meant for word, meant in _MEANT.items() for case in (str, str.title, str.upper)}


def advice(node: Any, yes: str = "", no: str = "") -> str:
    """What to write instead, given the words for yes and for no at this place; "" where there is none, or no need."""
    word = {True: yes, False: no}[_WORDS[node]] if isinstance(node, str) and node in _WORDS else ""
    return f" Write `{word}`." if word else ""


def words(annotation: Any, none: str) -> tuple[str, str]:
    """The words for yes and for no that a leaf's annotation has, "" for each that it lacks; `none` may stand for no."""
    allowed = {annotation, *get_args(annotation)}
    allowed |= {word for one in allowed for word in get_args(one)}  # of a Literal with a description
    return ("true", "false") if bool in allowed else ("", "none" if "none" in allowed else none)
