"""Each clause of each contract can fail: a small plug-in that breaks it, and is whole without the fault."""

import inspect
from pathlib import Path
from textwrap import dedent

import pytest

from cl_semisup import contract, plugins
from cl_semisup.contract import datasets, encoders, evaluation, losses, optimizers, views

pytestmark = pytest.mark.usefixtures("forget_plugins")

HEAD = """\
import random
from dataclasses import dataclass
import numpy as np
import torch
from torch import nn

KEPT = []
calls = [0]

@dataclass(frozen=True)
class Mine:
"""
GOOD = {
    "losses": '''
    """Views attract each other, and those of a class.

    Source: None
    Difference: None

    Args:
        temperature: t
    """

    temperature: float = 0.5
    requirements = Requirements(labels=True)

    def build(self, setting):
        return Loss(self.temperature)
''',
    "datasets": '''
    """Noise."""

    views = {"noise": 0.1}

    def load(self, data_dir):
        draw = np.random.default_rng(0)
        x, y = draw.integers(0, 256, (12, 1, 8, 8), dtype=np.uint8), np.arange(12) % 3
        return Images(x[:9], y[:9], x[9:], y[9:], ("a", "b", "c"))

    def facts(self, data_dir):
        return self.load(data_dir).facts()

    def prepare(self, data_dir, download):
        pass

    def data_files(self, data_dir):
        return ()
''',
    "encoders": '''
    """A network with batch norm and dropout."""

    def build(self, channels, side):
        return Net(channels, side)
''',
    "optimizers": '''
    """Momentum."""

    def build(self, weights, others):
        return Step([{"params": weights, "decay": 0.1}, {"params": others, "decay": 0.0}])
''',
    "evaluation": '''
    """Nearest class mean."""

    scores = ("mine_top1", "mine_top1_labelled")

    def measure(self, features):
        result = ProbeResult()
        for suffix, labels in features.label_sets():
            if bool((labels >= 0).any()):
                x, y = features.train[labels >= 0], labels[labels >= 0]
                means = torch.stack([x[y == c].mean(0) if bool((y == c).any()) else x.mean(0) for c in range(features.classes)])
                distances = torch.cdist(features.test, means)
                result.scores["mine_top1" + suffix] = float((distances.argmin(1) == features.test_labels).float().mean())
        return result
''',
    "views": '''
    """Some noise."""

    inputs = "images"

    def view(self, images, draw):
        return (images + 0.01 * torch.randn(images.shape, generator=draw.random)).clamp(0, 1)
''',
}
FOOT = {
    "losses": """
class Loss(nn.Module):
    requirements = Requirements(labels=True)

    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, z1, z2, labels=None):
        u = nn.functional.normalize(torch.cat([z1, z2]).to(z1.dtype), eps=1e-6)
        y = torch.arange(len(z1)) if labels is None else torch.where(labels < 0, 1000 + torch.arange(len(z1)), labels)
        y = torch.cat([y, y])
        same = (y[:, None] == y[None]).to(u.dtype)
        return (same * (1 - u @ u.T)).mean() / self.temperature
""",
    "datasets": "",
    "encoders": """
class Net(nn.Module):
    def __init__(self, channels, side):
        super().__init__()
        self.dim = 5
        self.shift = 0
        self.first = nn.Linear(channels * side * side, 8)
        self.norm, self.drop, self.last = nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 5)

    def forward(self, x):
        x = x.flatten(1)
        return self.last(self.drop(self.norm(self.first(x)).relu())) + self.shift
""",
    "optimizers": """
class Step(torch.optim.Optimizer):
    def __init__(self, groups):
        super().__init__(groups, {"lr": 1.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.mul_(0.9).add_(p.grad)
                p.sub_(group["lr"] * (mean + group["decay"] * p))
""",
    "evaluation": "",
    "views": "",
}
IMPORTS = {
    "losses": "from cl_semisup.losses import Requirements\n",
    "datasets": "from cl_semisup.data.images import Facts, Images\n",
    "evaluation": "from cl_semisup.evaluation import ProbeResult\n",
}

# (kind, what is replaced, by what, the clause that breaks and those that may (* for any), words of its message)
BROKEN = [
    # losses
    ("losses", "    Source: None", "", "documented", "the docstring lacks Source:"),
    ("losses", "(1 - u @ u.T)).mean()", "(1 - u @ u.T)).mean(0)", "scalar *", "the value is torch.float32 of shape (24,)"),
    ("losses", "(1 - u @ u.T)).mean()", "(1 - u @ u.T).detach()).mean() + 0 * z1.sum()", "gradient", "zero everywhere"),
    ("losses", "        y = torch.cat", "        u = u + 0.1 * torch.randn_like(u)\n        y = torch.cat", "repeatable *", "built twice"),
    ("losses", "/ self.temperature", "/ self.temperature + (u[0] * u[1]).sum()", "batch_order *", "images in another order"),
    ("losses", "/ self.temperature", "/ self.temperature + z1.square().mean()", "view_swap", "views exchanged"),
    ("losses", "/ self.temperature", "/ self.temperature + u[:, 0].mean()", "rotation", "turned"),
    ("losses", "    requirements = Requirements(labels=True)\n\n    def __init__", "    requirements = Requirements()\n\n    def __init__", "labels", "but it declares False"),
    ("losses", "torch.where(labels < 0, 1000 + torch.arange(len(z1)), labels)", "labels", "unlabelled", "labels of -1 instead of None"),
    ("losses", "torch.where(labels < 0, 1000 + torch.arange(len(z1)), labels)", "labels.copy_(torch.where(labels < 0, 1000 + torch.arange(len(z1)), labels))", "labels *", "labels are changed in place"),
    ("losses", ".mean() / self.temperature", ".div(self.temperature).sub(100).exp().mean() + (100 / self.temperature * same).exp().mean().log()", "small_temperature *", "temperature 0.005 is not finite"),
    ("losses", ".to(z1.dtype), eps=1e-6)", ".to(z1.dtype), eps=1e-6) * 1e4", "half_precision", "not finite"),
    ("losses", "nn.functional.normalize(torch.cat([z1, z2]).to(z1.dtype), eps=1e-6)", "torch.cat([z1, z2])\n        u = u / u.norm(dim=1, keepdim=True)", "degenerate", "all rows zero is not finite"),
    ("losses", "        u = nn", "        self.seen = getattr(self, 'seen', 0) + 1\n        u = self.seen * nn", "state", "restored from its state"),
    ("losses", "        u = nn", "        KEPT[:] = KEPT or [z1.detach().norm()]\n        u = KEPT[0] * nn", "other_process *", "the loss or gradient of batch 0 is another one"),
    ("losses", "        u = nn", "        u = (2 + list(set('abcdefghijklmnopqrstuvwxyz')).index('q')) * nn", "other_process *", "the loss or gradient of batch 0 is another one"),
    # data sets
    ("datasets", '    """Noise."""', "", "documented", "a summary"),
    ("datasets", "np.arange(12) % 3", "np.arange(12, dtype=np.int32) % 3", "loads", "train_labels must be int64. Got int32."),
    ("datasets", "dtype=np.uint8", "dtype=np.int64", "loads", "images must be uint8"),
    ("datasets", "(12, 1, 8, 8)", "(12, 1, 8, 9)", "loads", "images must be uint8 (M, 1 to 16, side, side)"),
    ("datasets", "np.arange(12) % 3", "np.arange(12) % 4", "loads", "labels must lie in -1..2. Got 0..3"),
    ("datasets", "return Images(x[:9], y[:9], x[9:], y[9:], ", "return (", "loads", "load gives tuple, not Images"),
    ("datasets", '"b", "c"', '"b", "b"', "loads", "two classes have the same name"),
    ("datasets", "np.random.default_rng(0)", "np.random.default_rng()", "deterministic own_arrays", "two loads differ in train_images"),
    ("datasets", "draw.integers(0, 256", "np.random.randint(0, 256", "deterministic own_arrays", "global generator of numpy"),
    ("datasets", "np.random.default_rng(0)", "np.random.default_rng(abs(hash('train')))", "other_process", "in another process, asked in another order, train_images is another one"),
    ("datasets", "np.random.default_rng(0)", "np.random.default_rng(__import__('os').getpid())", "other_process", "train_images is another one"),
    ("evaluation", "features.test, means", "features.test * (weight := torch.tensor([list(set('abcdefghijklmnopqrstuvwxyz')).index(c) for c in 'abcdefgh'])), means * weight", "other_process", "a number is another one"),
    ("evaluation", "        return result", "        KEPT[:] = [max([*KEPT, result.scores['mine_top1']])]\n        result.scores['mine_top1'] = KEPT[0]\n        return result", "other_process *", "a number with other labels is another one"),
    ("datasets", "        draw =", "        np.random.seed(0)\n        draw =", "deterministic", "global generator of numpy"),
    ("datasets", "        return Images", "        KEPT.append(x)\n        x = KEPT[0]\n        return Images", "own_arrays", "the array is shared"),
    ("datasets", "        return Images", "        x = np.memmap(data_dir / 'x', np.uint8, 'w+', shape=x.shape)\n        return Images", "own_arrays", "mapped for writing"),
    ("datasets", "return self.load(data_dir).facts()", "return Facts(9, 3, 3, 1, 16, 3)", "facts", "facts says side 16, but 8 is loaded"),
    ("datasets", "        draw =", "        (data_dir / 'mine.bin').read_bytes()\n        draw =", "data_files", "mine.bin, which data_files does not name"),
    ("datasets", "return ()", "return (data_dir / 'none',)", "data_files", "none, which does not exist"),
    ("datasets", "        pass", "        raise OSError('no network')", "prepare", "OSError: no network"),
    ("datasets", '{"noise": 0.1}', '{"noise": -1}', "views", "greater than or equal to 0"),
    ("datasets", '{"noise": 0.1}', '{"solarise": {}}', "views", "unknown view 'solarise'"),
    # encoders
    ("encoders", '    """A network with batch norm and dropout."""', "", "documented", "a summary"),
    ("encoders", "self.dim = 5", "self.dim = 6", "builds", "must be float32 (4, 6), (N, net.dim). Got torch.float32 (4, 5)"),
    ("encoders", "self.dim = 5", "pass", "builds", "net.dim must be the width of the features. Got None"),
    ("encoders", "return Net(channels, side)", "return Net(channels, 8)", "builds", "RuntimeError"),
    ("encoders", "self.shift = 0", "self.shift = random.random()", "seeded state", "global generator of random"),
    ("encoders", "return Net(channels, side)", "net = Net(channels, side)\n        net.last.weight.data += float(np.random.rand())\n        return net", "seeded", "global generator of numpy"),
    ("encoders", "return Net(channels, side)", "net = Net(channels, side)\n        KEPT.append(net.last)\n        net.last = KEPT[0]\n        return net", "seeded", "two networks share last.weight"),
    ("encoders", "return Net(channels, side)", "net = Net(channels, side)\n        calls[0] += 1\n        net.last.bias.data += calls[0]\n        return net", "seeded", "differ in last.bias"),
    ("encoders", "x = x.flatten(1)", "x = x.flatten(1)\n        x = x - x.mean(0)", "batch_in_evaluation batch_in_training", "an image alone has other features"),
    ("encoders", "x = x.flatten(1)", "x = x.flatten(1).squeeze()", "batch_in_evaluation", "expected 2D"),
    ("encoders", "x = x.flatten(1)", "x = x.flatten(1)\n        x = x - x.mean(0) if self.training else x", "batch_in_training modes", "depend on other images of its batch"),
    ("encoders", "x = x.flatten(1)", "x = x.flatten(1)\n        x = x / x.std(1, keepdim=True)", "finite", "features of constant images are not finite"),
    ("encoders", "x = x.flatten(1)", "x.mul_(2)\n        x = x.flatten(1)", "evaluation_changes_nothing *", "the images are changed in place"),
    ("encoders", "x = x.flatten(1)", "x = x.flatten(1)\n        self.norm.running_mean += 0.1", "evaluation_changes_nothing batch_in_evaluation modes", "norm.running_mean changes in evaluation"),
    ("encoders", "x = x.flatten(1)", "x = x.flatten(1) + 0.1 * torch.rand(1)", "evaluation_changes_nothing *", "global generator of torch"),
    ("encoders", "x = x.flatten(1)", "x = x.flatten(1)\n        x = 2 * x if self.training else x", "modes", "training has other features than evaluation"),
    ("encoders", "self.last(self.drop", "(self.drop", "builds", "must be float32"),
    ("encoders", "return self.last", "x = x.detach() * 0\n        return 0 * self.last", "trains", "no gradient reaches a weight"),
    ("encoders", "self.shift = 0", "self.shift = torch.randn(5)", "state", "restored from its state_dict it has other features"),
    ("encoders", "self.shift = 0", "self.shift = list(set('abcdefghijklmnopqrstuvwxyz')).index('q')", "other_process", "is another one"),
    # optimizers
    ("optimizers", '    """Momentum."""', "", "documented", "a summary"),
    ("optimizers", '{"params": others, "decay": 0.0}', "", "builds", "each of the 4 parameters once. They hold 2"),
    ("optimizers", "return Step(", "return (", "builds", "build gives list, not a torch.optim.Optimizer"),
    ("optimizers", "p.sub_(", "p.add_(", "downhill", "uphill"),
    ("optimizers", 'p.sub_(group["lr"]', "p.sub_(0.01", "learning_rate", "is 0"),
    ("optimizers", 'p.sub_(group["lr"]', 'p.sub_(self.param_groups[0]["lr"]', "learning_rate", "learning rate of its group (1) is 0"),
    ("optimizers", 'p.sub_(group["lr"] *', 'p.sub_((0.01 if group["lr"] else 0.0) *', "learning_rate", "a tenth of the learning rate moves"),
    ("optimizers", "                    continue", '                    p.sub_(group["lr"] * p)\n                    continue', "without_gradient", "whose gradient is None moves"),
    ("optimizers", "                    continue", "                    self.state[p]['off'] = True\n                    continue\n                if 'off' in self.state[p]:\n                    continue", "without_gradient", "first gradient in the fourth step"),
    ("optimizers", '"decay": 0.0', '"decay": 0.1', "no_decay_of_others", "moves though its gradient is 0"),
    ("optimizers", "mean.mul_(0.9).add_(p.grad)", "mean.mul_(0.9).add_(p.grad)\n                p.grad.mul_(0.5)", "gradients", "a step changes the gradients"),
    ("optimizers", "mean.mul_(0.9).add_(p.grad)", "mean.mul_(0.9).add_(p.grad.clamp_(-1, 1))", "gradients", "a step changes the gradients"),
    ("optimizers", "mean.mul_(0.9)", "mean.mul_(0.9 + 0.01 * torch.rand(()))", "deterministic resuming", "global generator of torch"),
    ("optimizers", "mean.mul_(0.9)", "KEPT.append(1)\n                mean.mul_(0.9).add_(1e-3 * len(KEPT))", "deterministic resuming no_decay_of_others downhill", "end at other parameters"),
    ("optimizers", "mean = self.state[p].setdefault(\"mean\", torch.zeros_like(p))", "self.means = getattr(self, 'means', {})\n                mean = self.means.setdefault(p, torch.zeros_like(p))", "resuming", "goes elsewhere"),
    ("optimizers", "mean.mul_(0.9)", "self.state[p]['step'] = np.random.default_rng\n                mean.mul_(0.9)", "resuming", "its state_dict must hold tensors, numbers and texts alone"),
    ("optimizers", "mean.mul_(0.9)", "mean.mul_(0.02 * list(set('abcdefghijklmnopqrstuvwxyz')).index('q'))", "other_process", "is another one"),
    ("optimizers", "mean.mul_(0.9)", "KEPT[:] = KEPT or [p.grad.norm()]\n                mean.mul_(KEPT[0] / 100)", "other_process *", "is another one"),
    # probes
    ("evaluation", '    """Nearest class mean."""', "", "documented", "a summary"),
    ("evaluation", ".float().mean())", ".float().mean()) * 100", "measures", "the score mine_top1 must be a float in [0, 1]. Got "),
    ("evaluation", "return result", "return result.scores", "measures", "measure gives dict, not ProbeResult"),
    ("evaluation", ".float().mean())", ".float().mean()) * float('nan')", "measures", "Got nan"),
    ("evaluation", "        return result", "        result.diagnostics['mine'] = 'a'\n        return result", "measures", "the diagnostic mine must be a number"),
    ("evaluation", '("mine_top1", "mine_top1_labelled")', '("mine_top1",)', "declared", "it gives mine_top1_labelled, which `scores` does not name"),
    ("evaluation", '("mine_top1", ', '("mine_top1", "knn_top1", ', "declared", "the probe 'knn' gives knn_top1 too"),
    ("evaluation", "features.test, means", "features.test + torch.rand(1), means", "repeatable test_labels hidden_labels", "global generator of torch"),
    ("evaluation", "        return result", "        calls[0] += 1\n        result.diagnostics['mine'] = calls[0] ** 2.0\n        return result", "repeatable test_labels", "in a second measurement"),
    ("evaluation", "        return result", "        features.test_projections.mul_(2)\n        return result", "changes_nothing", "test_projections are changed in place"),
    ("evaluation", "        return result", "        features.network.encoder[1].weight.data *= 2\n        return result", "changes_nothing", "the network's 1.weight is not put back"),
    ("evaluation", "        return result", "        features.network.encoder.train()\n        return result", "changes_nothing", "left in training mode"),
    ("evaluation", "                distances = torch.cdist(features.test, means)", "                distances = max((torch.cdist(features.test, means, p) for p in (0.5, 1.0, 8.0)), key=lambda d: (d.argmin(1) == features.test_labels).sum())", "test_labels", "is no mean over test images"),
    ("evaluation", "distances = torch.cdist(features.test, means)", "own = torch.stack([features.test[features.test_labels == c].mean(0) for c in range(3)])\n                distances = torch.cdist(features.test, own)", "test_labels", "is no mean over test images"),
    ("evaluation", "        return result", "        result.diagnostics['mine_p'] = float(max((0.5, 1.0, 8.0), key=lambda p: float((torch.cdist(features.test, means, p).argmin(1) == features.test_labels).float().mean())))\n        return result", "test_labels without_labels", "mine_p is no mean"),
    ("evaluation", "labels[labels >= 0]\n", "features.train_labels[labels >= 0]\n", "hidden_labels", "mine_top1_labelled is "),
    ("evaluation", "if bool((labels >= 0).any()):", "if bool((features.train_labels >= 0).any()):", "without_labels", "it gives mine_top1_labelled where no label is visible"),
    ("evaluation", "if bool((labels >= 0).any()):", "if labels.max() >= -5:", "without_labels", "it gives mine_top1_labelled where no label is visible"),
    ("evaluation", "features.test, means", "features.test * (weight := torch.tensor([list(set('abcdefghijklmnopqrstuvwxyz')).index(c) for c in 'abcdefgh'])), means * weight", "other_process", "a number is another one"),
    ("evaluation", "        return result", "        KEPT[:] = [max([*KEPT, result.scores['mine_top1']])]\n        result.scores['mine_top1'] = KEPT[0]\n        return result", "other_process *", "a number with other labels is another one"),
    # views
    ("views", '    """Some noise."""', "", "documented", "a summary"),
    ("views", 'inputs = "images"', 'inputs = "pictures"', "makes_views", "inputs must be one of images, features, any. Got 'pictures'"),
    ("views", ".clamp(0, 1)", ".double()", "makes_views", "must be float32 of that shape. Got torch.float64"),
    ("views", ".clamp(0, 1)", "[:, :, 1:]", "makes_views", "must be float32 of that shape"),
    ("views", ".clamp(0, 1)", ".log().log()", "makes_views", "a view is not finite"),
    ("views", ".clamp(0, 1)", " * 255", "pixels", "pixels must lie in [0, 1]. Got "),
    ("views", "generator=draw.random", "", "pure batch", "global generator of torch"),
    ("views", "        return", "        calls[0] += 1\n        images = images / calls[0]\n        return", "pure batch", "the same images and draw give another view"),
    ("views", "        return", "        images.mul_(0.5)\n        return", "changes_nothing", "the images are changed in place"),
    ("views", "        return", "        draw.data[0] = 0\n        return", "changes_nothing", "the data set, or the index, is changed in place"),
    ("views", "        return (images", "        return (0.5 * images + 0.5 * images.roll(1, 0)", "batch", "other images in its batch change the view of an image"),
    ("views", "        return", "        images = images * (1 - 0.01 * list(set('abcdefghijklmnopqrstuvwxyz')).index('q'))\n        return", "other_process", "is another one"),
    ("views", "        return", "        KEPT[:] = KEPT or [images.mean()]\n        images = images - KEPT[0]\n        return", "other_process", "is another one"),
    ("views", "        return (images", "        KEPT[:] = KEPT or [torch.rand(1, generator=draw.random)]\n        return (KEPT[0] * images", "other_process *", "is another one"),
]  # fmt: skip


def outcomes(folder: Path, kind: str, old: str = "", new: str = "") -> dict[str, contract.ClauseResult]:
    """Clause -> result of the kind's plug-in with the replacement."""
    text = IMPORTS.get(kind, "") + HEAD + GOOD[kind].lstrip("\n") + FOOT[kind]
    assert old in text
    (folder / "mine.py").write_text(dedent(text.replace(old, new, 1)) if old else text)
    (folder / "mine.bin").write_bytes(b"data")
    plugin = plugins.add(folder / "mine.py")
    assert plugin == (kind, "mine")
    return {result.clause: result for result in contract.check(*plugin, data_dir=str(folder))}


@pytest.mark.parametrize("kind", plugins.FOLDERS)
def test_a_plug_in_without_a_fault_keeps_every_clause(tmp_path: Path, kind: str) -> None:
    broken = [result for result in outcomes(tmp_path, kind).values() if result.outcome != "ok"]
    assert not broken


@pytest.mark.parametrize(("kind", "old", "new", "clauses", "words"), BROKEN)
def test_a_fault_is_found_by_its_clause(
    tmp_path: Path, kind: str, old: str, new: str, clauses: str, words: str
) -> None:
    results = outcomes(tmp_path, kind, old, new)
    first, *others = clauses.split()
    assert results[first].outcome == "broken"
    assert words in results[first].text
    broken = {name for name, result in results.items() if result.outcome == "broken"}
    # what differs between two calls or two networks may differ between processes too
    assert "*" in others or broken <= {first, *others, "other_process"}


@pytest.mark.parametrize("kind", [datasets, encoders, evaluation, losses, optimizers, views], ids=lambda m: m.__name__)
def test_there_is_a_fault_for_every_clause(kind: object) -> None:
    name = inspect.getmodule(kind).__name__.rpartition(".")[2]  # type: ignore[union-attr]
    found = {clauses.split()[0] for of, _, _, clauses, _ in BROKEN if of == name}
    assert found == set(kind.CONTRACT.clauses)  # type: ignore[attr-defined]
