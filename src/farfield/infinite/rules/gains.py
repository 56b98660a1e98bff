"""Gains and biases of norms: a number for each unit, at initialisation the same for all."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from farfield.infinite.gram import constant, total
from farfield.infinite.laws import IDENTITY, Gain, Law, Mixed, Pointwise, gaussian_of, mixed
from farfield.infinite.limit_tensor import RULES, LimitTensor


def gained(x: LimitTensor, weight: Tensor, what: str) -> LimitTensor:
    """Each unit times a number of its own.

    The gradient of a trained gain g is the unit before it, u; as all units are alike, the tangent
    gains ``E[u v]``, or behind an activation ``E[u v phi'(g u) phi'(g v)]``.

    Args:
        x: The units.
        weight: The gains.
        what: What they belong to, for messages.

    Returns:
        The units times the gains.

    Raises:
        UnsupportedOperation: The gains differ between units, or belong to two layers.
    """
    x.reading.keep(weight, what)
    gain = _uniform(x, weight, what)
    return x.with_law(_gained(x.law, gain, trained=weight.requires_grad))


def _gained(law: Law, gain: float, *, trained: bool) -> Law:
    base = gaussian_of(law)
    if base is not None and gain != 0.0:
        # The sign of the gain does not matter to a Gaussian.
        units = base.scaled(abs(gain))
        own = (Gain(units.gram, gain**-2),) if trained else ()
        return Pointwise(replace(units, gains=(*units.gains, *own)), IDENTITY)
    below = mixed(law)
    above = below.times(gain)
    return replace(above, tangent=total([above.tangent, below.gram.plain() if trained else None]))


def shifted(x: LimitTensor, bias: Tensor, what: str) -> tuple[LimitTensor, float]:
    """What a trained bias adds to the tangent: 1; and the number that is to be added to the units.

    Args:
        x: The units.
        bias: The biases.
        what: What they belong to, for messages.

    Returns:
        The units, not shifted yet, and the shift.

    Raises:
        UnsupportedOperation: The biases differ between units, or belong to two layers.
    """
    x.reading.keep(bias, what)
    shift = _uniform(x, bias, what)
    if not bias.requires_grad:
        return x, shift
    base = gaussian_of(x.law)
    units = base or mixed(x.law)
    tangent = total([units.tangent, constant(units.gram.root, 1.0).plain()])
    moved = replace(units, tangent=tangent)
    law: Law = Pointwise(moved, IDENTITY) if not isinstance(moved, Mixed) else moved
    return x.with_law(law), shift


def _uniform(x: LimitTensor, parameter: Tensor, what: str) -> float:
    """The number that a parameter is everywhere."""
    first = parameter.detach().flatten()[0]
    if bool((parameter.detach() != first).any()):
        raise RULES.unsupported(
            f"{what} whose {x.reading.names[id(parameter)]!r} differs between units",
            "The units of the limit all have the same law, as at initialisation, where gains are "
            "1 and biases 0; reset_parameters() of the norm restores them.",
        )
    return float(first)
