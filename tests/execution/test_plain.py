"""Fast paths against the reference mode `plain`: same seeds, same data, the same losses up to rounding."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import cli, plugins
from cl_semisup.contrast import chunked
from cl_semisup.engines import fork_server
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.fast_paths import compiled, disable_fused_steps, resolved_precision
from cl_semisup.execution.machine import Machine
from cl_semisup.results import protocol
from cl_semisup.scheduling import scheduler
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite

FAST, PLAIN = Machine("cpu", "data"), Machine("cpu", "data", plain=True)
MAX_DIFFERENCE = 0.03  # of accuracies on 360 test images: two standard errors at 0.9


@pytest.fixture
def run(parse: Callable[[str], Suite], text: str) -> Run:
    """A run of a convolutional network, for which the memory layout matters."""
    text = text.replace("{mlp: {width: 16, layers: 1}}", "{convnet: {width: 8, blocks: 2}}").replace(", clop", "")
    return parse(text.replace("epochs: 1", "epochs: 4")).runs[-1]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_fast_and_plain_give_the_same_losses_and_scores(
    run: Run, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked, "MAX_ENTRIES", 1000)  # the fast path computes a batch of 128 in chunks
    monkeypatch.setattr(chunked, "CHUNK_ENTRIES", 10_000)
    calls: list[int] = []
    log_sum = chunked.log_sum
    monkeypatch.setattr(chunked, "log_sum", lambda *arguments: (calls.append(1), log_sum(*arguments))[1])
    rate = 0.001 if optimizer == "adamw" else 0.1
    run = replace(run, optimizer={optimizer: {}}, learning_rate=rate)
    fast, fast_curves = Executor(FAST)(run)
    assert (fast_calls := len(calls)) >= fast["resolved"]["steps"]
    plain, plain_curves = Executor(PLAIN)(run)
    assert len(calls) == fast_calls  # the plain run has none
    assert fast["status"] == plain["status"] == "ok"
    losses = [curves["history"]["loss"] for curves in (fast_curves, plain_curves)]
    assert losses[0][:5] == pytest.approx(losses[1][:5], rel=1e-4)  # rounding alone
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # which grows in training
    for score in ("knn_top1", "linear_top1"):
        assert abs(fast["scores"][score] - plain["scores"][score]) <= MAX_DIFFERENCE
    assert plain["resolved"]["plain"] is True
    assert "plain" not in fast["resolved"]


def test_plain_is_a_protocol_of_its_own_and_single_precision(run: Run) -> None:
    assert resolved_precision("bfloat16", FAST) == "bfloat16"
    assert resolved_precision("bfloat16", PLAIN) == "float32"
    fingerprints = {
        protocol.fingerprint(protocol.settings(run, "d", "float32", plain=plain)) for plain in (False, True)
    }
    assert len(fingerprints) == 2


def test_plain_trains_every_run_by_itself_in_the_suites_order_in_a_spawned_worker(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forks, shared trainings and starting with the longest run are fast paths too, although no score depends on them."""
    (tmp_path / "s.yaml").write_text(text.replace("epochs: 1", "epochs: [1, 2]"))
    started: list[str] = []
    arguments: list[dict[str, Any]] = []
    monkeypatch.setattr(fork_server, "start", lambda: started.append("early"))
    monkeypatch.setattr(scheduler, "run_rounds", lambda *_, **how: (arguments.append(how), scheduler.RunCounts())[1])
    for words in ([], ["--plain"]):
        cli.main([str(tmp_path / "s.yaml"), "--results", str(tmp_path / "r"), "--device", "cpu", *words])
    fast, plain = arguments
    assert "expected_seconds" in fast
    assert fast.get("share", True)
    assert (plain["share"], "expected_seconds" in plain) == (False, False)
    assert started == (["early"] if fork_server.uses_fork_server("cpu") else [])
    assert fork_server.context("cpu", plain=True).get_start_method() == "spawn"


def test_steps_go_through_compiled_code_and_evaluation_through_the_encoder(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def compile_(encoder: nn.Module, **_: Any) -> Callable[[Tensor], Tensor]:
        return lambda inputs: (calls.append(len(inputs)), encoder(inputs))[1]

    monkeypatch.setattr(torch, "compile", compile_)
    compiled, compiled_curves = Executor(replace(FAST, compile=True, native=False))(run)
    assert calls == [2 * 128] * compiled["resolved"]["steps"]  # two views of a batch, and nothing else
    monkeypatch.undo()
    reference, reference_curves = Executor(replace(FAST, native=False))(run)
    assert (compiled["scores"], compiled_curves) == (reference["scores"], reference_curves)


def test_an_encoder_that_is_no_sequence_of_layers_can_be_compiled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's compiled module has `__len__`, even if the encoder has none."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    run = replace(run, encoder={"vit": {"layers": 1, "heads": 2, "head_width": 8}}, epochs=1)
    record = Executor(replace(FAST, compile=True))(run)[0]
    assert record["status"] == "ok", record["reason"]


def test_on_a_gpu_compiled_steps_are_cuda_graphs_whose_output_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked by the calls, so that no GPU is needed."""
    modes: list[str | None] = []
    output = torch.zeros(2)  # like the output of a graph, which every replay overwrites

    def compile_(encoder: nn.Module, mode: str | None = None) -> Callable[[Tensor], Tensor]:
        modes.append(mode)
        return lambda inputs: output.copy_(inputs)

    monkeypatch.setattr(torch, "compile", compile_)
    encode = compiled(nn.Identity(), torch.device("cuda"))
    first, second = encode(torch.ones(2)), encode(torch.full((2,), 2.0))
    assert (first[0], second[0]) == (1, 2)
    compiled(nn.Identity(), torch.device("cpu"))
    assert modes == ["reduce-overhead", None]


def test_plain_compiles_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    assert Executor(replace(PLAIN, compile=True))(run)[0]["status"] == "ok"


def three_steps(name: str, plain: bool) -> tuple[list[Any], int]:
    """Weights after three steps, and the number of fused and multi-tensor calls."""
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(4, 4, generator=generator)) for _ in range(3)]
    optimizer = plugins.load("optimizers", name)().build(weights, [nn.Parameter(torch.ones(3))])
    if plain:
        disable_fused_steps(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    calls = 0
    for _ in range(3):
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            p.grad = torch.sin(p.detach())
        with torch.profiler.profile(acc_events=True) as profile:
            optimizer.step()
        calls += sum("_foreach" in event.key or "_fused" in event.key for event in profile.key_averages())
    return [p.detach() for p in weights], calls


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_plain_optimizer_makes_the_same_steps_without_fused_calls(name: str) -> None:
    (fast, fast_calls), (plain, plain_calls) = three_steps(name, plain=False), three_steps(name, plain=True)
    assert fast_calls > 0
    assert plain_calls == 0
    torch.testing.assert_close(fast, plain)


def test_lars_takes_one_tensor_at_a_time_if_plain() -> None:
    torch.testing.assert_close(three_steps("lars", plain=False)[0], three_steps("lars", plain=True)[0])
