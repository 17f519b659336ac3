"""What a suite uses is cited from the `Source:` entries of its plug-ins."""

import re
from pathlib import Path
from typing import Any

import pytest

from cl_semisup import cli, plugins
from cl_semisup.citation import bibtex, sources, suite_sources
from cl_semisup.plugins.docstrings import entry
from cl_semisup.suite import suite

ROOT = Path(__file__).parents[2]
EVERY = [(folder, name) for folder in plugins.FOLDERS for name in plugins.names(folder)]
OWN = """from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    \"\"\"Mine. Source: none

    Source: arXiv 2999.12345, equation 2; after arXiv 2002.05709
    \"\"\"

    def __call__(self, z1, z2, labels=None):
        return (z1 - z2).square().mean()
"""


def test_every_arxiv_id_of_a_source_has_a_title() -> None:
    named = {
        i for plugin in EVERY for i in re.findall(r"\b\d{4}\.\d{4,5}\b", entry(plugins.docstring(*plugin), "Source"))
    }
    assert len(named) > 90
    assert named - set(sources.table()) == set()
    assert {
        name for name, source in sources.table().items() if source.is_arxiv
    } - named == set()  # and none is left over


@pytest.mark.parametrize("folder", ["losses", "evaluation"])
def test_every_loss_and_probe_has_a_source(folder: str) -> None:
    assert [name for name in plugins.names(folder) if not sources.of_plugin(folder, name)] == []


def test_a_year_is_that_of_the_first_version() -> None:
    for name, source in sources.table().items():
        assert source.authors
        if source.is_arxiv:
            assert str(source.year) == f"20{name[:2]}"


def test_sources_are_named_in_the_order_of_the_entry() -> None:
    found = sources.named_in("Roy & Vetterli 2007; arXiv 2005.10242; feature_std as in arXiv 2011.10566, section 4.1")
    assert [source.short for source in found] == ["Roy and Vetterli 2007", "Wang and Isola 2020", "Chen and He 2020"]
    assert sources.named_in("arXiv 2002.05709")[0].short == "Chen et al. 2020"
    assert sources.named_in("arXiv 1807.03748")[0].short == "van den Oord et al. 2018"
    assert sources.named_in("None") == []
    assert sources.named_in("version 2024.12345678, 12.34567") == []


def test_entries_are_bibtex_and_have_keys_of_their_own() -> None:
    """Read back with a reader of its own: braces balance, and each field is there once."""
    keys = [bibtex.key(source) for source in sources.table().values()]
    assert len(set(keys)) == len(keys)
    for source in sources.table().values():
        text = bibtex.entry(source, ["losses.nt_xent"])
        assert text.count("{") == text.count("}")
        (body,) = re.fullmatch(r"@\w+\{[a-z0-9]+,\n(.*)\n\}\n", text, re.DOTALL).groups()  # type: ignore[union-attr]
        fields = dict(re.fullmatch(r"  (\w+) = \{(.*?)\},?", line).groups() for line in body.split("\n"))  # type: ignore[union-attr]
        assert fields["title"] == f"{{{source.title}}}".replace("&", r"\&")
        assert fields["year"] == str(source.year)
        assert fields["author"].count(" and ") == len(source.authors) - 1
        assert fields["annote"] == r"losses.nt\_xent"
        assert (fields.get("eprint") == source.name) == source.is_arxiv
    authors = [bibtex.entry(sources.table()[name]) for name in ("1807.03748", "2002.05709", "pytorch/vision")]
    assert "{van den Oord, Aaron and Li, Yazhe and Vinyals, Oriol}" in authors[0]
    assert "{Chen, Ting and Kornblith, Simon and Norouzi, Mohammad and Hinton, Geoffrey}" in authors[1]
    assert "{{TorchVision contributors}}" in authors[2]


def test_a_suite_s_sources_hold_bases_of_losses_and_data_sets_of_probes(text: str) -> None:
    text = re.sub("(?m)^losses: .*", "losses: [{clop: {base: supcon}}, orthogonality]", text)
    text += "probes: {transfer: {datasets: [digits]}}\n"
    found = suite_sources.of_runs(suite.parse(text, "a.yaml").runs)
    by_name = {source.name: used for source, used in found.sources.items()}
    assert by_name["2403.18699"] == ["losses.clop"]
    assert by_name["2004.11362"] == ["losses.supcon"]
    assert "probes.transfer" in by_name["2002.05709"]
    assert "datasets.digits" in by_name["UCI Optical Recognition"]
    assert [source.name for source in found.unchecked] == ["1810.09102"]
    assert found.unknown == []


def test_cite_prints_bibtex_and_says_what_is_missing(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], forget_plugins: None
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "a.yaml").write_text(re.sub("(?m)^losses: .*", "losses: [mine, clop, orthogonality]", text))
    assert cli.main(["cite", str(tmp_path / "a.yaml"), "--plugin", str(tmp_path / "mine.py")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("@misc{cl_semisup,")
    assert "title = {{A Simple Framework for Contrastive Learning of Visual Representations}}" in out
    assert r"annote = {losses.mine, losses.nt\_xent" in out
    assert "@misc{arxiv2999.12345,\n  title = {{arXiv:2999.12345}}" in out
    assert "arXiv:2999.12345: our table of sources lacks it. Look its title up." in err
    assert "1810.09102: we could not check the title" in err
    assert "Name no source: encoders." in err


@pytest.mark.parametrize(
    ("name", "title", "used_by"),
    [
        ("reference/simclr_finetuning", "A Simple Framework for Contrastive Learning", "losses.nt\\_xent"),
        ("reference/solo_learn_imagenet100", "Large Batch Training", "optimizers.lars"),
        ("reference/solo_learn_imagenet100_vicreg", "VICReg", "losses.vicreg"),
        ("collapse", "Preventing Collapse in Contrastive Learning with Orthonormal Prototypes", "descents"),
        ("collapse", "Bridging Mini-Batch", "losses.dhel, losses.kcl"),
    ],
)
def test_what_is_cited_needs_no_data(
    name: str, title: str, used_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """ImageNet is nowhere, a stranger who reads a table has none of its images, and descents have no data set."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["cite", name]) == 0
    (found,) = [text for text in capsys.readouterr().out.split("\n\n") if title in text]
    assert f"annote = {{{used_by}" in found


def test_a_suite_with_a_fault_is_not_cited(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(text.replace("nt_xent", "nt_xnt", 1))
    assert cli.main(["cite", str(tmp_path / "a.yaml")]) == 2
    assert "unknown loss 'nt_xnt'" in capsys.readouterr().err


def test_a_suite_that_comes_along_is_cited_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cite", "small/lines"]) == 0
    assert capsys.readouterr().out.count("@misc{") > 3


def test_the_citation_file_has_the_version_of_the_package() -> None:
    import yaml

    from cl_semisup.version import __version__

    file = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert file["version"] == __version__
    assert file["cff-version"] == "1.2.0"
    assert file["authors"]
