"""Encoders from elsewhere are tried when a suite is checked; settings that came later move no id."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_semisup import plugins
from cl_semisup.errors import SuiteError
from cl_semisup.results import protocol
from cl_semisup.results.naming import RunNames
from cl_semisup.suite import suite
from cl_semisup.suite.suite import Suite
from cl_semisup.weights import source

Parse = Callable[[str], Suite]
MLP = "encoder: {mlp: {width: 16, layers: 1}}"
ARCH = "arch: {mlp: {width: 4, layers: 1}}"


def problem(parse: Parse, text: str) -> str:
    with pytest.raises(SuiteError) as caught:
        parse(text)
    (line,) = caught.value.problems
    return line


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    net = plugins.load("encoders", "mlp")(width=4, layers=1).build(1, 8)
    torch.save({"module." + name: tensor for name, tensor in net.state_dict().items()}, tmp_path / "w.pt")
    return tmp_path


@pytest.mark.parametrize("file", ["/etc/w.pt", "../w.pt", "a/../../w.pt", "C:\\w.pt"])
def test_weights_lie_inside_the_folder_where_the_command_runs(file: str, parse: Parse, text: str) -> None:
    line = problem(parse, text.replace(MLP, f"encoder: {{checkpoint: {{file: '{file}', {ARCH}}}}}"))
    assert line.startswith("s.yaml:3:10: encoder: weights must be inside the folder where the command runs")


def test_what_lacks_in_a_file_is_told_with_its_place(weights: Path, parse: Parse, text: str) -> None:
    line = problem(parse, text.replace(MLP, "encoder: {checkpoint: {file: w.pt, arch: {mlp: {width: 4, layers: 2}}}}"))
    assert "s.yaml:3:10: encoder: w.pt: weights: must hold every weight of the network; 5 lack: 4.weight" in line
    line = problem(parse, text.replace(MLP, f"encoder: {{checkpoint: {{file: none.pt, {ARCH}}}}}"))
    assert "none.pt: weights must be in a file. Got none there" in line


def test_what_was_taken_and_what_is_frozen_are_told(weights: Path, parse: Parse, text: str) -> None:
    found = parse(
        text.replace(MLP, f"encoder: {{checkpoint: {{file: w.pt, {ARCH}, freeze: all, pretrained_on: digits}}}}")
    )
    first, second = found.notes
    assert first.startswith("s.yaml:3:10: encoder: weights of w.pt (hash ")
    assert first.endswith("taken under the prefix 'module.'.")
    assert "3 of 3 parameter tensors are frozen: all. Training does not change the features" in second
    assert {"encoders.checkpoint", "encoders.mlp"} <= protocol.versions(found.runs[-1]).keys()


def test_freeze_is_a_grid_of_words_and_stages(weights: Path, parse: Parse, text: str) -> None:
    grid = text.replace(MLP, f"encoder: {{checkpoint: {{file: w.pt, {ARCH}, freeze: [none, all, {{stages: 1}}]}}}}")
    found = {repr(run.encoder["checkpoint"]["freeze"]) for run in parse(grid).runs}
    assert found == {"'none'", "'all'", "{'stages': 1}"}
    assert all(protocol.versions(run) for run in parse(grid).runs)
    line = problem(parse, grid.replace("[none, all, {stages: 1}]", "some"))
    assert "freeze: must be 'none' or 'all'" in line


def test_an_encoder_that_raises_anything_is_a_problem_of_the_suite(
    parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, channels: int, side: int) -> tuple[str, ...]:
        raise ZeroDivisionError("no")

    monkeypatch.setattr(plugins.load("encoders", "mlp"), "check", fail, raising=False)
    assert "encoder: must be buildable. Got ZeroDivisionError: no. Mend the encoder." in problem(parse, text)


def test_a_projectors_new_settings_move_no_id_at_their_defaults(parse: Parse, text: str) -> None:
    plain = [run.id for run in parse(text).runs]
    assert [run.id for run in parse(text + "projector: {norm: batch, last_norm: false}\n").runs] == plain
    run = parse(text + "projector: {norm: batch}\n").runs[-1]
    assert run.projector == {"layers": 2, "hidden": 0, "dim": 128}
    other = parse(text + "projector: {norm: [batch, layer]}\n").runs
    assert {one.id for one in other} > set(plain)
    names = RunNames(other)
    tasks = {task for one in other for task in names.tasks(one)}
    assert {task.rpartition("projector.norm=")[2] for task in tasks} == {"batch", "layer"}


def test_a_last_norm_needs_a_norm_and_a_layer(parse: Parse, text: str) -> None:
    line = problem(parse, text + "projector: {last_norm: true, norm: none}\n")
    assert "projector: last_norm needs a norm. Got norm: none" in line
    assert "Got layers: 0. Leave it out." in problem(parse, text + "projector: {last_norm: true, layers: 0}\n")


def test_keep_changes_no_id_and_needs_its_package(parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = parse(text)
    if not source.missing_safetensors():
        kept = parse(text + "keep: all\n")
        assert (kept.keep, plain.keep) == ("all", "none")
        assert [run.id for run in kept.runs] == [run.id for run in plain.runs]
    monkeypatch.setattr(suite, "missing_safetensors", lambda: "needs the package safetensors. Got none.")
    assert problem(parse, text + "keep: encoder\n") == "s.yaml:10:7: keep: needs the package safetensors. Got none."
    parse(text)


def test_an_optimizer_whose_steps_see_layers_takes_a_row_of_linear_layers_alone(
    weights: Path, parse: Parse, text: str
) -> None:
    causal = text + "optimizer: [sgd, {layer_causal: {momentum: 0.5}}]\n"
    assert parse(causal)
    assert parse(causal.replace(MLP, f"encoder: {{checkpoint: {{file: w.pt, {ARCH}}}}}"))
    assert parse(causal.replace(MLP, "encoder: [linear, {mlp: {width: 8, layers: 3}}]"))
    rule = "layer-causal steps need an encoder that is a row of linear layers of one width. Got "
    line = problem(parse, causal.replace(MLP, "encoder: [mlp, convnet]"))
    assert line.startswith("s.yaml:10:18: optimizer[1]: " + rule + "no such row (Sequential).")
    line = problem(parse, causal.replace(MLP, "encoder: {vit: {layers: 1}}"))
    assert rule + "no such row (VisionTransformer). Use mlp or linear, or another optimizer." in line


OWN = '''\
from dataclasses import dataclass


@dataclass(frozen=True)
class Theirs:
    """Source: none"""

    def build(self, weights, others):
        raise ZeroDivisionError("no")
'''


def test_an_optimizer_of_the_user_that_raises_anything_is_a_problem_of_the_suite(
    parse: Parse, text: str, tmp_path: Path, forget_plugins: None
) -> None:
    (tmp_path / "theirs.py").write_text(OWN)
    plugins.add(tmp_path / "theirs.py")
    line = problem(parse, text + "optimizer: theirs\n")
    assert "must be buildable. Got ZeroDivisionError: no. Mend the optimizer or the encoder." in line


def test_a_suite_is_checked_without_pytorchs_compiler(text: str, tmp_path: Path) -> None:
    """It takes two seconds to import; building any torch optimizer does."""
    (tmp_path / "s.yaml").write_text(text)
    code = "import sys\nfrom cl_semisup.suite import suite\nfrom pathlib import Path\n"
    code += "suite.read(Path(sys.argv[1]))\nprint('torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    words = [sys.executable, "-c", code, str(tmp_path / "s.yaml")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.split() == ["True", "False"]
