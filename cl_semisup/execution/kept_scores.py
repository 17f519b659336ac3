"""A kept network is scored again: by the probes of its run, and as features for draws of labels."""

from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cl_semisup import evaluation
from cl_semisup.errors import InputError
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.fast_paths import kernel_context
from cl_semisup.execution.machine import Machine, default_threads
from cl_semisup.execution.trainer import Trainer
from cl_semisup.execution.training_data import training_data
from cl_semisup.execution.training_groups import single_run
from cl_semisup.results import records
from cl_semisup.results.records import Record
from cl_semisup.scoring.feature_file import StoredFeatures, from_arrays
from cl_semisup.scoring.scored_again import ScoredAgain
from cl_semisup.suite.run import Run
from cl_semisup.training.model import Model
from cl_semisup.weights import loading
from cl_semisup.weights.kept import KEY, Description, read_kept
from cl_semisup.weights.reader import texts

PROJECTOR = "projector."


def is_kept(path: Path) -> bool:
    """Is a file a network that a suite has kept, and no file of features?"""
    return path.suffix == ".safetensors" and KEY in texts(path)


def score_again(path: Path, data_dir: str, device: str) -> tuple[ScoredAgain, StoredFeatures, str]:
    """The run's own scores, its features, and the name in the seeds of its labels.

    Everything is computed as in the run, whose record must lie in the results folder that the network was kept in: the
    same data, labels, probes and threads. InputError says what is missing.
    """
    description, stored = read_kept(path)
    record = _record(path, description)
    run = Run.from_dict(record["run"])
    with _threads(default_threads(device)), kernel_context(machine := Machine(device, data_dir)):
        executor = Executor(machine)
        try:
            whole = executor.data(run)
            data, visible_labels, _ = training_data(run, whole, executor.device, executor.probe_datasets)
            trainer = Trainer(single_run(run), machine, executor.probe_datasets)
            trainer.take(data, lambda model: _fill(model, path, stored.tensors))
        except TypeError as error:  # settings that a plug-in does not know
            raise InputError(f"{path}: its record must be one of this version. Got {error}. Keep it again.") from None
        features = trainer.features(data, visible_labels)
        scores = dict(evaluation.measure(features, run.probes).scores)
        if run.validation == "labelled":
            scores |= evaluation.validate_by_visible_labels(features, run.probes)
    if not _has_projector(stored.tensors):
        scores = {name: value for name, value in scores.items() if not name.startswith("projection_")}
    name = f"{run.loss_name} on {run.dataset_name} {run.id}"
    warnings = []
    if data.content_hash != (recorded := record["versions"].get("data")):
        warnings.append(f"the data have changed: their hash is {data.content_hash}, and {recorded} in the record.")
    again = ScoredAgain(name, dict(record["scores"]), {k: float(v) for k, v in scores.items()}, tuple(warnings))
    arrays = {"train": features.train, "train_labels": features.train_labels.cpu().numpy()}
    arrays |= {"test": features.test, "test_labels": features.test_labels.cpu().numpy()}
    return again, from_arrays(name, arrays), run.dataset_name


def _record(path: Path, description: Description) -> Record:
    results, words = path.parent.parent, (description.dataset, description.loss)
    where = results / "records" / words[0] / words[1] / f"{description.id}.json"
    if not all(word.isidentifier() for word in words) or not records.exists(where):
        remedy = "Leave it in its results folder, or name it as `--encoder {checkpoint: ...}` with a data set"
        raise InputError(f"{path}: must lie in the results folder of its run. Got no record {where}. {remedy}.")
    return records.read(where)


def _has_projector(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(PROJECTOR) for name in tensors)


def _fill(model: Model, path: Path, tensors: Mapping[str, Tensor]) -> None:
    """The kept weights in place of the first ones."""
    loading.load(model.encoder, str(path))
    if _has_projector(tensors):
        parts = {name.removeprefix(PROJECTOR): tensors[name] for name in tensors if name.startswith(PROJECTOR)}
        wanted = model.projector.state_dict()
        if {n: t.shape for n, t in parts.items()} != {n: t.shape for n, t in wanted.items()}:
            raise InputError(
                f"{path}: projector: must have the layers that its record says. Got others. Keep it again."
            )
        model.projector.load_state_dict(parts)


@contextmanager
def _threads(count: int) -> Any:
    """The number moves the last digits of sums, so it is that of the run."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
