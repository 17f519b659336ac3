"""The kernel that makes views on a GPU: compiled for a GPU, and for a CPU, where it is compared with torch and with C."""

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import native
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker
from cl_semisup.device import is_out_of_memory
from cl_semisup.native import view_kernel
from cl_semisup.training import graph
from tests.gpu import imitated, kernel_on_cpu, trials
from tests.gpu.kernel_on_cpu import needs_compiler
from tests.native.test_views import RECIPES

DEVICE = torch.device("cuda:0")
COLOURS = {
    "crop_area": 0.2,
    "flip": 0.5,
    "jitter": 0.8,
    "hue": 0.1,
    "saturation": 0.4,
    "brightness": 0.4,
    "contrast": 0.4,
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> kernel_on_cpu.Kernel:
    return kernel_on_cpu.kernel(tmp_path_factory.getbasetemp())


def random_images(channels: int, side: int, count: int = 6) -> Tensor:
    coarse = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(1))
    return (nn.functional.interpolate(coarse, size=side, mode="bilinear") * 255).round().to(torch.uint8)


def maker(recipe: dict[str, float], channels: int, on: torch.device, side: int | None = None) -> ViewMaker:
    mean, std = torch.tensor([0.1, 0.2, 0.3])[:channels], torch.tensor([0.5, 0.25, 0.2])[:channels]
    return ViewMaker(Views(**recipe), mean.to(on), std.to(on), side=side)


def on_gpu(kernel: Any, recipe: dict[str, float], images: Tensor, seed: int, side: int | None = None) -> Tensor:
    """The views of the kernel, which must have been used; on the host."""
    with imitated.gpu(kernel=lambda device: kernel), view_kernel.used(True):
        made = maker(recipe, images.shape[1], DEVICE, side)(images.to(DEVICE), seed).cpu()
        assert view_kernel.since(0) == "yes"
    return made


@needs_compiler
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("channels", "stored", "side"), [(1, 8, None), (3, 21, None), (3, 21, 8)])
def test_the_kernel_makes_the_views_of_torch_and_of_c(
    kernel: kernel_on_cpu.Kernel, recipe: str, channels: int, stored: int, side: int | None
) -> None:
    images, settings = random_images(channels, stored), RECIPES[recipe]
    for seed in range(2):
        made = on_gpu(kernel, settings, images, seed, side)
        in_torch = maker(settings, channels, torch.device("cpu"), side)(images, seed)
        torch.testing.assert_close(made, in_torch, rtol=0, atol=2e-5)
        with native.used():
            torch.testing.assert_close(
                made, maker(settings, channels, torch.device("cpu"), side)(images, seed), rtol=0, atol=5e-5
            )
    if recipe in ("nothing", "flip") and side is None:
        assert torch.equal(made, in_torch)


@pytest.mark.parametrize("capability", ["75", "90"])
def test_the_kernel_compiles_for_gpus_that_are_not_here(
    capability: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if torch.version.cuda is None:
        pytest.skip("a torch without CUDA has no compiler for it")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = view_kernel.machine_code(capability)
    assert code.startswith(b"\x7fELF")
    monkeypatch.setattr(view_kernel, "compiled", lambda _: pytest.fail("was compiled again"))
    assert view_kernel.machine_code(capability) == code
    (kept,) = (tmp_path / "cl_semisup").glob("*.cubin")
    kept.write_bytes(kept.read_bytes()[:-1])
    monkeypatch.setattr(view_kernel, "compiled", lambda _: b"anew")
    assert view_kernel.machine_code(capability) == b"anew"


@pytest.mark.skipif(torch.version.cuda is None, reason="a torch without CUDA has no compiler for it")
def test_the_compilers_words_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = tmp_path / "views.cu"
    wrong.write_text("int f() { return nobody; }")
    monkeypatch.setattr(view_kernel, "SOURCE", wrong)
    with pytest.raises(RuntimeError, match='identifier "nobody" is undefined'):
        view_kernel.compiled("90")


def racing(folder: Path, source: str) -> str:
    """What ThreadSanitizer says of a block of threads that does every step."""
    (folder / "views.cu").write_text(source)
    done = kernel_on_cpu.build(folder / "races", "-O1", "-g", "-DRACES", "-fsanitize=thread", source=folder)
    if done.returncode:
        pytest.skip("the compiler has no ThreadSanitizer")
    ran = subprocess.run([str(folder / "races")], capture_output=True, text=True, check=False)
    if "unexpected memory mapping" in ran.stderr:
        pytest.skip("ThreadSanitizer does not work on this system")
    assert not ran.returncode or "data race" in ran.stderr, ran.stderr[:500]
    return ran.stderr


@needs_compiler
def test_no_two_threads_of_a_block_race(tmp_path: Path) -> None:
    assert racing(tmp_path, view_kernel.SOURCE.read_text()) == ""


@needs_compiler
def test_a_barrier_that_is_missing_is_seen_as_a_race(tmp_path: Path) -> None:
    parts = view_kernel.SOURCE.read_text().split("__syncthreads();")
    without = "__syncthreads();".join([*parts[:-2], parts[-2] + parts[-1]])  # between both sides of a blur
    assert "data race" in racing(tmp_path, without)


# In a training ------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "LEAST_STEPS", 5)
    monkeypatch.setattr(graph, "LEAST_REPLAYS", 1)


def run(epochs: int = 1) -> Any:
    return trials.run(epochs=epochs, views=dataclasses.asdict(trials.basic_views(**COLOURS)))


def require_a_cpus(curves: dict[str, Any], epochs: int = 1) -> None:
    expected = trials.execute(run(epochs), "cpu", 3, native=False)[1]["history"]["loss"]
    assert curves["history"]["loss"] == pytest.approx(expected, rel=1e-3, abs=1e-3)


@needs_compiler
@pytest.mark.usefixtures("short_trainings")
def test_replayed_steps_train_on_the_views_of_the_kernel(kernel: kernel_on_cpu.Kernel) -> None:
    with imitated.gpu(kernel=lambda device: kernel) as gpu:
        record, curves = trials.execute(run(epochs=3), "cuda:0", 3)
    assert (record["resolved"]["view_kernel"], record["resolved"]["graph"]) == ("yes", "yes")
    assert gpu.calls["aten.bmm.default"] == 2 * 2, "torch has cropped once, both views, to compare"
    require_a_cpus(curves, epochs=3)


def failing(device: torch.device) -> Any:
    def launch(**_: Any) -> None:
        raise RuntimeError("CUDA error: too many resources requested for launch")

    return launch


def wrong(device: torch.device) -> Any:
    return lambda grid, block, args: args[3].fill_(0.5)


def not_there(device: torch.device) -> Any:
    raise OSError("libnvrtc.so.13: cannot open shared object file")


WHYS = {
    failing: "no, because RuntimeError: CUDA error: too many resources requested for launch",
    wrong: "no, because its views were not those of torch",
    not_there: "no, because OSError: libnvrtc.so.13: cannot open shared object file",
}


@pytest.mark.parametrize("kernel", WHYS)
def test_where_the_kernel_cannot_be_used_torch_makes_the_views_and_the_record_says_why(kernel: Any) -> None:
    with imitated.gpu(kernel=kernel):
        record, curves = trials.execute(run(), "cuda:0", 3)
    assert record["resolved"]["view_kernel"] == WHYS[kernel]
    require_a_cpus(curves)


@pytest.mark.parametrize("settings", [{"plain": True}, {"native": False}])
def test_a_machine_that_is_not_to_use_the_kernel_says_so(settings: dict[str, Any]) -> None:
    with imitated.gpu(kernel=lambda device: pytest.fail("was asked for")):
        record, _ = trials.execute(run(), "cuda:0", 3, **settings)
    assert record["resolved"]["view_kernel"] == "no, because it is not to be used"


def test_lack_of_memory_is_no_fault_of_the_kernel() -> None:
    def full(device: torch.device) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with imitated.gpu(kernel=full), view_kernel.used(True), pytest.raises(torch.OutOfMemoryError) as caught:
        maker({}, 1, DEVICE)(random_images(1, 8).to(DEVICE), 0)
    assert is_out_of_memory(caught.value)


def test_a_view_whose_box_rounding_has_moved_is_the_same_and_two_of_them_are_not() -> None:
    views, std = torch.zeros(8, 3, 4, 4), torch.ones(3, 1, 1)
    for others, expected in ((1, False), (2, True)):
        moved = views.clone()
        moved[:others] = torch.nan
        assert view_kernel.different(moved, views, std) is expected
