"""Pages of the documentation site for every plug-in, from its docstring and the schema of suites."""

import json
import re
from typing import Any

from cl_semisup import plugins
from cl_semisup.citation.sources import named_in
from cl_semisup.plugins import groups
from cl_semisup.plugins.docstrings import body, entry
from tools import formulas, reference

KINDS = {
    "losses": "Losses",
    "evaluation": "Probes",
    "datasets": "Data sets",
    "encoders": "Encoders",
    "optimizers": "Optimizers",
    "views": "Views",
}
EXAMPLES = {  # how a suite names one with a setting
    "losses": "losses: {{{name}: {settings}}}",
    "evaluation": "probes: {{{name}: {settings}}}",
    "datasets": "datasets: {{{name}: {settings}}}",
    "encoders": "encoder: {{{name}: {settings}}}",
    "optimizers": "optimizer: {{{name}: {settings}}}",
    "views": "views: [{{{name}: {settings}}}]",
}


def folder(kind: str) -> str:
    """The folder of a kind's pages."""
    return "probes" if kind == "evaluation" else kind


def pages() -> dict[str, str]:
    """Path in the site -> Markdown, of every plug-in of this package and of an overview of each kind."""
    schema = json.loads(reference.SCHEMA.read_text("utf-8"))["$defs"]
    found = {}
    for kind in KINDS:
        found[f"{folder(kind)}/index.md"] = overview(kind)
        for name in plugins.names(kind):
            found[f"{folder(kind)}/{name}.md"] = page(kind, name, schema.get(f"{kind}.{name}", {}))
    return found


def overview(kind: str) -> str:
    """All plug-ins of a kind with their first lines; losses in their groups."""
    grouped = groups.of_losses() if kind == "losses" else {"": plugins.names(kind)}
    text = [f"# {KINDS[kind]}", ""]
    for group, names in grouped.items():
        text += [f"## {group[0].upper()}{group[1:]}", "", f"{groups.GROUPS[group]}", ""] if group else []
        text += ["| name | what it is |", "| --- | --- |"]
        text += [f"| [{name}]({name}.md) | {_cell(plugins.summary(kind, name))} |" for name in names] + [""]
    return "\n".join(text)


def page(kind: str, name: str, schema: dict[str, Any]) -> str:
    """One plug-in: what it is, formulas, settings, sources."""
    docstring = plugins.docstring(kind, name)
    group = f", group {groups.group(name)}" if kind == "losses" else ""
    text = [f"# {name}", "", f"*{plugins.noun(kind)}{group}*", "", _text(plugins.summary(kind, name)), ""]
    text += [_typeset(body(docstring)), ""]
    settings = schema.get("properties", {})
    if settings:
        text += ["## Settings", "", *reference.table(settings, schema.get("required", []))]
        text = [line.replace("](search.md)", "](../search.md)") for line in text]
        text += ["", "```yaml", _example(kind, name, settings), "```"]
    for title in ("Degenerate", "Source", "Difference"):
        if found := entry(docstring, title):
            text += [
                "",
                f"## {TITLES[title]}",
                "",
                _text(found[0].upper() + found[1:] if title == "Degenerate" else found),
            ]
            text += ["", *(_cited(source) for source in named_in(found))] if title == "Source" else []
    text += ["", f"Code: `cl_semisup/{kind}/{name}.py`"]
    return "\n".join(text) + "\n"


TITLES = {"Degenerate": "Degenerate batches", "Source": "Source", "Difference": "What is done otherwise than there"}


def _cited(source: Any) -> str:
    title = f"[{source.title}](https://arxiv.org/abs/{source.name})" if source.is_arxiv else source.title
    authors = ", ".join("and others" if author == "others" else author for author in source.authors)
    return f"- {authors} ({source.year}): {title}{'' if source.checked else reference.NOT_CHECKED}"


def _example(kind: str, name: str, settings: dict[str, Any]) -> str:
    """The plug-in in a suite, with the first setting that has a plain value."""
    plain = {key: one["default"] for key, one in settings.items() if isinstance(one.get("default"), int | float | str)}
    key = next((key for key, value in plain.items() if value != ""), "")
    chosen = f"{{{key}: {json.dumps(plain[key])}}}" if key else "{...}"
    return EXAMPLES[kind].format(name=name, settings=chosen)


def _typeset(text: str) -> str:
    """Paragraphs as they are, indented lines as formulas."""
    parts: list[str] = []
    for block in re.split(r"\n{2,}", text):
        lines = block.splitlines()
        indented = [line for line in lines if line.startswith("    ")]
        parts.append(formulas.block(indented) if indented else _text(block))
        rest = [line for line in lines if not line.startswith("    ")]
        parts += [_text("\n".join(rest))] if indented and rest else []
    return "\n\n".join(part for part in parts if part)


def _text(text: str) -> str:
    """Text that Markdown shows as it is: a docstring's stars, brackets and underscores mean themselves."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"([\\*_\[\]<>|~])", r"\\\1", piece) for piece in pieces)


def _cell(text: str) -> str:
    return _text(text).replace("\\|", "&#124;")
