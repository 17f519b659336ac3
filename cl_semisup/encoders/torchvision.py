from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Interval, MaxLen, MinLen
from torch import nn
from torchvision import models

from cl_semisup.config.added_later import AddedLater
from cl_semisup.encoders import _outside
from cl_semisup.encoders._freeze import Freeze
from cl_semisup.errors import InputError, unknown

CLASSES = 1000  # of the classifier that is left out
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, by which all its weights were made


@dataclass(frozen=True)
class Torchvision:
    """A classification model of torchvision without its classifier, from random weights or from those of a file.

    The architecture is torchvision's own at any side of images (`resnet18` as an encoder of its own has another stem
    for small images). The last linear layer is left out. Grey images go into all three channels.

    Source: pytorch/vision, torchvision.models

    Args:
        model: its name in torchvision, for instance resnet50 or vit_b_16
        weights: a file or Hugging Face folder with its weights, inside the folder where the command runs; empty for
            random weights
        freeze: what training leaves as it is: none, all, or the first stages, {stages: n}
        resize: side to which images are resized before the network; 0 leaves them
        pretrained_on: what the weights have seen, for the tables
        normalize: pixels by mean and deviation of the training images (data), or of the images that the weights were
            made with (weights), as torchvision says
    """

    model: Annotated[str, MinLen(1), MaxLen(100)]
    weights: str = ""
    freeze: Freeze = "none"
    resize: Annotated[int, Interval(ge=0, le=2048)] = 0
    pretrained_on: Annotated[str, MaxLen(100)] = ""
    normalize: Annotated[Literal["data", "weights"], AddedLater()] = "data"

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, dim)."""
        known = models.list_models(module=models)
        if self.model not in known:
            raise InputError(f"{unknown('model of torchvision', self.model, known)}.")
        settings: dict[str, Any] = {}
        if self.model in ("googlenet", "inception_v3"):
            settings = {"aux_logits": False, "init_weights": True}
        elif self.model.startswith("vit_"):
            settings = {"image_size": self.resize or side}
        try:
            net = models.get_model(self.model, weights=None, **settings)
        except (ValueError, RuntimeError, AssertionError) as error:  # torch._assert raises the last
            rule = f"{self.model} cannot be made for images of {self.resize or side} pixels"
            raise InputError(f"torchvision: {rule}. Got {error}. Set `resize`.") from error
        linear = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]
        name, last = linear[-1] if linear else ("", nn.Identity())
        if not isinstance(last, nn.Linear) or last.out_features != CLASSES:
            raise InputError(
                f"torchvision: {self.model} must end in a linear classifier. Got none. Name another model."
            )
        parent, _, attribute = name.rpartition(".")
        setattr(net.get_submodule(parent), attribute, nn.Identity())
        net.dim = last.in_features
        return _outside.complete(net, channels, side, self)

    def check(self, channels: int, side: int) -> tuple[str, ...]:
        return _outside.check(self, channels, side)

    def pixels(self, channels: int) -> _outside.Pixels | None:
        return _outside.pixels(MEAN, STD, channels) if self.normalize == "weights" else None

    def weight_files(self) -> tuple[str, ...]:
        return (self.weights,) if self.weights else ()

    def architecture(self) -> dict[str, Any]:
        return {"torchvision": _outside.settings(self, weights="", freeze="none", pretrained_on="")}
