"""Keeps what was trained: weights as safetensors and a card, `<results>/kept/<id>.safetensors` and `.md`."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from cl_semisup import plugins
from cl_semisup.execution.data import Data
from cl_semisup.execution.machine import Machine
from cl_semisup.results.naming import budget
from cl_semisup.results.records import Record
from cl_semisup.suite.run import Run
from cl_semisup.system import files
from cl_semisup.text import one_line, show, visible
from cl_semisup.training.model import Model
from cl_semisup.weights.kept import ENCODER, Description

FOLDER = "kept"


def path_of(results: Path, run: Run) -> Path:
    """Where the weights of a run are kept."""
    return results / FOLDER / f"{run.id}.safetensors"


def write(machine: Machine, run: Run, record: Record, model: Model, data: Data) -> None:
    """Write weights and card, each whole or not at all. Where the disk is full the run goes on, with a line."""
    results = Path(machine.kept)
    path = path_of(results, run)
    channels, side = data.train_images.shape[1:3]
    description = Description(
        id=run.id,
        encoder=architecture(run),
        channels=channels,
        side=side,
        dim=model.feature_dim,
        mean=tuple(data.mean.tolist()),
        std=tuple(data.std.tolist()),
        dataset=run.dataset_name,
        loss=run.loss_name,
    )
    try:
        files.write(results, path, serialized(model, machine.keep, description))
        text = card(description, run, record, machine.question, machine.keep)
        files.write(results, path.with_suffix(".md"), text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        show(f"{visible(path)}: the network is not kept: {error.strerror}. The run goes on.", error=True)


def architecture(run: Run) -> dict[str, dict[str, Any]]:
    """The run's encoder without files of weights and without freezing."""
    (name, settings) = next(iter(run.encoder.items()))
    encoder = plugins.load("encoders", name)(**settings)
    return encoder.architecture() if hasattr(encoder, "architecture") else run.encoder


def serialized(model: Model, what: str, description: Description) -> bytes:
    """The encoder's tensors under its own names; with `all` also projector and heads, each under its name."""
    from safetensors.torch import save

    modules: dict[str, nn.Module] = {"": model.encoder}
    if what == "all":
        modules = {ENCODER: model.encoder, "projector.": model.projector, "heads.": model.heads}
    tensors: dict[str, torch.Tensor] = {}
    for prefix, module in modules.items():
        for name, tensor in module.state_dict().items():
            tensors[prefix + name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    content: bytes = save(tensors, description.as_metadata())
    return content


def card(description: Description, run: Run, record: Record, question: str, what: str) -> str:
    """The model card, Markdown: what the network is, what it was trained on, its scores, and how to load it."""
    (name,) = run.dataset
    licence = getattr(plugins.load("datasets", name), "licence", "") or "not known to the benchmark; ask its source"
    weights = record["resolved"].get("weights")
    began = f"the weights of `{weights['file']}` (hash {weights['hash']})" if weights else "random weights"
    settings = next(iter(run.encoder.values()))
    if weights:
        began += f", which have seen: {one_line(settings.get('pretrained_on') or 'not said')}"
    views = ", ".join(f"`{view}`" for view in run.views) if isinstance(run.views, list) else f"`{run.views}`"
    lines = [
        f"# {run.loss_name} on {run.dataset_name}, run {run.id}",
        f"Question of the suite: {one_line(question)}",
        f"- encoder: `{description.encoder}`, features {description.dim} wide; kept: {what}",
        f"- began with {began}",
        f"- data: {run.dataset_name}, hash {record['versions']['data']}; licence: {one_line(licence)}",
        f"- images: {description.channels} x {description.side} x {description.side}, pixels in [0, 1] normalised by"
        f" mean {_numbers(description.mean)} and std {_numbers(description.std)}",
        f"- labels: {budget(run)}; loss: `{run.loss}`; learning rate {run.learning_rate:g}, batch {run.batch_size},"
        f" {run.epochs} epochs, repetition {run.repetition}",
        f"- views: {views}",
        f"- evaluation protocol: {record['protocol']['fingerprint']}; status: {record['status']}",
        f"- made by cl_semisup {record['versions']['package']}, torch {record['versions']['torch']}",
    ]
    scores = [f"| {key} | {100 * value:.2f} |" for key, value in sorted(record["scores"].items())]
    table = ["| score of this run | % |", "| --- | --- |", *scores]
    note = "These are scores of one run. Intervals over repetitions are in the suite's leaderboard."
    load = [
        "```python",
        "from cl_semisup import plugins",
        f'settings = {{"file": "{run.id}.safetensors", "arch": {description.encoder}}}',
        f'net = plugins.load("encoders", "checkpoint")(**settings).build({description.channels}, {description.side})',
        "```",
    ]
    parts = [*lines[:2], "\n".join(lines[2:]), "\n".join(table), note, "\n".join(load)]
    return "\n\n".join(visible(part, keep="\n") for part in parts) + "\n"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:z.4f}" for value in values)
