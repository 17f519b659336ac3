"""The network of a training: fitted once, then handed to every run that is evaluated on it."""

import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cl_semisup import losses, native, plugins
from cl_semisup.contrast import chunked
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker, weak
from cl_semisup.errors import InputError, OutOfMemory
from cl_semisup.evaluation import Features, Network
from cl_semisup.execution import memory
from cl_semisup.execution.data import Data, Probed
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import TrainingGroup
from cl_semisup.native import blocks
from cl_semisup.results import protocol
from cl_semisup.seeds import seed
from cl_semisup.suite.settings import Projector, Schedule
from cl_semisup.training import exchange, loop, needs
from cl_semisup.training.checkpoint import Checkpoint
from cl_semisup.training.chunks import divisible
from cl_semisup.training.loop import Diverged, History, TrainingSetup
from cl_semisup.training.model import Model
from cl_semisup.training.schedule import effective
from cl_semisup.training.shared_checkpoint import SharedCheckpoint

EVALUATION_CHUNK = 1000  # images at once when features are extracted
TRIAL_IMAGES = 8  # that show whether an encoder may take its batch in chunks


class Trainer:
    """Trainer for the first run that asks; the others find it as it is, with the error that may have ended it.

    What training says of itself (`resolved`, `cost`, `history`) is said of every run: its cost is not divided among
    them, and `trained_for` tells how many they are.
    """

    def __init__(
        self,
        training: TrainingGroup,
        machine: Machine,
        probed: Probed,
        leave: Callable[[], bool] = lambda: False,
        together: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.asked, self.machine, self.probed, self.leave, self.together = training, machine, probed, leave, together
        self.run = training.runs[0]  # any of them: they agree in all that is read here
        self.seed_key = (next(iter(self.run.dataset)), self.run.repetition)
        self.device = torch.device(machine.device)
        self.precision = resolved_precision(self.run.precision, machine)
        self.resolved: dict[str, Any] = {}
        self.cost: dict[str, float] = {}
        self.history = History()
        self.loss: losses.Loss | None = None
        self._model: Model | None = None
        self._embedded: Features | None = None
        self._error: BaseException | None = None

    def train(self, data: Data, visible_labels: Tensor) -> None:
        """Once; the images must be the same for all runs, the labels only where the loss sees them."""
        if self._error:
            raise self._error
        if self._model is None:
            try:
                with self.together() if self.run.epochs else nullcontext():
                    self._model = self._train(data, visible_labels)
            except (Exception, SystemExit) as error:
                self._error = error
                raise

    def embed(self, data: Data, visible_labels: Tensor) -> Features:
        """What the network makes of the images, computed once, beside the labels of one run."""
        if self._embedded is None:
            self._embedded = self._embed(data, visible_labels)
        return replace(self._embedded, visible_labels=visible_labels, memo={})

    def free(self) -> None:
        """Let go of the network, and of the error whose frames hold it too."""
        self.loss = self._model = self._embedded = self._error = None

    def _train(self, data: Data, visible_labels: Tensor) -> Model:
        """The network after training, if there is any.

        Where memory runs out training begins anew with its batch in twice as many chunks, down to one image in all its
        views, if that leaves the gradient what it is. The batch size stays what was asked.
        """
        chunks = 1
        while True:
            memory.restart(self.device)
            self.loss, model = self.build(data)
            if not self.run.epochs:
                return model
            try:
                self._fit(model, data, visible_labels, chunks)
                return model
            except Exception as error:
                too_small = 2 * chunks > (self.run.batch_size or 0)
                if not out_of_memory(error) or too_small or exchange.size() > 1:  # the other processes wait
                    raise
                traceback.clear_frames(error.__traceback__)  # they hold the tensors of the step
                trial = self.views(data).normalize(data.train_images[:TRIAL_IMAGES].to(self.device))
                if not divisible(model.encoder, trial):
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
            prototypes = seed("prototypes", *self.seed_key)
            dim = projector.dim if projector.layers else self._encoder(data).dim
            known = {"dim": dim, "classes": data.classes, "seed": prototypes, "images": len(data.train_images)}
            loss = losses.build(loss_name, **known, **loss_settings)
            if isinstance(loss, torch.nn.Module):
                loss.to(self.device)
        return loss, self._first(data, losses.asks(loss).needs)

    def _encoder(self, data: Data) -> Any:
        (name, settings) = next(iter(self.run.encoder.items()))
        return plugins.load("encoders", name)(**settings).build(*data.train_images.shape[1:3])

    def _first(self, data: Data, asked: Iterable[str] = ()) -> Model:
        """The network with its first weights, which names alone decide."""
        projector = Projector(**self.run.projector)
        model = Model(lambda: self._encoder(data), projector, data.classes, needs.heads(asked), self.seed_key).to(
            self.device
        )
        if self.machine.channels_last and not self.machine.plain:
            model = model.to(memory_format=torch.channels_last)
        return model

    def _fit(self, model: Model, data: Data, visible_labels: Tensor, chunks: int) -> None:
        run, loss, began, self.history = self.run, self.loss, time.perf_counter(), History()
        assert loss is not None
        assert run.batch_size is not None
        assert run.learning_rate is not None
        assert run.optimizer is not None
        assert run.schedule is not None
        schedule = Schedule(**run.schedule)
        base_learning_rate = effective(run.learning_rate, run.batch_size, schedule)
        (optimizer, optimizer_settings) = next(iter(run.optimizer.items()))
        weights, others = loop.parameters(model, loss)
        self.resolved |= {
            "effective_learning_rate": base_learning_rate,
            "steps": run.epochs * (len(data.train_images) // run.batch_size),
        }
        if native.active():
            self.resolved["native"] = True
        if exchange.size() > 1:
            self.resolved["processes"] = exchange.size()
            if run.batch_size < exchange.size():
                rule = f"must be at least the number of processes, {exchange.size()}"
                raise InputError(f"batch_size: {rule}. Got {run.batch_size}. Start fewer.")
        parts = TrainingSetup(
            model=model,
            loss=loss,
            views={"full": self.views(data), "weak": self.views(data, weak(Views(**run.views)))},
            optimizer=plugins.load("optimizers", optimizer)(**optimizer_settings).build(weights, others),
            images=data.train_images,
            visible_labels=visible_labels,
            seed_key=self.seed_key,
            history=self.history,
            encode=self.fast_encoder(model.encoder),
        )
        autocast = torch.bfloat16 if self.precision == "bfloat16" else None
        checkpoint = self._checkpoint()
        if self.machine.plain:
            one_tensor_at_a_time(parts.optimizer)
        loop.train(
            parts,
            epochs=run.epochs,
            batch_size=run.batch_size,
            base_learning_rate=base_learning_rate,
            schedule=schedule,
            autocast=autocast,
            checkpoint=checkpoint,
            chunks=chunks,
        )
        synchronize(self.device)
        seconds = (checkpoint.seconds if checkpoint else 0.0) + time.perf_counter() - began
        self.cost = {"train_seconds": seconds, "images_per_second": self.resolved["steps"] * run.batch_size / seconds}
        self.cost["trained_for"] = len(self.asked.runs)

    def fast_encoder(self, encoder: torch.nn.Module) -> Callable[[Tensor], Tensor]:
        """What encodes a batch in training: compiled code, kernels in C, or the encoder itself."""
        if self.machine.compile and not self.machine.plain:
            return compiled(encoder, self.device)
        # With several processes batch norm must synchronise, which the kernels in C cannot.
        return blocks.fast_encoder(encoder) if exchange.size() == 1 else encoder

    @torch.no_grad()
    def _embed(self, data: Data, visible_labels: Tensor) -> Features:
        model, views, seed_key = self._model, self.views(data), self.seed_key
        assert model is not None  # `train` comes first
        model.eval()

        @torch.no_grad()
        def outputs(images: Tensor, look: Any, model: Model = model) -> tuple[Tensor, Tensor]:
            chunks = []
            for number, chunk in enumerate(images.split(EVALUATION_CHUNK)):
                features = model.encoder(look(chunk.to(self.device), number))
                chunks.append((features, model.projector(features)))
            return torch.cat([f for f, _ in chunks]), torch.cat([p for _, p in chunks])

        def plain(images: Tensor, model: Model = model) -> tuple[Tensor, Tensor]:
            return outputs(images, lambda x, _: views.normalize(x), model)

        def untrained(images: Tensor) -> Tensor:
            first = self._first(data)
            first.eval()
            return plain(images, first)[0]

        def random_view(view: int) -> Tensor:
            return outputs(data.test_images, lambda x, n: views(x, seed("test views", *seed_key, view, n)))[0]

        train, train_projections = plain(data.train_images)
        test, test_projections = plain(data.test_images)
        test_views = random_view(1), random_view(2)
        for part in (train, test, train_projections, test_projections, *test_views):
            if not bool(torch.isfinite(part).all()):
                raise Diverged(self.resolved.get("steps", 0), "a feature after training")
        return Features(
            train=train,
            test=test,
            train_projections=train_projections,
            test_projections=test_projections,
            train_labels=data.train_labels,
            test_labels=data.test_labels,
            visible_labels=visible_labels,
            test_views=test_views,
            classes=data.classes,
            seed_key=seed_key,
            network=Network(
                encoder=model.encoder,
                test_images=data.test_images,
                features=lambda images: plain(images)[0],
                view=random_view,
                untrained=untrained,
                dataset=self.probed,
            ),
        )

    def views(self, data: Data, recipe: Views | None = None) -> ViewMaker:
        return ViewMaker(recipe or Views(**self.run.views), data.mean, data.std)

    def _checkpoint(self) -> Checkpoint | None:
        if not self.machine.checkpoints:
            return None
        pieces = {name: v for name, v in protocol.versions(self.run).items() if not name.startswith("evaluation.")}
        machine = self.machine
        made_by = f"{protocol.VERSION} {pieces} {torch.__version__} {self.device.type} {machine.threads}"
        made_by += f" {machine.channels_last} {machine.compile} {machine.plain}"  # which move the last digits too
        made_by += f" {native.active()}"
        kind = Checkpoint if exchange.size() == 1 else SharedCheckpoint
        return kind(machine.checkpoint_path(self.asked), machine.checkpoint_seconds, made_by, self.leave)


def way(machine: Machine) -> AbstractContextManager[None]:
    """How views, blocks and losses are computed on it, within."""
    return chunked.dense() if machine.plain else native.used(machine.wants_kernels())


def resolved_precision(asked: str, machine: Machine) -> str:
    """The arithmetic of a network on this machine: `auto` is bfloat16 on a GPU that has it."""
    if machine.plain:
        return "float32"
    if asked != "auto":
        return asked
    cuda = torch.device(machine.device).type == "cuda"
    return "bfloat16" if cuda and torch.cuda.is_bf16_supported() else "float32"


def compiled(encoder: torch.nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The encoder as compiled code, for the steps of training; torch keeps the code on disk for other processes.

    On a GPU a step is replayed as a CUDA graph, whose output the next replay overwrites, so it is copied. Evaluation
    and momentum copies, with batches of other sizes, go through the encoder itself.
    """
    if device.type != "cuda":
        return torch.compile(encoder)
    replay = torch.compile(encoder, mode="reduce-overhead")
    return lambda inputs: replay(inputs).clone()


def one_tensor_at_a_time(optimizer: torch.optim.Optimizer) -> None:
    """Without fused or multi-tensor calls."""
    for group in optimizer.param_groups:
        group |= {"fused": False, "foreach": False}


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def out_of_memory(error: BaseException) -> bool:
    """Is it that? torch has a class for it on a GPU and words alone on a CPU and in cuBLAS."""
    words = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    known = isinstance(error, torch.OutOfMemoryError | OutOfMemory | MemoryError)
    return known or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))
