"""A kept network for other programs: ONNX, or a folder as on the Hugging Face hub. Nothing is uploaded."""

import importlib.util
import io
import json
import os
import warnings
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.data import memory_limit
from cl_semisup.errors import InputError
from cl_semisup.results.records import write_bytes
from cl_semisup.suite.run import Named
from cl_semisup.system import files
from cl_semisup.text import one_line, visible_lines
from cl_semisup.weights.kept import Description, read_kept
from cl_semisup.weights.reader import Stored

OPSET = 20
MAX_CARD_BYTES = 1_000_000


def export(to: str, source: Path, folder: Path) -> Path:
    """Write a kept encoder to the folder; the path of its weights."""
    description, stored = read_kept(source)
    net = _build(source, description, stored)
    folder.mkdir(parents=True, exist_ok=True)
    card = _card(source, description)
    if to == "onnx":
        path = folder / f"{description.id}.onnx"
        write_bytes(path, onnx_bytes(net, description))
        write_bytes(folder / f"{description.id}.md", card.encode())
        return path
    from safetensors.torch import save

    path = folder / "model.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    write_bytes(folder / "config.json", (json.dumps(config(net, description), indent=2) + "\n").encode())
    write_bytes(folder / "README.md", card.encode())
    write_bytes(path, save(tensors, stored.metadata))
    return path


def onnx_bytes(net: nn.Module, description: Description) -> bytes:
    """The encoder in ONNX: `images` (N, channels, side, side), normalised, float32 -> `features` (N, dim); any N."""
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            remedy = "Install it: pip install 'cl-semisup[onnx]'"
            raise InputError(f"export: needs the package {package}, which is not installed. Got none. {remedy}.")
    images = torch.zeros(2, description.channels, description.side, description.side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        program = torch.onnx.export(
            _Inner(net).eval(),
            (images,),
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes={"images": {0: torch.export.Dim("images_count")}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    content = io.BytesIO()
    assert program is not None
    content.write(program.model_proto.SerializeToString())
    return content.getvalue()


class _Inner(nn.Module):
    """Calls the network as a part, so that its hooks are exported too."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.net(images)
        return features


def config(net: nn.Module, description: Description) -> dict[str, Any]:
    """`config.json`: the encoder's settings, and what the library that the encoder is of reads there."""
    (name, settings) = next(iter(description.encoder.items()))
    encoder: Any = plugins.load("encoders", name)(**settings)
    own = {"encoder": description.encoder, "channels": description.channels, "side": description.side}
    shared = {"num_features": description.dim, "num_classes": 0, "cl_semisup": own | {"run": description.id}}
    if not hasattr(encoder, "hub_config"):
        return {"model_type": "cl_semisup", **shared}
    return encoder.hub_config(net, description.side, description.mean, description.std) | shared


def _build(source: Path, description: Description, stored: Stored) -> nn.Module:
    """The encoder with its weights, in evaluation mode. The file may be a stranger's: its settings are checked."""
    annotation = Annotated[Any, plugins.PluginField("encoders")]
    named = grid.canonical(annotation, description.encoder, f"{source}: encoder")
    _require_size(source, description, stored, named)
    settings = {"file": str(source), "arch": named, "freeze": "none", "pretrained_on": ""}
    net: nn.Module = plugins.load("encoders", "checkpoint")(**settings).build(description.channels, description.side)
    return net.eval()


def _require_size(source: Path, description: Description, stored: Stored, named: Named) -> None:
    """InputError if the file cannot hold the network that it describes: none is built that takes more memory."""
    (name, settings) = next(iter(named.items()))
    encoder: Any = plugins.load("encoders", name)(**settings)
    if hasattr(encoder, "weight_files") and encoder.weight_files():
        rule = "must describe an architecture alone, without files of weights"
        raise InputError(f"{source}: {rule}. Got {list(encoder.weight_files())}. Do not use it.")
    with torch.device("meta"):
        net = encoder.build(description.channels, description.side)
    wanted, held = (sum(t.nbytes for t in tensors.values()) for tensors in (net.state_dict(), stored.tensors))
    if wanted > 4 * held:  # which may be of a narrower dtype
        rule = f"must hold the network that it describes, {wanted} bytes"
        raise InputError(f"{source}: {rule}. Got {held}. Keep the network again.")
    pixels = 2 * 4 * description.channels * description.side**2
    memory_limit.require(pixels, f"{source}: two images of its side", "Keep the network again.")


def _card(source: Path, description: Description) -> str:
    """The card beside the kept file, or a line where it is gone. It is written elsewhere, so no link is followed."""
    beside = source.with_suffix(".md")
    if not os.path.lexists(beside):
        return f"# {one_line(description.loss)} on {one_line(description.dataset)}, run {description.id}\n"
    try:
        return visible_lines(files.read(beside.parent, beside, MAX_CARD_BYTES).decode("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"{beside}: the card cannot be read: {files.reason(error)}. Remove it.") from None
