"""What travels to a machine with a GPU is small and whole."""

from pathlib import Path

import pytest

from tools import pack_gpu

pytestmark = pytest.mark.skipif(not (pack_gpu.ROOT / ".git").exists(), reason="packs a checkout")


def test_the_pack_has_the_code_and_the_wheels_and_no_published_results(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "lacking-1.0-py3-none-any.whl").write_bytes(b"wheel")
    size = pack_gpu.pack(tmp_path / "tree", tmp_path / "wheels")
    there = {str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*") if path.is_file()}
    assert {"benchmarks/gpu.py", "cl_semisup/training/graph.py", "tests/gpu/imitated.py"} <= there
    assert ".gpu/wheels/lacking-1.0-py3-none-any.whl" in there
    assert not [name for name in there if name.startswith(("results/", "benchmarks/results/"))]
    assert size < pack_gpu.LIMIT / 2
