"""A run's whole way on a GPU: encoders, optimizers, views, resuming, chunks, lack of memory, data on the host."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cl_semisup import plugins
from cl_semisup.data.images import Images
from cl_semisup.execution import data as run_data
from cl_semisup.execution import encoded
from cl_semisup.execution.execute import Executor
from cl_semisup.gate import function
from cl_semisup.losses import build
from cl_semisup.training import checkpoint
from tests.gpu import imitated, trials

CONVNET = {"convnet": {"width": 4, "blocks": 2}}
VIT = {"vit": {"patch": 4, "layers": 1, "heads": 1, "head_width": 16}}
ENCODERS: dict[str, dict[str, Any]] = {
    "convnet": CONVNET["convnet"],
    "vit": VIT["vit"],
    "mlp": {"width": 16},
    "torchvision": {"model": "shufflenet_v2_x0_5", "resize": 32},
    "timm": {"model": "test_resnet", "resize": 32},
}
NOT_TRIED = {"checkpoint", "resnet34"}  # weights of an encoder that is tried; between resnet18 and resnet50
VIEWS_THAT_WAIT = {
    "randaugment": "torchvision's equalize and sharpness take pixels by a mask, and numbers from the host"
}
BASIC_VIEWS = {
    "digits": {"rotation": 15.0, "shift": 0.1, "zoom": 0.15},
    "photographs": {"crop_area": 0.2, "flip": 0.5, "blur": 0.5, "grayscale": 0.2, "negate": 0.1, "noise": 0.05},
}


def in_one_step(encoder: dict[str, Any], **settings: Any) -> Any:
    return trials.run(encoder=encoder, batch_size=trials.TRAIN, **settings)


@pytest.mark.parametrize("name", sorted(set(trials.names("encoders")) - NOT_TRIED))
def test_every_encoder_trains_on_a_gpu(name: str) -> None:
    if name == "timm":
        pytest.importorskip("timm")
    with imitated.gpu() as gpu:
        trials.require_ok(*trials.execute(in_one_step({name: ENCODERS.get(name, {})}), "cuda:0"))
    assert gpu.step == 1


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", trials.names("optimizers"))
def test_every_optimizer_steps_without_waiting_and_as_on_a_cpu(name: str, plain: bool) -> None:
    run = trials.run(optimizer={name: {}})
    with imitated.gpu() as gpu:
        record, curves = trials.execute(run, "cuda:0", plain=plain)
    trials.require_ok(record, curves)
    assert not gpu.waits_in_steps(trials.STEPS)
    trials.require_same_training(curves, trials.execute(run, "cpu", native=False, plain=plain)[1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("settings", BASIC_VIEWS.values(), ids=BASIC_VIEWS)
def test_a_gpu_trains_on_the_views_that_a_cpu_draws(settings: dict[str, float], channels: int) -> None:
    """To the bit, since the imitation computes as the CPU does; the kernels in C round otherwise."""
    run = trials.run(views=dataclasses.asdict(trials.basic_views(**settings)))
    with imitated.gpu() as gpu:
        record, curves = trials.execute(run, "cuda:0", channels)
    trials.require_ok(record, curves)
    assert not gpu.waits_in_steps(trials.STEPS)
    assert not gpu.unpinned
    trials.require_same_training(curves, trials.execute(run, "cpu", channels, native=False)[1])


IMAGE_VIEWS = {name for name in trials.names("views") if plugins.load("views", name).inputs != "features"}


@pytest.mark.parametrize("name", sorted(IMAGE_VIEWS - {"crop_and_color"}))
def test_every_view_is_made_on_a_gpu_and_waits_only_where_it_is_said(name: str) -> None:
    chain: list[dict[str, Any]] = [{"crop_and_color": {"crop_area": 1.0}}, {name: {}}]
    run = trials.run("dino", views=chain)
    with imitated.gpu() as gpu:
        record, curves = trials.execute(run, "cuda:0", channels=3)
    trials.require_ok(record, curves)
    assert bool(gpu.waits_in_steps(trials.STEPS)) == (name in VIEWS_THAT_WAIT)
    assert not gpu.unpinned
    torch.manual_seed(7)  # which no view may depend on
    trials.require_same_training(curves, trials.execute(run, "cpu", 3, native=False)[1])


def features(stored: int) -> Images:
    """Rows of features in the place of images; `stored` of each."""
    random = np.random.default_rng(0)

    def rows(count: int) -> Any:
        return random.standard_normal((count, stored, 16)).astype(np.float32)

    train, test = rows(trials.TRAIN), rows(trials.TEST)
    first = {"train_images": train[:, 0, :, None, None], "test_images": test[:, 0, :, None, None]}
    return dataclasses.replace(trials.images(), **first, train_rows=train, test_rows=test)


@pytest.mark.parametrize("device", ["cuda:0", "mps:0"])
@pytest.mark.parametrize("name", sorted(set(trials.names("views")) - IMAGE_VIEWS))
def test_every_view_of_features_is_made_on_a_gpu_without_a_wait(name: str, device: str) -> None:
    run, images = trials.run(views=[{name: {}}]), features(stored=3)
    with imitated.gpu(device) as gpu:
        record, curves = Executor(trials.machine(device), read_images=lambda _: images)(run)
    trials.require_ok(dict(record), curves)
    if device == "cuda:0":
        assert not gpu.waits_in_steps(trials.STEPS)
        assert not gpu.unpinned
        here = Executor(trials.machine("cpu", native=False), read_images=lambda _: images)(run)[1]
        trials.require_same_training(curves, here)


WAIT_FOR_IMAGES_ON_THE_HOST = {"mixup", "cutmix", "neighbour_mixup", "stored_view"} | set(VIEWS_THAT_WAIT)


@pytest.mark.parametrize("name", trials.names("views"))
def test_views_of_images_on_the_host_wait_only_where_it_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_data, "_fits", lambda size, device: False)
    images = trials.images(3) if name in IMAGE_VIEWS else features(stored=3)
    with imitated.gpu() as gpu:
        record, curves = Executor(trials.machine("cuda:0"), read_images=lambda _: images)(
            trials.run(views=[{name: {}}])
        )
    trials.require_ok(dict(record), curves)
    assert bool(gpu.waits_in_steps(trials.STEPS)) == (name in WAIT_FOR_IMAGES_ON_THE_HOST)
    assert not gpu.unpinned


def test_features_of_an_encoder_are_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with imitated.gpu() as gpu:
        found = encoded.features_of({"convnet": CONVNET["convnet"]}, {"digits": {}}, "data", "cuda:0")
    assert gpu.calls
    assert not torch.backends.cudnn.allow_tf32
    here = encoded.features_of({"convnet": CONVNET["convnet"]}, {"digits": {}}, "data")
    torch.testing.assert_close(found.test, here.test, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("loss", ["byol", "moco_v2", "swav", "flexmatch"])
def test_a_training_that_is_left_and_resumed_on_a_gpu_is_the_whole_one(loss: str, tmp_path: Path) -> None:
    run = trials.run(loss, optimizer={"adamw": {}})
    settings = {"checkpoints": str(tmp_path), "checkpoint_seconds": 0.0, "state_key": "00" * 32}
    with imitated.gpu() as gpu:
        whole = trials.execute(run, "cuda:0")[1]["history"]
        gpu.step = 0
        machine = trials.machine("cuda:0", **settings)
        leaving = Executor(machine, lambda: gpu.step == 2, read_images=lambda _: trials.images())
        with pytest.raises(checkpoint.Preempted):
            leaving(run, trials.data("cuda:0"))
        resumed = trials.execute(run, "cuda:0", **settings)[1]["history"]
    assert gpu.step == trials.STEPS, "two steps before it left, and two after"
    assert resumed == whole


def out_of_memory_above(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every encoder run out of memory in training if it gets more than `rows` images at once."""
    forward = nn.Module.__call__

    def call(module: nn.Module, *inputs: Any, **keywords: Any) -> Any:
        if hasattr(module, "dim") and module.training and len(inputs[0]) > rows:
            raise torch.AcceleratorError("CUDA error: out of memory")  # as cudaMalloc says outside of torch's allocator
        return forward(module, *inputs, **keywords)

    monkeypatch.setattr(nn.Module, "__call__", call)


def test_a_gpu_without_room_for_a_batch_takes_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(12, monkeypatch)
    with imitated.gpu() as gpu:
        record, curves = trials.execute(trials.run("moco_v3", encoder=VIT), "cuda:0")
    trials.require_ok(record, curves)
    assert record["resolved"]["chunks"] == 2
    assert not gpu.waits_in_steps(trials.STEPS)


def test_with_batch_norm_lack_of_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(12, monkeypatch)
    with imitated.gpu():
        record, _ = trials.execute(trials.run(encoder=CONVNET), "cuda:0")
    assert record["status"] == "failed"
    assert record["reason"].startswith("out of memory (peak 1.00 GiB): CUDA error: out of memory")


@pytest.mark.parametrize("loss", ["nt_xent", "paws", "blcl"])  # with all images, with support images, with bound ones
def test_images_that_do_not_fit_stay_on_the_host_and_no_step_waits_for_them(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_data, "_fits", lambda size, device: False)
    probes: dict[str, dict[str, Any]] = {
        "linear_layers": {"blocks": 1},
        "quantisation": {},
        "corruptions": {},
        "cka": {},
    }
    with imitated.gpu() as gpu:
        assert trials.data("cuda:0").train_images.device.type == "cpu"
        record, curves = trials.execute(trials.run(loss, probes=probes), "cuda:0")
    trials.require_ok(record, curves)
    assert not gpu.waits_in_steps(trials.STEPS)
    assert not gpu.unpinned


def test_the_gate_computes_on_the_cpu_where_there_is_a_gpu_too() -> None:
    def make() -> Callable[..., Any]:
        return build("supcon", dim=function.DIM, classes=function.CLASSES, images=function.IMAGES)

    with imitated.gpu() as gpu:
        values = function.measure(make)
    assert not gpu.calls
    assert values == function.measure(make)
