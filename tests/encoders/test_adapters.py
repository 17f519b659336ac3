"""Encoders for stored features: the identity, which has no weights, and one linear map."""

import torch

from cl_semisup import plugins
from cl_semisup.encoders.identity import Identity
from cl_semisup.encoders.linear import Linear


def test_the_identity_has_no_weights_and_says_so() -> None:
    net = Identity().build(5, 1)
    x = torch.randn(3, 5, 1, 1)
    assert torch.equal(net(x), x[:, :, 0, 0])
    assert net.dim == 5
    assert not list(net.parameters())
    assert Identity.frozen
    others = set(plugins.names("encoders")) - {"identity"}
    assert not any(getattr(plugins.load("encoders", name), "frozen", False) for name in others)


def test_a_linear_map_starts_from_the_identity_or_keeps_angles() -> None:
    x = torch.randn(3, 6, 1, 1)
    torch.testing.assert_close(Linear().build(6, 1)(x), x[:, :, 0, 0])
    wide, narrow = Linear(width=9).build(6, 1), Linear(width=4).build(6, 1)
    assert (wide.dim, narrow.dim) == (9, 4)
    rows = x[:, :, 0, 0]
    torch.testing.assert_close(wide(x) @ wide(x).T, rows @ rows.T)
    weight = narrow[1].weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(4))
    torch.testing.assert_close(narrow(x), rows @ weight.T)
