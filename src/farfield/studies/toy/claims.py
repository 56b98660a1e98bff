"""What the paper says of the toy study, beside what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from farfield.studies.shared.claims import Claim
from farfield.studies.shared.variants import NORM_NAMES

if TYPE_CHECKING:
    from farfield.studies.toy.study import Result

_FIGURES = {
    ("layer", "relu"): "Fig. 1",
    ("layer", "gelu"): "Fig. 5 (GELU)",
    ("layer", "silu"): "Fig. 5 (SiLU)",
    ("batch", "relu"): "Fig. 6",
}

SETTLED = 0.1
"""A norm is said to stop the growth if, while the distance doubles, the predictions of all
networks with it change less than this part of the standard network's change."""


def claims(result: Result) -> tuple[Claim, ...]:
    """The paper's claims beside what was found.

    Args:
        result: What was measured.

    Returns:
        Claims; those on theory only where it was computed.
    """
    found = [_growth(result)]
    constants = theory_table(result)
    settings = result.settings
    item = figure(settings.norm, settings.activation)
    if "proven" in constants:
        found.append(_proven(item, constants, NORM_NAMES[settings.norm]))
    if "certificate" in constants:
        exact = constants.dropna(subset="certificate")
        # BatchNorm has no infinite-width limit: there only the standard network has one.
        if not _standard(exact).all():
            found.append(_exact(item, result, exact))
    return tuple(found)


def figure(norm: str, activation: str) -> str:
    """The paper's figure of a norm and an activation.

    Args:
        norm: The norm.
        activation: The activation.

    Returns:
        Its name; that of the first with what is other than there, if the paper has none.
    """
    own = f"As Fig. 1 ({activation}, {NORM_NAMES[norm]})"
    return _FIGURES.get((norm, activation), own)


def theory_table(result: Result) -> pd.DataFrame:
    """The numbers of theory that belong to no x, largest over seeds.

    Args:
        result: What was measured.

    Returns:
        A row for each function and variant, a column for each quantity; empty without overlays.
    """
    own = result.theory[result.theory["x"].isna()]
    table = own.groupby(["function", "variant", "quantity"], sort=False)["value"].max()
    return table.unstack()


def _standard(table: pd.DataFrame) -> np.ndarray:
    """Which rows are of the network without a norm."""
    return table.index.get_level_values("variant") == "standard"


def _growth(result: Result) -> Claim:
    growth, norm = result.growth(), NORM_NAMES[result.settings.norm]
    standard, normed = growth["Standard"], growth.drop(columns="Standard")
    stops = bool((normed.max(axis=1) < SETTLED * standard).all())
    batch = result.settings.norm == "batch"
    return Claim(
        figure(result.settings.norm, result.settings.activation),
        f"{norm} {'does not prevent' if batch else 'prevents'} predictions from growing outside "
        "the training interval.",
        "a figure",
        f"change from |x| = {result.settings.far / 2:g} to {result.settings.far:g}, in ranges of "
        f"the targets: standard {standard.min():.2f} to {standard.max():.2f}, with {norm} "
        f"{normed.to_numpy().min():.2f} to {normed.to_numpy().max():.2f}",
        stops is not batch,
        "Interval, noise and scales are not stated in the paper, so shapes are compared.",
    )


def _proven(item: str, constants: pd.DataFrame, norm: str) -> Claim:
    certified = constants.dropna(subset="proven")
    is_standard = _standard(certified)
    normed, standard = certified[~is_standard], certified[is_standard]
    batch = norm == "BatchNorm"
    bounded = np.isfinite(normed["proven"])
    kept = normed[bounded]
    ours = f"{int(bounded.sum())} of {len(normed)} trained networks with {norm} proven bounded"
    if len(kept):
        ratio = kept["proven"] / kept["largest_found"]
        ours += f", bound / largest found {ratio.min():.2g} to {ratio.max():.2g}"
    return Claim(
        f"{item}, trained networks",
        f"A trained network with {norm} is {'not ' if batch else ''}bounded for every input.",
        "(for infinite width)",
        f"{ours}; {int(np.isinf(standard['proven']).sum())} of {len(standard)} standard networks "
        "without a bound",
        bool((~bounded if batch else bounded).all() and np.isinf(standard["proven"]).all()),
        "The paper's theorem is of infinite width; ff.certify reads the trained weights.",
    )


def _exact(item: str, result: Result, constants: pd.DataFrame) -> Claim:
    exact = result.theory[result.theory["quantity"] == "exact"]
    largest = exact.assign(value=exact["value"].abs()).groupby(["function", "variant"])["value"]
    table = constants.assign(largest=largest.max())
    is_standard = _standard(table)
    normed, standard = table[~is_standard], table[is_standard]
    ends = ["limit_left", "limit_right"]
    settled = np.isfinite(normed[ends]).all(axis=None)
    held = bool((normed["largest"] <= normed["certificate"]).all())
    grow = int(np.isinf(standard[ends]).any(axis=1).sum())
    return Claim(
        f"{item}, infinite width",
        "At infinite width the prediction settles with LayerNorm, within the bound, and grows "
        "without it.",
        "theorems 3.1, 3.3",
        f"with the norm {len(normed)} predictions with finite limits, "
        f"bound / largest {(normed['certificate'] / normed['largest']).min():.2g} or more; "
        f"without it {grow} of {len(standard)} grow",
        bool(settled and held and grow == len(standard)),
        "Exact kernel regression with each network's own infinite-width limit.",
    )
