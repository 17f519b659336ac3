"""The documentation site: pages of plug-ins with typeset formulas, links between files, nothing from the network.

`make docs` builds the whole of it, strictly; these are its parts.
"""

import re
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

pytest.importorskip("mkdocs")
pytest.importorskip("latex2mathml")

from cl_semisup import plugins
from cl_semisup.plugins.docstrings import body
from tools import docs_site, formulas, plugin_pages

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("L = mean_a [ s_ab / t ]", r"L = \operatorname{mean}_{a} [ s_{ab} / t ]"),
        ("q = 1/(N D) sum_{d != e} x_d^2", r"q = \frac{1}{N D} \sum_{d \ne e} x_{d}^{2}"),
        ("e^{u.m_y/t} >= sqrt(eps)", r"e^{u \cdot m_{y} / t} \ge \sqrt{\epsilon}"),
        ("mean over labelled i of z1_i", r"\text{mean over labelled}\  i \ \text{of}\  z_{1,i}"),
        ("sum_{b not in {a, p(a)}} x_b", r"\sum_{b \notin \{a , p (a)\}} x_{b}"),
        ("p'_ic prop. to 1e-8,  r ~ N(0, 1)", r"p_{ic}^{\prime} \propto 10^{-8} , \quad r \sim N (0 , 1)"),
        ("w * 1/2 sum_v C_{t-1}", r"w \,\cdot\, \frac{1}{2} \sum_{v} C_{t - 1}"),
    ],
)
def test_a_formula_of_a_docstring_is_typeset(text: str, latex: str) -> None:
    assert formulas.latex(text) == latex


def test_lists_of_names_are_no_formulas() -> None:
    assert not formulas.is_formula("finetune_head_top1_labelled     the head alone")
    assert formulas.is_formula("  + w_a [ mean over classes ]")
    assert formulas.is_formula("L = 0")


def test_every_formula_of_every_plug_in_is_well_formed_and_keeps_its_numbers() -> None:
    count = 0
    for folder in plugins.FOLDERS:
        for name in plugins.names(folder):
            lines = [line for line in body(plugins.docstring(folder, name)).splitlines() if line.startswith("    ")]
            for line in filter(formulas.is_formula, lines):
                root = ElementTree.fromstring(formulas.mathml(line))
                shown = "".join(root.itertext())
                for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", line):
                    assert number in shown, f"{name}: {line}"
                assert "\\" not in re.sub(r"\\[{}]", "", shown), f"{name}: {line}"
                count += 1
    assert count > 120


def test_every_plug_in_has_a_page_with_its_settings() -> None:
    pages = plugin_pages.pages()
    for kind in plugins.FOLDERS:
        overview = pages[f"{plugin_pages.folder(kind)}/index.md"]
        for name in plugins.names(kind):
            assert f"({name}.md)" in overview
            text = pages[f"{plugin_pages.folder(kind)}/{name}.md"]
            for setting in fields(plugins.load(kind, name)):
                assert f"| `{setting.name}` |" in text, f"{name}: {setting.name}"
    clop = pages["losses/clop.md"]
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in clop
    assert "losses: {clop: {weight: 1.0}}" in clop
    assert "[Preventing Collapse in Contrastive Learning" in clop


def test_links_between_files_are_links_between_pages() -> None:
    text = (
        "[a](docs/data.md#views) [b](PROTOCOL.md) [c](https://arxiv.org) [d](docs/picture.svg) [e](results/published)"
    )
    expected = "[a](data.md#views) [b](repository/PROTOCOL.md) [c](https://arxiv.org) [d](picture.svg) "
    assert docs_site.relinked(text, "README.md", "index.md") == expected + "[e](repository/results/published/index.md)"
    back = docs_site.relinked(
        "[x](../docs/data.md) [y](../README.md)", "results/README.md", "repository/results/README.md"
    )
    assert back == "[x](../../data.md) [y](../../index.md)"
    assert docs_site.relinked("[n](tutorial.ipynb)", "docs/tutorial.md", "tutorial.md") == "[n](tutorial_notebook.md)"


def test_files_that_pages_link_to_become_pages() -> None:
    assert docs_site.content("suites/quickstart.yaml").startswith("# suites/quickstart.yaml\n\n````yaml\n# yaml")
    assert "- quickstart.yaml" in docs_site.content("suites")
    cells = docs_site.content("docs/tutorial.ipynb")
    assert cells.startswith("# Tutorial in a notebook")
    assert "```python\nimport cl_semisup as cl" in cells


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://a.org/x.js">',
        "<link rel=stylesheet href=//a.org/x.css>",
        '<img alt="x" src="http://a.org/x.png">',
        "@font-face{src:url(https://a.org/x.woff)}",
        '@import "https://a.org/x.css"',
    ],
)
def test_a_page_that_asks_the_network_is_found(text: str) -> None:
    assert "//a.org/x." in docs_site.foreign_request(text)


def test_links_and_pictures_of_its_own_are_no_requests() -> None:
    text = '<a href="https://a.org"> <img src="picture.svg"> <link rel="canonical" href="https://a.org/">'
    assert docs_site.foreign_request(text + '<svg xmlns="http://www.w3.org/2000/svg">') == ""


def test_the_site_is_built_strictly_and_without_fetched_fonts() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    assert settings["strict"] is True
    assert settings["theme"]["font"] is False
    assert settings["validation"]["links"] == dict.fromkeys(settings["validation"]["links"], "warn")


def test_a_linked_folder_is_a_page_of_its_own_beside_the_pages_within() -> None:
    """A page `findings` and a folder `findings` of other pages cannot both be written."""
    assert docs_site.site_path("docs/findings") == "findings/index.md"
    assert docs_site.site_path("results/published") == "repository/results/published/index.md"
    assert docs_site.site_path("docs/findings/views.md") == "findings/views.md"
