from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from typing import Annotated, Any, Literal

from annotated_types import Interval, MaxLen, MinLen
from torch import nn

from cl_semisup.config.added_later import AddedLater
from cl_semisup.encoders import _outside
from cl_semisup.encoders._freeze import Freeze
from cl_semisup.errors import InputError, unknown


@dataclass(frozen=True)
class Timm:
    """A model of timm without its classifier, from random weights or from those of a file.

    The architecture is timm's own at any side of images. Grey images go into all three channels. Needs the extra
    `timm`; nothing is downloaded.

    Source: huggingface/pytorch-image-models

    Args:
        model: its name in timm, for instance resnet18 or vit_small_patch16_224
        weights: a file or Hugging Face folder with its weights, inside the folder where the command runs; empty for
            random weights
        freeze: what training leaves as it is: none, all, or the first stages, {stages: n}
        resize: side to which images are resized before the network; 0 leaves them
        pretrained_on: what the weights have seen, for the tables
        normalize: pixels by mean and deviation of the training images (data), or of the images that the weights were
            made with (weights), as timm says
    """

    model: Annotated[str, MinLen(1), MaxLen(100)]
    weights: str = ""
    freeze: Freeze = "none"
    resize: Annotated[int, Interval(ge=0, le=2048)] = 0
    pretrained_on: Annotated[str, MaxLen(100)] = ""
    normalize: Annotated[Literal["data", "weights"], AddedLater()] = "data"

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, dim)."""
        if util.find_spec("timm") is None:
            raise InputError("timm: is not installed. Got no package. Install it: pip install 'cl-semisup[timm]'.")
        import timm

        if ":" in self.model or "/" in self.model or not timm.is_model(self.model):
            text = unknown("model of timm", self.model, timm.list_models()).partition(" Known:")[0]
            raise InputError(f"{text} timm.list_models() gives all names.")
        net: Any = timm.create_model(self.model, pretrained=False, num_classes=0)
        config, seen = net.pretrained_cfg, self.resize or side
        if config.get("fixed_input_size") and seen != config["input_size"][-1]:
            net = self._at_side(seen, config["input_size"][-1])
        net.dim = getattr(net, "head_hidden_size", None) or net.num_features
        return _outside.complete(net, channels, side, self)

    def _at_side(self, side: int, made_for: int) -> Any:
        """The model for images of a side that it was not made for."""
        import timm

        try:
            return timm.create_model(self.model, pretrained=False, num_classes=0, img_size=side)
        except Exception as error:  # models differ in what they raise
            rule = f"{self.model} is made for images of {made_for} x {made_for} pixels"
            raise InputError(f"timm: {rule}. Got {side}. Set `resize: {made_for}`.") from error

    def check(self, channels: int, side: int) -> tuple[str, ...]:
        return _outside.check(self, channels, side)

    def pixels(self, channels: int) -> _outside.Pixels | None:
        return _outside.pixels(*self._statistics(), channels) if self.normalize == "weights" else None

    def _statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        import timm

        config = timm.get_pretrained_cfg(self.model)
        if config is None:
            rule = "needs what timm says of its weights"
            raise InputError(f"timm: normalize: {rule}. Got nothing for {self.model}. Take `normalize: data`.")
        return config.mean, config.std

    def weight_files(self) -> tuple[str, ...]:
        return (self.weights,) if self.weights else ()

    def hub_config(self, net: Any, side: int, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
        """What timm reads in the `config.json` of a folder, as `timm.create_model("local-dir:...")` does."""
        size, times = self.resize or side, 3 // len(mean)
        pixels = {"input_size": [3, size, size], "mean": list(mean) * times, "std": list(std) * times}
        fixed = bool(net.pretrained_cfg.get("fixed_input_size"))
        return {"architecture": self.model, "pretrained_cfg": {**pixels, "num_classes": 0, "fixed_input_size": fixed}}

    def architecture(self) -> dict[str, Any]:
        return {"timm": _outside.settings(self, weights="", freeze="none", pretrained_on="")}
