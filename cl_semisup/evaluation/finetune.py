import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from numpy.typing import NDArray
from torch import Tensor

from cl_semisup.evaluation import Features, Network, ProbeResult, accuracy
from cl_semisup.evaluation._finetuning import LabelledImages, Recipe, Start, fine_tune, predict
from cl_semisup.seeds import seed

RATES = (0.003, 0.01, 0.001)  # the first of each is the default, where nothing can be held out
FITTED_HEAD = (True, False)
LAYER_DECAYS = (1.0, 0.65)
SHORTER = 4  # rate, head and decay are chosen by trainings of 1 / SHORTER of the epochs
TOP1 = "top1_labelled"
FOLDS, FEW = 2, 200  # with at most FEW labelled images each half is held out in turn, else a fifth once
Folds = list[tuple[LabelledImages, LabelledImages]]  # to train on, and held out


@dataclass(frozen=True)
class FineTune:
    """Fine-tuning of the whole network on the labels that the run saw, and the same from random weights beside it.

    A copy of the encoder and a new linear head are trained by AdamW with a cosine to 0 on random views without colour
    changes; test images are classified without augmentation. Learning rate (0.003, 0.01, 0.001), start of the head (the
    converged linear probe, which is training of the head first, or zeros), layer decay (1, 0.65) and length (all epochs
    or half) are chosen in this order, each beside the best of those before, on held-out labelled images: of up to 200
    each half in turn, of more a fifth. The first three are chosen by trainings of a quarter of the length. Test images
    and hidden labels are not used. If a class has one labelled image nothing can be held out: the first of each counts.
    With fewer than two labelled images there is no score.

        finetune_top1_labelled          all weights
        finetune_scratch_top1_labelled  all weights from the run's initial ones, with the same labels and choices
        finetune_head_top1_labelled     the head alone
        finetune_last_top1_labelled     the head and the encoder's last block
        finetune_lora_top1_labelled     the head and low-rank updates of all linear layers and convolutions

    Which papers: all weights with 1 % and 10 % of the labels is the semi-supervised table of arXiv 2002.05709,
    2006.07733 and 2105.04906; the fitted head is arXiv 2202.10054; low-rank updates are arXiv 2106.09685.

    Source: arXiv 2002.05709, appendix B.5
    Difference: AdamW for SGD, chosen settings for fixed ones, a length in steps for epochs, the smaller views of small
        images; a published number has another recipe, so compare within this table

    Args:
        epochs: passes over the labelled images, at most
        batch_size: images a step
        weight_decay: of matrices and kernels
        scratch: also from random weights, the paired control; trained once for all losses of a repetition
        head: also the head alone
        last: also the last block
        lora: rank of low-rank updates; 0 leaves them out
    """

    epochs: Annotated[int, Interval(ge=1, le=100_000)] = 30
    batch_size: Annotated[int, Interval(ge=2, le=100_000)] = 64
    weight_decay: Annotated[float, Interval(ge=0, le=10)] = 0.01
    scratch: bool = True
    head: bool = False
    last: bool = False
    lora: Annotated[int, Interval(ge=0, le=1024)] = 0

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = (
        "finetune_top1_labelled",
        "finetune_scratch_top1_labelled",
        "finetune_head_top1_labelled",
        "finetune_last_top1_labelled",
        "finetune_lora_top1_labelled",
    )
    score_settings: ClassVar[dict[str, str]] = {
        f"finetune_{variant}_top1_labelled": variant for variant in ("scratch", "head", "last", "lora")
    }

    def measure(self, features: Features) -> ProbeResult:
        network = features.require_network("finetune", "train it further")
        visible = torch.nonzero(features.visible_labels >= 0).squeeze(1)
        if len(visible) < 2:  # a single image leaves batch norm no spread, and no two classes
            return ProbeResult()
        images = network.train_images[visible.to(network.train_images.device)]
        data = LabelledImages(images, features.visible_labels[visible], features.classes)
        trained, initial = Start("trained", network.copy), Start("initial", network.initial)
        variants = {"finetune": ("all", trained)}
        variants |= {"finetune_scratch": ("all", initial)} if self.scratch else {}
        variants |= {"finetune_head": ("head", trained)} if self.head else {}
        variants |= {"finetune_last": ("last", trained)} if self.last else {}
        variants |= {"finetune_lora": ("lora", trained)} if self.lora else {}
        result, rng_seed = ProbeResult(), seed("finetune", *features.seed_key)
        masks = _folds(data.labels.cpu().numpy(), seed("validation", *features.seed_key))
        folds = [(data.rows(~held), data.rows(held)) for held in masks]
        shared_inputs = {"images": images, "labels": data.labels}
        shared_inputs |= {"test images": network.test_images, "test labels": features.test_labels}

        def fine_tuned(trains: str, start: Start) -> dict[str, float]:
            recipe = self._choose(trains, start, network, folds, rng_seed)
            model = fine_tune(start, data, network, recipe, rng_seed)
            predictions = predict(model, network.test_images, network)
            return {TOP1: accuracy(predictions, features.test_labels), **recipe.choices()}

        for score, (trains, start) in variants.items():
            began = time.perf_counter()
            if start is initial:  # the same for every loss of a repetition
                what = repr((score, self.epochs, self.batch_size, self.weight_decay, features.classes, rng_seed))
                found = network.shared(what, shared_inputs, partial(fine_tuned, trains, start))
            else:
                found = fine_tuned(trains, start)
            result.scores[f"{score}_{TOP1}"] = found.pop(TOP1)
            result.diagnostics.update({f"{score}_{key}": value for key, value in found.items()})
            result.cost[f"{score}_seconds"] = time.perf_counter() - began
        return result

    def _choose(self, trains: str, start: Start, network: Network, folds: Folds, rng_seed: int) -> Recipe:
        """The recipe whose choices are the best on held-out images; the first of equals."""
        recipe = Recipe(
            trains,
            epochs=self.epochs,
            learning_rate=RATES[0],
            layer_decay=LAYER_DECAYS[0],
            fitted_head=FITTED_HEAD[0],
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            rank=self.lora,
        )
        if not folds:
            return recipe

        def count_right(candidate: Recipe, epochs: int, folds: Folds, best: int = -1) -> int:
            """How many held-out images are right after so many epochs; it ends where `best` cannot be beaten."""
            count, left = 0, sum(len(held.labels) for _, held in folds)
            for rest, held in folds:
                if count + left <= best:
                    break
                model = fine_tune(start, rest, network, replace(candidate, epochs=epochs), rng_seed)
                count += int((predict(model, held.images, network) == held.labels).sum())
                left -= len(held.labels)
            return count

        short = max(1, self.epochs // SHORTER)
        best = count_right(recipe, short, folds)
        choices: dict[str, tuple[Any, ...]] = {"learning_rate": RATES, "fitted_head": FITTED_HEAD}
        choices |= {"layer_decay": LAYER_DECAYS} if trains == "all" else {}
        for key, values in choices.items():
            for candidate in [replace(recipe, **{key: value}) for value in values[1:]]:
                if (score := count_right(candidate, short, folds, best)) > best:
                    best, recipe = score, candidate
        full, half = self.epochs, max(1, self.epochs // 2)
        best = count_right(recipe, full, folds[:1])
        return replace(recipe, epochs=half if count_right(recipe, half, folds[:1], best) > best else full)


def _folds(labels: NDArray[np.int64], rng_seed: int) -> list[Tensor]:
    """(L,) bool masks of stratified parts to hold out; none if a class has a single image."""
    smallest = min(np.unique(labels, return_counts=True)[1])
    if smallest < 2:
        return []
    count = FOLDS if len(labels) <= FEW else min(5, int(smallest))
    fold = np.empty(len(labels), dtype=int)
    random = np.random.default_rng(rng_seed)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        fold[members] = np.arange(len(members)) % count
    masks = [torch.from_numpy(fold == number) for number in range(count)]
    return masks if len(labels) <= FEW else masks[:1]
