"""What the paper says of Fig. 2, beside the kernels measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from farfield.studies.shared.claims import Claim
from farfield.studies.shared.statistics import mean
from farfield.studies.shared.theory_networks import largest_relu_ntk, relu_ntk

if TYPE_CHECKING:
    from farfield.studies.heatmaps.study import Result

NORMED = {"standard": (), "first": (0,), "last": (1,), "every": (0, 1)}
"""Hidden layers with LayerNorm, counted from 0, by variant."""

FIGURE, RECURSION = "Fig. 2", "Prop. E.2"

_CLOSED = 1e-12  # relative; the kernel's own accuracy is a few 1e-14 (docs/infinite.md)
_SETTLED = 1e-3  # relative change of Theta(x, far) over the last decade
_ORDERS = 100.0  # "orders of magnitude"


def claims(result: Result) -> tuple[Claim, ...]:
    """The paper's claims beside what was found.

    Args:
        result: What was measured.

    Returns:
        Claims in order.
    """
    return (
        _size(result),
        _corners(result),
        _chessboard(result),
        _saturation(result),
        _closed_forms(result),
        _convergence(result),
    )


def closed_forms(result: Result) -> pd.DataFrame:
    """The exact kernel at two corners of the square beside the closed forms.

    Args:
        result: What was measured.

    Returns:
        A row for each variant and corner: exact, closed, relative difference.
    """
    settings, rows = result.settings, []
    far, bias_var = float(settings.far), float(settings.bias_var)
    exact = result.metrics.query("width == 0").set_index("variant")
    corners = {"at_far": far, "at_opposite": -far}
    for variant in result.compared():
        for corner, other in corners.items():
            found = float(exact[corner][variant.key])
            closed = relu_ntk(far, other, 2, NORMED[variant.key], bias_var)
            rows.append(
                {
                    "network": variant.label,
                    "pair": f"({far:g}, {other:g})",
                    "exact": found,
                    "closed": closed,
                    "difference": abs(found / closed - 1.0),
                    "first width": _at_corner(result, variant.key, corner),
                }
            )
    return pd.DataFrame(rows)


def slope(result: Result) -> float:
    """The power of the width that the relative error follows, fitted to all networks."""
    finite = result.metrics.query("width > 0")
    return float(np.polyfit(np.log(finite["width"]), np.log(finite["relative_error"]), 1)[0])


def _at_corner(result: Result, variant: str, corner: str) -> str:
    frame = result.metrics
    own = (frame["variant"] == variant) & (frame["width"] == result.settings.widths[0])
    return str(mean(frame.loc[own, corner]))


def _square(result: Result, variant: str, kernel: str) -> pd.DataFrame:
    own = result.predictions.query("part == 'square'")
    return own[(own["variant"] == variant) & (own["kernel"] == kernel)]


def _finite(result: Result) -> str:
    return f"width {result.settings.widths[0]}"


def _size(result: Result) -> Claim:
    frame = result.metrics[result.metrics["width"] == result.settings.widths[0]]
    means = frame.groupby("variant")["at_far"].mean()
    ratio = means["standard"] / means.drop("standard").max()
    exact = result.metrics.query("width == 0").set_index("variant")["at_far"]
    limit = exact["standard"] / exact.drop("standard").max()
    far = result.settings.far
    return Claim(
        f"{FIGURE}, scale",
        "The kernel of the standard network is orders of magnitude larger.",
        "orders of magnitude",
        f"Theta({far:g}, {far:g}) is {ratio:.0f} times that with LayerNorm (exact: {limit:.0f})",
        bool(min(ratio, limit) > _ORDERS),
        "Without LayerNorm Theta(x, x) grows like x squared.",
    )


def _corners(result: Result) -> Claim:
    far, values = result.settings.far, []
    for kernel in ("exact", _finite(result)):
        own = _square(result, "standard", kernel)
        at = own[own["x"] == far].set_index("other")["value"]
        values.append((float(at[-far]), float(at[0.0])))
    return Claim(
        f"{FIGURE}, corners",
        "The standard network's kernel is light in the corners of opposite inputs.",
        "lighter corners",
        f"Theta({far:g}, -{far:g}) = {values[1][0]:.3g}, Theta({far:g}, 0) = {values[1][1]:.3g} "
        f"(exact: {values[0][0]:.4g}, {values[0][1]:.3g})",
        all(corner > edge for corner, edge in values),
        "The second and third layer's kernels of opposite inputs grow like |x| |x'|, too.",
    )


def _chessboard(result: Result) -> Claim:
    parts = []
    smallest = np.inf
    for variant in result.compared()[1:]:
        own = _square(result, variant.key, _finite(result))
        sign = np.sign(own["x"]) * np.sign(own["other"])
        same, opposite = own["value"][sign > 0].mean(), own["value"][sign < 0].mean()
        parts.append(f"{same:.2f} / {opposite:.2f}")
        smallest = min(smallest, same / opposite)
    return Claim(
        f"{FIGURE}, chessboard",
        "With LayerNorm the kernel follows the signs of both inputs.",
        "a chessboard",
        f"mean where signs are equal / opposite: {', '.join(parts)}",
        bool(smallest > 2.0),
        "LayerNorm leaves only the angle of (x, sigma_b), which is that of the signs far away.",
    )


def _saturation(result: Result) -> Claim:
    rays = result.predictions.query("part == 'ray'").set_index(["kernel", "variant"])
    changes, degrees = [], []
    for (_, variant), own in rays.groupby(level=[0, 1]):
        value, x = own["value"].to_numpy(), own["x"].to_numpy()
        degree = np.log(value[-1] / value[-2]) / np.log(x[-1] / x[-2])
        if variant == "standard":
            degrees.append(degree)
        else:
            changes.append(abs(value[-1] / value[-2] - 1.0))
    settings = result.settings
    return Claim(
        f"{FIGURE}, saturation",
        "With LayerNorm the kernel settles as the input grows; without, it goes on growing.",
        "saturates",
        f"Theta(x, {settings.far:g}) up to x = {settings.farthest:.0e}: last change at most "
        f"{max(changes):.0e} with LayerNorm; degree {np.mean(degrees):.4f} without",
        bool(max(changes) < _SETTLED and np.allclose(degrees, 1.0, atol=1e-3)),
        "Degree 1 in one input is that of a ReLU network, whatever its depth.",
    )


def _closed_forms(result: Result) -> Claim:
    table = closed_forms(result)
    far, bias_var = result.settings.far, result.settings.bias_var
    corner = table.query("network == 'Standard'")["exact"].tolist()
    first = largest_relu_ntk(2, 0, float(bias_var))
    return Claim(
        f"{RECURSION}, corners",
        "The recursion of the infinite-width kernel has a closed form.",
        f"no LayerNorm {relu_ntk(far, far, 2, (), bias_var):.6g} and "
        f"{relu_ntk(far, -far, 2, (), bias_var):.5g}; LayerNorm first {first:g}",
        f"{corner[0]:.6g} and {corner[1]:.5g}; relative difference of all at most "
        f"{table['difference'].max():.0e}",
        bool(table["difference"].max() < _CLOSED),
        "Computed twice, without common code; the paper gives the recursion, not the numbers.",
    )


def _convergence(result: Result) -> Claim:
    power, settings = slope(result), result.settings
    finite = result.metrics.query("width > 0").groupby("width")["relative_error"].mean()
    return Claim(
        f"{FIGURE}, convergence",
        "The kernel of a random network tends to that of infinite width.",
        "1 / sqrt(width)",
        f"relative error {finite.iloc[0]:.2g} at width {settings.widths[0]}, "
        f"{finite.iloc[-1]:.2g} at {settings.widths[-1]}: width^{power:.2f}",
        bool(abs(power + 0.5) < 0.25),
        "The random part of one network falls like 1 / sqrt(width), its bias like 1 / width.",
    )
