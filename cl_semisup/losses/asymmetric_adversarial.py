from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from cl_semisup import seeds
from cl_semisup.contrast import logsumexp, others, unit
from cl_semisup.losses import Loss, Requirements, Setting, Share, Views
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._schedule import drawn

GROUPS = 3  # view 1, view 2, adversarial view


@dataclass(frozen=True)
class AsymmetricAdversarial:
    """A-InfoNCE: an adversarial view is a weaker positive, which moves to the clean views more than they move to it.

        L = 1/(3N) sum_i [ l(1, 2) + l(2, 1) + w ( g l(1, a) + g l(2, a) + (1 - g) l(a, 1) + (1 - g) l(a, 2) ) ]
        l(x, y) = D_x - s_xy / t,  D_x = log sum_{c != x} exp(s_xc / t) over all 3N views but x

    1 and 2 are image i's two views, a its adversarial view; s_xc = x.c, with a gradient to x only. The adversarial view
    is view 1 plus the perturbation of at most epsilon in every pixel that projected gradient ascent finds to raise
    NT-Xent between it and view 2. With hard negatives, the other images' M views count by their similarity:

        D_x = log(P + max(R, M e^(-1/t))),  R = (M sum_n e^((1 + h) s_xn / t) / sum_n e^(h s_xn / t) - q M P) / (1 - q)

    with P the mean of exp(s / t) over x's two positives and n over the M negatives.

    Group: further
    Source: arXiv 2207.08374; yqy2001/A-InfoNCE Asym-RoCL/loss.py, NT_xent (stop_grad) and NT_xent_HN
    Difference: log space, without the 1e-8 added there; the hard negatives' mean weight is over the negatives (there
    zeros of the other columns count too); the attack's loss has a gradient to both of its sides; adversarial images go
    through batch norm as a batch of their own and do not change its running statistics
    Degenerate: one image has no negatives, only its own views. Labels are ignored.

    Args:
        temperature: t, > 0
        weight: w, >= 0
        asymmetry: g, in [0, 1]; 0.5 treats both directions alike
        epsilon: largest change of a pixel, of its range [0, 1]; the result stays in that range
        steps: steps of the attack, each a forward and a backward pass; 0 leaves the random start
        step_size: change of a pixel in a step, of its range [0, 1]
        hard_negatives: whether D_x weighs negatives
        hardness: h, >= 0
        class_prior: q, chance that another image is of the same class, in [0, 1)
    """

    temperature: Annotated[float, Gt(0)] = 0.5
    weight: Annotated[float, Ge(0)] = 1.0
    asymmetry: Share = 0.2
    epsilon: Share = 8 / 255
    steps: Annotated[int, Interval(ge=0, le=100)] = 7
    step_size: Share = 0.007
    hard_negatives: bool = False
    hardness: Annotated[float, Ge(0)] = 1.0
    class_prior: Annotated[float, Interval(ge=0, lt=1)] = 0.1

    def build(self, setting: Setting) -> nn.Module:
        attacked = setting.loss({"nt_xent": {"temperature": self.temperature}})
        return _AsymmetricAdversarial(self, attacked, setting.seed)


class _AsymmetricAdversarial(nn.Module):
    def __init__(self, settings: AsymmetricAdversarial, attacked: Loss, seed: int):
        super().__init__()
        self.settings, self.attacked, self.seed = settings, attacked, seed
        self.requirements = Requirements(
            needs=("inputs", "encode", "pixels", "progress"),
            exempt={
                "gradient": "each similarity has a gradient to one side only",
                "batch_order": "the attack's random start is drawn row by row",
                "view_swap": "the first view is attacked",
                "rotation": "the adversarial view is embedded anew and not turned",
            },
        )

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        labels: Tensor | None = None,
        *,
        inputs: Views,
        encode: Callable[[Tensor], Tensor],
        pixels: Views,
        progress: float,
    ) -> Tensor:
        s = self.settings
        attack = self._attack(wide(inputs[0].detach()), z2.detach(), encode, pixels, progress)
        z = unit(torch.cat([z1, z2, encode(attack).to(z1.dtype)]))  # (3N, D)
        logits = z @ z.detach().T / s.temperature  # (3N, 3N)
        total = self._hard_negatives(logits) if s.hard_negatives else logsumexp(logits, others(len(z), z.device))
        own = logits.view(GROUPS, len(z1), GROUPS, len(z1)).diagonal(dim1=1, dim2=3)  # (3, 3, N): of i to i
        pair = total.view(GROUPS, 1, -1) - own
        clean = pair[0, 1] + pair[1, 0]
        attacked, clean_to_attacked = pair[2, 0] + pair[2, 1], pair[0, 2] + pair[1, 2]
        loss = clean + s.weight * (s.asymmetry * clean_to_attacked + (1 - s.asymmetry) * attacked)
        return loss.sum() / len(z)

    def _hard_negatives(self, logits: Tensor) -> Tensor:
        """(3N,) D_x with weighted negatives, relative to each row's largest entry, so that nothing overflows."""
        s, count = self.settings, len(logits) // GROUPS
        image = torch.arange(count, device=logits.device).repeat(GROUPS)
        different = image[:, None] != image
        positive = ~different & others(len(logits), logits.device)
        top = torch.where(different | positive, logits, -torch.inf).amax(dim=1).detach()
        exp = (torch.where(different | positive, logits, -torch.inf) - top[:, None]).exp()
        own = torch.where(positive, exp, 0.0).sum(dim=1) / (GROUPS - 1)
        if count < 2:
            return own.log() + top
        negatives = GROUPS * (count - 1)
        weighted = logsumexp((1 + s.hardness) * logits, different) - logsumexp(s.hardness * logits, different)
        rest = negatives * ((weighted - top).exp() - s.class_prior * own) / (1 - s.class_prior)
        rest = torch.maximum(rest, negatives * (-1 / s.temperature - top).exp())
        return (own + rest).log() + top

    def _attack(
        self, images: Tensor, target: Tensor, encode: Callable[[Tensor], Tensor], pixels: Views, progress: float
    ) -> Tensor:
        """Adversarial images within epsilon of `images`. The network does not change, and no gradient stays on it."""
        low, high = pixels
        epsilon, step_size = self.settings.epsilon * (high - low), self.settings.step_size * (high - low)
        attack = torch.clamp(images + epsilon * self.noise(images, progress), low, high)
        for _ in range(self.settings.steps):
            with torch.enable_grad():
                attack.requires_grad_()
                (gradient,) = torch.autograd.grad(self.attacked(encode(attack), target), attack)
            attack = attack.detach() + step_size * gradient.sign()
            attack = torch.clamp(attack, images - epsilon, images + epsilon).clamp(low, high)
        return attack

    def noise(self, images: Tensor, progress: float) -> Tensor:
        """Uniform in [-1, 1]; every training step has its own draw, on the host, so that devices have the same."""
        shape, dtype = images.shape, images.dtype

        def draw(progress: float) -> Tensor:
            generator = torch.Generator().manual_seed(seeds.seed("attack", self.seed, progress))
            return torch.rand(shape, generator=generator, dtype=dtype)

        return 2 * drawn(draw, progress, images.device) - 1
