"""Make docs/losses.md from docstrings and docs/reference.md from the schema: `python tools/reference.py`."""

import json
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cl_semisup import plugins  # noqa: E402
from cl_semisup.citation.sources import of_plugin  # noqa: E402
from cl_semisup.plugins import groups  # noqa: E402
from cl_semisup.suite.axes import SuiteHeader  # noqa: E402

LOSSES, REFERENCE = ROOT / "docs" / "losses.md", ROOT / "docs" / "reference.md"
SCHEMA = ROOT / "suites" / "suite.schema.json"
SEARCHES = "[a search](search.md)"
NOT_CHECKED = " (?)"
HEAD = """\
Made by `python tools/reference.py` from `suites/suite.schema.json`, which editors read too. A list of values is a grid
wherever the table says *grid*, at any depth. The settings of a loss, a data set or any other plug-in are on its page in
the site that `make docs` builds, and in `suites/suite.schema.json`."""
Schema = dict[str, Any]


def losses() -> str:
    """Every loss in its group, with paper and year."""
    text = ["# Losses", ""]
    text += ["Made by `python tools/reference.py` from the docstrings. The year is that of the first version at arXiv."]
    text += [f"`cl-semisup cite SUITE` prints BibTeX.{NOT_CHECKED}: we could not check that the id has this title."]
    for group, names in groups.of_losses().items():
        text += ["", f"## {_upper(group)}", "", f"{_upper(groups.GROUPS[group])}.", ""]
        text += ["| loss | what it is | paper | year |", "| --- | --- | --- | --- |"]
        text += [_loss(name) for name in names]
    return "\n".join(text) + "\n"


def _loss(name: str) -> str:
    papers = [source for source in of_plugin("losses", name) if source.is_arxiv]
    cells = "; ".join(
        f"[{source.title}](https://arxiv.org/abs/{source.name}){'' if source.checked else NOT_CHECKED}"
        for source in papers
    )
    years = ", ".join(dict.fromkeys(str(source.year) for source in papers))
    return f"| {name} | {_cell(plugins.summary('losses', name))} | {_cell(cells) or '—'} | {years or '—'} |"


def reference() -> str:
    """Every key of a suite."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    required = schema["required"]
    text = ["# Keys of a suite", "", HEAD]
    header = {field.name: {"default": field.default} for field in fields(SuiteHeader) if field.default is not MISSING}
    keys = {key: header.get(key, {}) | value for key, value in schema["properties"].items()}
    text += ["", *table(keys, required)]
    for key, value in schema["properties"].items():
        for mapping in _mappings(value):
            text += ["", f"## {key}", "", f"{_sentence(value['description'])}", ""]
            text += table(mapping["properties"], mapping.get("required", []))
    return "\n".join(text) + "\n"


def table(properties: dict[str, Schema], required: list[str]) -> list[str]:
    rows = ["| key | value | default | what it is |", "| --- | --- | --- | --- |"]
    for key, value in properties.items():
        default = "needed" if key in required else _default(value)
        rows.append(f"| `{key}` | {_cell(_kind(value))} | {_cell(default)} | {_cell(value.get('description', ''))} |")
    return rows


def _default(schema: Schema) -> str:
    value = schema.get("default", "")
    if value == "":
        return ""
    return "none" if value is None else f"`{json.dumps(value) if not isinstance(value, str) else value}`"


def _kind(schema: Schema) -> str:
    """What may stand there, in words."""
    choices = schema.get("anyOf", [schema])
    words: list[str] = []
    for choice in choices:
        if "anyOf" in choice:
            words.append(_kind(choice))
        elif choice.get("type") == "array" and choices[0] is not choice:
            words.append("*grid*")
        elif "$ref" in choice:
            name = choice["$ref"].rpartition("/")[2]
            kind = name.removesuffix("_or_none")
            plugin = "settings" if "." in name else f"a plug-in of `{kind}`" + ", `none`" * (kind != name)
            words.append(SEARCHES if name == "edge" else plugin)
        elif "search.md" in choice.get("description", ""):
            words.append(SEARCHES)
        else:
            words.append(_one(choice))
    return ", ".join(dict.fromkeys(word for word in words if word))


def _one(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{'none' if value is None else value}`" for value in dict.fromkeys(schema["enum"]) if value)
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    words |= {"object": "settings", "array": "list"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = " and ".join(f"{sign} {_number(schema[name])}" for name, sign in bounds.items() if name in schema)
    return f"{words.get(schema.get('type', ''), '')} {limits}".strip()


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _mappings(schema: Schema) -> list[Schema]:
    """The settings that a key has, if they are the suite's own and no plug-in's."""
    found = [schema] if schema.get("additionalProperties") is False else []
    found += [one for choice in schema.get("anyOf", []) for one in _mappings(choice)]
    found += _mappings(schema["items"]) if isinstance(schema.get("items"), dict) and not found else []
    return [one for one in found if len(one["properties"]) > 1][:1]


def _sentence(text: str) -> str:
    return f"{_upper(text)}."


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    LOSSES.write_text(losses(), encoding="utf-8")
    REFERENCE.write_text(reference(), encoding="utf-8")
    print(LOSSES, REFERENCE)
