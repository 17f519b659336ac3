"""What one run trains on: its part of the data set, its visible labels, and the part that is held out of everything."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_semisup.data import labels, pixel_facts
from cl_semisup.execution import open_world
from cl_semisup.execution.data import Data, ReadImages, normalised_for, pixel_statistics, subset
from cl_semisup.suite.run import Run


def training_data(
    run: Run, data: Data, device: torch.device, read_images: ReadImages
) -> tuple[Data, Tensor, dict[str, Any]]:
    """The data set with the run's training images, their visible labels (M,), and what the record tells of them."""
    settings = run.as_dict()
    if run.validation == "held_out" and data.val_labels is not None:
        del settings["validation"]  # the data's own validation part is one that trains nothing
    if run.validation == "labelled":
        data = replace(data, val_images=None, val_labels=None)
    drawn = labels.of_run(data.train_labels.cpu().numpy(), settings)
    data = normalised_for(run.encoder, _without_held_out(data, drawn))
    facts: dict[str, Any] = {"label_set": drawn.fingerprint}
    if (setting := run.unlabelled_from) is None:
        return subset(data, drawn.indices), torch.from_numpy(drawn.visible_labels).to(device), facts
    seed_key, images = (run.dataset_name, run.repetition), read_images(setting["dataset"])
    wanted = open_world.count(setting, int((drawn.visible_labels < 0).sum()))
    chosen = open_world.rows(len(images.train_images), wanted, next(iter(setting["dataset"])), seed_key)
    own = open_world.replaced(drawn, setting, seed_key)
    visible = np.concatenate([own.visible_labels, np.full(len(chosen), -1)])
    data = open_world.appended(subset(data, own.indices), images, chosen)
    return data, torch.from_numpy(visible).to(device), facts | {"foreign_images": len(chosen)}


def _without_held_out(data: Data, drawn: labels.Subset) -> Data:
    """The held-out images as the validation part; the pixels' mean and deviation without them.

    The training part still holds them: the run's own indices leave them out.
    """
    if not len(drawn.held_out):
        return data
    held = torch.from_numpy(drawn.held_out)
    images = data.train_images
    others = np.setdiff1d(np.arange(drawn.dataset_size), drawn.held_out)
    counts = pixel_facts.counts(images.cpu().numpy(), others)
    mean, std = pixel_statistics(counts, images.shape[1])
    return replace(
        data,
        mean=mean.to(data.mean.device),
        std=std.to(data.std.device),
        val_images=images[held.to(images.device)],
        val_labels=data.train_labels[held.to(data.train_labels.device)],
    )
