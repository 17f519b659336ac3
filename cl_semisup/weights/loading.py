"""Weights from a file into a network: whole or not at all, and told.

Programs that train put names of their own before a network's (`module.encoder_q.conv1.weight`). The prefix that gives
the most of the network's names is taken.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cl_semisup.errors import InputError
from cl_semisup.weights import reader

COUNTER = "num_batches_tracked"  # of batch norm; old files lack it, and nothing is computed with it
COPIES = ("student", "encoder_k", "momentum", "ema", "target")  # in prefixes: networks that are not the one to use
WRAPPERS = re.compile(
    r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)  # of torch, anywhere in a name
MAX_NAMED = 10


@dataclass(frozen=True)
class Loaded:
    """What was taken from a file.

    Args:
        file: as the user named it
        hash: of the file's tensors
        prefix: what the file puts before the network's names; "" for nothing
        other_prefixes: those that fit as well
        ignored: the file's names, without the prefix, that the network does not have: heads
        elsewhere: number of the file's tensors under other prefixes
        converted: dtypes that became the network's
    """

    file: str
    hash: str
    prefix: str
    other_prefixes: tuple[str, ...]
    ignored: tuple[str, ...]
    elsewhere: int
    converted: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"taken under the prefix {self.prefix!r}" if self.prefix else "taken under their own names"]
        parts += [f"{', '.join(map(repr, self.other_prefixes))} would fit as well"] if self.other_prefixes else []
        parts += [f"without {_some(self.ignored)}"] if self.ignored else []
        parts += [f"without {self.elsewhere} tensors of other parts"] if self.elsewhere else []
        parts += [f"converted from {', '.join(self.converted)}"] if self.converted else []
        return f"weights of {self.file} (hash {self.hash}): {'; '.join(parts)}"


def load(net: nn.Module, file: str) -> Loaded:
    """Fill the network, in place. InputError names the tensors that lack, do not fit or are not finite."""
    stored = reader.read(Path(file))
    wanted = dict(net.state_dict())
    tensors = {WRAPPERS.sub("", name): tensor for name, tensor in stored.tensors.items()}
    if len(tensors) < len(stored.tensors):  # names with and without a wrapper
        tensors = stored.tensors
    prefix, others = find_prefix(tensors, wanted)
    by_name = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if any(name not in by_name for name in wanted if COUNTER not in name):
        by_position = positions(net, wanted)
        place, same = find_prefix(tensors, by_position)
        found = {name.removeprefix(place): tensor for name, tensor in tensors.items() if name.startswith(place)}
        if len(found.keys() & by_position.keys()) > len(by_name.keys() & wanted.keys()):
            prefix, others, by_name = place, same, {by_position.get(name, name): found[name] for name in found}
    _require_all(file, prefix, wanted, by_name)
    taken = {name: by_name[name] for name in wanted if name in by_name}
    _require_fit(file, wanted, taken)
    net.load_state_dict(taken, strict=False)
    ignored, elsewhere = tuple(sorted(by_name.keys() - wanted.keys())), len(stored.tensors) - len(by_name)
    converted = {_dtype(tensor) for name, tensor in taken.items() if tensor.dtype != wanted[name].dtype}
    return Loaded(file, stored.hash, prefix, others, ignored, elsewhere, tuple(sorted(converted)))


def positions(net: nn.Module, wanted: Iterable[str]) -> dict[str, str]:
    """The network's names as they are where its parts stand in a Sequential: `4.0.conv1.weight` -> `layer1.0.conv1...`.

    As in `Sequential(*list(net.children())[:-1])`, by which lightly's examples and others cut off a classifier.
    """
    number = {name: str(position) for position, (name, _) in enumerate(net.named_children())}
    split = {name: name.partition(".") for name in wanted}
    return {f"{number.get(first, first)}{dot}{rest}": name for name, (first, dot, rest) in split.items()}


def find_prefix(names: Iterable[str], wanted: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The prefix under which most of the wanted names are, and the others that have as many.

    Of several a network's own comes before a copy's (student, momentum encoder), then the shortest.
    """
    wanted = set(wanted)
    deepest = max((name.count(".") + 1 for name in wanted), default=0)
    counts = Counter[str]()
    for name in names:
        parts = name.split(".")
        for start in range(max(0, len(parts) - deepest), len(parts)):  # a stranger's name may have any number of parts
            if ".".join(parts[start:]) in wanted:
                counts["".join(f"{part}." for part in parts[:start])] += 1
    most = max(counts.values(), default=0)
    best = sorted((p for p in counts if counts[p] == most), key=lambda p: (any(c in p for c in COPIES), len(p), p))
    return (best[0], tuple(best[1:])) if best else ("", ())


def _require_all(file: str, prefix: str, wanted: Mapping[str, Tensor], by_name: Mapping[str, Tensor]) -> None:
    missing = [name for name in wanted if name not in by_name and COUNTER not in name]
    if not missing:
        return
    under = f" under the prefix {prefix!r}" if prefix else ""
    got = f"Got {len(wanted) - len(missing)} of {len(wanted)}{under}; the file begins with {_some(sorted(by_name), 3)}"
    rule = f"must hold every weight of the network; {len(missing)} lack: {_some(missing)}"
    raise InputError(f"{file}: weights: {rule}. {got}. Name the architecture that the file is of.")


def _require_fit(file: str, wanted: Mapping[str, Tensor], taken: Mapping[str, Tensor]) -> None:
    """Shapes are equal, floats are floats, and every value is finite."""
    faults = []
    for name, tensor in taken.items():
        if tensor.shape != wanted[name].shape:
            faults.append(f"{name} must be {tuple(wanted[name].shape)}. Got {tuple(tensor.shape)}")
        elif tensor.is_floating_point() != wanted[name].is_floating_point() or tensor.is_complex():
            faults.append(f"{name} must be {_dtype(wanted[name])}. Got {_dtype(tensor)}")
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        remedy = "Name the architecture and the side of images that the file is of."
        raise InputError(f"{file}: weights: {'; '.join(faults[:5])}{more}. {remedy}")
    broken = [name for name, tensor in taken.items() if not bool(torch.isfinite(tensor.to(wanted[name].dtype)).all())]
    if broken:
        raise InputError(f"{file}: weights: must be finite. Got others in {_some(broken)}. Use another file.")


def _some(names: Iterable[str], count: int = MAX_NAMED) -> str:
    listed = list(names)
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more if listed else "nothing"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
