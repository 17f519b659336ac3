"""Weights from files of strangers: every program's names are found, and what is wrong is told by its name."""

import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cl_semisup.errors import InputError
from cl_semisup.system import cgroups
from cl_semisup.weights import loading, reader, source
from cl_semisup.weights.loading import find_prefix

safetensors = pytest.importorskip("safetensors.torch", reason="pip install 'cl-semisup[safetensors]'")


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential()
    net.add_module("conv1", nn.Conv2d(1, 4, 3))
    net.add_module("bn1", nn.BatchNorm2d(4))
    return net


def state(prefix: str = "", seed: int = 1) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in network(seed).state_dict().items()}


def same(net: nn.Module, seed: int = 1) -> bool:
    return all(torch.equal(tensor, state(seed=seed)[name]) for name, tensor in net.state_dict().items())


HEAD = {"fc.weight": torch.ones(3, 4), "fc.bias": torch.ones(3)}
# what each program writes, and the prefix that its encoder has there
FILES: dict[str, tuple[Callable[[], Any], str]] = {
    "plain": (lambda: state() | HEAD, ""),
    "DataParallel": (lambda: state("module."), "module."),
    "Lightning": (lambda: {"epoch": 3, "state_dict": state("net."), "optimizer_states": [{"state": {0: {}}}]}, "state_dict.net."),
    "solo-learn": (lambda: {"state_dict": state("backbone.") | {"projector.0.weight": torch.ones(2)}}, "state_dict.backbone."),
    "lightly": (lambda: {"state_dict": state("backbone.") | state("backbone_momentum.", 2)}, "state_dict.backbone."),
    "MoCo": (lambda: {"state_dict": state("module.encoder_q.") | state("module.encoder_k.", 2) | {"module.queue": torch.ones(4)}},
             "state_dict.module.encoder_q."),
    "DINO": (lambda: {"student": state("module.backbone.", 2), "teacher": state("backbone."), "epoch": 1}, "teacher.backbone."),
    "timm": (lambda: {"model": state(), "model_ema": state("", 2)}, "model."),
    "compiled": (lambda: {"model": {name.replace("bn1.", "bn1._orig_mod."): t for name, t in state("_orig_mod.").items()}}, "model."),
    "FSDP": (lambda: {"_fsdp_wrapped_module.net._fsdp_wrapped_module." + name: t for name, t in state().items()}, "net."),
    "lightly, cut off": (lambda: {"state_dict": {f"backbone.{name.replace('conv1', '0').replace('bn1', '1')}": t for name, t in state().items()}
                                  | {"head.weight": torch.ones(2)}}, "state_dict.backbone."),
    "kept with heads": (lambda: state("encoder.") | {"projector.0.weight": torch.ones(2)}, "encoder."),
}  # fmt: skip


@pytest.mark.parametrize("program", FILES)
def test_the_names_of_every_program_are_found_and_told(program: str, tmp_path: Path) -> None:
    content, prefix = FILES[program]
    torch.save(content(), tmp_path / "x.pth")
    loaded = loading.load(net := network(), str(tmp_path / "x.pth"))
    assert same(net)
    assert loaded.prefix == prefix
    assert (repr(prefix) if prefix else "their own names") in str(loaded)


def test_heads_and_other_parts_are_left_out_and_told(tmp_path: Path) -> None:
    torch.save({"net." + name: t for name, t in (state() | HEAD).items()} | {"queue": torch.ones(2)}, tmp_path / "x.pt")
    loaded = loading.load(network(), str(tmp_path / "x.pt"))
    assert loaded.ignored == ("fc.bias", "fc.weight")
    assert loaded.elsewhere == 1
    assert "without fc.bias, fc.weight" in str(loaded)


def test_a_network_comes_before_its_copies_and_the_others_are_told() -> None:
    names = [p + "w" for p in ("student.", "teacher.", "a.longer.", "model_ema.")]
    assert find_prefix(names, ["w"]) == ("teacher.", ("a.longer.", "student.", "model_ema."))
    assert find_prefix(["v"], ["w"]) == ("", ())


def test_every_format_of_the_same_tensors_is_the_same_file(tmp_path: Path) -> None:
    safetensors.save_file(state(), tmp_path / "x.safetensors")
    torch.save(state(), tmp_path / "x.ckpt")
    torch.save(state(), tmp_path / "old.tar", _use_new_zipfile_serialization=False)
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    names = sorted(state())
    for number, part in enumerate((names[:3], names[3:])):
        safetensors.save_file({name: state()[name] for name in part}, folder / f"model-{number}.safetensors")
    where = {name: f"model-{int(name in names[3:])}.safetensors" for name in names}
    (folder / source.INDEXES[0]).write_text(json.dumps({"weight_map": where}))
    paths = [tmp_path / "x.safetensors", tmp_path / "x.ckpt", tmp_path / "old.tar", folder]
    assert len({loading.load(net := network(), str(path)).hash for path in paths}) == 1
    assert same(net)
    torch.save(state(seed=2), tmp_path / "x.ckpt")
    assert loading.load(net, str(tmp_path / "x.ckpt")).hash != reader.read(tmp_path / "x.safetensors").hash
    os.rename(folder / "model-0.safetensors", folder / "model.safetensors")
    with pytest.raises(InputError, match=r"2 lack|3 lack|4 lack"):
        loading.load(network(), str(folder))


def test_half_precision_becomes_the_networks_and_is_told(tmp_path: Path) -> None:
    half = {name: t.half() if t.is_floating_point() else t for name, t in state().items()}
    torch.save(half, tmp_path / "x.pt")
    loaded = loading.load(net := network(), str(tmp_path / "x.pt"))
    assert torch.equal(net.get_parameter("conv1.weight"), state()["conv1.weight"].half().float())
    assert "converted from float16" in str(loaded)


def test_a_folder_of_pickled_shards_is_read_by_its_index(tmp_path: Path) -> None:
    where = {name: f"pytorch_model-{number % 2}.bin" for number, name in enumerate(state())}
    for file in set(where.values()):
        torch.save({name: tensor for name, tensor in state().items() if where[name] == file}, tmp_path / file)
    (tmp_path / source.INDEXES[1]).write_text(json.dumps({"weight_map": where}))
    loading.load(net := network(), str(tmp_path))
    assert same(net)


def without(*names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state().items() if name not in names}


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "partial": (lambda: without("conv1.bias", "bn1.weight"), r"must hold every weight of the network; 2 lack: conv1\.bias, bn1\.weight\. Got 5 of 7"),
    "another network": (lambda: {"layer.w": torch.ones(2)}, r"6 lack: conv1\.weight"),
    "shape": (lambda: state() | {"conv1.weight": torch.ones(4, 1, 7, 7)}, r"conv1\.weight must be \(4, 1, 3, 3\)\. Got \(4, 1, 7, 7\)"),
    "dtype": (lambda: state() | {"bn1.bias": torch.ones(4, dtype=torch.int64)}, r"bn1\.bias must be float32\. Got int64"),
    "complex": (lambda: state() | {"bn1.bias": torch.ones(4, dtype=torch.complex64)}, r"bn1\.bias must be float32\. Got complex64"),
    "not finite": (lambda: state() | {"bn1.bias": torch.tensor([1, 1, torch.nan, 1])}, r"must be finite\. Got others in bn1\.bias"),
    "overflow": (lambda: state() | {"bn1.bias": torch.full((4,), 1e300, dtype=torch.float64)}, "must be finite"),
    "expanded": (lambda: state() | {"bn1.bias": torch.ones(1).expand(4)}, r"bn1\.bias: must hold every value\. Got \(4,\), expanded"),
    "sparse": (lambda: {"conv1.weight": torch.ones(2, 2).to_sparse()}, r"conv1\.weight: must be a dense tensor"),
    "nothing": (lambda: {"epoch": 3}, "Got no tensor"),
    "module": (network, "must hold tensors and plain values alone"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_told_by_its_name_and_nothing_is_loaded(kind: str, tmp_path: Path) -> None:
    content, message = BAD[kind]
    torch.save(content(), tmp_path / "x.pth")
    net = network()
    with pytest.raises(InputError, match=message):
        loading.load(net, str(tmp_path / "x.pth"))
    assert same(net, seed=0)


def test_a_refused_file_is_mended_by_the_line_that_is_told(tmp_path: Path) -> None:
    """It is run by the owner of the file, who trusts it; argparse.Namespace stands in DINO's and MAE's files."""
    import argparse

    torch.save({"teacher": state("backbone."), "args": argparse.Namespace(lr=1)}, tmp_path / "IN")
    (tmp_path / "IN").rename(tmp_path / "dino.pth")
    with pytest.raises(InputError) as caught:
        loading.load(network(), str(tmp_path / "dino.pth"))
    told = str(caught.value)
    assert "Got an object of argparse.Namespace. Where you trust the file, keep its tensors alone: python -c" in told
    code = told.partition('python -c "')[2].partition('".')[0]
    exec(code.replace("'IN'", repr(str(tmp_path / "dino.pth"))).replace("'OUT'", repr(str(tmp_path / "w.pth"))))
    loading.load(net := network(), str(tmp_path / "w.pth"))
    assert same(net)


class Poison:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_poisoned_pickle_is_refused_and_its_code_never_runs(new_format: bool, tmp_path: Path) -> None:
    content = {"state_dict": state(), "extra": Poison(tmp_path / "ran")}
    torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=new_format)
    with pytest.raises(InputError, match=r"x\.ckpt: must hold tensors .* Got .*system"):
        loading.load(network(), str(tmp_path / "x.ckpt"))
    assert not (tmp_path / "ran").exists()


def test_old_files_without_counters_are_whole(tmp_path: Path) -> None:
    torch.save(without("bn1.num_batches_tracked"), tmp_path / "x.pt")
    loading.load(net := network(), str(tmp_path / "x.pt"))
    assert same(net)


@pytest.mark.timeout(60)
def test_only_whole_regular_files_of_a_known_kind_that_fit_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pt"
    for name, message in (
        ("none.pt", "Got none there. Nothing is downloaded"),
        ("x.onnx", "ends in .safetensors.*Save the tensors of a PyTorch network"),
        ("x.npz", r"ends in .safetensors.*numpy.load\('IN'\)"),
        ("model.safetensors.index.json", "Got '.json'. Name its folder"),
        ("x.txt", "Got '.txt'. Rename it"),
    ):
        if name != "none.pt":
            (tmp_path / name).touch()
        with pytest.raises(InputError, match=message):
            reader.read(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(InputError, match="a named pipe, not a regular file"):
        reader.read(tmp_path / "pipe.pt")
    os.mkfifo(tmp_path / "pipe.safetensors")  # `evaluate` looks first at what is beside the tensors
    assert reader.texts(tmp_path / "pipe.safetensors") == {}
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(InputError, match="must be a whole safetensors file"):
        reader.read(tmp_path / "cut.safetensors")
    torch.save(state(), path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(InputError, match="must be as torch.save writes it. Got packed members"):
        reader.read(tmp_path / "packed.pt")
    (tmp_path / "hub").mkdir()
    with pytest.raises(InputError, match="a folder of weights must hold one of.*Name the file itself\\."):
        reader.read(tmp_path / "hub")
    (tmp_path / "hub" / "open_clip_model.safetensors").touch()
    with pytest.raises(InputError, match="Name the file itself, such as .*hub/open_clip_model.safetensors"):
        reader.read(tmp_path / "hub")
    (tmp_path / "hub" / source.INDEXES[0]).write_text('{"weight_map": {"a": "../x.pt"}}')
    with pytest.raises(InputError, match="files must lie in its folder"):
        reader.read(tmp_path / "hub")
    (tmp_path / "hub" / source.INDEXES[0]).write_text("[]")
    with pytest.raises(InputError, match="must map tensors to files"):
        reader.read(tmp_path / "hub")
    monkeypatch.setattr(cgroups, "machine_bytes", lambda: 1000)
    with pytest.raises(InputError, match="must fit in half of this machine's memory, 500 bytes"):
        reader.read(path)


def test_what_was_not_saved_by_torch_is_told(tmp_path: Path) -> None:
    """None of it is advised to be loaded as code, as a real checkpoint with other objects is."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for name, content, message in (
        ("x.pth", pointer, "must hold weights. Got a pointer of Git LFS. Run `git lfs pull`"),
        ("x.safetensors", pointer, "must hold weights. Got a pointer of Git LFS"),
        ("x.pth", b"<html>Google Drive", "must hold weights. Got a web page"),
        ("x.pth", b"", "must hold weights. Got an empty file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            reader.read(tmp_path / name)
    torch.save(state(), path := tmp_path / "x.pth")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match="Got the beginning of a file. Fetch it again"):
        reader.read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it deprecated
        torch.jit.script(nn.Linear(2, 2)).save(path)
    with pytest.raises(InputError, match="Got TorchScript, which is code.*torch.jit.load"):
        reader.read(path)
    with open(path, "wb") as file:
        np.savez(file, x=np.zeros(2))
    with pytest.raises(InputError, match="Got numpy's arrays. Run: torch.save"):
        reader.read(path)


def test_without_the_package_the_way_to_install_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    safetensors.save_file(state(), tmp_path / "x.safetensors")
    monkeypatch.setattr(source.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package safetensors.*pip install 'cl-semisup\[safetensors\]'"):
        reader.read(tmp_path / "x.safetensors")


def shared(depth: int, width: int, last: dict[str, Any]) -> dict[str, Any]:
    """Dictionaries that hold the next one many times: a few bytes stand for width ** depth names."""
    for _ in range(depth):
        last = {f"k{number}": last for number in range(width)}
    return last


@pytest.mark.parametrize("last", [{"x": torch.zeros(2)}, {}, {1: 2}], ids=["tensor", "empty", "optimizer"])
def test_a_few_dictionaries_do_not_stand_for_billions_of_tensors(
    last: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_ENTRIES", 1000)
    torch.save(shared(7, 60, last), tmp_path / "w.pt")
    assert (tmp_path / "w.pt").stat().st_size < 10_000
    with pytest.raises(InputError, match=r"w.pt: must hold at most 1000 names. Got more. Save its state_dict alone."):
        reader.read(tmp_path / "w.pt")


def test_states_of_optimizers_are_passed_over(tmp_path: Path) -> None:
    torch.save({"state": {0: torch.zeros(3)}, "net": {"w": torch.ones(2)}}, tmp_path / "w.pt")
    assert list(reader.read(tmp_path / "w.pt").tensors) == ["net.w"]


@pytest.mark.parametrize("name", ["x." * 100_000, "x" * 1001])
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_names_of_any_length_are_refused(name: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"w.{ending}"
    tensors = {"good": torch.ones(1), name: torch.ones(1)}
    torch.save(tensors, path) if ending == "pt" else safetensors.save_file(tensors, path)
    if ending == "pt":  # such names are of no network
        assert list(reader.read(path).tensors) == ["good"]
    else:
        with pytest.raises(InputError, match="names must have at most 1000 characters. Got .*. Do not use it."):
            reader.read(path)


def test_a_name_of_many_parts_is_compared_by_its_last_ones_alone() -> None:
    assert find_prefix(["x." * 400_000 + "a.w"], ["a.w", "b"])[0] == "x." * 400_000


def test_many_tensors_that_share_their_values_count_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand names of one storage would be hashed and converted a thousand times."""
    shared = torch.zeros(10_000)
    torch.save({f"w{number}": shared for number in range(1000)}, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").stat().st_size < 200_000
    monkeypatch.setattr(cgroups, "machine_bytes", lambda: 2**24)
    with pytest.raises(
        InputError, match="w.pt: weights must fit in half of this machine's memory, 8388608 bytes. Got 40000000"
    ):
        reader.read(tmp_path / "w.pt")
