"""Encoders against the same network written out plainly."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_semisup import plugins


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("channels", "side", "blocks"), [(1, 8, 3), (1, 28, 3), (3, 32, 3), (3, 32, 4)])
def test_a_convnet_in_its_fast_order_has_the_digits_of_one_in_the_usual_order(
    channels: int, side: int, blocks: int, layout: torch.memory_format
) -> None:
    """It pools before it rectifies, and its spatial mean looks at channels last."""
    torch.manual_seed(0)
    network = plugins.load("encoders", "convnet")(width=8, blocks=blocks).build(channels, side).train()
    network.to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.randn(32, channels, side, side)
    parameters = list(network.parameters())
    slopes = torch.randn(32, network.dim)

    def usual(x: Tensor) -> Tensor:
        for kernel, weight, bias in zip(*(iter(parameters),) * 3, strict=True):
            x = F.conv2d(x, kernel, padding=1)
            x = F.relu(F.batch_norm(x, None, None, weight, bias, training=True))
            x = F.max_pool2d(x, 2) if x.shape[-1] > 2 else x
        return F.adaptive_avg_pool2d(x, 1).flatten(1)

    found, expected = network(images), usual(images)
    assert torch.equal(found, expected)
    pairs = zip(*(torch.autograd.grad(out, parameters, slopes) for out in (found, expected)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(("norm", "width", "groups"), [("group", 16, (8, 8)), ("group", 6, (2, 4)), ("none", 16, None)])
def test_a_convnet_without_batch_norm_is_the_plain_network(
    norm: str, width: int, groups: tuple[int, int] | None
) -> None:
    torch.manual_seed(0)
    network = plugins.load("encoders", "convnet")(width=width, blocks=2, norm=norm).build(1, 8).train()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    images = torch.randn(4, 1, 8, 8)
    first, second = (layer for layer in network if isinstance(layer, torch.nn.Conv2d))
    scales = [layer for layer in network if isinstance(layer, torch.nn.GroupNorm)]
    x = images
    for step, convolution in enumerate((first, second)):
        x = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
        if groups:
            x = F.group_norm(x, groups[step], scales[step].weight, scales[step].bias)
        x = F.relu(F.max_pool2d(x, 2))
    assert (first.bias is None) == bool(groups)
    assert torch.allclose(network(images), x.mean((2, 3)), atol=1e-5)
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(network(images), alone, atol=1e-5)  # no image depends on the others of its batch


def test_a_resnet_with_group_norm_has_no_batch_norm() -> None:
    network = plugins.load("encoders", "resnet18")(norm="group").build(3, 32)
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.GroupNorm | torch.nn.BatchNorm2d)]
    assert len(norms) == 20
    assert all(isinstance(layer, torch.nn.GroupNorm) and layer.num_groups == 32 for layer in norms)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("blocks", [1, 2])
def test_a_cifar_resnet_is_the_network_of_its_paper(norm: str, blocks: int) -> None:
    """Written out: relu(x + F(x)), half the side and twice the channels at the start of stages two and three."""
    torch.manual_seed(0)
    network = plugins.load("encoders", "cifar_resnet")(blocks=blocks, width=12, norm=norm).build(1, 8).double().train()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    weights = iter(network.parameters())

    def convolved(x: Tensor, stride: int, padding: int = 1) -> Tensor:
        kernel, first = next(weights), next(weights)
        if norm == "none":
            return F.conv2d(x, kernel, first, stride, padding)
        x = F.conv2d(x, kernel, None, stride, padding)
        if norm == "batch":
            return F.batch_norm(x, None, None, first, next(weights), training=True)
        return F.group_norm(x, {12: 4, 24: 8, 48: 8}[x.shape[1]], first, next(weights))

    images = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    x, convolutions = F.relu(convolved(images, 1)), 1
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            branch = convolved(F.relu(convolved(x, stride)), 1)
            x = F.relu(branch + (convolved(x, stride, padding=0) if stride == 2 else x))
            convolutions += 2
        assert x.shape[1:] == (12 * 2**stage, 8 // 2**stage, 8 // 2**stage)
    assert convolutions == 6 * blocks + 1  # and the classifier, which is not part of the encoder
    assert next(weights, None) is None
    assert network.dim == 48
    assert torch.allclose(network(images), x.mean((2, 3)), atol=1e-12)
