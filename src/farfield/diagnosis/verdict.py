"""What the numbers mean, in words."""

from __future__ import annotations

import math

from farfield.diagnosis.result import Dispersion, Gradients, Training

RANDOM = 1.1
"""Dispersion from which a kernel counts as random: the standard deviation of T over draws is then
more than sqrt(0.1), a third, of its mean."""

LAZY = 0.1
"""Relative change of the kernel in training up to which it counts as constant: what theory computes
from the kernel at initialisation is then off by a tenth at most."""

LEARNT = 0.9
"""A short training has learnt something if the loss falls below this share of what it was."""


def verdict(spread: Dispersion, flow: Gradients, training: Training | None) -> tuple[str, str]:
    """A few words, and the number that decides.

    Theory needs three things: a kernel that is the same for every draw, gradients that reach all
    layers, and a kernel that stays as it is in training. The first that fails decides.
    """
    if spread.value >= RANDOM:
        apart = (spread.value - 1.0) ** 0.5
        tails = (
            " Its tails are heavy, so that this number itself depends on the draws."
            if spread.heavy_tailed
            else ""
        )
        return (
            "kernel random at initialisation: one draw says little",
            f"E[T^2]/E[T]^2 is {spread.value:.3g} (from {spread.interval[0]:.3g} to "
            f"{spread.interval[1]:.3g}), at least {RANDOM}: the standard deviation of T(x, x) over "
            f"draws is {apart:.0%} of its mean.{tails} Gradients: {flow.phase}.",
        )
    fixed = f"E[T^2]/E[T]^2 is {spread.value:.3g}, below {RANDOM}"
    if flow.phase in ("vanishing", "exploding"):
        return (
            f"kernel fixed at initialisation, gradients {flow.phase}: layers train unevenly",
            f"{_change_of(flow)} {fixed}.",
        )
    if training is None:
        return (
            "NTK regime at initialisation",
            f"{fixed}, and gradients are neither vanishing nor exploding. Whether the kernel stays "
            "as it is in training was not looked at; give targets y.",
        )
    left = training.loss_after / training.loss_before if training.loss_before > 0 else 1.0
    changed = f"|K' - K| / |K| is {training.change:.3g} after {training.steps} steps"
    learnt = left < LEARNT
    if training.change > LAZY:
        words = "trainable but not lazy" if learnt else "not lazy"
        return (
            f"{words}: the kernel changes in training",
            f"{changed}, above {LAZY}, with the loss at {left:.2g} of what it was. {fixed}.",
        )
    if not learnt:
        return (
            "NTK regime at initialisation; the training was too short to tell more",
            f"The loss is still at {left:.2g} of what it was; {changed}. {fixed}.",
        )
    return ("NTK regime", f"{changed}, at most {LAZY}; {fixed}.")


def _change_of(flow: Gradients) -> str:
    if math.isinf(flow.slope):
        return "No gradient gets below the last layer."
    decades = flow.slope * (len(flow.layers) - 1) / math.log(10.0)
    return (
        "From the last layer to the first the variance of gradients changes by a factor of "
        f"10^{decades:.1f} ({flow.slope:+.3g} in its logarithm per layer)."
    )
