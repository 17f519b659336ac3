"""The syntax tree of a plug-in's code in a form that rewording, moved helpers and renamed imports do not change."""

import ast
from pathlib import Path

HOME = Path(__file__).parents[2]  # the folder of the package
# Names of this package that plug-ins use -> their first names, of which versions are made: records stay current.
FIRST_NAMES = {"Requirements": "Asks", "requirements": "asks", "requirements_of": "asks"}


class Canonical(ast.NodeTransformer):
    """A tree without docstrings and imports; each imported name is written in full, renamed ones as they were.

    `F.normalize` and `functional.normalize` become `torch.nn.functional.normalize`. Names of this package lose their
    module (`contrast.unit` becomes `unit`), so that a helper can move to another module.
    """

    def __init__(self, tree: ast.Module):
        self.imported: dict[str, str] = {}  # local name -> dotted name
        for node in ast.walk(tree):
            for field in ("id", "attr", "arg", "name", "asname"):
                if first := FIRST_NAMES.get(getattr(node, field, None) or ""):
                    setattr(node, field, first)
            if isinstance(node, ast.Import):
                for alias in node.names:
                    dotted = alias.name if alias.asname else alias.name.partition(".")[0]
                    self.imported[alias.asname or dotted] = dotted
            elif isinstance(node, ast.ImportFrom):
                ours = (node.module or "").startswith("cl_semisup")
                for alias in node.names:
                    module = ours and _module_file(f"{node.module}.{alias.name}")
                    whole = alias.name if ours and not module else f"{node.module}.{alias.name}"
                    self.imported[alias.asname or alias.name] = whole

    def visit_Name(self, node: ast.Name) -> ast.Name:
        dotted = self.imported.get(node.id)
        return ast.Name(_without_package(dotted), node.ctx) if dotted else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        attributes, value = [node.attr], node.value
        while isinstance(value, ast.Attribute):
            attributes, value = [value.attr, *attributes], value.value
        if isinstance(value, ast.Name) and value.id in self.imported:
            return ast.Name(_without_package(".".join([self.imported[value.id], *attributes])), node.ctx)
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        body = getattr(node, "body", None)
        if isinstance(body, list):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            first = body[0] if body and documented else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                body = body[1:]
            body = [statement for statement in body if not isinstance(statement, ast.Import | ast.ImportFrom)]
            node.body = body or [ast.Pass()]  # type: ignore[attr-defined]
        return super().generic_visit(node)


def written(node: object) -> str:
    """A tree as text that is the same under every version of Python, unlike `ast.dump`: that of Python 3.11.

    Later versions leave out empty lists, know type parameters (`class A[T]`), which are written only if there are any,
    and put empty texts into f-strings.
    """
    if isinstance(node, list):
        return f"[{', '.join(map(written, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr([part for part in node.values if getattr(part, "value", None) != ""])
    fields = [(name, getattr(node, name)) for name in node._fields if hasattr(node, name)]
    left_out = [name for name, value in fields if value is None and getattr(type(node), name, "required") is None]
    left_out += [name for name, value in fields if name == "type_params" and not value]
    texts = [f"{name}={written(value)}" for name, value in fields if name not in left_out]
    return f"{type(node).__name__}({', '.join(texts)})"


def _without_package(dotted: str) -> str:
    """Of a name of this package what follows its module; other names whole."""
    words = dotted.split(".")
    if words[0] != "cl_semisup":
        return dotted
    modules = [n for n in range(1, len(words)) if _module_file(".".join(words[:n]))]
    return ".".join(words[max(modules, default=1) :])


def _module_file(dotted: str) -> bool:
    """Is this a module or a folder of the package?"""
    path = HOME.joinpath(*dotted.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()
