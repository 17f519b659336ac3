"""Trains the network of a group of runs once and computes its features for every run."""

import copy
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cl_semisup import losses, native, optimizers, plugins
from cl_semisup.data.views import geometric
from cl_semisup.device import gpu_uuid, is_out_of_memory, synchronize
from cl_semisup.errors import InputError
from cl_semisup.evaluation import Features, Network, Validation
from cl_semisup.execution import energy, fast_paths, memory, run_views, training_features
from cl_semisup.execution.data import Data, ProbeDatasets
from cl_semisup.execution.early_stop import EarlyStop
from cl_semisup.execution.feature_cache import FeatureCache
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.network_facts import network_facts
from cl_semisup.execution.outputs import Outputs, evaluation_batch
from cl_semisup.execution.shared_results import SharedResults
from cl_semisup.execution.stages import Stages
from cl_semisup.execution.training_groups import TrainingGroup
from cl_semisup.native import view_kernel
from cl_semisup.results import protocol
from cl_semisup.seeds import seed
from cl_semisup.suite.settings import Projector, Schedule
from cl_semisup.training import exchange, loop, needs
from cl_semisup.training.checkpoint import Checkpoint
from cl_semisup.training.chunks import can_be_chunked
from cl_semisup.training.loop import Diverged, History, TrainingSetup
from cl_semisup.training.model import Model
from cl_semisup.training.schedule import scaled_learning_rate
from cl_semisup.training.shared_checkpoint import SharedCheckpoint

TRIAL_IMAGES = 8  # for the trial whether an encoder can take its batch in chunks


class Trainer:
    """The training of a group: the first call of `train` trains, later calls keep its result or raise its error.

    `resolved`, `cost`, `joules`, `history` and `hopeless` go into the record of every run of the group. The cost is not
    divided among these runs; `trained_for` is their number. The arguments are those of Executor.
    """

    def __init__(
        self,
        group: TrainingGroup,
        machine: Machine,
        probe_datasets: ProbeDatasets,
        should_stop: Callable[[], bool] = lambda: False,
        collective_context: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.group, self.machine, self.probe_datasets = group, machine, probe_datasets
        self.should_stop, self.collective_context = should_stop, collective_context
        self.run = group.runs[0]  # the runs of a group agree in all settings that are read here
        self.seed_key = (next(iter(self.run.dataset)), self.run.repetition)
        self.device = torch.device(machine.device)
        # Probes compute in float64, which Apple's MPS lacks.
        self.evaluation_device = torch.device("cpu") if self.device.type == "mps" else self.device
        self.precision = fast_paths.resolved_precision(self.run.precision, machine)
        self.resolved: dict[str, Any] = {}
        self.cost: dict[str, float] = {}
        self.joules: energy.Joules = {}
        self.history = History()
        self.hopeless = ""  # why the training was stopped
        self.loss: losses.Loss | None = None
        self._model: Model | None = None
        self._stages: Stages | None = None
        self._features: Features | None = None
        self._error: BaseException | None = None

    def train(self, data: Data, visible_labels: Tensor) -> None:
        """Train unless done. The images must be the same for all runs; the labels too if the loss sees labels."""
        if self._error:
            raise self._error
        if self._model is None:
            try:
                with self.collective_context() if self.run.epochs else nullcontext():
                    self._model = self._train(data, visible_labels)
            except BaseException as error:
                self._error = error
                raise

    def take(self, data: Data, fill: Callable[[Model], None]) -> None:
        """A network that was trained before, in place of training: `fill` gives it its weights."""
        self.loss, self._model = self.build(data)
        fill(self._model)

    def features(self, data: Data, visible_labels: Tensor) -> Features:
        """The network's features, computed once, with the visible labels of one run. `train` must come first."""
        if self._features is None:
            self._features = self._compute_features(data, visible_labels)
        return replace(self._features, visible_labels=visible_labels.to(self.evaluation_device), memo={})

    @property
    def model(self) -> Model:
        """The trained network. `train` must come first."""
        assert self._model is not None
        return self._model

    @property
    def failed(self) -> bool:
        """Whether the training itself has ended in an error."""
        return self._error is not None

    @property
    def encoder_is_frozen(self) -> bool:
        """Whether training changes no weight of the encoder."""
        return self._model is not None and not any(p.requires_grad for p in self._model.encoder.parameters())

    def release(self) -> None:
        """Drop the network, and the error whose traceback refers to it."""
        self.loss = self._model = self._stages = self._features = self._error = None

    def _train(self, data: Data, visible_labels: Tensor) -> Model:
        """The network after all epochs of the run, which may be 0.

        If memory runs out, training starts anew with twice as many chunks per batch, up to one per image, provided that
        chunks do not change the gradient. The batch size stays the same.
        """
        chunks = 1
        while True:
            memory.reset_peak(self.device)
            self.loss, model = self.build(data)
            if not self.run.epochs:
                return model
            try:
                with energy.Meter(gpu_uuid(self.device)) as meter:
                    resumed = self._fit(model, data, visible_labels, chunks)
                if resumed:
                    self.cost["resumed"] = 1
                one_part_of_several = resumed or exchange.world_size() > 1  # the others' joules are not known here
                self.joules = {} if one_part_of_several else meter.joules
                return model
            except Exception as error:
                too_many = 2 * chunks > (self.run.batch_size or 0) or exchange.world_size() > 1  # other ranks go on
                if too_many or not is_out_of_memory(error):
                    raise
                traceback.clear_frames(error.__traceback__)  # they refer to the tensors of the step
                trial = run_views.full(self.run, data).normalize(data.train_images[:TRIAL_IMAGES].to(self.device))
                if not can_be_chunked(model.encoder, trial):
                    raise
            chunks *= 2
            self.resolved["chunks"] = chunks

    def build(self, data: Data) -> tuple[losses.Loss | None, Model]:
        """The loss and the network before training."""
        run = self.run
        (loss_name, loss_settings) = next(iter(run.loss.items()))
        projector = Projector(**run.projector)
        loss = None
        if run.epochs:
            loss_seed = seed("prototypes", *self.seed_key)
            dim = projector.dim if projector.layers else self._encoder(data).dim
            sizes = {"dim": dim, "classes": data.classes, "images": len(data.train_images)}
            loss = losses.build(loss_name, seed=loss_seed, **sizes, **loss_settings)
            if isinstance(loss, torch.nn.Module):
                loss.to(self.device)
        model = self._initial_model(data, losses.requirements_of(loss).needs)
        self.resolved |= network_facts(model.encoder)
        return loss, model

    def _encoder(self, data: Data) -> Any:
        (name, settings) = next(iter(self.run.encoder.items()))
        return plugins.load("encoders", name)(**settings).build(*data.train_images.shape[1:3])

    def _initial_model(self, data: Data, loss_needs: Iterable[str] = ()) -> Model:
        """The network with its initial weights, which depend on the seed key only."""
        projector, heads = Projector(**self.run.projector), needs.heads(loss_needs)
        model = Model(lambda: self._encoder(data), projector, data.classes, heads, self.seed_key).to(data.mean.device)
        if self.machine.channels_last and not self.machine.plain:
            model = model.to(memory_format=torch.channels_last)
        return model

    def _fit(self, model: Model, data: Data, visible_labels: Tensor, chunks: int) -> bool:
        """Whether the training was resumed from a state."""
        run, loss, began, self.history = self.run, self.loss, time.perf_counter(), History()
        assert loss is not None
        assert run.batch_size is not None
        assert run.learning_rate is not None
        assert run.schedule is not None
        schedule = Schedule(**run.schedule)
        base_learning_rate = scaled_learning_rate(run.learning_rate, run.batch_size, schedule)
        self.resolved |= {
            "effective_learning_rate": base_learning_rate,
            "steps": run.epochs * (len(data.train_images) // run.batch_size),
        }
        self.resolved |= {"native": True} if native.active() else {}
        self.resolved |= {"processes": _checked_processes(run.batch_size)} if exchange.world_size() > 1 else {}
        early_stop = EarlyStop(
            self.machine.early_stop, self.machine.points, model, loss, visible_labels, run.batch_size, data.classes
        )
        setup = TrainingSetup(
            model=model,
            loss=loss,
            views=run_views.of_training(run, data),
            local_views=run.local_views,
            optimizer=self._optimizer(model, loss),
            layer_causal=optimizers.is_layer_causal(self._optimizer_plugin()),
            images=data.train_images,
            larger_images=data.larger_images,
            visible_labels=visible_labels,
            seed_key=self.seed_key,
            history=self.history,
            encode=training_features.encoder(self.fast_encoder(model.encoder), model, run, self.machine, data),
            hopeless=early_stop.ends,
        )
        checkpoint = self._checkpoint(data.content_hash)
        refused, launches = fast_paths.not_recorded(self.machine, chunks), view_kernel.launches()
        train = partial(
            loop.train,
            batch_size=run.batch_size,
            base_learning_rate=base_learning_rate,
            schedule=schedule,
            autocast=torch.bfloat16 if self.precision == "bfloat16" else None,
            chunks=chunks,
            record_steps=not refused,
        )
        if run.scenario is None:
            outcome = train(setup, epochs=run.epochs, checkpoint=checkpoint)
        else:
            outcome = self._in_stages(setup, data).train(train, checkpoint)
        training_features.keep(setup.encode)
        if self.device.type == "cuda":
            self.resolved["graph"] = outcome.replayed or f"no, because {refused}"
            self.resolved["view_kernel"] = view_kernel.since(launches)
        if outcome.stopped_at is not None:
            self.hopeless, self.resolved["stopped_at_step"] = early_stop.reason, outcome.stopped_at
        synchronize(self.device)
        seconds = (checkpoint.seconds if checkpoint else 0.0) + time.perf_counter() - began
        steps = self.resolved.get("stopped_at_step", self.resolved["steps"] - 1) + 1
        self.cost = {"train_seconds": seconds, "images_per_second": steps * run.batch_size / seconds}
        self.cost["trained_for"] = len(self.group.runs)
        return checkpoint is not None and checkpoint.seconds > 0

    def _in_stages(self, setup: TrainingSetup, data: Data) -> Stages:
        """For a run whose images come in parts."""
        makers = (run_views.full(self.run, data), run_views.of_test(self.run, data))
        outputs = tuple(Outputs(setup.model, views, self.device) for views in makers)
        self._stages = Stages(self.run, data, setup, lambda: self._optimizer(setup.model, setup.loss), outputs)
        self.resolved |= self._stages.facts
        return self._stages

    def _optimizer(self, model: Model, loss: losses.Loss) -> torch.optim.Optimizer:
        made = self._optimizer_plugin().build(*loop.split_parameters(model, loss))
        if self.machine.plain:
            fast_paths.disable_fused_steps(made)
        return made

    def _optimizer_plugin(self) -> optimizers.Optimizer:
        assert self.run.optimizer is not None
        (name, settings) = next(iter(self.run.optimizer.items()))
        plugin: optimizers.Optimizer = plugins.load("optimizers", name)(**settings)
        return plugin

    def fast_encoder(self, encoder: torch.nn.Module) -> Callable[[Tensor], Tensor]:
        """What encodes a batch in training."""
        return fast_paths.fast_encoder(encoder, self.machine)

    @torch.no_grad()
    def _compute_features(self, data: Data, visible_labels: Tensor) -> Features:
        device, data = self.evaluation_device, data.to(self.evaluation_device)
        model, views, seed_key = self.model.to(device), run_views.full(self.run, data), self.seed_key
        if isinstance(self.loss, torch.nn.Module):
            self.loss.to(device)
        geometric_views = run_views.derived(self.run, data, geometric)
        cache = FeatureCache(model.encoder, self.run, self.machine, device, evaluation_batch(model))
        outputs = Outputs(model, views, device, cache)
        test_views = run_views.of_test(self.run, data)
        test_outputs = Outputs(model, test_views, device, cache)
        computed = Outputs(model, test_views, device)  # for probes, which may change weights for a while

        def untrained(images: Tensor) -> Tensor:
            return Outputs(self._initial_model(data), views, device).not_augmented(images)[0]

        train, train_projections = outputs.of_data_set(data.train_images)
        test, test_projections = outputs.of_data_set(data.test_images)
        first, second = (test_outputs.of_view(data.test_images, view, seed_key) for view in (1, 2))
        val = None
        if data.val_images is not None and data.val_labels is not None:
            val = Validation(*outputs.of_data_set(data.val_images), data.val_labels)
        for output in (train, test, train_projections, test_projections, first, second, *(val or ())):
            if not bool(torch.isfinite(output).all()):
                raise Diverged(self.resolved.get("steps", 0), "a feature after training")
        return Features(
            train=train,
            test=test,
            train_projections=train_projections,
            test_projections=test_projections,
            train_labels=data.train_labels,
            test_labels=data.test_labels,
            visible_labels=visible_labels.to(device),
            test_views=(first, second),
            classes=data.classes,
            seed_key=seed_key,
            val=val,
            increments=tuple(self._stages.increments) if self._stages else (),
            network=Network(
                encoder=model.encoder,
                train_images=data.train_images,
                test_images=data.test_images,
                features=lambda images: computed.not_augmented(images)[0],
                view=lambda view: computed.of_view(data.test_images, view, seed_key),
                untrained=untrained,
                dataset=self.probe_datasets,
                inputs=lambda images: views.normalize(images.to(device)),
                augmented=lambda images, name: geometric_views(images.to(device), name),
                copy=lambda: copy.deepcopy(model.encoder),
                initial=lambda: self._initial_model(data).encoder,
                fast_encoder=self.fast_encoder,
                shared=SharedResults(
                    lambda: self._initial_model(data).encoder, geometric_views, self.run, self.machine, device
                ),
            ),
        )

    def _checkpoint(self, data_hash: str) -> Checkpoint | None:
        if not self.machine.checkpoints:
            return None
        machine, versions = self.machine, protocol.versions(self.run)
        plugin_versions = {name: v for name, v in versions.items() if not name.startswith("evaluation.")}
        code_version = f"{protocol.VERSION} {plugin_versions} {torch.__version__} {self.device.type} {machine.threads}"
        # fast paths move the last digits
        code_version += (
            f" {machine.channels_last} {machine.compile} {machine.graphs} {machine.plain} {native.active()} {data_hash}"
        )
        checkpoint_class = Checkpoint if exchange.world_size() == 1 else SharedCheckpoint
        path, key = machine.checkpoint_path(self.group), bytes.fromhex(machine.state_key)
        code_version += f" {weights['hash']}" if (weights := self.resolved.get("weights")) else ""
        return checkpoint_class(path, machine.checkpoint_seconds, code_version, self.should_stop, key)


def _checked_processes(batch_size: int) -> int:
    """The number of processes, each of which needs an image of every batch."""
    if batch_size < exchange.world_size():
        rule = f"must be at least the number of processes, {exchange.world_size()}"
        raise InputError(f"batch_size: {rule}. Got {batch_size}. Start fewer.")
    return exchange.world_size()
