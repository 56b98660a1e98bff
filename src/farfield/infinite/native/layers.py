"""Finding whole layers in a program: a rectifier and the linear map behind it, with tangents."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

from farfield.infinite import angles, gram
from farfield.infinite.duals.rectified import Rectified
from farfield.infinite.pairs import Deferred, Program, Rows


@dataclass(frozen=True, eq=False)
class Layer:
    """Deferred values that one step of the library computes together.

    With A and S the rectifier's angle and slope, ``angle`` is that of ``share A + constant`` and
    ``above = weight cos(angle) + below_weight below S`` (each with its shares of both roots).

    Attributes:
        activation: The rectifier.
        source: The angle of its input.
        below: The tangent kernel of its input.
        angle: The angle behind the linear map.
        above: The tangent kernel behind the linear map.
        share: Share of the rectifier's kernel in ``angle``; ``None`` where there is no bias.
        constant: Share of the bias; ``None`` where there is none.
        weight: Share of the kernel in ``above``.
        below_weight: Share of the tangent from below in ``above``.
        inside: The values that nothing else needs.
    """

    activation: Rectified
    source: Deferred[Any]
    below: Deferred[Any]
    angle: Deferred[Any]
    above: Deferred[Any]
    share: Rows | None
    constant: Rows | None
    weight: Rows
    below_weight: Rows
    inside: tuple[Deferred[Any], ...]


def find_layers(program: Program) -> dict[int, Layer]:
    """The layers of a program, by the ``id`` of the rectifier's angle."""
    uses = Counter(id(parent) for step in program.steps for parent in step.parents())
    uses.update(id(output) for output in program.outputs)
    found = (_layer(step, uses) for step in program.steps if step.function is gram.weighed)
    return {id(layer.inside[0]): layer for layer in found if layer is not None}


def _layer(above: Deferred[Any], uses: Counter[int]) -> Layer | None:
    """The layer whose tangent kernel this is, if it is one."""
    if len(above.arguments) != 4:
        return None
    weight, cosine, below_weight, product = above.arguments
    if cosine.function is not gram.cosine_of or product.function is not torch.mul:
        return None
    (angle,), (below, slope) = cosine.arguments, product.arguments
    mixed = angle.function is angles.mix_constant
    share, rectified, constant = angle.arguments if mixed else (None, angle, None)
    activation = getattr(rectified.function, "__self__", None)
    if not isinstance(activation, Rectified) or rectified.function != activation.angle:
        return None
    source = rectified.arguments[1]
    if slope.function != activation.slope or slope.arguments[1] is not source:
        return None
    inside = (rectified, slope, product)
    if any(uses[id(part)] != 1 for part in (inside if mixed else inside[1:])):
        return None
    return Layer(
        activation, source, below, angle, above, share, constant, weight, below_weight, inside
    )
