"""The curves of a training. On a GPU they stay on the device while it trains, so that no step waits for them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from typing import NoReturn

import torch
from torch import Tensor, nn

from cl_semisup.device import read_later
from cl_semisup.measures.geometry import alignment, effective_count, effective_rank, feature_std, singular_values
from cl_semisup.training.setup import Diverged, History, TrainingSetup

LOGGED_POINTS = 40  # points of a run's curves
KEPT_BYTES = 2**28  # of projections on the device; a training with larger ones waits in between


@dataclass(eq=False)
class _Point:
    """A logged step whose values are still on the device: norms (P,) of the gradients, u and v (N, D) unit rows."""

    step: int
    learning_rate: float
    norms: Tensor
    u: Tensor
    feature_std: Tensor
    alignment: Tensor
    known: Callable[[], list[float]]  # mean loss, feature_std, and 1 if losses and gradients are finite


class Curves:
    """Adds points to the history of a setup, and judges them: on a GPU one point later, so that no step waits.

    Args:
        step_log: (2, steps) the loss and the largest absolute projection of every step
    """

    def __init__(self, setup: TrainingSetup, step_log: Tensor):
        self.setup, self.step_log = setup, step_log
        self.waits = step_log.device.type != "cuda"
        self._points: list[_Point] = []

    def add(self, step: int, learning_rate: float, z1: Tensor, z2: Tensor) -> bool:
        """A point, from the projections (N, D) and the gradients of this step. Is going on in vain? Raises Diverged."""
        is_last = step + 1 == self.step_log.shape[1]
        if self.waits:
            self._log(step, learning_rate, z1, z2)
            return not is_last and self.setup.hopeless(self.setup.history)
        is_sound, known = not self._points or bool(self._points[-1].known()[2]), self._known()
        is_hopeless = is_sound and not is_last and bool(known.loss) and self.setup.hopeless(known)
        self._keep(step, learning_rate, z1, z2)
        if is_hopeless or not is_sound or len(self._points) * self._points[-1].u.nbytes > KEPT_BYTES:
            self.complete()
        return is_hopeless

    def give_up(self, step: int, error: Exception) -> NoReturn:
        """Raises Diverged: at this step there is no loss, or an earlier one was not finite."""
        self.complete()
        if step > self._next_step():
            self._mean_loss(step - 1)
        raise Diverged(step, "the loss", f": {error}") from error

    def _known(self) -> History:
        """Curves of loss and feature_std up to the point before this one."""
        history, later = self.setup.history, [point.known() for point in self._points]
        losses, stds = [known[0] for known in later], [known[1] for known in later]
        return History(loss=history.loss + losses, feature_std=history.feature_std + stds)

    def _keep(self, step: int, learning_rate: float, z1: Tensor, z2: Tensor) -> None:
        """The point stays on the device."""
        u, v = nn.functional.normalize(z1, dim=1), nn.functional.normalize(z2, dim=1)
        norms = torch.stack(torch._foreach_norm([p.grad for p in self.setup.model.parameters() if p.grad is not None]))
        first = self._points[-1].step + 1 if self._points else self._next_step()
        losses, std = self.step_log[0, first : step + 1], feature_std(u)
        is_sound = torch.isfinite(losses).all() & torch.isfinite(norms).all()
        known = read_later(torch.stack([losses.mean(), std, is_sound.float()]))
        self._points.append(_Point(step, learning_rate, norms, u, std, alignment(u, v), known))

    def complete(self) -> None:
        """Compute what is still on the device; the host waits for it."""
        points, self._points = self._points, []
        sound = list(takewhile(lambda point: point.known()[2], points))
        spectra = list(singular_values(torch.stack([point.u for point in sound])).cpu()) if sound else list[Tensor]()
        for point, spectrum in zip_longest(points[: len(sound) + 1], spectra):
            mean_loss = self._mean_loss(point.step)
            norm = float(torch.linalg.vector_norm(point.norms))
            if not math.isfinite(norm):
                names = [name for name, p in self.setup.model.named_parameters() if p.grad is not None]
                finite = torch.isfinite(point.norms).tolist()
                self._raise_gradient(point.step, [n for n, one in zip(names, finite, strict=True) if not one])
            rank = effective_count(spectrum)
            self._append(point.step, mean_loss, point.learning_rate, norm, rank, point.feature_std, point.alignment)

    def _log(self, step: int, learning_rate: float, z1: Tensor, z2: Tensor) -> None:
        """Append one point to every curve. Nothing else in a training waits for its device."""
        model, mean_loss = self.setup.model, self._mean_loss(step)
        norm = float(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
        if not math.isfinite(norm):
            grads = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
            self._raise_gradient(step, [name for name, grad in grads if not bool(torch.isfinite(grad).all())])
        u, v = nn.functional.normalize(z1, dim=1), nn.functional.normalize(z2, dim=1)
        rank, spread, apart = effective_rank(u), feature_std(u), alignment(u, v)
        self._append(step, mean_loss, learning_rate, norm, rank, spread, apart)

    def _next_step(self) -> int:
        steps = self.setup.history.step
        return steps[-1] + 1 if steps else 0

    def _mean_loss(self, step: int) -> float:
        """Since the last point of the history. Raises Diverged."""
        first = self._next_step()
        losses, max_projections = self.step_log[:, first : step + 1]
        not_finite = torch.nonzero(~torch.isfinite(losses))
        if len(not_finite):
            only_loss = bool(torch.isfinite(max_projections[not_finite[0]]))
            rest = (
                ", though the projections are"
                if only_loss
                else ", and neither are the projections: the weights blew up"
            )
            raise Diverged(first + int(not_finite[0]), "the loss", rest)
        return float(losses.mean())

    def _raise_gradient(self, step: int, names: list[str]) -> None:
        more = f"the gradient of {names[0]} and {len(names) - 1} more" if names else "the gradient's norm"
        raise Diverged(step, more)

    def _append(
        self, step: int, loss: float, learning_rate: float, norm: float, rank: Tensor, spread: Tensor, apart: Tensor
    ) -> None:
        history = self.setup.history
        history.step.append(step)
        history.loss.append(loss)
        history.learning_rate.append(learning_rate)
        history.gradient_norm.append(norm)
        history.effective_rank.append(float(rank))
        history.feature_std.append(float(spread))
        history.alignment.append(float(apart))
