"""The features that an encoder gives for a data set, computed once, for evaluation without training."""

from typing import Any

import torch

from cl_semisup import plugins
from cl_semisup.data import memory_limit
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker
from cl_semisup.device import prepare
from cl_semisup.errors import InputError
from cl_semisup.execution.data import load_images, normalised_for, to_device
from cl_semisup.scoring.feature_file import StoredFeatures, from_arrays
from cl_semisup.suite.run import Named
from cl_semisup.training.model import seeded

BATCH = 256  # images at once; an encoder may be large


@torch.no_grad()
def features_of(encoder: Named, dataset: Named, data_dir: str, device: str = "cpu") -> StoredFeatures:
    """In evaluation mode, not augmented, float32.

    Weights that the encoder draws are those of an untrained run, repetition 0.

    Args:
        encoder, dataset: plug-ins with all their settings, checked
        data_dir: folder of data sets
        device: of the encoder
    """
    (encoder_name, encoder_settings), dataset_name = next(iter(encoder.items())), next(iter(dataset))
    prepare(torch.device(device))
    data = normalised_for(encoder, to_device(load_images(dataset, data_dir), torch.device(device)))
    build = plugins.load("encoders", encoder_name)(**encoder_settings).build
    net: Any = seeded(lambda: build(*data.train_images.shape[1:3]), "encoder", dataset_name, 0)
    net.eval().to(device)
    normalize = ViewMaker(Views(), data.mean, data.std).normalize
    name = f"{encoder_name} on {dataset_name}"
    parts: dict[str, Any] = {}
    images = len(data.train_images) + len(data.test_images)
    memory_limit.require(4 * images * int(net.dim), f"features of {name}")
    for part, all_images in (("train", data.train_images), ("test", data.test_images)):
        outputs = torch.empty(len(all_images), int(net.dim))
        for first in range(0, len(all_images), BATCH):
            batch = normalize(all_images[first : first + BATCH].to(device))
            output = net(batch)
            if output.shape != (len(batch), net.dim):
                rule = f"must give (images, dim) = {(len(batch), net.dim)}"
                raise InputError(f"encoder: {encoder_name}: {rule}. Got {tuple(output.shape)}. Mend the encoder.")
            outputs[first : first + BATCH] = output
        parts[part] = outputs
    parts |= {"train_labels": data.train_labels.cpu().numpy(), "test_labels": data.test_labels.cpu().numpy()}
    return from_arrays(name, parts, {role: f"{name}: {role}" for role in parts})
