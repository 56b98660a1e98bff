"""What the paper says of the kernel's dispersion, beside what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from farfield.studies.shared.claims import Claim

if TYPE_CHECKING:
    from farfield.studies.dispersion.study import Result

RATIOS = (0.1, 0.2, 0.3)
"""Depth over width where Monte Carlo meets the formulas."""

CRITICAL = 2.0
"""sigma_w squared at the edge of chaos of ReLU networks."""

_Z = 3.0  # a difference of more standard deviations is none by chance
_ORDERED = 1.2  # "about 1": the deepest networks' dispersion where gradients clearly vanish
_FAR = 1.0  # distance of sigma_w^2 from the edge at which gradients clearly vanish
_CLEAR = 0.3  # distance of sigma_w^2 from the edge from which a finite network knows its phase


def claims(result: Result) -> tuple[Claim, ...]:
    """The paper's claims beside what was found.

    Args:
        result: What was measured.

    Returns:
        Claims in order.
    """
    return (
        _formula(result, "Chaotic formula", "weights", 0.0),
        _formula(result, "Edge of chaos formula", "all", CRITICAL),
        _ordered(result),
        _growth(result),
        _border(result),
    )


def z_scores(result: Result) -> pd.DataFrame:
    """Monte Carlo against formula, where depth / width is 0.1, 0.2, 0.3.

    Args:
        result: What was measured.

    Returns:
        A row for each case and depth: measured, its error, each formula and its z-score.
    """
    rows = []
    phases = [("weights", 0.0), *(("all", variance) for variance in result.settings.phases())]
    for counted, variance in phases:
        own = relu(result, counted, variance).set_index("depth")
        for depth in depths(result):
            row = own.loc[depth]
            rows.append(
                {
                    "counted": counted,
                    "weight_var": variance,
                    "depth": depth,
                    "ratio": depth / result.settings.width,
                    "dispersion": row["dispersion"],
                    "error": row["error"],
                    "largest": row["largest"],
                    **{name: row[name] for name in ("exact", "limit", "published")},
                    **{
                        f"z_{name}": (row["dispersion"] - row[name]) / row["error"]
                        for name in ("exact", "limit", "published")
                    },
                }
            )
    return pd.DataFrame(rows)


def depths(result: Result) -> list[int]:
    """The depths at which depth / width is nearest to 0.1, 0.2 and 0.3, as far as there are."""
    wanted = [round(ratio * result.settings.width) for ratio in RATIOS]
    return sorted({min(max(depth, 1), result.settings.depths) for depth in wanted})


def relu(result: Result, counted: str, variance: float) -> pd.DataFrame:
    """The rows of ReLU networks without norm."""
    frame = result.metrics
    return frame[
        (frame["network"] == "relu")
        & (frame["counted"] == counted)
        & (frame["weight_var"] == variance)
    ]


def _formula(result: Result, item: str, counted: str, variance: float) -> Claim:
    table = z_scores(result)
    own = table[(table["counted"] == counted) & (table["weight_var"] == variance)]
    sentence = "gradients of weights alone" if counted == "weights" else "biases counted"
    return Claim(
        item,
        f"E[T^2] / E[T]^2 follows the formula of the limit of depth and width ({sentence}).",
        _joined(own["published"], ".3g"),
        f"{_joined(own['dispersion'], '.3g')} at depth / width {_joined(own['ratio'], '.2g')}; "
        f"z = {_joined(own['z_published'], '+.1f')}; with the exact law of this width "
        f"({_joined(own['exact'], '.3g')}): {_joined(own['z_exact'], '+.1f')}",
        bool(len(own) and (own["z_published"].abs() < _Z).all()),
        f"{own['limit'].count()} depths, {result.settings.draws} draws each; what is exact at "
        f"finite width differs from the published limit by up to "
        f"{(own['exact'] / own['published'] - 1.0).abs().max():.1%}.",
    )


def _ordered(result: Result) -> Claim:
    deepest = _deepest(result)
    own = deepest[deepest["weight_var"] <= CRITICAL - _FAR]
    return Claim(
        "Ordered phase",
        "Where gradients vanish the kernel tends to a constant.",
        "1",
        f"at depth {result.settings.depths}, sigma_w^2 = {_joined(own['weight_var'], 'g')}: "
        f"{_joined(own['dispersion'], '.3f')}",
        bool(len(own) and (own["dispersion"] < _ORDERED).all()),
        "The biases of the last layers outweigh all else.",
    )


def _growth(result: Result) -> Claim:
    own = result.metrics
    own = own[
        (own["network"] == "relu") & (own["counted"] == "all") & (own["weight_var"] >= CRITICAL)
    ]
    table = own.pivot(index="depth", columns="weight_var", values="dispersion")
    half = max(result.settings.depths // 2, 1)
    factor = (table.loc[result.settings.depths] - 1.0) / (table.loc[half] - 1.0)
    return Claim(
        "Growth with depth",
        "At the edge of chaos and above, the dispersion grows exponentially with depth.",
        "exponentially",
        f"from depth {half} to {result.settings.depths} the dispersion less 1 grows "
        f"{factor.min():.2g} to {factor.max():.2g} times",
        bool((factor > result.settings.depths / half).all()),
        "Faster than the depth itself; the exponent is 5 depth / width.",
    )


def _border(result: Result) -> Claim:
    deepest = _deepest(result).set_index("weight_var")["dispersion"]
    below = deepest[deepest.index < CRITICAL - _CLEAR]
    above = deepest[deepest.index > CRITICAL + _CLEAR]
    found = (float(below.max()), float(above.min())) if len(below) and len(above) else (1.0, 1.0)
    return Claim(
        "Border at sigma_w^2 = 2",
        "The edge of chaos parts networks with a fixed kernel from those with a random one.",
        "a jump at sigma_w^2 = 2",
        f"deepest networks: at most {found[0]:.3g} below {CRITICAL - _CLEAR:g}, at least "
        f"{found[1]:.3g} above {CRITICAL + _CLEAR:g}",
        bool(found[1] - 1.0 > 2.0 * (found[0] - 1.0)),
        "At finite depth the jump is spread over a window of order 1 / depth.",
    )


def _deepest(result: Result) -> pd.DataFrame:
    frame = result.metrics
    return frame[
        (frame["network"] == "relu")
        & (frame["counted"] == "all")
        & (frame["depth"] == result.settings.depths)
    ]


def _joined(values: pd.Series, form: str) -> str:
    return ", ".join(format(value, form) for value in np.asarray(values))
