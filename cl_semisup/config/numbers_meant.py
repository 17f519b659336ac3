"""Texts that mean a number, such as `5%`, `0,1` and `"128"`: what to write where a number is asked for."""

import re
import unicodedata
from typing import Any

from pydantic import TypeAdapter, ValidationError

# a longer one is a mistake, and too long to be read as a number
_NUMBER = r"-?[0-9]{1,50}(?:\.[0-9]{1,50})?(?:e-?[0-9]{1,5})?"


def advice(node: Any, adapter: TypeAdapter[Any]) -> str:
    """What to write instead; "" where the text means no number, or none that would do here."""
    if not isinstance(node, str):
        return ""
    text = "".join(str(unicodedata.decimal(c, c)) for c in node.strip())  # of any script
    if found := re.fullmatch(rf"({_NUMBER}) ?%", text):
        meant, words = [float(found[1]) / 100], f"{float(found[1]) / 100:g}"
    elif re.fullmatch(r"-?[1-9][0-9]{0,2}(?:,[0-9]{3}){1,5}", text) and not fits(0.5, adapter):  # of thousands
        words = text.replace(",", "")
        meant = [int(words)]
    elif re.fullmatch(r"-?[0-9]{1,50},[0-9]{1,50}", text):
        words = text.replace(",", ".")
        meant = [float(words)]
    elif re.fullmatch(_NUMBER, text):
        meant, words = [_number(text)], text
    elif re.fullmatch(rf"{_NUMBER}(?:[,; ] *{_NUMBER})+", text):
        parts = re.findall(_NUMBER, text)
        meant, words = [_number(part) for part in parts], f"[{', '.join(parts)}]"
    else:
        return ""
    return f" Write {words}, without quotes." if all(fits(number, adapter) for number in meant) else ""


def _number(text: str) -> int | float:
    number = float(text)
    return int(text) if re.fullmatch(r"-?[0-9]+", text) else int(number) if number.is_integer() else number


def fits(number: int | float, adapter: TypeAdapter[Any]) -> bool:
    """Would the number do here?"""
    try:
        adapter.validate_python(number)
    except ValidationError:
        return False
    return True
