"""What a diagnosis says."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from torch import Tensor

Interval = tuple[float, float]


@dataclass(frozen=True)
class Dispersion:
    """How much the tangent kernel T(x, x) varies from draw to draw.

    Attributes:
        value: ``E[T^2] / E[T]^2`` over the draws, averaged over the inputs.
        interval: 95 % interval, by drawing the draws again with replacement.
        predicted: What theory says of this depth, these widths and variances
            (:func:`farfield.theory.ntk_moments`), or ``None``.
        why_not_predicted: The reason, where there is no prediction.
        median_log: Median of log T.
        spread_log: Its interquartile range: T varies by a factor of e to this between quartiles.
        kurtosis: Excess kurtosis of T; 0 for a Gaussian.
        largest_share: Share of the largest draw in the sum of T^2.
        heavy_tailed: Whether one draw has more than a tenth of that sum, and more than ten times
            its equal share: the value then depends on which draws were met, and the interval is
            too narrow.
        draws: Number of networks.
        dead: How many of them have T = 0.
    """

    value: float
    interval: Interval
    predicted: float | None
    why_not_predicted: str | None
    median_log: float
    spread_log: float
    kurtosis: float
    largest_share: float
    heavy_tailed: bool
    draws: int
    dead: int


@dataclass(frozen=True)
class Gradients:
    """How the size of gradients changes from the output towards the input.

    Attributes:
        phase: ``"vanishing"``, ``"critical"``, ``"exploding"``, or ``"too shallow"``.
        slope: Change of ``log E|df/db|^2`` per layer towards the input (0: none; minus infinity
            where no gradient gets below the last layer).
        interval: Its 95 % interval, by drawing the draws again with replacement.
        layers: Names of the layers with a matrix, in the order of their calls.
        sizes: ``E|df/db|^2``, where b shifts each of a layer's units (or channels, wherever they
            act): the gradient of its biases.
    """

    phase: str
    slope: float
    interval: Interval
    layers: tuple[str, ...]
    sizes: tuple[float, ...]


@dataclass(frozen=True)
class Agreement:
    """The kernel of single finite networks beside the infinite-width one.

    Attributes:
        correlation: Median over networks of the correlation over pairs of different inputs;
            ``None`` where there is none.
        interval: Smallest and largest of them.
        why_not: The reason, where there is none.
        finite: The kernel of the first network at these pairs.
        infinite: The exact one of infinite width, in standard parametrisation at these widths.
    """

    correlation: float | None
    interval: Interval | None
    why_not: str | None
    finite: tuple[float, ...]
    infinite: tuple[float, ...]


@dataclass(frozen=True)
class Training:
    """What a short training does to the kernel of one network.

    Attributes:
        steps: Steps of full-batch Adam.
        learning_rate: Its rate.
        loss_before: Mean squared error at the start.
        loss_after: At the end.
        change: ``|K_end - K_start|_F / |K_start|_F``; infinite if training diverged.
        distance: ``1 - <K_end, K_start> / (|K_end| |K_start|)``: change of direction alone.
    """

    steps: int
    learning_rate: float
    loss_before: float
    loss_after: float
    change: float
    distance: float


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Whether tangent-kernel theory describes a network; made by :func:`farfield.diagnose`.

    Attributes:
        verdict: In a few words.
        reason: The number that decides, in a sentence.
        source: How the networks were drawn.
        depth: Number of layers with a matrix.
        depth_to_width: Sum over the hidden layers of 1 / width: L / M for L layers of M units.
        dispersion: Of the kernel over draws.
        gradients: From layer to layer.
        agreement: With the infinite-width limit.
        training: Of one network; ``None`` without targets.
        log_kernels: log T at the first input for each draw that has T > 0.
    """

    verdict: str
    reason: str
    source: str
    depth: int
    depth_to_width: float
    dispersion: Dispersion
    gradients: Gradients
    agreement: Agreement
    training: Training | None
    log_kernels: Tensor

    def table(self) -> pd.DataFrame:
        """What was measured, in rows: quantity, value, and what to know of it."""
        return pd.DataFrame(_rows(self), columns=["quantity", "value", "remark"])

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON; numbers that are not finite are ``None``."""
        plain = {
            "verdict": self.verdict,
            "reason": self.reason,
            "source": self.source,
            "depth": self.depth,
            "depth_to_width": self.depth_to_width,
            "dispersion": asdict(self.dispersion),
            "gradients": asdict(self.gradients),
            "agreement": asdict(self.agreement),
            "training": None if self.training is None else asdict(self.training),
            "log_kernels": self.log_kernels.tolist(),
        }
        decoded: dict[str, Any] = _finite(plain)
        return decoded

    def __str__(self) -> str:
        """The verdict, the reason, and a line for each quantity."""
        width = max(len(row[0]) for row in _rows(self))
        lines = [f"{self.verdict[0].upper()}{self.verdict[1:]}.", self.reason, ""]
        lines += [
            f"{name:<{width}}  {value}" + (f"  ({remark})" if remark else "")
            for name, value, remark in _rows(self)
        ]
        return "\n".join(lines)

    __repr__ = __str__


def _rows(told: Diagnosis) -> list[tuple[str, str, str]]:
    spread, flow, agreement = told.dispersion, told.gradients, told.agreement
    tails = f"{spread.draws} draws"
    if spread.heavy_tailed:
        tails += f", heavy tails: the largest has {spread.largest_share:.0%} of the sum of T^2"
    if spread.dead:
        tails += f", {spread.dead} of them with T = 0"
    rows = [
        ("depth", str(told.depth), f"layers with a matrix, drawn {told.source}"),
        ("depth / width", _shown(told.depth_to_width), "sum of 1 / width over the hidden layers"),
        ("dispersion E[T^2]/E[T]^2", f"{spread.value:.3g} {_between(spread.interval)}", tails),
        (
            "predicted dispersion",
            "none" if spread.predicted is None else f"{spread.predicted:.3g}",
            spread.why_not_predicted or "exact for ReLU networks of these widths and variances",
        ),
        ("median of log T", _shown(spread.median_log), f"quartiles {spread.spread_log:.3g} apart"),
        (
            "gradients towards the input",
            flow.phase,
            ""
            if flow.phase == "too shallow"
            else f"log variance {flow.slope:+.3g} per layer {_between(flow.interval)}",
        ),
        (
            "correlation with infinite width",
            "none" if agreement.correlation is None else f"{agreement.correlation:.3f}",
            agreement.why_not or f"of single networks {_between(agreement.interval or (0.0, 0.0))}",
        ),
    ]
    if told.training is not None:
        trained = told.training
        rows += [
            (
                "change of the kernel in training",
                _shown(trained.change),
                f"|K' - K| / |K| after {trained.steps} steps of Adam at {trained.learning_rate:g}; "
                f"1 - cosine is {trained.distance:.2g}",
            ),
            ("loss", f"{trained.loss_before:.3g} to {trained.loss_after:.3g}", ""),
        ]
    return rows


def _between(interval: Interval) -> str:
    return f"[{interval[0]:.3g}, {interval[1]:.3g}]"


def _shown(value: float) -> str:
    return f"{value:.3g}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
