from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import MaxLen, MinLen
from torch import nn

from cl_semisup import plugins
from cl_semisup.encoders import _outside
from cl_semisup.encoders._freeze import Freeze, freeze
from cl_semisup.errors import InputError
from cl_semisup.weights import loading


@dataclass(frozen=True)
class Checkpoint:
    """Another encoder with the weights of a file: a state_dict, a trainer's checkpoint, or a network kept by a suite.

    Formats: .safetensors, and .pt, .pth, .ckpt, .bin and .tar of torch.save, of which only tensors are read. What
    Lightning, solo-learn, lightly, MoCo, DINO and DataParallel put before the names of weights is found and told.
    Every weight of the network must be in the file; what else the file holds is left out.

    Args:
        file: a file, or a Hugging Face folder (config.json, model.safetensors), inside the folder where the command
            runs
        arch: the encoder that the weights are of, with its settings
        freeze: what training leaves as it is: none, all, or the first stages, {stages: n}
        pretrained_on: what the weights have seen, for the tables
    """

    file: Annotated[str, MinLen(1)]
    arch: Annotated[Any, plugins.PluginField("encoders")]
    freeze: Freeze = "none"
    pretrained_on: Annotated[str, MaxLen(100)] = ""

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, dim)."""
        (name, settings) = next(iter(self.arch.items()))
        encoder: Any = plugins.load("encoders", name)(**settings)
        has_weights = hasattr(encoder, "weight_files") and encoder.weight_files()
        if has_weights or getattr(encoder, "freeze", "none") != "none":
            rule = "must be an architecture alone: weights and freeze are said beside it"
            raise InputError(f"checkpoint: arch: {rule}. Got {settings}. Leave them out.")
        net: nn.Module = encoder.build(channels, side)
        net.loaded = loading.load(net, self.file)  # type: ignore[assignment]
        freeze(net, self.freeze)
        return net

    def check(self, channels: int, side: int) -> tuple[str, ...]:
        return _outside.check(self, channels, side)

    def pixels(self, channels: int) -> _outside.Pixels | None:
        """As the architecture says: `arch: {timm: {model: ..., normalize: weights}}`."""
        (name, settings) = next(iter(self.arch.items()))
        encoder: Any = plugins.load("encoders", name)(**settings)
        found: _outside.Pixels | None = encoder.pixels(channels) if hasattr(encoder, "pixels") else None
        return found

    def weight_files(self) -> tuple[str, ...]:
        return (self.file,)

    def architecture(self) -> dict[str, Any]:
        named: dict[str, Any] = self.arch
        return named
