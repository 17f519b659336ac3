"""A step as a CUDA graph: recorded once and replayed, so that the host gives one order for hundreds of kernels.

A replay repeats kernels, addresses and numbers. So all that differs between steps lies in tensors that stay (`feed`) or
is a `Changing` number, and a buffer that a loss binds anew is copied to where it was. A step that would be repeated
wrongly must not train: before it is replayed, three steps are watched for numbers that differ and for what cannot be
recorded (`watch`), and are done eagerly and again by replay from the same state; all that they change must be equal to
the bit. Else steps stay eager, and `outcome` says why. A condition on a changing number (`epoch < 2`) that comes out
otherwise later has the step recorded anew.
"""

import copy
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from cl_semisup.device import is_out_of_memory
from cl_semisup.errors import described, stops_process
from cl_semisup.training.batches import Batches
from cl_semisup.training.changing import CannotRecordError
from cl_semisup.training.feed import Feed
from cl_semisup.training.step import Schedules, Step, StepInputs, StepOutputs, Steps
from cl_semisup.training.watch import Watch, first_difference, python_state

PROOF_STEPS = 3
LEAST_STEPS = 50  # of a training; for fewer a recording does not pay
LEAST_REPLAYS = 20  # a recording that serves fewer steps does not pay either
MAX_SHORT_LIVED = 3  # such recordings

State = list[tuple[str, Tensor]]  # with names


class RecordedSteps(Steps):
    """Steps from `first` to `count`, in order, on CUDA."""

    def __init__(self, step: Step, batches: Batches, schedules: Schedules, first: int, count: int):
        super().__init__(step, batches, schedules)
        self.first, self.count = first, count
        self.device = step.setup.visible_labels.device
        self.refused = "" if count - first >= LEAST_STEPS else f"{count - first} steps are too few"
        self.replayed = 0
        self._graph: Any = None
        self._view_graphs: dict[tuple[int, tuple[str, ...]], Any] = {}
        self._short_lived = self._recorded_at = self._not_before = 0
        self._buffers: list[tuple[nn.Module, str, Tensor]] = []
        self._python: list[tuple[nn.Module, dict[str, Any]]] = []

    @property
    def outcome(self) -> str:
        if not self.refused:
            return "yes" if self.replayed else "no, because the training ended before"
        return f"{f'for {self.replayed} steps' if self.replayed else 'no'}, because {self.refused}"

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A stream that can be recorded. cuDNN takes algorithms with a fixed order of sums, so that steps repeat."""
        before, deterministic = torch.cuda.current_stream(self.device), torch.backends.cudnn.deterministic
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(before)
        torch.backends.cudnn.deterministic = True
        try:
            with torch.cuda.stream(stream):
                yield
        finally:
            torch.backends.cudnn.deterministic = deterministic
            before.wait_stream(stream)

    def __call__(self, number: int) -> StepOutputs:
        is_right = self._graph is not None and self.feed.numbers.hold(number)
        if not is_right and not self.refused and number > self.first and number >= self._not_before:
            self._record(number)
            is_right = self._graph is not None
        if not is_right or self.refused:
            return super().__call__(number)
        try:
            self._load(number)  # which may record a view
        except Exception as error:
            self._refuse(error)
            return super().__call__(number)
        self._graph.replay()
        self.replayed += 1
        return self._outputs

    def _record(self, number: int) -> None:
        """Record the step anew and prove it, or say why not. The state is left as it was."""
        if self._graph is not None and self.replayed - self._recorded_at < LEAST_REPLAYS:
            self._short_lived += 1
        self._graph = None
        if number + PROOF_STEPS > self.count:
            self._not_before = self.count
            return
        if self._short_lived >= MAX_SHORT_LIVED:
            self.refused = "the loss uses a number that changes in almost every step"
            return
        state, saved = State(), list[Tensor]()
        self.step.is_recorded = True
        try:
            self._prepare(number)
            now = self._state()
            saved = [tensor.clone() for _, tensor in now]
            state = now
            if not self._prove(number, state, saved):
                self._short_lived, self._not_before = self._short_lived + 1, number + 1
        except Exception as error:  # what is wrong without a recording too, the eager step tells
            self._refuse(error)
        finally:
            self.step.is_recorded = False
            self._restore(state, saved)
        self._recorded_at = self.replayed

    def _refuse(self, error: Exception) -> None:
        """Steps are eager from now on."""
        if stops_process(error):
            raise error
        if isinstance(error, CannotRecordError):
            self.refused = f"the step {error}"
        else:
            what = "of lack of memory" if is_out_of_memory(error) else described(error)
            self.refused = what.splitlines()[0][:300]
        self._set_capturable(False)
        self._graph = None
        self._view_graphs.clear()
        torch.cuda.empty_cache()

    def _prepare(self, number: int) -> None:
        if not hasattr(self, "feed"):
            self.feed = Feed(self.batches, self.batches.plan(number))
            self._pool = torch.cuda.graph_pool_handle()
            change = self.feed.numbers.changing
            numbers = [change(of) for of in (self.schedules.epoch, self.schedules.progress)]
            numbers += [change(of) for of in (self.schedules.learning_rate, self.schedules.decay)]
            views = [view.made for view in self.feed.views]
            self._inputs = StepInputs(self.feed.index, views, self.feed.support_index, *numbers)
            self._set_capturable(True)
        loss = self.step.setup.loss
        modules = list(loss.modules()) if isinstance(loss, nn.Module) else []
        self._buffers = [(m, name, b) for m in modules for name, b in m._buffers.items() if b is not None]
        self._python = [(m, _copied(vars(m))) for m in modules]

    def _set_capturable(self, value: bool) -> None:
        """Some optimizers take a rate on the device if they are told so."""
        for group in self.step.setup.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = value

    def _prove(self, number: int, state: State, saved: list[Tensor]) -> bool:
        """Record the step and compare replays with eager steps; False if a condition changes within these steps."""
        numbers = range(number, number + PROOF_STEPS)
        expected, calls, before = [], [], python_state(self.step.setup.loss)
        self.feed.numbers.begin(anew=True)
        self._load(number)
        self._body()  # tells which numbers it takes
        self._restore(state, saved)
        for each in numbers:
            self.feed.numbers.begin(anew=False)
            self._load(each)
            with Watch() as watch:
                outputs = self._body()
            calls.append(watch.calls)
            expected.append([tensor.clone() for tensor in outputs.tensors()])
            if not all(map(self.feed.numbers.hold, numbers)) or len(self._state()) != len(state):
                return False
            kept = python_state(self.step.setup.loss)
            if kept != before:
                name = next(name for (name, one), (_, other) in zip(kept, before, strict=False) if one != other)
                raise CannotRecordError(f"changes {name!r} of the loss, which is no buffer")
        for others in calls[1:]:
            if difference := first_difference(calls[0], others):
                raise CannotRecordError(difference)
        expected.append([tensor.clone() for _, tensor in state])
        del outputs, watch
        self._restore(state, saved)
        self._capture(number)
        names = [["loss", "largest", "z1", "z2"]] * PROOF_STEPS + [[name for name, _ in state]]
        replayed = self._again(numbers, state, saved, replay=True)
        if wrong := _first_unequal(names, expected, replayed):
            if _first_unequal(names, expected, self._again(numbers, state, saved, replay=False)):
                raise CannotRecordError(f"is not equal to itself in {wrong!r}: sums vary in order")
            raise CannotRecordError(f"differs in {wrong!r} when it is replayed")
        return True

    def _capture(self, number: int) -> None:
        self.feed.numbers.begin(anew=False)
        self._load(number)
        self._graph = torch.cuda.CUDAGraph()
        with _recording(self._graph):
            self._outputs = self._body()

    def _again(self, numbers: range, state: State, saved: list[Tensor], replay: bool) -> list[list[Tensor]]:
        """Outputs of each step and the state after the last, from the saved state on."""
        self._restore(state, saved)
        found = []
        for each in numbers:
            self.feed.numbers.begin(anew=False)
            self._load(each)
            if replay:
                self._graph.replay()
            outputs = self._outputs if replay else self._body()
            found.append([tensor.clone() for tensor in outputs.tensors()])
        return [*found, [tensor.clone() for _, tensor in state]]

    def _body(self) -> StepOutputs:
        """What is recorded."""
        if self.feed.has_one_order:
            self.feed.gather()
            for view in self.feed.views:
                self.feed.make(view)
        outputs = self.step(self._inputs)
        for module, name, kept in self._buffers:
            bound = module._buffers[name]
            if bound is not kept:
                if bound is None or bound.shape != kept.shape:
                    raise CannotRecordError(f"changes the size of the buffer {name!r} of the loss")
                with torch.no_grad():
                    kept.copy_(bound)
                module._buffers[name] = kept
        return outputs

    def _load(self, number: int) -> None:
        """Fill the inputs of a step; views whose kernels depend on the order of colours are recorded by order."""
        self.feed.fill(self.batches.plan(number))
        if self.feed.has_one_order:
            return
        for place, view in enumerate(self.feed.views):
            if view.slot.maker.is_basic:
                if (place, view.order) not in self._view_graphs:
                    self._view_graphs[place, view.order] = self._recorded_view(place)
                self._view_graphs[place, view.order].replay()

    def _recorded_view(self, place: int) -> Any:
        view = self.feed.views[place]
        with Watch():
            self.feed.make(view)
        expected, graph = view.made.clone(), torch.cuda.CUDAGraph()
        with _recording(graph, self._pool):
            self.feed.make(view)
        graph.replay()
        if not _equal(view.made, expected):
            raise CannotRecordError(f"makes another view {place} when it is replayed")
        return graph

    def _state(self) -> State:
        """All tensors that a step changes, by name."""
        setup, ema_model = self.step.setup, self.step.ema_model
        owners = {"network": setup.model, "EMA model": ema_model, "loss": setup.loss}
        modules = [(name, owner) for name, owner in owners.items() if isinstance(owner, nn.Module)]
        tensors = [(f"{what}: {n}", t) for what, m in modules for n, t in (*m.named_parameters(), *m.named_buffers())]
        kept = [(str(key), value) for each in setup.optimizer.state.values() for key, value in each.items()]
        return [*tensors, *((f"optimizer: {key}", value) for key, value in kept if isinstance(value, Tensor))]

    @torch.no_grad()
    def _restore(self, state: State, saved: list[Tensor]) -> None:
        for module, attributes in self._python:
            module.__dict__.update(_copied(attributes))
        for module, name, kept in self._buffers:
            module._buffers[name] = kept
        for (_, tensor), before in zip(state, saved, strict=True):
            tensor.copy_(before)


@contextmanager
def _recording(graph: Any, pool: Any = None) -> Iterator[None]:
    """Within, work for the current stream is recorded and not done. `torch.cuda.graph` would free all memory first."""
    collects = gc.isenabled()
    gc.disable()  # it could free what asks the device whether its work is done, which is not allowed here
    try:
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            yield
        except BaseException:
            with suppress(RuntimeError):  # the error within is the one to tell
                graph.capture_end()
            raise
        graph.capture_end()
    finally:
        if collects:
            gc.enable()


def _first_unequal(names: list[list[str]], one: list[list[Tensor]], other: list[list[Tensor]]) -> str:
    for words, first, second in zip(names, one, other, strict=True):
        for name, a, b in zip(words, first, second, strict=True):
            if not _equal(a, b):
                return name
    return ""


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a module, with copies of lists and the like; those that hold its tensors stay what they are."""
    own = ("_parameters", "_buffers", "_modules")
    many = (list, dict, set)
    return {k: copy.copy(v) if isinstance(v, many) and k not in own else v for k, v in attributes.items()}


def _equal(a: Tensor, b: Tensor) -> bool:
    """To the bit; NaN is NaN, and 0 is -0."""
    return bool(((a == b) | (a.isnan() & b.isnan())).all())
