"""`keep` on the command line: what was not kept is told, and what cannot keep refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cl_semisup import cli, plugins
from cl_semisup.scheduling import scheduler
from cl_semisup.suite.suite import Suite
from tests.execution.test_execution import InProcess

pytest.importorskip("safetensors", reason="pip install 'cl-semisup[safetensors]'")


def test_finished_runs_whose_networks_were_not_kept_are_counted(
    tmp_path: Path,
    parse: Callable[[str], Suite],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    scheduler.run_all(tmp_path / "results", list(parse(text).runs), InProcess())
    (tmp_path / "s.yaml").write_text(text + "keep: encoder\n")
    assert cli.main(["s.yaml"]) == 0
    out = capsys.readouterr().out
    assert "3 runs, 3 done, 0 to run." in out
    assert "keep: 2 finished runs have no network, since they were trained without `keep`; `--redo all` trains" in out


def test_ray_keeps_nothing_and_has_no_files_of_weights(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = plugins.load("encoders", "mlp")(width=4, layers=1).build(1, 8)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    (tmp_path / "kept.yaml").write_text(text + "keep: encoder\n")
    named = "encoder: {checkpoint: {file: w.pt, arch: {mlp: {width: 4, layers: 1}}}}"
    (tmp_path / "file.yaml").write_text(text.replace("encoder: {mlp: {width: 16, layers: 1}}", named))
    for name, message in (("kept", "keep: Ray's workers share no results folder. Got encoder."), ("file", "Got w.pt.")):
        assert cli.main([f"{name}.yaml", "--engine", "ray"]) == cli.BAD_INPUT
        assert message in capsys.readouterr().err
