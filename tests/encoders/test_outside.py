"""Encoders from elsewhere against the libraries that they are of, on the same images and weights."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from cl_semisup import plugins
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker
from cl_semisup.encoders._freeze import stages
from cl_semisup.errors import InputError
from cl_semisup.execution.data import Data, normalised_for

pytestmark = pytest.mark.oracle


def needs(package: str) -> pytest.MarkDecorator:
    there = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not there, reason=f"pip install 'cl-semisup[{package}]'")


def encoder(kind: str, **settings: Any) -> Any:
    return plugins.load("encoders", kind)(**settings)


def images(side: int, channels: int = 3) -> Tensor:
    return torch.randn(3, channels, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def features(net: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = net.eval()(x)
    return out


@needs("timm")
@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_a_model_of_timm_gives_timms_own_features(model: str, tmp_path: Path) -> None:
    import timm

    torch.manual_seed(3)
    theirs = timm.create_model(model, num_classes=7)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "w.pth")
    side = theirs.pretrained_cfg["input_size"][-1]
    ours = encoder("timm", model=model, weights=str(tmp_path / "w.pth"))
    net = ours.build(3, side)
    expected = theirs.eval().forward_head(theirs.forward_features(images(side)), pre_logits=True).detach()
    assert torch.allclose(features(net, images(side)), expected, atol=1e-5)
    assert expected.shape[1] == net.dim
    assert any("without" in note for note in ours.check(3, side))  # the classifier is told


@needs("timm")
def test_images_of_another_side_are_resized_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    theirs = timm.create_model("test_vit", num_classes=0)
    side = theirs.pretrained_cfg["input_size"][-1]
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    settings = {"model": "test_vit", "weights": str(tmp_path / "w.pth")}
    small = images(32, 1)
    resized = nn.functional.interpolate(small, (side, side), mode="bilinear").repeat(1, 3, 1, 1)
    net = encoder("timm", **settings, resize=side).build(1, 32)
    assert torch.allclose(features(net, small), features(theirs, resized), atol=1e-5)
    with pytest.raises(InputError, match="pos_embed must be"):
        encoder("timm", **settings).check(3, 32)
    with pytest.raises(InputError, match=r"must take images of 3 x 33 x 33\. Got .*divisible.* Set `resize`"):
        encoder("timm", model="test_vit").check(3, 33)
    real = timm.create_model

    def of_one_side(name: str, **settings: Any) -> Any:
        if "img_size" in settings:
            raise TypeError("unexpected keyword argument 'img_size'")
        return real(name, **settings)

    monkeypatch.setattr(timm, "create_model", of_one_side)
    with pytest.raises(InputError, match=f"is made for images of {side} x {side} pixels. Got 32. Set `resize: {side}`"):
        encoder("timm", model="test_vit").check(3, 32)


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_a_model_of_torchvision_gives_torchvisions_own_features(model: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = models.get_model(model, weights=None)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    before: list[Tensor] = []
    last = [module for module in theirs.modules() if isinstance(module, nn.Linear)][-1]
    last.register_forward_hook(lambda module, inputs, out: before.append(inputs[0]))
    features(theirs, images(40))
    net = encoder("torchvision", model=model, weights=str(tmp_path / "w.pth")).build(3, 40)
    assert torch.allclose(features(net, images(40)), before[0], atol=1e-5)
    assert net.dim == before[0].shape[1]


def test_a_resnet34_is_torchvisions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = models.resnet34(weights=None)
    theirs.fc = nn.Identity()
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    net = encoder("checkpoint", file=str(tmp_path / "w.pt"), arch={"resnet34": {}}).build(3, 64)
    assert torch.allclose(features(net, images(64)), features(theirs, images(64)), atol=1e-5)
    with pytest.raises(InputError, match=r"conv1\.weight must be \(64, 3, 3, 3\)\. Got \(64, 3, 7, 7\)"):
        encoder("checkpoint", file=str(tmp_path / "w.pt"), arch={"resnet34": {}}).build(3, 32)


def test_what_cannot_be_built_is_told(tmp_path: Path) -> None:
    for settings, message in (
        ({"model": "resnet19"}, "unknown model of torchvision 'resnet19'. Did you mean 'resnet18'"),
        ({"model": "squeezenet1_0"}, "must end in a linear classifier. Got none"),
        ({"model": "vit_b_32", "resize": 50}, "cannot be made for images of 50 pixels"),
        ({"model": "alexnet"}, "must take images of 3 x 8 x 8"),
        ({"model": "resnet18", "freeze": {"stages": 9}}, r"must be at most 4, .*conv1, bn1, layer1 \| layer2 .*Got 9"),
    ):
        with pytest.raises(InputError, match=message):
            encoder("torchvision", **settings).check(3, 8)
    (tmp_path / "x.pt").touch()
    arch = {"torchvision": {"model": "resnet18", "weights": "x.pt"}}
    with pytest.raises(InputError, match="arch: must be an architecture alone"):
        encoder("checkpoint", file=str(tmp_path / "x.pt"), arch=arch).build(3, 8)


def test_without_timm_the_way_to_install_it_is_told_and_no_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("timm"):
        with pytest.raises(InputError, match="unknown model of timm 'hf_hub:timm/x'"):
            encoder("timm", model="hf_hub:timm/x").build(3, 32)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"timm: is not installed.*pip install 'cl-semisup\[timm\]'"):
        encoder("timm", model="resnet18").build(3, 32)


def test_stages_are_those_that_libraries_name() -> None:
    resnet = [["conv1", "bn1", "layer1"], ["layer2"], ["layer3"], ["layer4"]]
    assert stages(encoder("torchvision", model="resnet18").build(3, 32)) == resnet
    layer = "encoder.layers.encoder_layer_"
    vit = [["conv_proj", f"{layer}0"], [f"{layer}1"], ["encoder.ln"]]
    assert stages(encoder("vit", layers=2).build(3, 8)) == vit
    assert stages(encoder("convnet", blocks=2).build(3, 8)) == [["0", "1"], ["4", "5"]]
    if importlib.util.find_spec("timm"):
        found = stages(encoder("timm", model="test_vit").build(3, 160))
        assert found[:3] == [["patch_embed"], ["blocks.0"], ["blocks.1"]]


def test_frozen_stages_are_told_with_their_names() -> None:
    (note,) = encoder("torchvision", model="resnet18", freeze={"stages": 1}).check(3, 32)
    assert note == "15 of 60 parameter tensors are frozen: conv1, bn1, layer1."
    (note,) = encoder("torchvision", model="resnet18", freeze="all").check(3, 32)
    assert note.startswith("60 of 60 parameter tensors are frozen: all. Training does not change the features")


@needs("timm")
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_may_be_normalised_as_the_weights_were_made(channels: int) -> None:
    """timm's own transform of an image in evaluation, and the arithmetic that a run uses."""
    import timm

    raw = torch.randint(0, 256, (2, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Data(raw, torch.zeros(2), raw, torch.zeros(2), torch.zeros(channels), torch.ones(channels), 2, "")
    config = timm.get_pretrained_cfg("resnet18")
    assert config is not None
    for plugin in ("timm", "torchvision"):
        settings = {"model": "resnet18", "normalize": "weights"}
        for named in ({plugin: settings}, {"checkpoint": {"file": "w.pt", "arch": {plugin: settings}}}):
            changed = normalised_for(named, data)
            found = ViewMaker(Views(), changed.mean, changed.std).normalize(raw)
            mean, std = torch.tensor(config.mean)[:, None, None], torch.tensor(config.std)[:, None, None]
            if channels == 1:
                mean, std = mean.mean(dim=0, keepdim=True), std.mean(dim=0, keepdim=True)
            assert torch.allclose(found, (raw / 255 - mean) / std, atol=1e-6)
        assert normalised_for({plugin: {"model": "resnet18"}}, data) is data
    assert normalised_for({"convnet": {}}, data) is data


def test_the_default_normalisation_is_no_part_of_an_id(parse: Any) -> None:
    def ids(encoder: str) -> list[str]:
        text = "question: q\ndatasets: digits\nlosses: nt_xent\nlabel_fraction: 1\nlearning_rate: 1\nbatch_size: 64\n"
        return [run.id for run in parse(f"{text}epochs: 1\nrepetitions: 1\nencoder: {encoder}\n").runs]

    plain = ids("{torchvision: {model: resnet18}}")
    assert ids("{torchvision: {model: resnet18, normalize: data}}") == plain
    assert not set(ids("{torchvision: {model: resnet18, normalize: weights}}")) & set(plain)
