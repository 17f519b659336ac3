"""Parts of a network that training leaves as they are."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from annotated_types import Interval
from torch import nn

from cl_semisup.errors import InputError

Freeze = Literal["none", "all"] | dict[Literal["stages"], Annotated[int, Interval(ge=1, le=1000)]]
LISTS = ("features", "blocks", "stages", "layers", "encoder")  # what torchvision and timm call a list of stages


def freeze(net: nn.Module, what: Any) -> None:
    """Set `net.frozen`, the names of the modules that stay in evaluation mode; their parameters take no gradient.

    `{"stages": n}`: the first n of `stages`, and the network's own parameters (class token, positions).
    """
    names: list[str] = []
    if what == "all":
        names = [""]
        net.requires_grad_(False)
    elif what != "none":
        known, count = stages(net), what["stages"]
        if count > len(known):
            rule = f"must be at most {len(known)}, the stages of this network: {' | '.join(map(', '.join, known))}"
            raise InputError(f"freeze: stages: {rule}. Got {count}. Lower it.")
        names = [name for stage in known[:count] for name in stage]
        for parameter in net.parameters(recurse=False):
            parameter.requires_grad_(False)
        for name in names:
            net.get_submodule(name).requires_grad_(False)
    net.frozen = tuple(names)  # type: ignore[assignment]


def stages(net: nn.Module) -> list[list[str]]:
    """The names of the modules of every stage, from the input on, without modules that have no parameters.

    A stage ends with a module that holds others: `[conv1, bn1, layer1], [layer2], ...` in a ResNet. Lists of stages
    (`blocks`, `features`, ...) count member by member: `[patch_embed], [blocks.0], [blocks.1], ...`. Where no module
    holds others, a stage begins with every convolution or linear layer.
    """
    units = list(_units(net, ""))
    nested = any(_holds_others(unit) for _, unit in units)
    found: list[list[str]] = [[]]
    for name, unit in units:
        begins = isinstance(unit, nn.Conv2d | nn.Linear) if not nested else False
        if begins and found[-1]:
            found.append([])
        found[-1].append(name)
        if nested and _holds_others(unit):
            found.append([])
    return [stage for stage in found if stage]


def _units(net: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of the children that have parameters; of a list of stages its members."""
    for name, child in net.named_children():
        if not any(True for _ in child.parameters()):
            continue
        if name in LISTS:
            yield from _units(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _holds_others(module: nn.Module) -> bool:
    return any(any(True for _ in child.parameters()) for child in module.children())
