"""Gradients that are written out stand where the parameter's entries stand."""

import pytest
import torch

from farfield.empirical.costs import Pair, in_any_order
from farfield.empirical.factors import Outer


def plain(factor: Outer) -> torch.Tensor:
    """The sum of outer products, entry by entry."""
    assert factor.values is not None
    form = "ngtc,nogtr->nogcr" if factor.transposed else "ngtc,nogtr->nogrc"
    return torch.einsum(form, factor.values, factor.signals).flatten(2)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("positions", [1, 7, 40])  # forty: at least four times the columns
@pytest.mark.parametrize("directions", [1, 4])
def test_places_of_entries(directions, positions, groups, transposed) -> None:
    values = torch.randn(6, groups, positions, 5).double()
    # Signals as they come from images: channels first in memory, or last.
    signals = torch.randn(6, directions, groups, 2, positions).double().mT
    for some in (signals, signals.contiguous()):
        factor = Outer(values, some, transposed)
        torch.testing.assert_close(factor.dense(), plain(factor))
        part = factor.part(slice(1, 2))
        torch.testing.assert_close(part.dense(), plain(part))


@pytest.mark.parametrize("directions", [1, 4])
def test_any_order_is_the_same_for_both_sides(directions) -> None:
    """Products of gradients do not depend on the order, as long as both sides have it."""
    values, signals = torch.randn(2, 6, 1, 9, 5), torch.randn(2, 6, directions, 1, 9, 3)
    sides = [Outer(v, s, True) for v, s in zip(values.double(), signals.double(), strict=True)]
    pair = in_any_order(Pair(*sides))
    found = torch.einsum("nop,mqp->nomq", pair.left.dense(), pair.right.dense())
    wanted = torch.einsum("nop,mqp->nomq", *map(plain, sides))
    torch.testing.assert_close(found, wanted)
