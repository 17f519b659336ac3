"""The documentation site beside the pages of docs/: mkdocs calls these hooks while it builds (`make docs`).

The start page is the README. Every plug-in has a page, made from its docstring and the schema of suites. Files of the
repository that a page links to become pages too, so that no link leads out of the site.
"""

import json
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import plugin_pages  # noqa: E402

START = ("README.md", "PROTOCOL.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md", "docs/tutorial.ipynb")
_LINK = re.compile(r"(\]\()([^)\s#]+)")
_REQUEST = re.compile(
    r"""(?:<(?:script|img|iframe|source|embed|video|audio)\b[^>]*?\bsrc=|<link\b(?![^>]*\brel=["']?(?:canonical|alternate|next|prev))"""
    r"""[^>]*?\bhref=|\burl\(|@import\s)["']?((?:https?:)?//[^"'\s>)]+)"""
)
_LANGUAGES = {".yaml": "yaml", ".py": "python", ".json": "json", ".ipynb": "python"}
_repository_files: dict[str, str] = {}  # page -> the file of the repository that it shows


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    _repository_files.clear()
    for file in files.documentation_pages():
        _repository_files[file.src_uri] = f"docs/{file.src_uri}"
    queue = [*START, *_linked_from(*_repository_files.values())]
    while queue:
        path = queue.pop()
        if site_path(path) in _repository_files or files.get_file_from_path(site_path(path)):
            continue
        _repository_files[site_path(path)] = path
        files.append(File.generated(config, site_path(path), content=content(path)))
        queue += _linked_from(path)
    for path, text in plugin_pages.pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """No page may ask the network for anything when it is looked at."""
    for path in Path(config.site_dir).rglob("*"):
        if path.suffix in (".html", ".css") and (found := foreign_request(path.read_text("utf-8"))):
            raise PluginError(f"{path.relative_to(config.site_dir)}: asks the network for {found}.")


def foreign_request(text: str) -> str:
    """The first address that a browser would fetch for this page or style sheet by itself; "" if there is none."""
    match = _REQUEST.search(text)
    return match.group(1) if match else ""


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links between files of the repository links between pages."""
    source = _repository_files.get(page.file.src_uri)
    return relinked(markdown, source, page.file.src_uri) if source else markdown


def site_path(path: str) -> str:
    """The page of a file or folder of the repository."""
    if path == "README.md":
        return "index.md"
    if (ROOT / path).is_dir():
        return f"{path.removeprefix('docs/') if path.startswith('docs/') else f'repository/{path}'}/index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/").replace(".ipynb", "_notebook.md")
    return f"repository/{path}" if path.endswith(".md") else f"repository/{path}.md"


def content(path: str) -> str:
    """The Markdown that shows a file or folder of the repository."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(
            f"{one.name}/" if one.is_dir() else one.name for one in file.iterdir() if one.name[0] not in "._"
        )
        return f"# {path}\n\n" + "\n".join(f"- {name}" for name in names) + "\n"
    text = file.read_text("utf-8")
    if path.endswith(".ipynb"):
        return notebook(text)
    return text if path.endswith(".md") else f"# {path}\n\n````{_LANGUAGES.get(file.suffix, '')}\n{text}````\n"


def notebook(text: str) -> str:
    """The cells of a notebook, without outputs."""
    cells = json.loads(text)["cells"]
    parts = [_cell(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    return "\n\n".join(parts) + "\n"


def _cell(kind: str, source: str) -> str:
    return source if kind == "markdown" else f"```python\n{source}\n```"


def relinked(markdown: str, source: str, page: str) -> str:
    """Links of the file `source` as links of its page."""

    def link(match: re.Match[str]) -> str:
        target = _target(match.group(2), source)
        if target is None:
            return match.group()
        found = target.removeprefix("docs/") if target.endswith(".svg") else site_path(target)
        return match.group(1) + posixpath.relpath(found, posixpath.dirname(page) or ".")

    return _LINK.sub(link, markdown)


def _linked_from(*paths: str) -> list[str]:
    """Files of the repository that these Markdown files and notebooks link to."""
    found = []
    for path in paths:
        if path.endswith((".md", ".ipynb")) and (ROOT / path).is_file():
            links = _LINK.findall((ROOT / path).read_text("utf-8"))
            found += [target for _, link in links if (target := _target(link, path)) and not target.endswith(".svg")]
    return found


def _target(link: str, source: str) -> str | None:
    """The file or folder of the repository that a link of the file `source` leads to; None if it leaves it."""
    if re.match(r"[a-z]+:", link):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return path if (ROOT / path).exists() else None
