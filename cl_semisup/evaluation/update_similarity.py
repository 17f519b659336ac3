from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Gt, Interval
from torch import Tensor, nn

from cl_semisup.evaluation import Features, Network, ProbeResult, evenly
from cl_semisup.seeds import seed

CHANGE = 0.01  # length of the gradient step, as a share of the weights' length
SCALE = 1000  # of the whole numbers that are stored


@dataclass(frozen=True)
class UpdateSimilarity:
    """Does training change features in the direction of one step of supervised gradient descent?

        mean over test images of cos( n(f) - n(f0), n(g) - n(f0) ),   n: scaled to length 1

    f0 are the features of the run's initial weights, f those after training, g those after one gradient step from the
    initial weights on -log softmax_{y_i}(n(f0_i).m_c / t), with m_c the mean direction of the visible labels' class c.

    Such cosines are not 0 for changes that have learnt nothing, since both updates start at f0. So
    `update_similarity_untrained` is the same with f of other initial weights, never trained; only what lies above it
    says something. `update_similarity_random` has a random direction instead of g. Without a visible label there is no
    step and no value.

    It stores, beside the record, `updates`: n(f) - n(f0) of some test images, the same for all runs of a data set, in
    thousandths of their length. The mean cosine of two runs' rows is the similarity of the updates of their losses;
    reports have it between each loss and the baseline.

    Source: arXiv 2311.07772 (SimAOU, with the untrained and random baselines); GiilDe/ft-vs-icl scripts/metrics.py
    Difference: an adaptation: there f is in-context learning, g fine-tuning of a language model, and every layer is
    compared; the gradient step has no weights of its own

    Args:
        images: at most so many test images, evenly spaced; a fifth of them is stored
        labelled: at most so many labelled images in the gradient step
        temperature: t, > 0
    """

    images: Annotated[int, Interval(ge=5, le=5000)] = 200
    labelled: Annotated[int, Interval(ge=1, le=5000)] = 500
    temperature: Annotated[float, Gt(0)] = 0.1

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ()

    def measure(self, features: Features) -> ProbeResult:
        network = features.require_network("update_similarity", "take a gradient step from its initial weights")
        images = network.test_images[evenly(len(network.test_images), self.images).to(network.test_images.device)]
        start, end = _unit(network.untrained(images)), _unit(network.features(images))
        change = end - start
        stored = change[: max(1, len(change) // 5)]
        rows = (SCALE * F.normalize(stored, dim=1)).round().int().tolist()
        found = {}
        if (stepped := self._after_a_step(features, network, images)) is not None:
            step = stepped - start
            other = _encode(_drawn_anew(network.initial(), *features.seed_key), network, images)
            random = torch.randn(
                step.shape, generator=torch.Generator().manual_seed(seed("update", *features.seed_key))
            )
            found = {
                "update_similarity": _cosine(change, step),
                "update_similarity_untrained": _cosine(other - start, step),
                "update_similarity_random": _cosine(change, random.to(change)),
            }
        return ProbeResult(diagnostics=found, curves={"updates": rows})

    def _after_a_step(self, features: Features, network: Network, images: Tensor) -> Tensor | None:
        """(n, F) unit features after one gradient step on images with visible labels; None without any."""
        known = torch.nonzero(features.visible_labels >= 0).squeeze(1)
        encoder = network.initial().to(features.test.device).eval()
        weights = [p for p in encoder.parameters() if p.requires_grad]
        if not len(known) or not weights:
            return None
        known = known[evenly(len(known), self.labelled).to(known.device)]
        labels = features.visible_labels[known]
        with torch.enable_grad():
            rows = _unit(encoder(network.inputs(network.train_images[known.to(network.train_images.device)])))
            sums = torch.zeros(features.classes, rows.shape[1], device=rows.device)
            centres = F.normalize(sums.index_add(0, labels, rows.detach()), dim=1)
            there = torch.bincount(labels, minlength=features.classes) > 0
            logits = (rows @ centres.T / self.temperature).masked_fill(~there, -torch.inf)
            gradients = torch.autograd.grad(F.cross_entropy(logits, labels), weights, allow_unused=True)
        length = torch.sqrt(sum((p.detach().square().sum() for p in weights), torch.zeros((), device=rows.device)))
        steep = torch.sqrt(sum((g.square().sum() for g in gradients if g is not None), torch.zeros_like(length)))
        if not float(steep) > 0:
            return None
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    weight.sub_(CHANGE * length / steep * gradient)
        return _encode(encoder, network, images)


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows.float(), dim=1)


@torch.no_grad()
def _encode(encoder: nn.Module, network: Network, images: Tensor) -> Tensor:
    """(n, F) unit features by another encoder."""
    return _unit(encoder.to(network.inputs(images[:1]).device).eval()(network.inputs(images)))


def _drawn_anew(encoder: nn.Module, *seed_key: Any) -> nn.Module:
    """The encoder with other initial weights, where its layers can draw them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed("other weights", *seed_key))
        for module in encoder.cpu().modules():
            draw: Any = getattr(module, "reset_parameters", None)
            if draw is not None:
                draw()
    return encoder


def _cosine(a: Tensor, b: Tensor) -> float:
    """The mean over rows."""
    return float(F.cosine_similarity(a.double(), b.double(), dim=1).mean())
