"""Values of a suite as its messages show them: in YAML's words, so that what is read there can be found in the file."""

from typing import Any

MAX_LENGTH = 80
_WORDS = {True: "true", False: "false", None: "null"}


def short(value: Any) -> str:
    """The value in one line of at most MAX_LENGTH characters."""
    text = _text(value)
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 3] + "..."


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(held)}' for key, held in value.items())}}}"
    return repr(value)


def in_brackets(description: str) -> str:
    return f" ({description})" if description else ""
