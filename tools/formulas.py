"""The formulas of docstrings as LaTeX and MathML: `L = mean_a [ log sum_{b != a} exp(s_ab / t) - s_{a,p(a)} / t ]`.

A docstring writes a formula as a reader of code does: subscripts and powers after `_` and `^`, a dot between vectors,
words where a symbol would be a riddle. Words stay words; browsers draw MathML without any script.
"""

import re

from latex2mathml import converter

GREEK = {"alpha", "beta", "gamma", "delta", "epsilon", "phi"} | {"eps": "epsilon", "lam": "lambda"}.keys()
RENAMED = {"eps": "epsilon", "lam": "lambda"}
LARGE = {"sum": r"\sum", "int": r"\int"}  # what stands below them is set below them
UNDER = {"mean", "max", "min", "argmax", "argmin"}  # the same, and named
FUNCTIONS = {
    "log",
    "exp",
    "cos",
    "tanh",
    "softmax",
    "relu",
    "sigmoid",
    "softplus",
    "norm",
    "std",
    "sort",
    "round",
    "lse",
}
FUNCTIONS |= {"Var", "Cov", "Corr", "CE", "SNR", "Neg", "onehot", "sg", "ctr", "proj"}
SIGNS = {
    "<=": r"\le",
    ">=": r"\ge",
    "!=": r"\ne",
    "<-": r"\leftarrow",
    "*": r"\,\cdot\,",
    "...": r"\dots",
    "~": r"\sim",
}
SIGNS |= {"prop. to": r"\propto", "not in": r"\notin", "{": r"\{", "}": r"\}", "%": r"\%"}
_TOKEN = re.compile(
    r"\s+|prop\. to|not in|<=|>=|!=|<-|\.\.\.|\d+(?:\.\d+)?(?:e-?\d+)?"  # spaces, signs, numbers
    r"|[A-Za-z]+'s\b|[A-Za-z]{2,}-[a-z]{2,}|[a-z]-th|[A-Za-z]+"  # words and symbols
    r"|.",
    re.DOTALL,
)
_WORD = re.compile(r"\\text\{([^{}]*)\}")
_FORMULA = re.compile(r"(^| )(=|<-|prop\. to) |^[-+=] |^min over |\] \+ |^\|")


def is_formula(line: str) -> bool:
    """Whether an indented line of a docstring is a formula, and no list of names."""
    return bool(_FORMULA.search(line.strip()))


def mathml(line: str) -> str:
    """A formula as a MathML block."""
    return converter.convert(latex(line), display="block")


def latex(line: str) -> str:
    """A formula in LaTeX; parts that two or more spaces separate stay apart."""
    parts = [part for part in re.split(r"\s{2,}", line.strip()) if part]
    return r" \quad ".join(_Reader(part).read() for part in parts)


class _Reader:
    """Reads one part of a formula from left to right."""

    def __init__(self, text: str):
        self.tokens = _TOKEN.findall(text)
        self.at = 0
        self.in_script = False  # below or above another symbol: small, so no fractions

    def read(self, end: str = "") -> str:
        """LaTeX up to the closing sign `end`, which is passed."""
        atoms: list[str] = []
        while self.at < len(self.tokens):
            token = self._next()
            if token == end:
                break
            if token == "/" and atoms and self._is_tight() and r"\cdot" not in atoms[-2:-1]:
                below = self._atom(self._next())
                below = below[1:-1] if below.startswith("(") and below.endswith(")") else below
                atoms.append(rf"\frac{{{atoms.pop()}}}{{{below}}}")
            elif not token.isspace():
                atoms.append(self._atom(token))
        return _joined(atoms)

    def _next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else ""

    def _peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def _is_tight(self) -> bool:
        """Whether nothing but a short factor follows the slash that was just read: a fraction, and no division."""
        if self.in_script:
            return False
        before = self.tokens[self.at - 2] if self.at >= 2 else " "
        return not before.isspace() and before not in ")]}" and bool(re.match(r"[\w(]", self._peek() or " "))

    def _atom(self, token: str) -> str:
        """A symbol, number, word or bracket with its subscripts and powers."""
        if token == "(":
            inner = f"({self.read(')')})"
        elif token == "{":
            inner = rf"\{{{self.read('}')}\}}"
        elif token == "sqrt" and self._peek() == "(":
            self._next()
            inner = rf"\sqrt{{{self.read(')')}}}"
        elif token == "." and self._is_product():
            return r"\cdot"
        elif token[:1].isalpha() and token not in SIGNS:
            inner = self._symbol(token)
        else:
            inner = SIGNS.get(token) or re.sub(r"^1e(-?\d+)$", r"10^{\1}", token)
        return inner + self._scripts(token)

    def _is_product(self) -> bool:
        """Whether the dot that was just read stands between two vectors."""
        before = self.tokens[self.at - 2] if self.at >= 2 else ""
        return bool(re.match(r"[\w})']", before)) and bool(re.match(r"[A-Za-z(]", self._peek()))

    def _symbol(self, token: str) -> str:
        if self._is_phrase(token):
            return rf"\text{{{token}}}"
        if token in LARGE:
            return LARGE[token]
        if token in GREEK:
            return rf"\{RENAMED.get(token, token)}"
        if token in UNDER | FUNCTIONS:
            return rf"\operatorname{{{token}}}"
        if token == "in" and (self.in_script or re.fullmatch(r"\{|[A-Za-z]", self._peek(1))):
            return r"\in"
        return token if len(token) == 1 and not self._is_article(token) else rf"\text{{{token}}}"

    def _is_article(self, token: str) -> bool:
        """The `a` of `without a gradient`."""
        before = self.tokens[self.at - 3] if self.at >= 3 else ""
        return (
            token == "a"
            and len(before) > 1
            and before.isalpha()
            and bool(re.match(r"(?!of|and)[a-z]{2}", self._peek(1)))
        )

    def _is_phrase(self, token: str) -> bool:
        """`sum over`, `mean of`: words and no sign."""
        return token in LARGE.keys() | UNDER and self._peek(1) in ("over", "of", "row", "and", "to")

    def _scripts(self, token: str) -> str:
        """What `_`, `^`, primes, tildes and digits say of the symbol before them."""
        below, above = "", ""
        if token.isalpha() and len(token) == 1 and self._peek().isdigit():
            below = self._next()  # z1
        while self._peek() in ("_", "^", "'") or (self._peek() == "~" and token.isalpha()):
            sign = self._next()
            if sign == "_":
                below = ",".join(part for part in (below, self._script()) if part)
            elif sign == "^":
                above += self._script()
            else:
                above += r"\prime" if sign == "'" else r"\sim"
        return (f"_{{{below}}}" if below else "") + (f"^{{{above}}}" if above else "")

    def _script(self) -> str:
        outside, self.in_script = self.in_script, True
        text = self._script_text()
        self.in_script = outside
        return text

    def _script_text(self) -> str:
        of_power, token = self.tokens[self.at - 1] == "^", self._next()
        if token == "{":
            return self.read("}")
        if token == "(":
            return self.read(")") if of_power else f"({self.read(')')})"
        if token in "-+":
            return token + (self._next() if self._peek().isalnum() else "")
        if token in GREEK:
            return self._symbol(token)
        if not token.isalpha() or len(token) == 1:
            return token + ("'" if token.isalpha() and self._peek() == "'" and self._next() else "")
        return token if len(token) <= 3 and token not in ("all", "own", "std") else rf"\text{{{token}}}"


def _joined(atoms: list[str]) -> str:
    """Words that follow each other are one text, with a space on each side where something else stands."""
    parts: list[str] = []
    for atom in atoms:
        word = _WORD.fullmatch(atom)
        if word and parts and _WORD.fullmatch(parts[-1]):
            parts[-1] = rf"\text{{{parts[-1][6:-1]} {word.group(1)}}}"
        else:
            parts.append(atom)
    spaced = [
        (r"\ " if i and parts[i - 1] != "(" else "") + part + (r"\ " if parts[i + 1 : i + 2] not in ([","], []) else "")
        if _WORD.fullmatch(part)
        else part
        for i, part in enumerate(parts)
    ]
    return " ".join(spaced)


def block(lines: list[str]) -> str:
    """The indented lines of a docstring as HTML: formulas as MathML, other lines as they are."""
    parts, plain = [], list[str]()
    for line in [*lines, None]:
        if line is not None and not is_formula(line):
            plain.append(line)
            continue
        if plain:
            parts.append("```\n" + "\n".join(plain) + "\n```")
            plain = []
        if line is not None:
            parts.append(f'<div class="formula">{mathml(line)}</div>')
    return "\n\n".join(parts)
