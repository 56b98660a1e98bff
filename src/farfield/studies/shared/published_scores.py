"""Scores of a published table beside those measured: claims that several studies share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from farfield.studies.shared.claims import NOT_RUN, Claim
from farfield.studies.shared.statistics import Mean, mean

NORMED = ("first", "last", "every")
PLACES = {"in": "in domain", "out": "out of domain"}

WIDE = 0.2
"""What LayerNorm gains in the published tables: a wider interval of R2 tells nothing of them."""

Published = Mapping[tuple[str, str], str]
"""R2 as text, by (model, domain)."""


def r2_scores(metrics: pd.DataFrame) -> dict[tuple[str, str], Mean]:
    """Mean R2 over seeds.

    Args:
        metrics: Columns variant, domain and r2.

    Returns:
        The mean of each model and domain.
    """
    groups = metrics.groupby(["variant", "domain"])["r2"]
    return {(str(key[0]), str(key[1])): mean(own) for key, own in groups}


def ranking(item: str, scores: Mapping[tuple[str, str], Mean], published: str, why: str) -> Claim:
    """Whether every network with LayerNorm is above the standard one out of domain, beyond chance.

    Args:
        item: The table.
        scores: Mean R2; empty if nothing was run.
        published: The published scores in short.
        why: Why they agree, if they do.

    Returns:
        The claim.
    """
    claim = "Out of domain every network with LayerNorm predicts better than the standard one."
    if not scores:
        return unrun(f"{item}, ranking", claim, published)
    standard = scores["standard", "out"]
    normed = {key: scores[key, "out"] for key in NORMED if (key, "out") in scores}
    leads = [
        (value.value - standard.value, float(np.hypot(value.half_width, standard.half_width)))
        for value in normed.values()
    ]
    apart = all(lead > chance for lead, chance in leads)
    behind = any(lead < -chance for lead, chance in leads)
    return Claim(
        f"{item}, ranking",
        claim,
        published,
        f"R2 {', '.join(f'{value} ({key})' for key, value in normed.items())} against {standard}",
        True if apart else False if behind else None,
        why
        if apart
        else "Some are below it, beyond chance."
        if behind
        else "Some differ from it by no more than chance.",
    )


def beside(
    item: str, scores: Mapping[tuple[str, str], Mean], published: Published, domain: str
) -> Claim:
    """Whether the intervals measured overlap the published ones.

    Args:
        item: The table.
        scores: Mean R2; empty if nothing was run.
        published: The published R2.
        domain: "in" or "out".

    Returns:
        The claim.
    """
    theirs = {key: text for (key, where), text in published.items() if where == domain}
    item, claim = f"{item}, {PLACES[domain]}", f"R2 {PLACES[domain]}, mean and 95 % interval."
    listed = ", ".join(f"{text} ({key})" for key, text in theirs.items())
    if not scores:
        return unrun(item, claim, listed)
    apart, ours, wide = [], [], False
    for key, text in theirs.items():
        if (key, domain) not in scores:
            continue
        found = scores[key, domain]
        value, half_width = (float(part) for part in text.split(" ± "))
        ours.append(f"{found} ({key})")
        wide |= not found.half_width <= WIDE
        if abs(found.value - value) > found.half_width + half_width:
            apart.append(key)
    return Claim(
        item,
        claim,
        listed,
        ", ".join(ours),
        None if wide else not apart,
        f"An interval of more than ± {WIDE:g} tells nothing; take more seeds."
        if wide
        else "All intervals overlap."
        if not apart
        else f"The intervals of {', '.join(apart)} do not overlap: fewer epochs or seeds than "
        "published do that, and so may settings that the paper does not state.",
    )


def unrun(item: str, claim: str, published: str) -> Claim:
    """A claim that nothing was measured for.

    Args:
        item: The theorem, figure or table.
        claim: What it says.
        published: The published number or wording.

    Returns:
        The claim; its reader says why.
    """
    return Claim(item, claim, published, NOT_RUN, None, "")
