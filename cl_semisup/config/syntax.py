"""What a fault of YAML's syntax is in a reader's words: its place, the line, and what to do."""

import re

import yaml

_ADVICE = (  # form of PyYAML's problem -> what to do; {opened} is the line where the construct begins
    (r"could not find expected ':'", "Put a colon and a space after the key"),
    (r"mapping values are not allowed", "Put the text in quotes if the colon belongs to it, or begin a new line"),
    (r"expected <block end>", "Indent the line like those that it belongs to"),
    (r"'\\t' that cannot start", "Indent with spaces, not with tabs"),
    (r"that cannot start|undefined alias|expected alphabetic", "Put the text in quotes"),
    (r"expected ',' or", "Close the bracket of line {opened}, or put a comma between its values"),
    (r"unexpected end of stream", "Close the quote of line {opened}"),
)
_AT_THE_START = "could not find expected ':'"  # PyYAML notices it lines later


def explained(error: yaml.MarkedYAMLError, text: str) -> str:
    """`line:column: must be valid YAML: ...` of an error of PyYAML in this text."""
    problem = " ".join(str(error.problem or error.context).split())
    mark = error.problem_mark or error.context_mark
    if problem == _AT_THE_START:
        mark = error.context_mark or mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    opened = error.context_mark.line + 1 if error.context_mark else line + 1
    advice = next((remedy for form, remedy in _ADVICE if re.search(form, problem)), "Mend the syntax there")
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text)  # what YAML 1.1 counts
    got = lines[line].strip() if line < len(lines) else ""
    quoted = repr(got if len(got) <= 60 else got[:57] + "...") if got else "the end of the text"
    rule = f"must be valid YAML: {problem}. Got {quoted}. {advice.format(opened=opened)}."
    return f"{line + 1}:{column + 1}: {rule}"
