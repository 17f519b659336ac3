"""Trainings with kernels against those without, and where kernels are not used."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from cl_semisup import contrast, native
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.trainer import Trainer
from cl_semisup.execution.training_groups import single_run
from cl_semisup.gate.float64 import float64
from cl_semisup.native import library
from cl_semisup.native.blocks import fast_encoder
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from cl_semisup.training import exchange
from tests.helpers.kernels import needs_kernels
from tests.native import test_blocks, test_pairs
from tests.native.test_blocks import network

FAST, TORCH = Machine("cpu", "data"), Machine("cpu", "data", native=False)


@pytest.fixture
def run(parse: Callable[[str], Suite], text: str) -> Run:
    return parse(text.replace("{mlp: {width: 16, layers: 1}}", "convnet").replace("epochs: 1", "epochs: 4")).runs[-1]


@needs_kernels
def test_a_training_with_kernels_is_the_one_without(run: Run) -> None:
    made, curves = Executor(FAST)(run)
    other, others = Executor(TORCH)(run)
    assert made["status"] == other["status"] == "ok"
    assert made["resolved"]["native"] is True
    assert "native" not in other["resolved"]
    losses = [found["history"]["loss"] for found in (curves, others)]
    assert losses[0] != losses[1]  # or the kernels were not used
    assert losses[0][:5] == pytest.approx(losses[1][:5], rel=1e-4)
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    for score in ("knn_top1", "linear_top1"):
        assert abs(made["scores"][score] - other["scores"][score]) <= 0.03


@needs_kernels
def test_kernels_are_for_single_precision_and_one_thread_on_a_cpu(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FAST.wants_kernels()
    other: list[dict[str, Any]] = [{"native": False}, {"plain": True}, {"threads": 2}, {"device": "cuda"}]
    assert not any(replace(FAST, **how).wants_kernels() for how in other)
    trainer, encoder = Trainer(single_run(run), FAST, None), network(1)  # type: ignore[arg-type]
    assert trainer.fast_encoder(encoder) is not encoder
    monkeypatch.setattr(exchange, "world_size", lambda: 2)
    assert trainer.fast_encoder(encoder) is encoder  # batch norm must synchronise


@needs_kernels
def test_in_double_precision_nothing_goes_through_kernels() -> None:
    """As in the gate, whose exact tiers train the package's own code so."""
    make = ViewMaker(Views(rotation=20), torch.zeros(1), torch.ones(1))
    images = torch.randint(0, 256, (4, 1, 8, 8)).to(torch.uint8)
    assert make(images, 1).dtype == torch.float32
    with float64():
        made = ViewMaker(Views(rotation=20), torch.zeros(1), torch.ones(1))(images, 1)
        assert made.dtype == torch.float64
        z = torch.randn(8, 3, requires_grad=True)
        assert contrast.against_others(z, 0.5, torch.arange(8))[0].dtype == torch.float64
        encoder = network(1)
        encode = fast_encoder(encoder)
        assert encode is not encoder
        assert encode(made).dtype == torch.float64


@needs_kernels
@pytest.mark.timeout(2000)  # with gcc's sanitizers each of the two compilations takes minutes on a busy machine
def test_wider_vectors_and_narrower_ones_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 numbers, as with AVX-512, work on any processor: the compiler splits a vector in two where it must."""
    compiler = os.environ.get("CC", "cc")
    for width, words in ((16, "-U__AVX512F__ -D__AVX512F__=1"), (8, "-U__AVX512F__")):
        monkeypatch.setenv("CC", f"{compiler} {words}")
        library._load_once.cache_clear()
        kernels = library.get()
        assert kernels is not None, native.missing()
        assert kernels.simd_width() == width
        test_blocks.test_blocks_are_what_the_modules_are(5, 3, 13, (32, 16), (True, False), torch.channels_last)
        test_blocks.test_blocks_in_bfloat16_are_nearer_to_exact_ones_than_those_of_torch(33, 8, (16, 32), (True, True))
        test_blocks.test_numbers_that_bfloat16_holds_are_multiplied_exactly()
        test_pairs.test_sums_over_pairs_are_those_of_torch(50, False)
